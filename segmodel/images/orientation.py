"""How an image is turned when it is shown, as its EXIF block or XMP text says."""

from __future__ import annotations

import re

import numpy as np
from PIL import ExifTags, Image

from segmodel.errors import FailureCode, InputError
from segmodel.images.tags import read_tags

# By EXIF orientation.
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)
# Orientations in which the last row, or the last column, comes first once it is turned.
_FROM_BELOW, _FROM_RIGHT = (3, 4, 7, 8), (2, 3, 6, 7)
# Of metadata no more is read.
MAX_METADATA_BYTES = 16 << 20
EXIF_MARK = b"Exif\0\0"
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def stated_orientation(exif: bytes, xmp: bytes) -> int:
    """The EXIF orientation of an image.

    Args:
        exif: EXIF block with or without its mark, or nothing.
        xmp: XMP text, which counts where the block does not say it; or nothing.

    Raises:
        InputError: If the block is none.

    >>> stated_orientation(b"", b'<rdf:Description tiff:Orientation="6"/>')
    6
    """
    while exif.startswith(EXIF_MARK):
        exif = exif[len(EXIF_MARK) :]
    orientation = ExifTags.Base.Orientation
    try:
        tags = read_tags(exif[:MAX_METADATA_BYTES], [orientation]) if exif else None
    except ValueError as error:
        raise InputError(
            f"cannot be decoded: its EXIF block is none: {error}", code=FailureCode.CORRUPT_IMAGE
        ) from error
    if tags is not None and orientation in tags.values:
        found = tags.first(orientation)
        return 1 if found is None else found
    said = _IN_XMP.search(xmp[:MAX_METADATA_BYTES])
    return 1 if said is None else int(said[1])


def is_turned(orientation: int) -> bool:
    """Whether an image of this orientation is stored otherwise than it is shown."""
    return orientation in _TRANSPOSITIONS


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image as its EXIF orientation says."""
    return image.transpose(_TRANSPOSITIONS[orientation]) if is_turned(orientation) else image


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """An array of a whole image as it is stored, turned as an EXIF orientation says.

    Args:
        array: `(height, width)` or `(height, width, bands)`.
        orientation: EXIF orientation of the image.
    """
    if orientation in SIDEWAYS:
        array = array.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in _FROM_BELOW else 1)
    columns = slice(None, None, -1 if orientation in _FROM_RIGHT else 1)
    return np.ascontiguousarray(array[rows, columns])
