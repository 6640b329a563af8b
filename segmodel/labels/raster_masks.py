"""Values of masks that GDAL reads, and which pixels are erased."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import rasterio

from segmodel.errors import FailureCode, InputError
from segmodel.rasters.bands import colors_of
from segmodel.rasters.header import Band, Header
from segmodel.rasters.nodata import is_nodata
from segmodel.rasters.opening import check_sources, gdal_window
from segmodel.rasters.reader import RasterHandle, valid_by_mask
from segmodel.tiling.raster import combine_masks
from segmodel.tiling.windows import Window

# Function of the values of one pixel, `(1, 1)` or `(1, 1, 3)`; whether they are those of a class.
IsClass = Callable[[np.ndarray], bool]


class MaskRaster:
    """Reads a mask by windows.

    Pixels are erased where alpha or a mask is 0, the palette is transparent, or all bands hold the
    nodata value of the file, unless that stands for a class.

    Args:
        handle: Handle of the mask.
        header: Header of the mask.
        in_color: Whether its colours count, or its ids.
        is_class: Whether values are those of a class.

    Raises:
        InputError: If it is no mask of that kind.
    """

    def __init__(
        self, handle: RasterHandle, header: Header, in_color: bool, is_class: IsClass
    ) -> None:
        self._handle, self._header, self._in_color = handle, header, in_color
        bands, palette = header.bands, header.palette
        if not bands or not all(np.issubdtype(np.dtype(band.dtype), np.integer) for band in bands):
            found = bands[0].dtype if bands else "alpha only"
            raise InputError(
                f"a mask holds whole numbers, got samples of {found}", code=FailureCode.MASK_KIND
            )
        if header.white_is_zero and palette is None:
            raise InputError(
                "the mask is 0 where it is white (PhotometricInterpretation 0), which is not "
                "supported for more than 8 bits a sample or several bands: if its numbers are "
                "ids, say so with gdal_translate -co PHOTOMETRIC=MINISBLACK",
                code=FailureCode.UNSUPPORTED,
            )
        self._grey = in_color and palette is None and len(bands) == 1
        if in_color and palette is None and len(bands) not in (1, 3):
            raise InputError(
                f"a mask of colours has three bands or a palette, got {len(bands)} bands",
                code=FailureCode.MASK_KIND,
            )
        if not in_color and len(bands) != 1:
            raise InputError(
                f"a mask of ids has one band, got {len(bands)}", code=FailureCode.MASK_KIND
            )
        stated = [band.nodata for band in bands if band.nodata is not None]
        self._nodata = stated if len(stated) == len(bands) else None
        if self._nodata is not None and is_class(self._meaning_of_nodata(bands)):
            self._nodata = None

    @property
    def is_indexed(self) -> bool:
        """Whether its values are indices of a palette."""
        return self._header.palette is not None and not self._header.has_grey_palette

    @property
    def bits(self) -> int:
        """Bits of a sample, or of a colour of the palette."""
        if self._header.palette is not None:
            return 8
        return max(np.dtype(band.dtype).itemsize * 8 for band in self._header.bands)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """The values of a window, and where it is erased.

        Args:
            window: Part of the mask.

        Returns:
            `(height, width)` ids or `(height, width, 3)` colours, and `(height, width)` bool, True
            where a pixel is erased; None where none is.

        Raises:
            InputError: If GDAL cannot read it.
        """
        samples, valid = self._handle.read(
            lambda source: self._read(source, window), f"pixels of {window} cannot be read"
        )
        valid = combine_masks(valid, self._valid_by_values(samples))
        return self._values(samples), None if valid is None or valid.all() else ~valid

    def _read(
        self, source: rasterio.DatasetReader, window: Window
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Samples `(height, width, bands)`, and where a mask or alpha says that they are valid."""
        header, area = self._header, gdal_window(window)
        indexes = [band.index for band in header.bands]
        samples = np.moveaxis(source.read(indexes, window=area), 0, -1)
        check_sources(source, indexes, area)
        shape = (window.height, window.width)
        return samples, valid_by_mask(source, header.mask, header.alpha, indexes, area, shape)

    def _valid_by_values(self, samples: np.ndarray) -> np.ndarray | None:
        valid = None
        palette, bands = self._header.palette, self._header.bands
        if palette is not None and not self._header.has_grey_palette:
            # GDAL has the colour of a nodata value transparent, which may be that of a class.
            seen = np.array([alpha > 0 for *_, alpha in palette])
            if bands[0].nodata is not None and 0 <= bands[0].nodata < len(seen):
                seen[int(bands[0].nodata)] = True
            if not seen.all():
                beyond = np.ones(max(0, 65536 - len(seen)), bool)
                valid = np.concatenate([seen, beyond])[samples[..., 0]]
        if self._nodata is not None:
            equal = [
                is_nodata(samples[..., number], nodata, bands[number].dtype)
                for number, nodata in enumerate(self._nodata)
            ]
            valid = combine_masks(valid, ~np.logical_and.reduce(equal))
        return valid

    def _values(self, samples: np.ndarray) -> np.ndarray:
        """Ids `(height, width)` or colours `(height, width, 3)` of samples."""
        palette = self._header.palette
        if self._in_color and palette is not None:
            return np.asarray(colors_of(palette)[:, :3][samples[..., 0]])
        if self._in_color:
            return np.repeat(samples, 3, axis=-1) if self._grey else samples
        if palette is not None and self._header.white_is_zero:
            return np.asarray(len(palette) - 1 - samples[..., 0], samples.dtype)
        return samples[..., 0]

    def _meaning_of_nodata(self, bands: tuple[Band, ...]) -> np.ndarray:
        """The values of a pixel that holds nodata in all bands; below 0 if no pixel can."""
        assert self._nodata is not None
        sample = np.array(self._nodata)
        limits = [np.iinfo(band.dtype) for band in bands]
        fits = all(
            limit.min <= nodata <= limit.max
            for limit, nodata in zip(limits, self._nodata, strict=True)
        )
        dtype = np.result_type(*(np.dtype(band.dtype) for band in bands))
        if not fits:
            return np.full((1, 1, 3) if self._in_color else (1, 1), -1, np.int64)
        return self._values(sample.astype(np.int64).astype(dtype)[None, None])
