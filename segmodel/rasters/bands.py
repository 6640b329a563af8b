"""Which bands of a raster a model gets, and how samples become the values that it was made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from segmodel.errors import ContractError, FailureCode
from segmodel.rasters.header import (
    USUAL,
    Band,
    Header,
    Palette,
    names_a_band,
    values_mask,
)
from segmodel.rasters.nodata import is_nodata
from segmodel.rasters.sample_types import conversion_remedy, is_convertible
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
        count: Bands of the values.
        bits: Bits of a sample of which the high ones are taken where it is not 8.
    """

    bands: tuple[Band, ...]
    dtype: str
    palette: Palette | None
    value_range: tuple[float, float]
    mask: str
    alpha: int | None
    count: int
    bits: int = 8

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
        as the model calls its bands; where the file names none of them, all in its order. What
        GDAL takes bands for, as it does for red, green and blue, counts for those that the file
        does not describe.

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
            bands = bands_in_order(header, model.bands, remedy, what)
        else:
            bands = tuple(_find(header, name, what) for name in wanted)
        _check_white(header, bands, what)
        palette = header.palette
        dtype = "uint8" if palette is not None else _dtype(bands, model)
        count = len(bands) if palette is None else _palette_bands(header, len(model.bands), what)
        if count != len(model.bands):
            raise ContractError(
                f"bands: the model takes {len(model.bands)} ({', '.join(model.bands)}), the input "
                f"has {count}; {remedy}: the scene has {_bands_of(header)}",
                code=FailureCode.WRONG_BANDS,
                name=what,
            )
        model.check_input(count, dtype, what)
        return cls(bands, model.dtype, palette, model.value_range, *_masks(header, bands), count)

    @classmethod
    def as_image(
        cls,
        header: Header,
        names: Sequence[str],
        count: int,
        value_range: tuple[float, float],
        bits: int,
    ) -> ModelBands:
        """The bands of an image for a model of 1, 3 or 4 bands of uint8, or of a person's eyes.

        As those of a scene; but grey also gives colours and colours give grey, as of any picture,
        and samples of other than 8 bits give their high bits.

        Args:
            header: Header of the image.
            names: Names of the model's bands; empty for any.
            count: Number of the model's bands.
            value_range: Least and greatest raw value of the model.
            bits: Bits of a sample in the file.

        Returns:
            The bands of the model, or grey, colours, inks or either with alpha, which a picture of
            these bands is made of.

        Raises:
            ContractError: If no image of such bands can be made of it.
        """
        bands = _image_bands(header, names, count)
        _check_white(header, bands, "")
        others = {band.dtype for band in bands} - {"uint8", "uint16"}
        if others:
            raise ContractError(
                f"dtype: the model is given uint8, or the high byte of uint16, of an image without "
                f"coordinates or in a shard; this one has {min(others)}; "
                f"{conversion_remedy(min(others), 'uint8', value_range)}",
                code=FailureCode.WRONG_DTYPE,
            )
        palette, (low, high) = header.palette, value_range
        if bits > 8:
            low, high = low * 2 ** (bits - 8), (high + 1) * 2 ** (bits - 8) - 1
        elif bits < 8:
            low, high = (limit * (2**bits - 1) / 255 for limit in value_range)
        of_colors = 0 if palette is None else 2
        masks = _masks(header, bands)
        depth = bits if palette is None else 8
        return cls(bands, "uint8", palette, (low, high), *masks, len(bands) + of_colors, depth)

    @property
    def indexes(self) -> list[int]:
        """Indexes of the bands that are read, from 1."""
        return [band.index for band in self.bands]

    @property
    def is_always_valid(self) -> bool:
        """Whether no pixel can be nodata."""
        may_be_nan = np.issubdtype(self.read_dtype, np.inexact)
        return (
            self.mask == "none" and self.alpha is None and self.palette is None and not may_be_nan
        )

    @property
    def read_dtype(self) -> np.dtype:
        """Dtype of the samples that are read."""
        return np.result_type(*(np.dtype(band.dtype) for band in self.bands))

    def values(self, samples: np.ndarray) -> np.ndarray:
        """What the model takes for samples, `(height, width, bands)` of its dtype."""
        if self.palette is not None:
            colors = self.count - samples.shape[2] + 1
            seen = colors_of(self.palette)[:, :colors][samples[..., 0]]
            samples = seen if samples.shape[2] == 1 else np.dstack([seen, samples[..., 1:]])
        elif self.bits > 8:
            # Into bytes at once, as a copy of so many samples may be large.
            high = np.empty(samples.shape, np.uint8)
            samples = np.right_shift(samples, self.bits - 8, out=high, casting="unsafe")
        elif self.bits < 8:
            samples = samples.astype(np.uint16) * 255 // (2**self.bits - 1)
        elif self.dtype == "float32" and any(band.is_scaled for band in self.bands):
            scale = np.array([band.scale for band in self.bands])
            offset = [band.offset for band in self.bands]
            samples = samples * scale + offset
        # What is beyond float32 becomes infinite, which is nodata.
        with np.errstate(over="ignore"):
            return np.asarray(samples, self.dtype)

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
            equal = is_nodata(samples[..., number], band.nodata, band.dtype)
            wholly &= equal
            value = band.nodata * band.scale + band.offset if is_scaled else band.nodata
            if self.palette is None and not low <= value <= high:
                partly |= equal
        return partly | wholly


def colors_of(palette: Palette) -> np.ndarray:
    """`(values, 4)` uint8 for every value of a byte; what the palette lacks is transparent."""
    table = np.zeros((65536 if len(palette) > 256 else 256, 4), np.uint8)
    table[: len(palette)] = palette
    return table


def _masks(header: Header, bands: Sequence[Band]) -> tuple[str, int | None]:
    """Where nodata is, and the alpha band, for those who take these bands; alpha may be one."""
    if header.alpha_band not in bands:
        return header.mask, header.alpha
    return values_mask(bands) if header.mask == "alpha" else header.mask, None


def _image_bands(header: Header, names: Sequence[str], count: int) -> tuple[Band, ...]:
    """Bands of an image that are those of a model, or that they can be made of.

    Raises:
        ContractError: If there are none.
    """
    alpha = () if header.alpha_band is None else (header.alpha_band,)
    bands = header.bands or alpha
    if names and header.bands:
        bands = bands_in_order(header, names, "describe its bands by these names")
    colors = [band.color for band in bands]
    is_colored = colors[:3] == ["red", "green", "blue"]
    if len(bands) == count or colors == ["cyan", "magenta", "yellow", "black"]:
        return bands
    if len(bands) == 1 or (is_colored and len(bands) == 3):
        return (*bands, *alpha) if count == 4 and alpha != bands else bands
    if is_colored and count < 4:
        return bands[:3]
    raise ContractError(
        f"bands: the model takes {count}, the TIFF has {_bands_of(header)}, not marked as red, "
        f"green and blue: write those that the model takes in its order (gdal_translate -b)",
        code=FailureCode.WRONG_BANDS,
    )


def _check_white(header: Header, bands: Sequence[Band], what: str) -> None:
    """Refuse grey from white to black of which there is no palette: what is seen is not known.

    Raises:
        ContractError: Says how to convert it.
    """
    if header.white_is_zero and header.palette is None and any(band.index == 1 for band in bands):
        black = {"uint8": 255, "uint16": 65535}.get(header.bands[0].dtype, "MAX")
        # GDAL would take the second of two bands for alpha.
        then = " and gdal_edit.py -colorinterp_2 undefined" if len(header.bands) > 1 else ""
        raise ContractError(
            f"its grey is 0 where it is white (PhotometricInterpretation 0), which is not "
            f"supported for several bands, or for more than 8 bits a sample: if its numbers are "
            f"measurements, say so with gdal_translate -colorinterp_1 gray "
            f"-co PHOTOMETRIC=MINISBLACK{then}; if it is a picture, turn it with "
            f"-scale_1 0 {black} {black} 0 beside these options",
            code=FailureCode.UNSUPPORTED,
            name=what,
        )


def _palette_bands(header: Header, taken: int, what: str) -> int:
    """Bands that a palette gives to a model: three, or one if all colours are grey.

    Raises:
        ContractError: If the model takes others.
    """
    colors = np.array(header.palette)[:, :3]
    if taken == 3 or (taken == 1 and (colors == colors[:, :1]).all()):
        return taken
    # GDAL would take the red alone for the grey of a colour.
    remedy = (
        "write its colours as three bands with gdal_translate -expand rgb, and choose among them"
        if taken < 3
        else "its colours are three bands: give it a file that has the others too"
    )
    raise ContractError(
        f"bands: its values are numbers of colours, and the model takes {taken} bands; {remedy}",
        code=FailureCode.WRONG_BANDS,
        name=what,
    )


def _called(header: Header, name: str) -> list[Band]:
    """The bands that go by a name: by their descriptions, or where none is that, by colour."""
    lower = name.lower()
    every = list(header.bands)
    # Alpha is a band only for who asks for it.
    if header.alpha_band is not None and lower in (header.alpha_band.name, "alpha"):
        every.append(header.alpha_band)
    described = [band for band in every if band.description == lower]
    return described or [b for b in every if b.color == lower and not b.is_color_invented]


def bands_in_order(
    header: Header, names: Sequence[str], remedy: str, what: str = ""
) -> tuple[Band, ...]:
    """The bands that a file calls as the model does; all of it in order if it names none.

    Args:
        header: Header of the file.
        names: Names of the model's bands.
        remedy: What to do where they contradict, for the error.
        what: Name of the file in the error.

    Raises:
        ContractError: If it has some of the names only, and they or other names contradict the
            order, or if it has one of them twice.
    """
    found = {name: _called(header, name) for name in names}
    if all(len(bands) == 1 for bands in found.values()):
        return tuple(bands[0] for bands in found.values())
    stated = {name: bands for name, bands in found.items() if _are_stated(header, bands, name)}
    by_place = dict(zip(names, header.bands, strict=False))
    contradicts = any(bands != [by_place.get(name)] for name, bands in stated.items()) or any(
        name not in stated and names_a_band(band.description) for name, band in by_place.items()
    )
    if not stated:
        colors = {name: [b for b in header.bands if b.color == name.lower()] for name in names}
        if all(len(bands) == 1 for bands in colors.values()):
            return tuple(bands[0] for bands in colors.values())
    if not stated or not contradicts:
        return header.bands
    missing = [name for name, bands in found.items() if not bands]
    twice = [name for name, bands in found.items() if len(bands) > 1]
    wrong = f"no band {', '.join(missing)}" if missing else f"several bands {', '.join(twice)}"
    raise ContractError(
        f"bands: the model takes {', '.join(names)}; the input has {wrong}, but names others of "
        f"them, so the order of its bands is not known; {remedy}: the scene has "
        f"{_bands_of(header)}",
        code=FailureCode.WRONG_BANDS,
        name=what,
    )


def _are_stated(header: Header, bands: Sequence[Band], name: str) -> bool:
    """Whether the file itself says that bands go by a name: GDAL gives any three colours."""
    is_ours = any(band.color and (band.index, band.color) not in USUAL for band in header.bands)
    is_described = any(band.description == name.lower() for band in bands)
    return is_described or (is_ours and len(bands) == 1)


def _find(header: Header, name: str, what: str) -> Band:
    """The band of a number or a name.

    Raises:
        ContractError: If there is none, or more than one.
    """
    number = int(name) if name.isdigit() else None
    if number is None:
        same = _called(header, name)
    else:
        every = (*header.bands, *([header.alpha_band] if header.alpha_band else []))
        same = [band for band in every if band.index == number]
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
    alpha = [] if header.alpha_band is None else [header.alpha_band]
    bands = sorted((*header.bands, *alpha), key=lambda band: band.index)
    return ", ".join(
        f"{band.index} ({band.name})" if band.name else f"{band.index}" for band in bands
    )


def _dtype(bands: Sequence[Band], model: BandModel) -> str:
    """Sample type of bands as the model meets it, or one that cannot be converted to that.

    Numbers that are scaled to others are float32 to a model that takes float32.
    """
    types = {b.dtype for b in bands}
    is_scaled = any(band.is_scaled for band in bands)
    if is_scaled and model.dtype == "float32" and not types & _COMPLEX:
        return "float32"
    refused = {t for t in types if not is_convertible(t, model.dtype, model.value_range)}
    return min(refused or {model.dtype})
