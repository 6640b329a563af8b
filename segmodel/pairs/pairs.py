"""Images with their truth, read by windows from any thread; those that are decoded whole."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segmodel.errors import InputError
from segmodel.images.encoded import decode_pixels, image_size
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import MaskReader
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window

_ENCODED_BANDS = (1, 3, 4)
# What is decoded keeps class indices in a byte where they fit.
_BYTE_CLASSES = 128


class Pair(Protocol):
    """One image and its truth, read by windows from any thread; nobody writes to what they give."""

    @property
    def name(self) -> str:
        """Unique in the run."""

    @property
    def group(self) -> str:
        """Region; see `DataConfig.group`."""

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
        """`(height, width)` int16 class indices, `IGNORED` where a pixel counts nowhere.

        That is also where the image is nodata.

        Raises:
            InputError: If image or mask cannot be used; names the file and the value.
        """


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from, and what it is measured on."""

    training: tuple[Pair, ...]
    validation: tuple[Pair, ...]


@dataclass(frozen=True)
class Source:
    """What all pairs of a run have in common.

    Args:
        bands: Names of the model's bands.
        dtype: Of the model.
        masks: How masks are read.
        limits: Least and greatest raw value of the model.
        group: As in `DataConfig.group`.
    """

    bands: tuple[str, ...]
    dtype: str
    masks: MaskReader
    limits: tuple[float, ...] = (0.0, 255.0)
    group: str = ""

    @property
    def takes_encoded(self) -> bool:
        """Whether JPEG, PNG and WebP can feed the model."""
        return self.dtype == "uint8" and len(self.bands) in _ENCODED_BANDS


Arrays = tuple[np.ndarray | None, ...]


class PairCache:
    """Decoded arrays that were used last, within a limit of bytes; for any thread.

    The pair that came last is kept whatever its size, and each thread holds the one that it used
    last. So nobody decodes a pair again for its next window, however small the limit or many the
    threads; and memory may exceed the limit by a pair for each thread.

    Args:
        most_bytes: Of all that are kept, unless that is one pair alone.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most, self._held, self._lock = most_bytes, 0, threading.Lock()
        self._kept: OrderedDict[object, Arrays] = OrderedDict()
        self._last = _LastUsed()

    def get(self, key: object) -> Arrays | None:
        """What is kept of a pair, or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
        if found is None and self._last.key == key:
            found = self._last.arrays
        if found is not None:
            self._last.key, self._last.arrays = key, found
        return found

    def keep(self, key: object, arrays: Arrays) -> None:
        """Keep the arrays of a pair in place of those that were not used for longest."""
        self._last.key, self._last.arrays = key, arrays
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = arrays
            self._held += _bytes_of(arrays)
            while self._held > self._most and len(self._kept) > 1:
                self._held -= _bytes_of(self._kept.popitem(last=False)[1])


class _LastUsed(threading.local):
    """What a thread used last."""

    key: object = None
    arrays: Arrays | None = None


def _bytes_of(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays if array is not None)


@dataclass(frozen=True)
class Encoded:
    """Bytes of an image or a mask, and the file that errors name."""

    file: str
    read: Callable[[], bytes]

    @classmethod
    def of(cls, path: str) -> Encoded:
        """The content of a file."""
        return cls(path, Path(path).read_bytes)


@dataclass(frozen=True, eq=False)
class EncodedPair:
    """A JPEG, PNG, WebP or plain TIFF with its mask, decoded whole as `beamseg segment` does.

    Args:
        name: Unique in the run.
        group: Region.
        image: Encoded image.
        mask: Encoded mask.
        source: What all pairs have in common.
        cache: Where it is kept once it is decoded; None to decode it for every window.

    Raises:
        InputError: If the model takes other bands or samples than encoded images have.
    """

    name: str
    group: str
    image: Encoded
    mask: Encoded
    source: Source
    cache: PairCache | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.source.takes_encoded:
            raise InputError(
                f"{self.image.file}: an encoded image gives 1, 3 or 4 bands of uint8, the model "
                f"takes {len(self.source.bands)} of {self.source.dtype}: mend model.bands and "
                f"model.dtype, or give GeoTIFFs"
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
        """Pixels of a window."""
        values, valid, _ = self._decoded()
        return Pixels(values[window.slices], None if valid is None else valid[window.slices])

    def truth(self, window: Window) -> np.ndarray:
        """Class indices of a window."""
        return self._decoded()[2][window.slices].astype(np.int16)

    @cached_property
    def _size(self) -> tuple[int, int]:
        with named_errors(self.image.file):
            stated = image_size(self.image.read())
        # What has no size cannot be decoded, and decoding says why.
        return stated or self._decoded()[2].shape

    def _decoded(self) -> Any:
        """Values, where they are valid or None, and class indices."""
        # Threads that want the same pair wait for the one that decodes it.
        with self._lock:
            found = None if self.cache is None else self.cache.get(self)
            if found is None:
                found = self._decode()
                if self.cache is not None:
                    self.cache.keep(self, found)
            return found

    def _decode(self) -> Arrays:
        with named_errors(self.image.file):
            pixels = decode_pixels(self.image.read(), len(self.source.bands))
        truth = read_indices(self.mask, pixels.values.shape[:2], self.source.masks)
        if pixels.valid is not None:
            truth[~pixels.valid] = IGNORED
        return pixels.values, pixels.valid, truth


def read_indices(mask: Encoded, size: tuple[int, ...], reader: MaskReader) -> np.ndarray:
    """Class indices of an encoded mask, in a byte each where they fit.

    Args:
        mask: Encoded mask.
        size: Height and width of its image.
        reader: What values mean.

    Raises:
        InputError: If it cannot be used; names the file and the value.
    """
    with named_errors(mask.file):
        indices = reader.indices(mask.read(), (size[0], size[1]))
    return indices.astype(np.int8) if len(reader.code.classes.ids) < _BYTE_CLASSES else indices


@contextmanager
def named_errors(file: str) -> Iterator[None]:
    """Errors of a file with its name; a file that cannot be read is a wrong input too."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
