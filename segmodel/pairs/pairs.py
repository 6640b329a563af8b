"""Images with their truth, read by windows from any thread.

An image is decoded whole where that is what `beamseg segment` does; else GDAL reads it by windows.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segmodel.errors import ContractError, FailureCode, InputError, is_transient
from segmodel.images.encoded import decode_pixels, image_size
from segmodel.images.tiff import is_tiff
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import MaskReader, check_size
from segmodel.labels.raster_masks import MaskRaster
from segmodel.pairs.paired_files import FilePair
from segmodel.rasters.bands import ModelBands
from segmodel.rasters.grid import check_alignment
from segmodel.rasters.header import TURNED, Header
from segmodel.rasters.opening import Opener
from segmodel.rasters.reader import OpenRasters, RasterHandle, RasterReader
from segmodel.rasters.sample_types import conversion_remedy, is_convertible
from segmodel.rasters.world_files import (
    MASK_SUFFIX,
    MAX_SIDECAR_BYTES,
    check_sidecars,
    may_have_sidecars,
    possible_sidecars,
    sidecars_in,
    with_place,
)
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window

_ENCODED_BANDS = (1, 3, 4)
# What is decoded keeps class indices in a byte where they fit.
_BYTE_CLASSES = 128
# GDAL's block cache, one for all threads: a size, where its own choice is a share of the machine.
CACHE_BYTES = 64 << 20
_FOLDERS_KNOWN = 64
# Of a TIFF that GDAL refuses, what a decoder does not see.
_NOT_DECODED = (FailureCode.BAD_GEOREFERENCE, FailureCode.NOT_TRUSTED)


class Pair(Protocol):
    """One image and its truth, read by windows from any thread; callers do not write to arrays."""

    @property
    def name(self) -> str:
        """Name that no other pair of the run has."""

    @property
    def group(self) -> str:
        """Group, such as a region, that is split as a whole; see `DataConfig.group`."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    def pixels(self, window: Window) -> Pixels:
        """`(height, width, bands)` raw values of the model's dtype, and where they are valid.

        Raises:
            InputError: If the image cannot be read; names the file.
        """

    def truth(self, window: Window) -> np.ndarray:
        """`(height, width)` int16 class indices, `IGNORED` where a pixel does not count.

        Pixels where the image is nodata do not count either.

        Raises:
            InputError: If image or mask cannot be used; names the file and the value.
        """


@dataclass(frozen=True)
class TrainingData:
    """Pairs of a training run.

    Args:
        training: Pairs that the network learns from.
        validation: Pairs that it is scored on.
    """

    training: tuple[Pair, ...]
    validation: tuple[Pair, ...]


@dataclass(frozen=True)
class PairSource:
    """Settings that all pairs of a run share, and by which pairs of files are opened.

    Args:
        bands: Names of the model's bands.
        dtype: Sample type of the model.
        masks: Reader of masks.
        value_range: Least and greatest raw value of the model.
        files: Open rasters, which GDAL reads.
        sidecars: Function of a folder; names of world files and `.aux.xml` there, in small letters.
        opener: How rasters are opened.
    """

    bands: tuple[str, ...]
    dtype: str
    masks: MaskReader
    value_range: tuple[float, float] = (0.0, 255.0)
    files: OpenRasters = field(default_factory=OpenRasters, compare=False, repr=False)
    sidecars: Callable[[str], frozenset[str]] = field(
        default_factory=lambda: lru_cache(_FOLDERS_KNOWN)(sidecars_in), compare=False, repr=False
    )
    opener: Opener = field(default_factory=lambda: Opener(CACHE_BYTES), compare=False, repr=False)

    @property
    def accepts_encoded(self) -> bool:
        """Whether JPEG, PNG and WebP can feed the model, which is given their bytes."""
        is_fit = is_convertible("uint8", self.dtype, self.value_range)
        return is_fit and len(self.bands) in _ENCODED_BANDS

    def handle(self, path: str) -> RasterHandle:
        """The handle of a raster, one of those of which a bounded number stays open."""
        return RasterHandle(path, self.opener, files=self.files)

    def check_input(self, bands: int, dtype: str, what: str) -> None:
        """Refuse an image of other bands or samples than the model takes.

        Args:
            bands: Number of bands of the image.
            dtype: Sample type of the image.
            what: Name of the image for the error.

        Raises:
            ContractError: Names both values and the remedy.
        """
        if not is_convertible(dtype, self.dtype, self.value_range):
            low, high = self.value_range
            remedy = conversion_remedy(dtype, self.dtype, self.value_range)
            raise ContractError(
                f"it has {bands} bands with samples of {dtype}, model.dtype is {self.dtype} and "
                f"model.value_range {low:g} to {high:g}: mend these settings, or {remedy}",
                code=FailureCode.WRONG_DTYPE,
                name=what,
            )

    def open_pair(self, files: FilePair, cache: PairCache | None) -> Pair:
        """A pair of files, by the header of the image.

        GDAL reads TIFFs that are georeferenced and images with a world file, as it does scenes,
        and TIFFs of bands or samples that no other decoder gives.

        Args:
            files: Paths of image and mask.
            cache: Cache of decoded images and masks; None to decode them for every window.

        Raises:
            InputError: If the image has other bands or samples than the model.
        """
        is_named_tiff = is_tiff(files.image)
        # Of TIFFs, other models get samples as they are.
        is_decoded = self.accepts_encoded and (self.dtype == "uint8" or not is_named_tiff)
        if is_named_tiff or self._may_be_placed(files.image):
            header, handle = None, self.handle(files.image)
            try:
                with errors_naming(files.image):
                    header = _header_of(handle)
            except InputError as error:
                # Where it can be decoded, the decoder's error says more.
                if not is_decoded or error.code in _NOT_DECODED:
                    raise
            is_raster = header is not None and (
                header.is_located or not is_decoded
                if is_named_tiff
                else not header.grid.transform.is_identity
            )
            if header is not None and is_raster:
                header.check_complete(files.image)
                return RasterPair(files, handle, header, self, cache)
        image, mask = EncodedFile.of(files.image), EncodedFile.of(files.mask)
        return EncodedPair(files.name, files.group, image, mask, self, cache)

    def _may_be_placed(self, path: str) -> bool:
        """Whether a file beside a JPEG, PNG or WebP may say where it is."""
        if not may_have_sidecars(path):
            return False
        beside = self.sidecars(os.path.dirname(path))
        return not beside.isdisjoint(possible_sidecars(os.path.basename(path)))


def _header_of(handle: RasterHandle) -> Header:
    """The header of an image file, with the transform of a world file."""

    def read(path: str) -> bytes:
        with open(path, "rb") as stream:
            return stream.read(MAX_SIDECAR_BYTES + 1)

    try:
        header = handle.header()
    except InputError:
        # GDAL does not open an image whose world file it cannot read.
        check_sidecars(handle.uri, os.path.lexists, read)
        raise
    return with_place(header, handle.uri, os.path.lexists, read)


Arrays = tuple[np.ndarray | None, ...]


class PairCache:
    """Decoded arrays of the pairs that were used last, within a limit of bytes; thread-safe.

    The pair that came last is kept whatever its size, and each thread holds the one that it used
    last. So nobody decodes a pair again for its next window, however small the limit or many the
    threads; and memory may exceed the limit by a pair for each thread.

    Args:
        max_bytes: Limit of all arrays that are kept, unless that is one pair alone.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._held, self._lock = max_bytes, 0, threading.Lock()
        self._kept: OrderedDict[object, Arrays] = OrderedDict()
        # Of each thread, key and arrays of the pair that it used last.
        self._last = threading.local()

    def get(self, key: object) -> Arrays | None:
        """The arrays of a pair, or None if they are not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
        last_key, last = getattr(self._last, "pair", (None, None))
        if found is None and last_key == key:
            found = last
        if found is not None:
            self._last.pair = key, found
        return found

    def put(self, key: object, arrays: Arrays) -> None:
        """Keep the arrays of a pair, in place of those that were not used for longest."""
        self._last.pair = key, arrays
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = arrays
            self._held += _bytes_of(arrays)
            while self._held > self._max_bytes and len(self._kept) > 1:
                self._held -= _bytes_of(self._kept.popitem(last=False)[1])


def cached(
    cache: PairCache | None, pair: object, lock: threading.Lock, decode: Callable[[], Arrays]
) -> Any:
    """The decoded arrays of a pair; threads that want the same pair wait for the one that decodes.

    Args:
        cache: Cache of decoded pairs; None to decode the pair.
        pair: Key of the pair in the cache.
        lock: Lock of the pair.
        decode: Function that decodes it.
    """
    with lock:
        found = None if cache is None else cache.get(pair)
        if found is None:
            found = decode()
            if cache is not None:
                cache.put(pair, found)
        return found


def _bytes_of(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays if array is not None)


@dataclass(frozen=True)
class EncodedFile:
    """An encoded image or mask.

    Args:
        file: Name of the file, for errors.
        read: Function that returns its bytes.
        read_mask: Function that returns the bytes of the mask beside it, or None.
    """

    file: str
    read: Callable[[], bytes]
    read_mask: Callable[[], bytes | None] = lambda: None

    @classmethod
    def of(cls, path: str) -> EncodedFile:
        """The encoded image in a file, with the mask in a file beside it."""
        beside = Path(path + MASK_SUFFIX)
        return cls(
            path, Path(path).read_bytes, lambda: beside.read_bytes() if beside.exists() else None
        )


@dataclass(frozen=True, eq=False)
class EncodedPair:
    """A JPEG, PNG, WebP or plain TIFF with its mask, decoded whole as `beamseg segment` does.

    Args:
        name: Name that no other pair of the run has.
        group: Group, such as a region, that is split as a whole.
        image: Encoded image.
        mask: Encoded mask.
        source: Settings that all pairs share.
        cache: Cache of decoded pairs; None to decode it for every window.

    Raises:
        InputError: If the model takes other bands or samples than encoded images have.
    """

    name: str
    group: str
    image: EncodedFile
    mask: EncodedFile
    source: PairSource
    cache: PairCache | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.source.accepts_encoded:
            raise InputError(
                f"{self.image.file}: an encoded image gives 1, 3 or 4 bands of uint8, the model "
                f"takes {len(self.source.bands)} of {self.source.dtype} with model.value_range "
                f"{self.source.value_range[0]:g} to {self.source.value_range[1]:g}: mend "
                f"model.bands, model.dtype and model.value_range, or give GeoTIFFs"
            )

    @property
    def height(self) -> int:
        """Rows."""
        return self._size[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self._size[1]

    def pixels(self, window: Window) -> Pixels:
        """Pixels of a window; see `Pair.pixels`."""
        values, valid, _ = self._decoded()
        part = values[window.slices].astype(self.source.dtype, copy=False)
        return Pixels(part, None if valid is None else valid[window.slices])

    def truth(self, window: Window) -> np.ndarray:
        """Class indices of a window; see `Pair.truth`."""
        truth: np.ndarray = self._decoded()[2]
        return truth[window.slices].astype(np.int16)

    @cached_property
    def _size(self) -> tuple[int, int]:
        with errors_naming(self.image.file):
            stated = image_size(self.image.read())
        # What has no size cannot be decoded, and decoding says why.
        return stated or self._decoded()[2].shape

    def _decoded(self) -> Any:
        """Values, where they are valid or None, and class indices."""
        return cached(self.cache, self, self._lock, self._decode)

    def _decode(self) -> Arrays:
        with errors_naming(self.image.file):
            pixels = decode_pixels(
                self.image.read(),
                len(self.source.bands),
                value_range=self.source.value_range,
                beside=self.image.read_mask(),
                names=self.source.bands,
                dtype=self.source.dtype,
            )
        truth = read_indices(self.mask, pixels.values.shape[:2], self.source.masks)
        if pixels.valid is not None:
            truth[~pixels.valid] = IGNORED
        return pixels.values, pixels.valid, truth


def read_indices(mask: EncodedFile, size: tuple[int, ...], reader: MaskReader) -> np.ndarray:
    """Class indices of an encoded mask, `(height, width)`: int8 where all fit, else int16.

    Args:
        mask: Encoded mask.
        size: Height and width of its image.
        reader: Reader of masks.

    Raises:
        InputError: If it cannot be used; names the file and the value.
    """
    with errors_naming(mask.file):
        indices = reader.indices(mask.read(), (size[0], size[1]), beside=mask.read_mask())
    return indices.astype(np.int8) if len(reader.mapping.classes.ids) < _BYTE_CLASSES else indices


@contextmanager
def errors_naming(file: str) -> Iterator[None]:
    """Have errors in the block name a file.

    Raises:
        InputError: If it cannot be used, or not be read for good.
        OSError: If it may be read later.
    """
    try:
        yield
    except InputError as error:
        raise InputError(str(error), code=error.code, name=file) from error
    except OSError as error:
        if error.errno is not None and is_transient(error):
            raise
        raise InputError(error.strerror or str(error), name=file) from error


class RasterPair:
    """A raster that GDAL reads by windows; its mask is read like it, or decoded whole.

    Args:
        files: Paths of image and mask.
        handle: Handle of the image.
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
        handle: RasterHandle,
        header: Header,
        source: PairSource,
        cache: PairCache | None,
    ) -> None:
        self.name, self.group = files.name, files.group
        self.height, self.width = header.grid.height, header.grid.width
        self._files, self._reader, self._cache = files, source.masks, cache
        try:
            self._bands = ModelBands.of(header, source, None, files.image, "mend model.bands")
        except ContractError as error:
            raise InputError(error.text, code=error.code, name=error.name) from error
        if header.is_turned:
            raise InputError(TURNED, code=FailureCode.BAD_GEOREFERENCE, name=files.image)
        self._image = RasterReader(handle, self._bands)
        self._mask: MaskRaster | None = None
        if is_tiff(files.mask):
            with errors_naming(files.mask):
                of_mask = source.handle(files.mask)
                found = of_mask.header()
                found.check_complete()
                check_size((found.grid.height, found.grid.width), (self.height, self.width))
                self._mask = source.masks.of_raster(of_mask, found)
            with errors_naming(f"{files.mask} and {files.image}"):
                check_alignment(header.grid, found.grid)
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
                truth = self._reader.window_indices(self._mask, window)
        finite = self._finite(window)
        if finite is not None:
            truth[~finite] = IGNORED
        return truth

    def _finite(self, window: Window) -> np.ndarray | None:
        """Where the image has pixels; it is read once where a thread asks for both in turn."""
        if self._bands.is_always_valid:
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
