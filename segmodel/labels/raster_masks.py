"""Masks that GDAL reads by windows, as class indices."""

from __future__ import annotations

import numpy as np
import rasterio

from segmodel.errors import FailureCode, InputError
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import MaskReader
from segmodel.rasters.bands import colors_of
from segmodel.rasters.header import Header
from segmodel.rasters.opening import gdal_window
from segmodel.rasters.reader import RasterHandle
from segmodel.tiling.windows import Window


class ClassReader:
    """Reads a mask by windows as class indices.

    A nodata value is ignored unless it is the id of a class.

    Args:
        handle: Handle of the mask.
        header: Header of the mask.
        reader: Meaning of the values of masks.

    Raises:
        InputError: If it is no mask of that kind.
    """

    def __init__(self, handle: RasterHandle, header: Header, reader: MaskReader) -> None:
        self._handle, self._header, self._mapping = handle, header, reader.mapping
        bands, palette = header.bands, header.palette
        bits = max(np.dtype(band.dtype).itemsize * 8 for band in bands)
        if not all(np.issubdtype(np.dtype(band.dtype), np.integer) for band in bands):
            raise InputError(
                f"a mask holds whole numbers, got samples of {bands[0].dtype}",
                code=FailureCode.MASK_KIND,
            )
        reader.check_kind(palette is not None, 8 if palette is not None else bits)
        in_color = reader.encoding == "color"
        if in_color and len(bands) != 3 and palette is None:
            raise InputError(
                f"a mask of colours has three bands or a palette, got {len(bands)} bands",
                code=FailureCode.MASK_KIND,
            )
        if not in_color and len(bands) != 1:
            raise InputError(
                f"a mask of ids has one band, got {len(bands)}", code=FailureCode.MASK_KIND
            )
        self._in_color, self._nodata = in_color, bands[0].nodata

    def read(self, window: Window) -> np.ndarray:
        """Class indices of a window, `(height, width)` int16.

        Raises:
            InputError: If GDAL cannot read it, or a value is neither a class nor ignored.
        """
        values, masked = self._handle.read(
            lambda source: self._read(source, window), f"pixels of {window} cannot be read"
        )
        if not self._in_color:
            values = values[0]
            if self._nodata is not None and self._nodata not in self._mapping.classes.ids:
                masked = (values == self._nodata) | (False if masked is None else masked)
        elif self._header.palette is not None:
            values = colors_of(self._header.palette)[:, :3][values[0]]
        else:
            values = np.moveaxis(values, 0, -1)
        if masked is None:
            return self._mapping.decode(values)
        indices = np.full(masked.shape, IGNORED, np.int16)
        indices[~masked] = self._mapping.decode(values[~masked])
        return indices

    def _read(
        self, source: rasterio.DatasetReader, window: Window
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Samples `(bands, height, width)`, and where a mask or alpha says that there is none."""
        area, indexes = gdal_window(window), [band.index for band in self._header.bands]
        values = source.read(indexes, window=area)
        if self._header.mask not in ("alpha", "mask", "bands"):
            return values, None
        return values, source.read_masks(indexes[0], window=area) == 0
