"""Pairs in folders: decoded whole where that is what `beamseg segment` does, else by windows."""

from __future__ import annotations

import threading
from pathlib import PurePath

import numpy as np

from segmodel.errors import InputError
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import check_size
from segmodel.pairs.paired_files import FilePair
from segmodel.pairs.pairs import (
    EncodedFile,
    EncodedPair,
    Pair,
    PairCache,
    PairSource,
    cached,
    errors_naming,
    read_indices,
)
from segmodel.pairs.raster_files import RasterHeader, check_alignment, read_raster_header
from segmodel.pairs.raster_windows import BandReader, ClassReader
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window

_RASTER_SUFFIXES = (".tif", ".tiff")


class RasterPair:
    """A raster that GDAL reads by windows; its mask is read like it, or decoded whole.

    Args:
        files: Paths of image and mask.
        header: Header of the image.
        source: Settings that all pairs share.
        cache: Cache of masks that are decoded whole; None to decode them for every window.

    Raises:
        InputError: If the model takes other bands or samples, or the mask has another size or lies
            elsewhere.
    """

    def __init__(
        self,
        files: FilePair,
        header: RasterHeader,
        source: PairSource,
        cache: PairCache | None,
    ) -> None:
        self.name, self.group = files.name, files.group
        self.height, self.width = header.height, header.width
        self._files, self._reader, self._cache = files, source.masks, cache
        with errors_naming(files.image):
            self._image = BandReader(
                files.image, header, source.bands, source.dtype, source.value_range, source.files
            )
        self._mask: ClassReader | None = None
        if _is_tiff(files.mask):
            with errors_naming(files.mask):
                of_mask = read_raster_header(files.mask, source.files)
                check_size((of_mask.height, of_mask.width), (self.height, self.width))
                self._mask = ClassReader(files.mask, of_mask, source.masks, source.files)
            with errors_naming(f"{files.mask} and {files.image}"):
                check_alignment(header, of_mask)
        self._lock = threading.Lock()

    def pixels(self, window: Window) -> Pixels:
        """Pixels of a window of the image; see `Pair.pixels`."""
        with errors_naming(self._files.image):
            pixels = self._image.read(window)
        _LAST.window, _LAST.finite = (self, window), pixels.finite
        return pixels

    def truth(self, window: Window) -> np.ndarray:
        """Class indices of a window, `(height, width)` int16; see `Pair.truth`."""
        if self._mask is None:
            (whole,) = cached(self._cache, self, self._lock, self._decode_mask)
            truth: np.ndarray = whole[window.slices].astype(np.int16)
        else:
            with errors_naming(self._files.mask):
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

    def _decode_mask(self) -> tuple[np.ndarray]:
        mask = EncodedFile.of(self._files.mask)
        return (read_indices(mask, (self.height, self.width), self._reader),)


class _Last(threading.local):
    """Where the window that this thread read last has pixels."""

    window: tuple[RasterPair, Window] | None = None
    finite: np.ndarray | None = None


_LAST = _Last()


def open_pair(files: FilePair, source: PairSource, cache: PairCache | None) -> Pair:
    """A pair of files, by the header of the image.

    GDAL reads TIFFs that are georeferenced, as it does scenes, and those of bands or samples that
    no other decoder gives.

    Args:
        files: Paths of image and mask.
        source: Settings that all pairs share.
        cache: Cache of decoded images and masks; None to decode them for every window.

    Raises:
        InputError: If the image has other bands or samples than the model.
    """
    if _is_tiff(files.image):
        header = None
        try:
            with errors_naming(files.image):
                header = read_raster_header(files.image, source.files)
        except InputError:
            # Where it can be decoded, the decoder's error says more.
            if not source.accepts_encoded:
                raise
        if header is not None and (header.is_georeferenced or not source.accepts_encoded):
            return RasterPair(files, header, source, cache)
    image, mask = EncodedFile.of(files.image), EncodedFile.of(files.mask)
    return EncodedPair(files.name, files.group, image, mask, source, cache)


def _is_tiff(path: str) -> bool:
    return PurePath(path).suffix.lower() in _RASTER_SUFFIXES
