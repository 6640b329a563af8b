"""JPEG, PNG and WebP by what they begin with."""

from __future__ import annotations

from segmodel.devices.startup import silence_pillow
from segmodel.errors import FailureCode, InputError
from segmodel.images.jpeg import JPEG_SIGNATURE, JpegImage
from segmodel.images.png import PNG_SIGNATURE, PngImage
from segmodel.images.stored import StoredImage
from segmodel.images.webp import WebpImage


def open_image(encoded: bytes, max_pixels: int) -> StoredImage:
    """An encoded image, opened by its header; its pixels are not decoded.

    Args:
        encoded: Content of the file.
        max_pixels: Most pixels that it may have.

    Raises:
        InputError: If it is no image, has too many pixels, or its header is broken.
    """
    if not encoded:
        raise InputError("empty file", code=FailureCode.EMPTY_FILE)
    silence_pillow()
    if encoded.startswith(JPEG_SIGNATURE):
        return JpegImage(encoded, max_pixels)
    if encoded.startswith(PNG_SIGNATURE):
        return PngImage(encoded, max_pixels)
    if encoded.startswith(b"RIFF") and encoded[8:15] == b"WEBPVP8":
        return WebpImage(encoded, max_pixels)
    raise InputError("not a JPEG, PNG, WebP or TIFF image", code=FailureCode.NOT_AN_IMAGE)
