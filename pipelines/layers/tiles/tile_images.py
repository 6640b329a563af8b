"""Tiles as images in which each pixel has the colour of its class, or is transparent."""

import io

import numpy as np
from PIL import Image

from segmodel.labels.classes import ClassTable

# Formats of tiles, by the name of the option.
FORMATS = ("png", "webp")
PALETTE_COLORS = 256


def tile_image(labels: np.ndarray, classes: ClassTable, form: str) -> bytes:
    """An encoded tile; empty if it has no label.

    Args:
        labels: `(256, 256)` labels.
        classes: Colours, and the value of pixels without a label.
        form: One of `FORMATS`; both are without loss.
    """
    present = np.flatnonzero(np.bincount(labels.ravel()))
    if len(present) == 1 and present[0] == classes.nodata:
        return b""
    stream = io.BytesIO()
    if form == "png" and len(present) <= PALETTE_COLORS:
        _write_palette_png(stream, labels, present, classes)
    else:
        image = Image.fromarray(_with_alpha(labels, classes))
        # What is transparent is (0, 0, 0, 0) already: nothing is left to be changed.
        options = {"lossless": True, "quality": 80, "method": 4} if form == "webp" else {}
        image.save(stream, form, **options)
    return stream.getvalue()


def _write_palette_png(
    stream: io.BytesIO, labels: np.ndarray, present: np.ndarray, classes: ClassTable
) -> None:
    """A PNG with the colours of the classes that are there only, so that few bits are enough."""
    has_nodata = bool(present[-1] == classes.nodata)
    order = np.roll(present, has_nodata)  # nodata is the greatest label, and comes first
    index = np.zeros(classes.nodata + 1, np.uint8)
    index[order] = np.arange(len(order))
    image = Image.fromarray(index[labels]).convert("L")
    image.putpalette(classes.palette()[order].tobytes())
    bits = next(bits for bits in (1, 2, 4, 8) if len(order) <= 1 << bits)
    options = {"transparency": bytes(1)} if has_nodata else {}
    image.save(stream, "png", bits=bits, compress_level=6, **options)


def _with_alpha(labels: np.ndarray, classes: ClassTable) -> np.ndarray:
    """`(height, width, 4)` red, green, blue and alpha."""
    opaque = np.full(classes.nodata + 1, 255, np.uint8)
    opaque[classes.nodata] = 0
    return np.dstack([classes.palette()[labels], opaque[labels]])
