"""Which bands of a scene a model gets, and how samples become the values that it was made for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.rasters.header import Band, Header
from segmodel.errors import ContractError
from segmodel.savedmodel.contract import Contract

_COMPLEX = {"complex_int16", "complex64", "complex128"}


@dataclass(frozen=True)
class SceneBands:
    """The bands of one scene in the order of the model.

    Args:
        bands: Bands of the file that are read.
        dtype: Dtype that the model takes.
        palette: Colours by value, where a palette gives the bands, else None.
        value_range: Least and greatest raw value of the model.
        mask: Where nodata is, as `Header.mask`.
        alpha: Index of the alpha band, or None.
    """

    bands: tuple[Band, ...]
    dtype: str
    palette: tuple[tuple[int, int, int, int], ...] | None
    value_range: tuple[float, float]
    mask: str
    alpha: int | None

    @classmethod
    def of(
        cls, header: Header, contract: Contract, wanted: tuple[str, ...] | None, what: str
    ) -> "SceneBands":
        """The bands that a model takes of a scene.

        With `wanted` they are those, by number or name. Otherwise they are the ones that are called
        as the contract calls its bands, and where not all are found, all of the file in its order.

        Args:
            header: Header of the scene.
            contract: Contract of the model.
            wanted: Numbers from 1, or names, in the order of the model; or None.
            what: Name of the scene in errors.

        Raises:
            ContractError: If the model was not made for them; names the field and the remedy.
        """
        bands = _named(header, contract.bands) if wanted is None else None
        if wanted is not None:
            bands = tuple(_find(header, name, what) for name in wanted)
        if bands is None:
            bands = header.bands
        palette = None
        if header.palette is not None and len(contract.bands) == 3 and len(bands) == 1:
            palette, dtype, count = header.palette, "uint8", 3
        else:
            dtype, count = _dtype(bands, contract), len(bands)
            if header.palette is not None:
                raise ContractError(
                    f"{what}: bands: its values are numbers of colours, which the model was not "
                    f"made for: expand them (for example gdal_translate -expand gray)"
                )
        if count != len(contract.bands):
            raise ContractError(_miscounted(header, count, contract, what))
        contract.check_input(count, dtype, what)
        return cls(bands, contract.dtype, palette, contract.value_range, header.mask, header.alpha)

    @property
    def indexes(self) -> list[int]:
        """Indexes of the bands that are read, from 1."""
        return [band.index for band in self.bands]

    @property
    def read_dtype(self) -> np.dtype:
        """Dtype of the samples that are read."""
        return np.result_type(*(np.dtype(band.dtype) for band in self.bands))

    def values(self, samples: np.ndarray) -> np.ndarray:
        """What the model takes for samples, `(height, width, bands)` of its dtype."""
        if self.palette is not None:
            colors: np.ndarray = colors_of(self.palette)[:, :3][samples[..., 0]]
            return colors
        if self.dtype == "float32" and any(band.is_scaled for band in self.bands):
            scale = np.array([band.scale for band in self.bands])
            offset = [band.offset for band in self.bands]
            return np.asarray(samples * scale + offset, np.float32)
        return samples

    def valid_by_values(self, samples: np.ndarray) -> np.ndarray | None:
        """`(height, width)` bool by nodata values and palette; None where all are valid.

        A nodata value outside the range of the model makes a pixel nodata in whatever band it is,
        as NaN does; one within the range only if all bands hold theirs: a photograph whose nodata
        value is 0 has pixels without any blue.
        """
        valid = None
        if self.palette is not None:
            valid = colors_of(self.palette)[:, 3][samples[..., 0]] > 0
        if self.mask == "values":
            partly, wholly = self._missing(samples)
            found = ~(partly | wholly)
            valid = found if valid is None else valid & found
        return None if valid is None or valid.all() else valid

    def _missing(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where a band holds a value that no pixel can have, and where all hold nodata."""
        partly = np.zeros(samples.shape[:2], bool)
        wholly = np.ones(samples.shape[:2], bool)
        low, high = self.value_range
        for number, band in enumerate(self.bands):
            if band.nodata is None:
                wholly[:] = False
                continue
            equal = _equal(samples[..., number], band.nodata)
            wholly &= equal
            stands_for = band.nodata
            if self.dtype == "float32" and self.palette is None:
                stands_for = band.nodata * band.scale + band.offset
            if self.palette is None and not low <= stands_for <= high:
                partly |= equal
        return partly, wholly


def _equal(samples: np.ndarray, nodata: float) -> np.ndarray:
    """Where samples are a nodata value, as their dtype holds it."""
    if np.isnan(nodata):
        return np.asarray(np.isnan(samples))
    if np.issubdtype(samples.dtype, np.integer):
        limits = np.iinfo(samples.dtype)
        if not limits.min <= nodata <= limits.max or nodata != int(nodata):
            return np.zeros(samples.shape, bool)
        return np.asarray(samples == int(nodata))
    with np.errstate(over="ignore"):
        return np.asarray(samples == np.asarray(nodata).astype(samples.dtype))


def colors_of(palette: Sequence[tuple[int, int, int, int]]) -> np.ndarray:
    """`(values, 4)` uint8 for every value of a byte; what the palette lacks is transparent."""
    table = np.zeros((65536 if len(palette) > 256 else 256, 4), np.uint8)
    table[: len(palette)] = palette
    return table


def _named(header: Header, names: Sequence[str]) -> tuple[Band, ...] | None:
    """The bands of these names in this order, or None if one is missing or there are two."""
    found = []
    for name in names:
        same = [band for band in header.bands if name.lower() in band.names]
        if len(same) != 1:
            return None
        found.append(same[0])
    return tuple(found) if len(set(found)) == len(found) else None


def _find(header: Header, name: str, what: str) -> Band:
    """The band of a number or a name.

    Raises:
        ContractError: If there is none, or more than one.
    """
    number = int(name) if name.isdigit() else None
    lower = name.lower()
    same = [b for b in header.bands if b.index == number or (number is None and lower in b.names)]
    if len(same) != 1:
        raise ContractError(
            f"{what}: --bands {name}: {'no' if not same else 'more than one'} band of that "
            f"{'number' if number is not None else 'name'}; the scene has {_bands_of(header)}"
        )
    return same[0]


def _bands_of(header: Header) -> str:
    """Numbers and names of the bands of a scene."""
    return ", ".join(
        f"{band.index} ({'/'.join(band.names)})" if band.names else str(band.index)
        for band in header.bands
    )


def _dtype(bands: Sequence[Band], contract: Contract) -> str:
    """Sample type of bands as the model meets it.

    Numbers that are scaled to others are float32 to a model that takes float32.
    """
    types = {band.dtype for band in bands}
    is_scaled = any(band.is_scaled for band in bands)
    if is_scaled and contract.dtype == "float32" and not types & _COMPLEX:
        return "float32"
    return min(types - {contract.dtype} or types)


def _miscounted(header: Header, count: int, contract: Contract, what: str) -> str:
    return (
        f"{what}: bands: the model takes {len(contract.bands)} ({', '.join(contract.bands)}), the "
        f"input has {count}; name those to take with --bands: the scene has {_bands_of(header)}"
    )
