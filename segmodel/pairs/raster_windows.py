"""Images and masks that GDAL reads, by windows: as the model takes them, and as class indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rasterio.windows import Window as RasterioWindow

from segmodel.errors import InputError
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import MaskReader
from segmodel.pairs.raster_files import OpenRasters, RasterHeader
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window


class BandReader:
    """Reads an image by windows as the model takes it.

    The bands are those with the names of the model's bands if the file has all of them, as
    `beamseg segment` takes them, else all bands of the file in their order.

    Args:
        path: Path of the image.
        header: Header of the image.
        bands: Names of the model's bands.
        dtype: Sample type of the model.
        value_range: Least and greatest raw value of the model.
        files: Open rasters, which keep the file open for the next window.

    Raises:
        InputError: If it has other bands or samples than the model.
    """

    def __init__(
        self,
        path: str,
        header: RasterHeader,
        bands: Sequence[str],
        dtype: str,
        value_range: Sequence[float],
        files: OpenRasters,
    ) -> None:
        self._path, self._header, self._files = path, header, files
        self._value_range = value_range
        self._chosen = _band_positions(header, bands)
        self._scales = None
        scaled = any(header.scales[place] != (1.0, 0.0) for place in self._chosen)
        if dtype == "float32" and scaled:
            self._scales = np.array([header.scales[place] for place in self._chosen])
            return
        found = sorted({header.dtypes[place] for place in self._chosen})
        if found != [dtype]:
            raise InputError(
                f"it has samples of {', '.join(found)}, model.dtype is {dtype}: set model.dtype, "
                f"or convert the image (gdal_translate -ot)"
            )

    @property
    def is_always_valid(self) -> bool:
        """Whether no pixel can be nodata."""
        return self._header.mask == "none" and not np.issubdtype(
            np.dtype(self._header.dtypes[self._chosen[0]]), np.floating
        )

    def read(self, window: Window) -> Pixels:
        """Pixels of a window: `(height, width, bands)` of the model's dtype, and where valid.

        Raises:
            InputError: If GDAL cannot read it.
        """
        indexes = [self._header.indexes[place] for place in self._chosen]
        area, valid = _area(window), None
        with self._files.open(self._path) as source:
            samples = np.ascontiguousarray(np.moveaxis(source.read(indexes, window=area), 0, -1))
            if self._header.mask == "mask":
                valid = (source.read_masks(indexes, window=area) > 0).all(axis=0)
        if self._header.mask == "values":
            valid = self._valid_by_values(samples)
        values = samples
        if self._scales is not None:
            values = (samples * self._scales[:, 0] + self._scales[:, 1]).astype(np.float32)
        return Pixels(values, None if valid is None or valid.all() else valid)

    def _valid_by_values(self, samples: np.ndarray) -> np.ndarray:
        """`(height, width)` bool by the nodata values of the bands.

        As for scenes: a value that no pixel can have makes one nodata in whatever band it is, one
        that a pixel can have only if all bands hold theirs.
        """
        partly = np.zeros(samples.shape[:2], bool)
        wholly = np.ones(samples.shape[:2], bool)
        for number, place in enumerate(self._chosen):
            nodata, (scale, offset) = self._header.nodata[place], self._header.scales[place]
            if nodata is None:
                wholly[:] = False
                continue
            band = samples[..., number]
            if np.isnan(nodata):
                equal = np.isnan(band)
            elif np.issubdtype(band.dtype, np.floating):
                equal = band == np.float64(nodata).astype(band.dtype)
            else:
                equal = band == nodata
            wholly &= equal
            stands_for = nodata if self._scales is None else nodata * scale + offset
            if not self._value_range[0] <= stands_for <= self._value_range[1]:
                partly |= equal
        return ~(partly | wholly)


class ClassReader:
    """Reads a mask by windows as class indices.

    A nodata value is ignored unless it is the id of a class.

    Args:
        path: Path of the mask.
        header: Header of the mask.
        reader: Meaning of the values of masks.
        files: Open rasters, which keep the file open for the next window.

    Raises:
        InputError: If it is no mask of that kind.
    """

    def __init__(
        self, path: str, header: RasterHeader, reader: MaskReader, files: OpenRasters
    ) -> None:
        self._path, self._header, self._files = path, header, files
        self._mapping = reader.mapping
        bits = max(np.dtype(dtype).itemsize * 8 for dtype in header.dtypes)
        is_integer = all(np.issubdtype(np.dtype(dtype), np.integer) for dtype in header.dtypes)
        count = len(header.indexes)
        if not is_integer:
            raise InputError(f"a mask holds whole numbers, got samples of {header.dtypes[0]}")
        reader.check_kind(header.palette is not None, 8 if header.palette is not None else bits)
        in_color = reader.encoding == "color"
        if in_color and count != 3 and header.palette is None:
            raise InputError(f"a mask of colours has three bands or a palette, got {count} bands")
        if not in_color and count != 1:
            raise InputError(f"a mask of ids has one band, got {count}")
        self._in_color, self._nodata = in_color, header.nodata[0]

    def read(self, window: Window) -> np.ndarray:
        """Class indices of a window, `(height, width)` int16.

        Raises:
            InputError: If GDAL cannot read it, or a value is neither a class nor ignored.
        """
        area, masked = _area(window), None
        with self._files.open(self._path) as source:
            values = source.read(self._header.indexes, window=area)
            if self._header.mask == "mask":
                masked = source.read_masks(self._header.indexes[0], window=area) == 0
        if not self._in_color:
            values = values[0]
            if self._nodata is not None and self._nodata not in self._mapping.classes.ids:
                masked = (values == self._nodata) | (False if masked is None else masked)
        elif self._header.palette is not None:
            values = self._header.palette[values[0]]
        else:
            values = np.moveaxis(values, 0, -1)
        if masked is None:
            return self._mapping.decode(values)
        indices = np.full(masked.shape, IGNORED, np.int16)
        indices[~masked] = self._mapping.decode(values[~masked])
        return indices


def _area(window: Window) -> RasterioWindow:
    return RasterioWindow(window.column, window.row, window.width, window.height)


def _band_positions(header: RasterHeader, bands: Sequence[str]) -> list[int]:
    """Positions of the model's bands among those of the file.

    Raises:
        InputError: If the file has other bands.
    """
    named = [
        [place for place, names in enumerate(header.names) if band.lower() in names]
        for band in bands
    ]
    places = [found[0] for found in named if len(found) == 1]
    if len(set(places)) == len(bands):
        return places
    if len(header.indexes) != len(bands):
        has_palette = header.palette is not None
        hint = ": expand its palette (gdal_translate -expand rgb)" if has_palette else ""
        raise InputError(
            f"it has {len(header.indexes)} bands beside alpha, model.bands names {len(bands)} "
            f"({', '.join(bands)}){hint}"
        )
    return list(range(len(bands)))
