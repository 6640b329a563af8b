"""GeoTIFFs, and what else GDAL reads: kept open for the next window, their headers and pixels."""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow

from segmodel.errors import InputError
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import MaskReader
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window

# Most rasters that are open at a time; what GDAL keeps of each is freed when it is closed.
MAX_OPEN = 64
# GDAL's block cache, one for all threads: a size, where its own choice is a share of the machine.
# rasterio gives the number to GDAL as bytes.
CACHE_BYTES = 64 << 20
# Most pixels between corners of a mask and of its image: coordinates may be rounded.
_MAX_OFFSET_PX = 0.1
# Errors of a reference system, and text that is no UTF-8, are ValueErrors.
_GDAL_ERRORS = (RasterioError, CPLE_BaseError, ValueError)


@dataclass(frozen=True)
class RasterHeader:
    """What the header of a raster says.

    Args:
        height: Rows.
        width: Columns.
        dtypes: Sample type of each band but alpha; the other tuples are of these bands too.
        names: Description and colour of each band, in small letters.
        indexes: Number of each band in the file, from 1.
        nodata: Value of each band that stands for nodata, or None.
        scales: Scale and offset of each band, from samples to values.
        mask: What says where pixels are nodata: `none`, `values`, or `mask`, which may be an alpha
            band.
        palette: `(256, 3)` or longer uint8, colours by value, where the only band has a palette.
        is_georeferenced: Whether it has a transform, a reference system, GCPs or RPCs.
        crs: Coordinate reference system, or None.
        transform: Transform from columns and rows to coordinates; None if the file has none.
    """

    height: int
    width: int
    dtypes: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    indexes: tuple[int, ...]
    nodata: tuple[float | None, ...]
    scales: tuple[tuple[float, float], ...]
    mask: str
    palette: np.ndarray | None
    is_georeferenced: bool
    crs: CRS | None
    transform: Affine | None


class OpenRasters:
    """Rasters that stay open for the next window: a bounded number, each for a thread at a time.

    Args:
        max_open: Most rasters that are open; while more are being read, more are.
    """

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._max_open, self._lock = max_open, threading.Lock()
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()

    @contextmanager
    def open(self, path: str) -> Iterator[rasterio.DatasetReader]:
        """A raster for reading, while the block runs.

        After an error it is opened anew: GDAL's threads leave a tile that they could not decode in
        the cache of the handle, and later reads would take what is there for its pixels.

        Raises:
            InputError: If GDAL cannot open it, or fails in the block.
        """
        with self._lock:
            file = self._files.setdefault(path, _OpenFile())
            self._files.move_to_end(path)
            file.users += 1
        try:
            with file.lock, rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
                try:
                    yield file.opened(path)
                except _GDAL_ERRORS as error:
                    file.close()
                    raise InputError(f"cannot be read: {_reason(error, path)}") from error
        finally:
            with self._lock:
                file.users -= 1
                idle = [name for name, kept in self._files.items() if not kept.users]
                for name in idle[: max(0, len(self._files) - self._max_open)]:
                    self._files.pop(name).close()


class _OpenFile:
    """One raster, open or not; `users` have it or wait for it."""

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0
        self._source: rasterio.DatasetReader | None = None
        self._version: tuple[int, int] | None = None

    def opened(self, path: str) -> rasterio.DatasetReader:
        """The raster as the file is now, which may be another than when it was opened."""
        status = os.stat(path)
        version = status.st_size, status.st_mtime_ns
        if self._version != version:
            self.close()
            self._version = version
        if self._source is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._source = rasterio.open(path)
        return self._source

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None


def read_raster_header(path: str, files: OpenRasters) -> RasterHeader:
    """The header of a raster.

    Args:
        path: Path of the raster.
        files: Open rasters, which keep the file open for its windows.

    Raises:
        InputError: If GDAL cannot open it, or it has no bands.
    """
    with files.open(path) as source:
        kinds = dict(zip(source.indexes, source.colorinterp, strict=True))
        indexes = [index for index in source.indexes if kinds[index] != ColorInterp.alpha]
        if not indexes:
            raise InputError("it has no bands")
        palette = None
        if len(indexes) == 1 and kinds[indexes[0]] == ColorInterp.palette:
            colors = source.colormap(indexes[0])
            palette = np.zeros((max(256, max(colors) + 1), 3), np.uint8)
            palette[list(colors)] = [color[:3] for color in colors.values()]

        def of(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[index - 1] for index in indexes)

        return RasterHeader(
            height=source.height,
            width=source.width,
            dtypes=of(source.dtypes),
            names=tuple(
                (str(text or "").strip().lower(), kinds[index].name)
                for text, index in zip(of(source.descriptions), indexes, strict=True)
            ),
            indexes=tuple(indexes),
            nodata=of(source.nodatavals),
            scales=tuple(zip(of(source.scales), of(source.offsets), strict=True)),
            mask=_mask_kind(of(source.mask_flag_enums)),
            palette=palette,
            is_georeferenced=not source.transform.is_identity
            or source.crs is not None
            or bool(source.gcps[0])
            or source.rpcs is not None,
            crs=source.crs,
            transform=None if source.transform.is_identity else source.transform,
        )


def check_alignment(image: RasterHeader, mask: RasterHeader) -> None:
    """Refuse a mask that lies elsewhere than its image, where both are georeferenced.

    Args:
        image: Header of the image.
        mask: Header of its mask, of the same size.

    Raises:
        InputError: Says what differs and by how much.
    """
    remedy = (
        "lay the mask on the grid of the image (gdalwarp -t_srs -te -ts), or take its place out of "
        "the file if its pixels are those of the image (gdal_edit.py -unsetgt)"
    )
    if image.transform is None or mask.transform is None:
        return
    if image.crs is not None and mask.crs is not None and not _is_same(image.crs, mask.crs):
        raise InputError(
            f"the mask is in {mask.crs.to_string()}, its image in {image.crs.to_string()}: {remedy}"
        )
    if image.transform.is_degenerate:
        return
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * (image.width, image.height)
    offsets = _applied(~image.transform, _applied(mask.transform, corners)) - corners
    worst = offsets[np.abs(offsets).max(axis=1).argmax()]
    if np.abs(worst).max() > _MAX_OFFSET_PX:
        raise InputError(
            f"the mask lies up to {worst[0]:+.1f} columns and {worst[1]:+.1f} rows of pixels away "
            f"from its image: {remedy}"
        )


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


def _applied(transform: Affine, points: np.ndarray) -> np.ndarray:
    matrix = np.array(tuple(transform)[:6]).reshape(2, 3)
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def _is_same(one: CRS, other: CRS) -> bool:
    # Different texts may be of one system.
    return one == other or (one.to_epsg() is not None and one.to_epsg() == other.to_epsg())


def _mask_kind(flags: Sequence[Sequence[MaskFlags]]) -> str:
    every = {flag for of_band in flags for flag in of_band}
    # A band without any flag has a mask of its own.
    if every & {MaskFlags.alpha, MaskFlags.per_dataset} or not all(flags):
        return "mask"
    return "values" if MaskFlags.nodata in every else "none"


def _reason(error: BaseException, path: str) -> str:
    """What GDAL says is wrong, without the path."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).replace(path, os.path.basename(path))
