"""Masks to label maps."""

from dataclasses import dataclass

import numpy as np

from segmodel.confusion import IGNORED
from segmodel.dataset import MaskCode
from segmodel.decoders import open_image
from segmodel.errors import InputError
from segmodel.images import decode_image, image_size
from segmodel.label_images import encode_labels

# Values are looked up so many at a time, as that takes many bytes for each.
STRIP_PIXELS = 1 << 18


@dataclass(frozen=True)
class MaskReader:
    """Reads masks.

    Args:
        code: What values mean.
        encoding: `color`, `palette` or `id`.
    """

    code: MaskCode
    encoding: str

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
        stated = image_size(encoded)
        if stated is not None:
            _check_size(stated, size)
        values = decode_image(encoded, 3 if self.encoding == "color" else 0, max_pixels)
        _check_size(values.shape[:2], size)
        self._check_kind(encoded, max_pixels)
        return label_map(values, self.code)

    def encode(self, labels: np.ndarray) -> bytes:
        """A label map as PNG, with the colours of the classes."""
        return encode_labels(labels, self.code.classes, {})

    def _check_kind(self, encoded: bytes, max_pixels: int) -> None:
        """Refuse indices taken for grey levels and the reverse: both are small numbers."""
        if self.encoding == "color":
            return
        indexed = open_image(encoded, max_pixels).mode == "P"
        if indexed and self.encoding == "id":
            raise InputError(
                "the mask is an indexed image: --mask_encoding palette takes its indices for class "
                "ids, color its colours for those of classes"
            )
        if not indexed and self.encoding == "palette":
            raise InputError(
                "the mask is no indexed image: --mask_encoding id takes grey levels for class ids"
            )


def label_map(values: np.ndarray, code: MaskCode) -> np.ndarray:
    """Class ids of the values of a mask, nodata where they are ignored.

    >>> from segmodel.classes import ClassTable, LabelClass
    >>> code = MaskCode(ClassTable((LabelClass(4, "road", (9, 9, 9)),)), "id", ignore_ids=(0,))
    >>> label_map(np.array([[4, 0]], np.uint8), code)
    array([[  4, 255]], dtype=uint8)
    """
    classes = code.classes
    ids = np.array(classes.ids, classes.label_dtype)
    height, width, *bands = values.shape
    pixels = values.reshape(height * width, *bands)
    labels = np.full(height * width, classes.nodata, classes.label_dtype)
    for first in range(0, len(pixels), STRIP_PIXELS):
        indices = code.decode(pixels[first : first + STRIP_PIXELS])
        counted = indices != IGNORED
        labels[first : first + STRIP_PIXELS][counted] = ids[indices[counted]]
    return labels.reshape(height, width)


def _check_size(found: tuple[int, ...], expected: tuple[int, int]) -> None:
    if found != expected:
        raise InputError(
            f"the mask is {found[1]}x{found[0]}, its image {expected[1]}x{expected[0]}"
        )
