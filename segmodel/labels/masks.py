"""Masks: what their values mean, and how they become class indices or label maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from segmodel.errors import ConfigurationError, ContractError, FailureCode, InputError
from segmodel.images.decoders import open_image
from segmodel.images.encoded import decode_pixels, image_size
from segmodel.images.limits import MAX_PIXELS
from segmodel.images.tiff import TiffImage, begins_as_tiff
from segmodel.labels.classes import ClassTable, parse_color
from segmodel.labels.confusion import IGNORED
from segmodel.labels.label_images import encode_labels
from segmodel.labels.raster_masks import MaskRaster
from segmodel.rasters.header import Header
from segmodel.rasters.reader import RasterHandle
from segmodel.tiling.windows import Window

# Pixels whose values are looked up at a time, as that takes many bytes for each.
STRIP_PIXELS = 1 << 18
# Class indices are int16.
MAX_CLASSES = 32767
_IDS, _COLORS = 1 << 16, 1 << 24
# Look-up tables hold class indices from 2 on: their zeros, which take no memory, mean neither.
_FIRST, _NOWHERE = 2, 1


@dataclass(frozen=True)
class ClassMapping:
    """Maps values of masks to class indices.

    Args:
        classes: Class table; the index of a class in it is what the network learns.
        encoding: What values of masks are: `color` or `id`.
        ignore_colors: Colours of pixels that are ignored, such as `#000000`.
        ignore_ids: Ids of pixels that are ignored.

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
                f"{self.encoding} {', '.join(self._format(twice))} stands for more than one class: "
                f"correct the classes, or what is ignored"
            )

    @property
    def values(self) -> tuple[list[int], list[int]]:
        """Values of the classes in their order, and values that are ignored."""
        if self.encoding == "color":
            known = [_packed(entry.color) for entry in self.classes.classes]
            try:
                return known, [_packed(parse_color(color)) for color in self.ignore_colors]
            except ContractError as error:
                raise ConfigurationError(f"data.ignore_colors: {error}") from error
        return list(self.classes.ids), list(self.ignore_ids)

    def decode(self, mask: np.ndarray) -> np.ndarray:
        """Class indices of a decoded mask.

        Args:
            mask: `(height, width, 3)` uint8 colours or `(height, width)` ids of any integer dtype.

        Returns:
            `(height, width)` int16, `IGNORED` where a pixel is ignored.

        Raises:
            InputError: If a value is neither a class nor ignored; names the value.

        >>> from segmodel import ClassTable, LabelClass
        >>> classes = ClassTable((LabelClass(4, "road", (9, 9, 9)),))
        >>> mapping = ClassMapping(classes, "id", ignore_ids=(0,))
        >>> mapping.decode(np.array([[4, 0]], np.uint8))
        array([[ 0, -1]], dtype=int16)
        """
        values = _packed_pixels(mask) if self.encoding == "color" else mask
        small = self.encoding == "color" or values.dtype in (np.uint8, np.uint16)
        too_large = None if small else (values < 0) | (values >= _IDS)
        if too_large is not None:
            unknown = too_large & ~np.isin(values, self.ignore_ids)
            if unknown.any():
                self._refuse(values[unknown])
            values = np.where(too_large, 0, values).astype(np.uint16)
        indices: np.ndarray = _table(self)[values]
        indices -= _FIRST
        if too_large is not None:
            indices[too_large] = IGNORED
        if indices.size and indices.min() == -_FIRST:
            self._refuse(values[indices == -_FIRST])
        return indices

    def has_class(self, values: np.ndarray) -> bool:
        """Whether the values of a pixel are those of a class.

        Args:
            values: `(1, 1)` id or `(1, 1, 3)` colour.
        """
        if self.encoding == "color" and (values < 0).any():
            return False
        value = _packed(values.ravel().tolist()) if self.encoding == "color" else values.item()
        return value in self.values[0]

    def _refuse(self, unknown: np.ndarray) -> None:
        named = self._format(np.unique(unknown)[:5].tolist())
        raise InputError(
            f"mask has {self.encoding} {', '.join(named)}, which is neither a class nor ignored",
            code=FailureCode.UNKNOWN_CLASS,
        )

    def _format(self, values: Iterable[int]) -> list[str]:
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
def _table(mapping: ClassMapping) -> np.ndarray:
    """What each value means, in the terms of `_FIRST`; pages that hold no class take no memory."""
    table = np.zeros(_COLORS if mapping.encoding == "color" else _IDS, np.int16)
    known, ignored = mapping.values
    table[[value for value in ignored if 0 <= value < table.size]] = _NOWHERE
    table[known] = np.arange(len(known)) + _FIRST
    return table


@dataclass(frozen=True)
class MaskReader:
    """Reads masks.

    Args:
        mapping: Classes of the values.
        encoding: How masks are stored: `color`, `palette` or `id`; or `label_map`, ids of any kind.
    """

    mapping: ClassMapping
    encoding: str

    @classmethod
    def of(
        cls,
        classes: ClassTable,
        encoding: str,
        ignore_colors: tuple[str, ...] = (),
        ignore_ids: tuple[int, ...] = (),
    ) -> MaskReader:
        """The reader of masks of an encoding; arguments as in `ClassMapping`."""
        kind = "color" if encoding == "color" else "id"
        return cls(ClassMapping(classes, kind, ignore_colors, ignore_ids), encoding)

    @classmethod
    def of_label_maps(cls, classes: ClassTable, ignore_ids: tuple[int, ...] = ()) -> MaskReader:
        """The reader of label maps, in which nodata is ignored."""
        return cls.of(classes, "label_map", ignore_ids=(*ignore_ids, classes.nodata))

    def read(
        self, encoded: bytes, size: tuple[int, int], max_pixels: int, beside: bytes | None = None
    ) -> np.ndarray:
        """The label map of an encoded mask; what is ignored or erased becomes nodata.

        Args:
            encoded: Content of an image file.
            size: Height and width of the image that the mask belongs to.
            max_pixels: Most pixels that are decoded.
            beside: Content of the `.msk` file beside it, or None where there is none.

        Returns:
            `(height, width)` class ids of the class table's dtype.

        Raises:
            InputError: If it cannot be decoded, has another size or kind, or a value that is
                neither a class nor ignored.
        """
        values, erased = self._values(encoded, size, max_pixels, beside)
        return label_map(values, self.mapping, erased)

    def indices(
        self,
        encoded: bytes,
        size: tuple[int, int],
        max_pixels: int = MAX_PIXELS,
        beside: bytes | None = None,
    ) -> np.ndarray:
        """As `read`, but gives `(height, width)` int16 class indices, `IGNORED` where ignored."""
        return self._indices(*self._values(encoded, size, max_pixels, beside))

    def of_raster(self, handle: RasterHandle, header: Header) -> MaskRaster:
        """A mask that GDAL reads, whose windows `window_indices` takes.

        Args:
            handle: Handle of the mask.
            header: Header of the mask.

        Raises:
            InputError: If it is no mask of that kind.
        """
        raster = MaskRaster(handle, header, self.encoding == "color", self.mapping.has_class)
        self.check_kind(raster.is_indexed, raster.bits)
        return raster

    def window_indices(self, raster: MaskRaster, window: Window) -> np.ndarray:
        """Class indices of a window of a mask, `(height, width)` int16; erased ones are ignored.

        Raises:
            InputError: If GDAL cannot read it, or a value is neither a class nor ignored.
        """
        return self._indices(*raster.read(window))

    def _indices(self, values: np.ndarray, erased: np.ndarray | None) -> np.ndarray:
        found = np.empty(values.shape[:2], np.int16)
        _by_strips(values, self.mapping, found, lambda indices: indices, erased)
        return found

    def encode(self, labels: np.ndarray) -> bytes:
        """A label map as PNG with the colours of the classes: the content of the file."""
        return encode_labels(labels, self.mapping.classes, {})

    def check_kind(self, indexed: bool, bits: int) -> None:
        """Refuse indices taken for grey levels and the reverse, and colours of 16 bits.

        Both are small numbers, so that nobody would notice.

        Args:
            indexed: Whether the mask has a palette.
            bits: Bits of a sample.

        Raises:
            InputError: Says which encoding it may be.
        """
        if self.encoding == "color" and bits > 8:
            raise InputError(
                f"the mask has {bits} bits a sample, colours have 8: mask_encoding id takes grey "
                f"levels for class ids",
                code=FailureCode.MASK_KIND,
            )
        if indexed and self.encoding == "id":
            raise InputError(
                "the mask is an indexed image: mask_encoding palette takes its indices for class "
                "ids, color its colours for those of classes",
                code=FailureCode.MASK_KIND,
            )
        if not indexed and self.encoding == "palette":
            raise InputError(
                "the mask is no indexed image: mask_encoding id takes grey levels for class ids",
                code=FailureCode.MASK_KIND,
            )

    def _values(
        self, encoded: bytes, size: tuple[int, int], max_pixels: int, beside: bytes | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Values of an encoded mask, and where it is erased or None; TIFFs as GDAL reads them."""
        stated = image_size(encoded)
        if stated is not None:
            check_size(stated, size)
        if begins_as_tiff(encoded):
            tiff = TiffImage(encoded, max_pixels)
            with tiff.opened(beside) as handle:
                header = handle.header()
                values, erased = self.of_raster(handle, header).read(header.grid.window)
            return tiff.upright(values), None if erased is None else tiff.upright(erased)
        image = open_image(encoded, max_pixels)
        pixels = decode_pixels(
            encoded, 3 if self.encoding == "color" else 0, max_pixels, beside=beside
        )
        check_size(pixels.values.shape[:2], size)
        self.check_kind(image.is_indexed, image.bits)
        return pixels.values, None if pixels.valid is None else ~pixels.valid


def label_map(
    values: np.ndarray, mapping: ClassMapping, erased: np.ndarray | None = None
) -> np.ndarray:
    """Class ids of the values of a mask, nodata where they are ignored or erased.

    Args:
        values: `(height, width)` ids or `(height, width, 3)` colours.
        mapping: Classes of the values.
        erased: `(height, width)` bool, where values do not count; None where all do.

    Returns:
        `(height, width)` of the class table's dtype.

    >>> from segmodel import ClassTable, LabelClass
    >>> classes = ClassTable((LabelClass(4, "road", (9, 9, 9)),))
    >>> mapping = ClassMapping(classes, "id", ignore_ids=(0,))
    >>> label_map(np.array([[4, 0]], np.uint8), mapping)
    array([[  4, 255]], dtype=uint8)
    """
    classes = mapping.classes
    # The last is that of `IGNORED`, which is -1.
    ids = np.array([*classes.ids, classes.nodata], classes.label_dtype)
    labels = np.empty(values.shape[:2], classes.label_dtype)
    _by_strips(values, mapping, labels, lambda indices: ids[indices], erased)
    return labels


def check_size(found: tuple[int, ...], expected: tuple[int, int]) -> None:
    """Refuse a mask that has not the size of its image.

    Args:
        found: Height and width of the mask.
        expected: Height and width of the image.

    Raises:
        InputError: Names both sizes.
    """
    if found != expected:
        raise InputError(
            f"the mask is {found[1]}x{found[0]}, its image {expected[1]}x{expected[0]}",
            code=FailureCode.MASK_SIZE,
        )


def _by_strips(
    values: np.ndarray,
    mapping: ClassMapping,
    into: np.ndarray,
    meaning: Callable[[np.ndarray], np.ndarray],
    erased: np.ndarray | None,
) -> None:
    """Write what class indices mean, a few pixels at a time."""
    height, width, *bands = values.shape
    pixels, target = values.reshape(height * width, *bands), into.reshape(height * width)
    gone = None if erased is None else erased.reshape(height * width)
    for first in range(0, len(pixels), STRIP_PIXELS):
        part = slice(first, first + STRIP_PIXELS)
        if gone is None:
            target[part] = meaning(mapping.decode(pixels[part]))
            continue
        # What lies under erased pixels need not be a class.
        indices = np.full(gone[part].shape, IGNORED, np.int16)
        indices[~gone[part]] = mapping.decode(pixels[part][~gone[part]])
        target[part] = meaning(indices)
