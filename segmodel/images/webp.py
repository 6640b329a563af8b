"""WebP images, decoded by Pillow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, WebPImagePlugin

from segmodel.errors import FailureCode, InputError
from segmodel.images.limits import check_pixels
from segmodel.images.orientation import stated_orientation
from segmodel.images.stored import MAX_DECODING_BYTES_PER_PIXEL, StoredImage

_CHUNK, _DATA = 12, 20
_FOURTEEN_BITS = (1 << 14) - 1


class WebpImage(StoredImage):
    """A WebP; of an animation, its first picture.

    Args:
        encoded: Content of the file.
        max_pixels: Most pixels that it may have.

    Raises:
        InputError: If it is broken, or its header states too many pixels.
    """

    driver = "WEBP"
    decoding_bytes_per_pixel = MAX_DECODING_BYTES_PER_PIXEL

    def __init__(self, encoded: bytes, max_pixels: int) -> None:
        stated = webp_size(encoded)
        if stated is not None:
            check_pixels(stated, max_pixels)
        try:
            self._image = WebPImagePlugin.WebPImageFile(io.BytesIO(encoded), "")
        except MemoryError:
            raise
        except Exception as error:
            if stated is not None:
                # Without memory for its two canvases, libwebp says no more than of a broken file.
                np.empty((2, *stated, 4), np.uint8)
            raise InputError(
                f"cannot be decoded: {error}", code=FailureCode.CORRUPT_IMAGE
            ) from error
        check_pixels(self._image.size, max_pixels)
        about = self._image.info
        orientation = stated_orientation(about.get("exif", b""), about.get("xmp", b""))
        super().__init__(self._image.size, orientation)

    def load(self) -> Image.Image:
        """The decoded image; see `StoredImage.load`."""
        self._image.load()
        return self._image


def webp_size(encoded: bytes) -> tuple[int, int] | None:
    """Width and height that the header of a WebP states; None if it has no such header.

    Source: RFC 9649, sections 2.7 (VP8X) and 3.4 (VP8L); RFC 6386, section 9.1 (VP8).
    """
    kind, data = encoded[_CHUNK : _CHUNK + 4], encoded[_DATA : _DATA + 10]
    if len(data) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if kind == b"VP8L" and data[0] == 0x2F:
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & _FOURTEEN_BITS), 1 + (bits >> 14 & _FOURTEEN_BITS)
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        sides = (int.from_bytes(data[place : place + 2], "little") for place in (6, 8))
        width, height = (side & _FOURTEEN_BITS for side in sides)
        return width, height
    return None
