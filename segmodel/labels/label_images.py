"""Label maps and confidence as encoded images."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from segmodel.labels.classes import ClassTable


def encode_labels(labels: np.ndarray, classes: ClassTable, text: dict[str, str]) -> bytes:
    """A label map as PNG: indexed colour with class ids as values, or 16-bit grey for uint16.

    Args:
        labels: `(height, width)` of the class table's dtype.
        classes: Class table, with the colours of the palette.
        text: Provenance: keys and values of PNG text chunks, in this order.

    Returns:
        Content of the PNG file.
    """
    info = PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        image.putpalette(classes.palette().tobytes())
    return _png(image, info)


def encode_confidence(confidence: np.ndarray) -> bytes:
    """Confidence in [0, 1] as an 8-bit grey PNG in which 1.0 is 255: content of the file."""
    return encode_levels(quantize_confidence(confidence))


def encode_levels(levels: np.ndarray) -> bytes:
    """`(height, width)` uint8 as a grey PNG: content of the file."""
    return _png(Image.fromarray(np.ascontiguousarray(levels)))


def quantize_confidence(confidence: np.ndarray) -> np.ndarray:
    """Confidence in [0, 1] as uint8, rounded; 1.0 is 255.

    >>> quantize_confidence(np.array([0.0, 0.5, 1.0]))
    array([  0, 128, 255], dtype=uint8)
    """
    return np.asarray(np.clip(confidence, 0, 1) * 255 + 0.5).astype(np.uint8)


def _png(image: Image.Image, info: PngInfo | None = None) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, pnginfo=info)
    return buffer.getvalue()
