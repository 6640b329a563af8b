"""Masks: what their values mean, and how they become class indices or label maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, TiffImagePlugin

from segmodel.errors import ConfigurationError, InputError
from segmodel.images.decoders import open_image
from segmodel.images.encoded import MAX_PIXELS, decode_image, image_size
from segmodel.labels.classes import ClassTable, parse_color
from segmodel.labels.confusion import IGNORED
from segmodel.labels.label_images import encode_labels

# Values are looked up so many at a time, as that takes many bytes for each.
STRIP_PIXELS = 1 << 18
# Class indices are int16.
MAX_CLASSES = 32767
_IDS, _COLORS = 1 << 16, 1 << 24
# Look-up tables hold class indices from 2 on: their zeros, which take no memory, mean neither.
_FIRST, _NOWHERE = 2, 1
_PNG_DEPTH_AT, _TIFF_BITS = 24, 258


@dataclass(frozen=True)
class MaskCode:
    """How values of a mask mean classes.

    Args:
        classes: The class table; index in it is what the network learns.
        encoding: `color` or `id`.
        ignore_colors: Colours that count nowhere.
        ignore_ids: Ids that count nowhere.

    Raises:
        ConfigurationError: If a value would stand for two classes, or there are more classes than
            indices.
    """

    classes: ClassTable
    encoding: str
    ignore_colors: tuple[str, ...] = ()
    ignore_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.classes.ids)
        if count > MAX_CLASSES:
            raise ConfigurationError(f"at most {MAX_CLASSES} classes can be learned, got {count}")
        known, ignored = self.values
        times = Counter(known) + Counter(set(ignored))
        twice = sorted(value for value in set(known) if times[value] > 1)
        if twice:
            raise ConfigurationError(
                f"{self.encoding} {', '.join(self._shown(twice))} stands for more than one class"
            )

    @property
    def values(self) -> tuple[list[int], list[int]]:
        """Values of the classes in their order, and those that count nowhere."""
        if self.encoding == "color":
            known = [_packed(entry.color) for entry in self.classes.classes]
            return known, [_packed(parse_color(color)) for color in self.ignore_colors]
        return list(self.classes.ids), list(self.ignore_ids)

    def decode(self, mask: np.ndarray) -> np.ndarray:
        """Class indices of a decoded mask.

        Args:
            mask: `(height, width, 3)` uint8 colours or `(height, width)` ids of any integer dtype.

        Returns:
            `(height, width)` int16, `IGNORED` where a pixel counts nowhere.

        Raises:
            InputError: If a value is neither a class nor ignored; names the value.

        >>> from segmodel.classes import LabelClass
        >>> code = MaskCode(ClassTable((LabelClass(4, "road", (9, 9, 9)),)), "id", ignore_ids=(0,))
        >>> code.decode(np.array([[4, 0]], np.uint8))
        array([[ 0, -1]], dtype=int16)
        """
        values = _packed_pixels(mask) if self.encoding == "color" else mask
        small = self.encoding == "color" or values.dtype in (np.uint8, np.uint16)
        outside = None if small else (values < 0) | (values >= _IDS)
        if outside is not None:
            strange = outside & ~np.isin(values, self.ignore_ids)
            if strange.any():
                self._refuse(values[strange])
            values = np.where(outside, 0, values).astype(np.uint16)
        indices = _table(self)[values]
        indices -= _FIRST
        if outside is not None:
            indices[outside] = IGNORED
        if indices.size and indices.min() == -_FIRST:
            self._refuse(values[indices == -_FIRST])
        return indices

    def _refuse(self, strange: np.ndarray) -> None:
        shown = self._shown(np.unique(strange)[:5].tolist())
        raise InputError(
            f"mask has {self.encoding} {', '.join(shown)}, which is neither a class nor ignored"
        )

    def _shown(self, values: Iterable[int]) -> list[str]:
        return [f"#{v:06X}" if self.encoding == "color" else str(v) for v in values]


def _packed(color: Iterable[int]) -> int:
    red, green, blue = color
    return red << 16 | green << 8 | blue


def _packed_pixels(colors: np.ndarray) -> np.ndarray:
    packed = colors[..., 0].astype(np.uint32)
    for band in (1, 2):
        packed <<= 8
        packed |= colors[..., band]
    return packed


@lru_cache(8)
def _table(code: MaskCode) -> np.ndarray:
    """What each value means, in the terms of `_FIRST`; pages that hold no class take no memory."""
    table = np.zeros(_COLORS if code.encoding == "color" else _IDS, np.int16)
    known, ignored = code.values
    table[[value for value in ignored if 0 <= value < table.size]] = _NOWHERE
    table[known] = np.arange(len(known)) + _FIRST
    return table


@dataclass(frozen=True)
class MaskReader:
    """Reads masks.

    Args:
        code: What values mean.
        encoding: `color`, `palette` or `id`; or `label_map`, which is ids however they are stored.
    """

    code: MaskCode
    encoding: str

    @classmethod
    def of(
        cls,
        classes: ClassTable,
        encoding: str,
        ignore_colors: tuple[str, ...] = (),
        ignore_ids: tuple[int, ...] = (),
    ) -> MaskReader:
        """The reader of masks of this encoding; see `MaskCode`."""
        kind = "color" if encoding == "color" else "id"
        return cls(MaskCode(classes, kind, ignore_colors, ignore_ids), encoding)

    @classmethod
    def of_label_maps(cls, classes: ClassTable, ignore_ids: tuple[int, ...] = ()) -> MaskReader:
        """The reader of label maps, in which nodata counts nowhere."""
        return cls.of(classes, "label_map", ignore_ids=(*ignore_ids, classes.nodata))

    def read(self, encoded: bytes, size: tuple[int, int], max_pixels: int) -> np.ndarray:
        """The label map of an encoded mask; what is ignored becomes nodata.

        Args:
            encoded: A whole image file.
            size: Height and width of its image.
            max_pixels: Greatest number of pixels that is decoded.

        Returns:
            `(height, width)` of the class table's dtype.

        Raises:
            InputError: If it cannot be decoded, has another size or kind, or a value that is
                neither a class nor ignored.
        """
        return label_map(self._values(encoded, size, max_pixels), self.code)

    def indices(
        self, encoded: bytes, size: tuple[int, int], max_pixels: int = MAX_PIXELS
    ) -> np.ndarray:
        """As `read`, but `(height, width)` int16 class indices, `IGNORED` where ignored."""
        values = self._values(encoded, size, max_pixels)
        found = np.empty(size, np.int16)
        _by_strips(values, self.code, found, lambda indices: indices)
        return found

    def encode(self, labels: np.ndarray) -> bytes:
        """A label map as PNG, with the colours of the classes."""
        return encode_labels(labels, self.code.classes, {})

    def check_kind(self, indexed: bool, bits: int) -> None:
        """Refuse indices taken for grey levels and the reverse, and colours of 16 bits.

        Both are small numbers, or would be, so that nobody saw it later.

        Args:
            indexed: Whether values are numbers of colours in a palette.
            bits: Of a sample.

        Raises:
            InputError: Says which encoding it may be.
        """
        if self.encoding == "color" and bits > 8:
            raise InputError(
                f"the mask has {bits} bits a sample, colours have 8: mask_encoding id takes grey "
                f"levels for class ids"
            )
        if indexed and self.encoding == "id":
            raise InputError(
                "the mask is an indexed image: mask_encoding palette takes its indices for class "
                "ids, color its colours for those of classes"
            )
        if not indexed and self.encoding == "palette":
            raise InputError(
                "the mask is no indexed image: mask_encoding id takes grey levels for class ids"
            )

    def _values(self, encoded: bytes, size: tuple[int, int], max_pixels: int) -> np.ndarray:
        stated = image_size(encoded)
        if stated is not None:
            check_size(stated, size)
        values = decode_image(encoded, 3 if self.encoding == "color" else 0, max_pixels)
        check_size(values.shape[:2], size)
        image = open_image(encoded, max_pixels)
        self.check_kind(image.mode == "P", _bits(image, encoded))
        return values


def label_map(values: np.ndarray, code: MaskCode) -> np.ndarray:
    """Class ids of the values of a mask, nodata where they are ignored.

    >>> from segmodel.classes import ClassTable, LabelClass
    >>> code = MaskCode(ClassTable((LabelClass(4, "road", (9, 9, 9)),)), "id", ignore_ids=(0,))
    >>> label_map(np.array([[4, 0]], np.uint8), code)
    array([[  4, 255]], dtype=uint8)
    """
    classes = code.classes
    # The last is that of `IGNORED`, which is -1.
    labels_of = np.array([*classes.ids, classes.nodata], classes.label_dtype)
    labels = np.empty(values.shape[:2], classes.label_dtype)
    _by_strips(values, code, labels, lambda indices: labels_of[indices])
    return labels


def check_size(found: tuple[int, ...], expected: tuple[int, int]) -> None:
    """Refuse a mask that has not the size of its image, both as height and width.

    Raises:
        InputError: Names both sizes.
    """
    if found != expected:
        raise InputError(
            f"the mask is {found[1]}x{found[0]}, its image {expected[1]}x{expected[0]}"
        )


def _by_strips(
    values: np.ndarray,
    code: MaskCode,
    into: np.ndarray,
    meaning: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Write what class indices mean, a few pixels at a time."""
    height, width, *bands = values.shape
    pixels, target = values.reshape(height * width, *bands), into.reshape(height * width)
    for first in range(0, len(pixels), STRIP_PIXELS):
        part = slice(first, first + STRIP_PIXELS)
        target[part] = meaning(code.decode(pixels[part]))


def _bits(image: Image.Image, encoded: bytes) -> int:
    """Bits of a sample as the file has them; Pillow gives colours of 16 bits by their high byte."""
    if image.format == "PNG":
        return encoded[_PNG_DEPTH_AT]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return max(image.tag_v2.get(_TIFF_BITS, (1,)))
    return 8
