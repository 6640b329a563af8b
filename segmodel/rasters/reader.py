"""Rasters by windows: values of the model's bands, and where they are valid.

All reads of a raster go through one handle, one after the other: GDAL keeps decoded tiles for each
handle, so that a strip that many windows share is decoded once.
"""

from __future__ import annotations

import contextvars
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import rasterio
from rasterio.windows import Window as RasterioWindow

from segmodel.errors import BeamsegError
from segmodel.rasters.bands import ModelBands
from segmodel.rasters.completeness import shortage_of
from segmodel.rasters.header import Header, header_of
from segmodel.rasters.opening import GDAL_ERRORS, Opener, OpenRaster, check_sources, gdal_window
from segmodel.tiling.raster import Pixels, combine_masks
from segmodel.tiling.windows import Window

# Most rasters that are open at a time; what GDAL keeps of each is freed when it is closed.
MAX_OPEN = 64

T = TypeVar("T")


class OpenRasters:
    """The handles that are open: a bounded number; thread-safe.

    Args:
        max_open: Most rasters that are open; while more are being read, more are.
    """

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._max_open, self._lock = max_open, threading.Lock()
        self._used: OrderedDict[RasterHandle, None] = OrderedDict()

    def note_use(self, handle: RasterHandle) -> None:
        """Remember that a handle was used, and close those that were not for longest."""
        with self._lock:
            self._used[handle] = None
            self._used.move_to_end(handle)
            for other in list(self._used)[: max(0, len(self._used) - self._max_open)]:
                if other.close_if_idle():
                    del self._used[other]


class RasterHandle:
    """A raster that stays open for the next read, for one thread at a time.

    After an error it is opened anew: GDAL's threads leave a tile that they could not decode in the
    cache of the handle, and later reads would take what is there for its pixels. So is a file that
    has changed.

    Args:
        uri: Location of the raster.
        opener: Opener of rasters there.
        version: Version that the raster must still have; see `Opener.open`.
        threads: Threads that GDAL decodes with.
        files: Handles among which a bounded number stays open, or None to stay open until closed.
    """

    def __init__(
        self,
        uri: str,
        opener: Opener,
        version: str = "",
        threads: int = 1,
        files: OpenRasters | None = None,
    ) -> None:
        self.uri, self._opener, self._version = uri, opener, version
        self._threads, self._files = threads, files
        self._lock = threading.Lock()
        self._context = contextvars.copy_context()
        self._opened: OpenRaster | None = None
        self._state: object = None

    def header(self) -> Header:
        """The header of the raster.

        Raises:
            InputError: If GDAL cannot open it, or it has no bands.
        """

        def header(source: rasterio.DatasetReader) -> Header:
            return replace(header_of(source), shortage=shortage_of(source, self.uri, self._opener))

        return self.read(header, "cannot be read")

    def read(
        self,
        action: Callable[[rasterio.DatasetReader], T],
        what: str,
        expected: tuple[Window, Sequence[int]] | None = None,
    ) -> T:
        """What an action returns for the open raster.

        Args:
            action: Function of the dataset.
            what: What is wrong where it fails, which the reason follows.
            expected: Window that it reads at its full size, and indexes of the bands; None for
                anything else.

        Raises:
            InputError: If GDAL cannot open the raster, or the action fails.
            TransientError: If it may not fail later.
        """

        def attempt() -> T:
            # What rasterio knows of files that it opened through us is in the context of the
            # thread that did: so all threads read in one.
            with self._lock:
                return self._context.run(self._read, action, what, expected)

        try:
            return self._opener.with_retries(self.uri, attempt)
        finally:
            if self._files is not None:
                self._files.note_use(self)

    def _read(
        self,
        action: Callable[[rasterio.DatasetReader], T],
        what: str,
        expected: tuple[Window, Sequence[int]] | None,
    ) -> T:
        with self._opener.errors(self.uri, what):
            state = self._opener.state(self.uri)
            if state != self._state:
                self._close()
            with self._opener.env(self.uri, GDAL_NUM_THREADS=self._threads):
                if self._opened is None:
                    self._opened, self._state = self._opener.open(self.uri, self._version), state
                try:
                    if expected is not None:
                        self._opened.expect(*expected)
                    with self._opened.reading() as source:
                        return action(source)
                except (*GDAL_ERRORS, BeamsegError):
                    self._close()
                    raise

    def close(self) -> None:
        """Close the raster."""
        with self._lock:
            self._context.run(self._close)

    def close_if_idle(self) -> bool:
        """Close the raster unless a thread reads it; whether it is closed."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._context.run(self._close)
        finally:
            self._lock.release()
        return True

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class RasterReader:
    """A raster by windows, as a model takes it.

    Args:
        handle: Handle of the raster.
        bands: Bands that the model takes.
    """

    def __init__(self, handle: RasterHandle, bands: ModelBands) -> None:
        self._handle, self._bands = handle, bands

    def read(self, window: Window, shape: tuple[int, int] | None = None) -> Pixels:
        """Pixels of a window: `(height, width, bands)` of the model's dtype, and where valid.

        Args:
            window: Part of the raster.
            shape: Rows and columns of the result, or None for those of the window; with fewer, GDAL
                leaves some out.

        Raises:
            InputError: If GDAL cannot read it.
            TransientError: If GDAL may read it later.
        """
        size = shape or (window.height, window.width)
        bands = self._bands
        indexes = bands.indexes + ([] if bands.alpha is None else [bands.alpha])
        samples, valid = self._handle.read(
            lambda source: self._read(source, window, size),
            f"pixels of {window} cannot be read",
            (window, indexes) if size == (window.height, window.width) else None,
        )
        valid = combine_masks(valid, self._bands.valid_by_values(samples))
        return Pixels(self._bands.values(samples), valid)

    def _read(
        self, source: rasterio.DatasetReader, window: Window, shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Samples `(height, width, bands)`, and where a mask or alpha says that they are valid."""
        area, indexes = gdal_window(window), self._bands.indexes
        samples = np.empty((*shape, len(indexes)), self._bands.read_dtype)
        # GDAL writes pixel by pixel; what is read is a view of it, band by band.
        source.read(indexes, out=samples.transpose(2, 0, 1), window=area)
        if shape == (area.height, area.width):
            check_sources(source, indexes, area)
        bands = self._bands
        return samples, valid_by_mask(source, bands.mask, bands.alpha, indexes, area, shape)

    def close(self) -> None:
        """Close the raster."""
        self._handle.close()


def valid_by_mask(
    source: rasterio.DatasetReader,
    mask: str,
    alpha: int | None,
    indexes: list[int],
    area: RasterioWindow,
    shape: tuple[int, int],
) -> np.ndarray | None:
    """Where masks and alpha of an open raster say that pixels are valid; None where all are.

    Args:
        source: Open raster.
        mask: Where nodata is, as `Header.mask`.
        alpha: Index of the alpha band, or None.
        indexes: Indexes of the bands that are read.
        area: Part of the raster.
        shape: Rows and columns of the result.

    Returns:
        `(height, width)` bool.
    """
    valid = None if alpha is None else source.read(alpha, out_shape=shape, window=area) > 0
    if mask == "mask":
        by_mask = source.read_masks(indexes[0], out_shape=shape, window=area) > 0
        valid = combine_masks(valid, by_mask)
    elif mask == "bands":
        of_all = (len(indexes), *shape)
        by_bands = (source.read_masks(indexes, out_shape=of_all, window=area) > 0).all(axis=0)
        valid = combine_masks(valid, by_bands)
    return None if valid is None or valid.all() else valid
