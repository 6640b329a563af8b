"""Pairs in folders: decoded whole where that is what `beamseg segment` does, else by windows."""

from __future__ import annotations

import threading
from pathlib import PurePath

import numpy as np

from segmodel.errors import InputError
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import check_size
from segmodel.pairs.paired_files import PairedFiles
from segmodel.pairs.pairs import (
    Encoded,
    EncodedPair,
    Pair,
    PairCache,
    Source,
    named_errors,
    read_indices,
)
from segmodel.pairs.raster_files import RasterHeader, check_same_place, read_header
from segmodel.pairs.raster_windows import ImageRaster, MaskRaster
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window

_RASTER_SUFFIXES = (".tif", ".tiff")


class RasterPair:
    """A raster that GDAL reads by windows; its mask is read like it, or decoded whole.

    Args:
        files: Where image and mask are.
        header: Of the image.
        source: What all pairs have in common.
        cache: Where a mask is kept that is decoded whole.

    Raises:
        InputError: If the model takes other bands or samples, or the mask has another size or lies
            elsewhere.
    """

    def __init__(
        self, files: PairedFiles, header: RasterHeader, source: Source, cache: PairCache | None
    ) -> None:
        self.name, self.group = files.name, files.group
        self.height, self.width = header.height, header.width
        self._files, self._reader, self._cache = files, source.masks, cache
        with named_errors(files.image):
            self._image = ImageRaster(
                files.image, header, source.bands, source.dtype, source.limits
            )
        self._mask: MaskRaster | None = None
        if _is_tiff(files.mask):
            with named_errors(files.mask):
                of_mask = read_header(files.mask)
                check_size((of_mask.height, of_mask.width), (self.height, self.width))
                self._mask = MaskRaster(files.mask, of_mask, source.masks)
            with named_errors(f"{files.mask} and {files.image}"):
                check_same_place(header, of_mask)
        self._lock = threading.Lock()

    def pixels(self, window: Window) -> Pixels:
        """Pixels of a window."""
        with named_errors(self._files.image):
            pixels = self._image.read(window)
        _LAST.window, _LAST.finite = (self, window), pixels.finite
        return pixels

    def truth(self, window: Window) -> np.ndarray:
        """Class indices of a window."""
        if self._mask is None:
            truth = self._whole_mask()[window.slices].astype(np.int16)
        else:
            with named_errors(self._files.mask):
                truth = self._mask.read(window)
        finite = self._finite(window)
        if finite is not None:
            truth[~finite] = IGNORED
        return truth

    def _finite(self, window: Window) -> np.ndarray | None:
        """Where the image has pixels; it is read once where a thread asks for both in turn."""
        if self._image.is_always_valid:
            return None
        if _LAST.window != (self, window):
            self.pixels(window)
        return _LAST.finite

    def _whole_mask(self) -> np.ndarray:
        with self._lock:
            found = None if self._cache is None else self._cache.get(self)
            if found is None:
                mask = Encoded.of(self._files.mask)
                found = (read_indices(mask, (self.height, self.width), self._reader),)
                if self._cache is not None:
                    self._cache.keep(self, found)
            return found[0]  # type: ignore[return-value]


class _Last(threading.local):
    """Where the window that this thread read last has pixels."""

    window: tuple[RasterPair, Window] | None = None
    finite: np.ndarray | None = None


_LAST = _Last()


def open_pair(files: PairedFiles, source: Source, cache: PairCache | None) -> Pair:
    """A pair of files, by the header of the image.

    TIFFs are read by GDAL where they say where they lie, as scenes are, or where the model takes
    what no other decoder gives.

    Raises:
        InputError: If the image has other bands or samples than the model.
    """
    if _is_tiff(files.image):
        header = None
        try:
            with named_errors(files.image):
                header = read_header(files.image)
        except InputError:
            # Where it can be decoded, that says what is wrong with it and with other files.
            if not source.takes_encoded:
                raise
        if header is not None and (header.is_located or not source.takes_encoded):
            return RasterPair(files, header, source, cache)
    image, mask = Encoded.of(files.image), Encoded.of(files.mask)
    return EncodedPair(files.name, files.group, image, mask, source, cache)


def _is_tiff(path: str) -> bool:
    return PurePath(path).suffix.lower() in _RASTER_SUFFIXES
