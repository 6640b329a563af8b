"""GeoTIFFs, and what else GDAL reads: kept open for the next window, and their headers."""

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

from segmodel.errors import InputError

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
        file = self._taken(path)
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
                self._close_some()

    def _taken(self, path: str) -> _OpenFile:
        with self._lock:
            file = self._files.setdefault(path, _OpenFile())
            self._files.move_to_end(path)
            file.users += 1
            return file

    def _close_some(self) -> None:
        idle = [path for path, file in self._files.items() if not file.users]
        for path in idle[: max(0, len(self._files) - self._max_open)]:
            self._files.pop(path).close()


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
