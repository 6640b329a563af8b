"""Which bands of a raster a model gets, and how samples become the values that it was made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from segmodel.errors import ContractError, FailureCode
from segmodel.rasters.header import Band, Header, Palette
from segmodel.tiling.raster import combine_masks

_COMPLEX = {"complex_int16", "complex64", "complex128"}


class BandModel(Protocol):
    """What takes bands of rasters: a model by its contract, or the one that is to be trained."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of its bands in order."""

    @property
    def dtype(self) -> str:
        """Sample type that it takes."""

    @property
    def value_range(self) -> tuple[float, float]:
        """Least and greatest raw value."""

    def check_input(self, bands: int, dtype: str, what: str) -> None:
        """Refuse an input of other bands or samples.

        Raises:
            ContractError: Names the input, both values and the remedy.
        """


@dataclass(frozen=True)
class ModelBands:
    """The bands of one raster in the order of the model.

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
    palette: Palette | None
    value_range: tuple[float, float]
    mask: str
    alpha: int | None

    @classmethod
    def of(
        cls,
        header: Header,
        model: BandModel,
        wanted: tuple[str, ...] | None,
        what: str,
        remedy: str = "name those to take with --bands",
    ) -> ModelBands:
        """The bands that a model takes of a raster.

        With `wanted` they are those, by number or name. Otherwise they are the ones that are called
        as the model calls its bands, and where not all are found, all of the file in its order.

        Args:
            header: Header of the raster.
            model: What takes the bands.
            wanted: Numbers from 1, or names, in the order of the model; or None.
            what: Name of the raster in errors.
            remedy: What to do about other bands, for the error.

        Raises:
            ContractError: If the model was not made for them; names the field and the remedy.
        """
        if wanted is None:
            bands = _named(header, model.bands)
        else:
            bands = tuple(_find(header, name, what) for name in wanted)
        taken, palette = len(model.bands), header.palette
        if palette is not None and (taken, len(bands)) != (3, 1):
            raise ContractError(
                "bands: its values are numbers of colours, which the model was not made for: "
                "expand them (for example gdal_translate -expand gray)",
                code=FailureCode.WRONG_BANDS,
                name=what,
            )
        dtype = "uint8" if palette is not None else _dtype(bands, model)
        count = 3 if palette is not None else len(bands)
        if count != taken:
            raise ContractError(
                f"bands: the model takes {taken} ({', '.join(model.bands)}), the input has "
                f"{count}; {remedy}: the scene has {_bands_of(header)}",
                code=FailureCode.WRONG_BANDS,
                name=what,
            )
        model.check_input(count, dtype, what)
        return cls(bands, model.dtype, palette, model.value_range, header.mask, header.alpha)

    @property
    def indexes(self) -> list[int]:
        """Indexes of the bands that are read, from 1."""
        return [band.index for band in self.bands]

    @property
    def is_always_valid(self) -> bool:
        """Whether no pixel can be nodata."""
        may_be_nan = np.issubdtype(self.read_dtype, np.inexact)
        return self.mask == "none" and self.palette is None and not may_be_nan

    @property
    def read_dtype(self) -> np.dtype:
        """Dtype of the samples that are read."""
        return np.result_type(*(np.dtype(band.dtype) for band in self.bands))

    def values(self, samples: np.ndarray) -> np.ndarray:
        """What the model takes for samples, `(height, width, bands)` of its dtype."""
        if self.palette is not None:
            return np.asarray(colors_of(self.palette)[:, :3][samples[..., 0]])
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
            valid = combine_masks(valid, ~self._missing(samples))
        return None if valid is None or valid.all() else valid

    def _missing(self, samples: np.ndarray) -> np.ndarray:
        """Where a band holds a value that no pixel can have, or all hold nodata."""
        partly = np.zeros(samples.shape[:2], bool)
        wholly = np.ones(samples.shape[:2], bool)
        low, high = self.value_range
        is_scaled = self.dtype == "float32"
        for number, band in enumerate(self.bands):
            if band.nodata is None:
                wholly[:] = False
                continue
            equal = _equal(samples[..., number], band.nodata)
            wholly &= equal
            value = band.nodata * band.scale + band.offset if is_scaled else band.nodata
            if self.palette is None and not low <= value <= high:
                partly |= equal
        return partly | wholly


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


def colors_of(palette: Palette) -> np.ndarray:
    """`(values, 4)` uint8 for every value of a byte; what the palette lacks is transparent."""
    table = np.zeros((65536 if len(palette) > 256 else 256, 4), np.uint8)
    table[: len(palette)] = palette
    return table


def _named(header: Header, names: Sequence[str]) -> tuple[Band, ...]:
    """The bands of these names in this order; all of the file unless each name has one."""
    same = [[band for band in header.bands if name.lower() in band.names] for name in names]
    found = tuple(bands[0] for bands in same if len(bands) == 1)
    return found if len(set(found)) == len(names) else header.bands


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
            f"--bands {name}: {'no' if not same else 'more than one'} band of that "
            f"{'number' if number is not None else 'name'}; the scene has {_bands_of(header)}",
            code=FailureCode.WRONG_BANDS,
            name=what,
        )
    return same[0]


def _bands_of(header: Header) -> str:
    """Numbers and names of the bands of a scene."""
    return ", ".join(
        f"{band.index} ({'/'.join(band.names)})" if band.names else str(band.index)
        for band in header.bands
    )


def _dtype(bands: Sequence[Band], model: BandModel) -> str:
    """Sample type of bands as the model meets it.

    Numbers that are scaled to others are float32 to a model that takes float32.
    """
    types = {band.dtype for band in bands}
    is_scaled = any(band.is_scaled for band in bands)
    if is_scaled and model.dtype == "float32" and not types & _COMPLEX:
        return "float32"
    return min(types - {model.dtype} or types)
