"""Encoded images to arrays and back: what Pillow reads, checked to the last byte."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from segmodel.classes import ClassTable
from segmodel.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"})
_ORIENTATION = 0x0112  # EXIF; from 5 on, rows and columns are exchanged
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
# Pillow's own limit, above which it takes an image for a decompression bomb.
MAX_PIXELS = 178_956_970


def decode_image(encoded: bytes, bands: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Pixels of an encoded image, turned as its EXIF orientation says.

    Args:
        encoded: A whole JPEG, PNG, WebP or TIFF file.
        bands: 1 for grey, 3 for red, green, blue, 4 with alpha; 0 for the stored values of a mask
            (palette indices, grey levels).
        max_pixels: Greatest number of pixels that is decoded.

    Returns:
        `(height, width, bands)` uint8, or `(height, width)` for `bands` 0.

    Raises:
        InputError: If the bytes are empty, truncated, no image, or a decompression bomb.
    """
    if not encoded:
        raise InputError("empty file")
    try:
        image = Image.open(io.BytesIO(encoded), formats=_FORMATS)
        if image.width * image.height > max_pixels:
            raise InputError(
                f"{image.width}x{image.height} pixels exceed the limit of {max_pixels}"
            )
        if bands and _is_deep(image):
            raise InputError(f"mode {image.mode} has more than 8 bits a sample; expected uint8")
        image.load()
        return _as_array(ImageOps.exif_transpose(image), bands)
    except (InputError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise InputError("not a JPEG, PNG, WebP or TIFF image") from None
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others.
        raise InputError(f"cannot be decoded: {error}") from error


def image_size(encoded: bytes) -> tuple[int, int] | None:
    """Height and width that the header of an encoded image states; None if there is none."""
    try:
        image = Image.open(io.BytesIO(encoded), formats=_FORMATS)
        # Of a PNG without EXIF in front of its pixels, Pillow would decode the pixels to find it.
        in_header = image.format != "PNG" or "exif" in image.info
        turned = in_header and image.getexif().get(_ORIENTATION, 1) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:
        # A broken file is reported when it is decoded; here it only counts for nothing.
        return None


def _is_deep(image: Image.Image) -> bool:
    """Whether samples have more than 8 bits, which Pillow would cut in some modes, by header."""
    tiles = getattr(image, "tile", [])
    return image.mode.startswith(("I", "F")) or any(";16" in str(tile[3]) for tile in tiles)


def _as_array(image: Image.Image, bands: int) -> np.ndarray:
    if bands == 0:
        if image.mode not in ("P", "L", "1", "I", "I;16"):
            raise InputError(f"a mask of ids has one band, got mode {image.mode}")
        return np.asarray(image)
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if bands not in modes:
        raise InputError(f"an encoded image gives 1, 3 or 4 bands, not {bands}")
    converted = np.asarray(image.convert(modes[bands]))
    return converted.reshape(image.height, image.width, bands)


def encode_labels(labels: np.ndarray, classes: ClassTable, text: dict[str, str]) -> bytes:
    """A label map as PNG: indexed colour with class ids as values, or 16-bit grey for uint16.

    Args:
        labels: `(height, width)` of the class table's dtype.
        classes: Gives the palette.
        text: Provenance, as PNG text chunks in this order.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        image.putpalette(classes.palette().tobytes())
    return _png(image, pnginfo=info)


def encode_confidence(confidence: np.ndarray) -> bytes:
    """Confidence in [0, 1] as an 8-bit grey PNG in which 1.0 is 255."""
    return _png(Image.fromarray(quantize_confidence(confidence)))


def quantize_confidence(confidence: np.ndarray) -> np.ndarray:
    """Confidence in [0, 1] as uint8, rounded; 1.0 is 255.

    >>> quantize_confidence(np.array([0.0, 0.5, 1.0]))
    array([  0, 128, 255], dtype=uint8)
    """
    return (np.clip(confidence, 0, 1) * 255 + 0.5).astype(np.uint8)


def _png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, **options)
    return buffer.getvalue()
