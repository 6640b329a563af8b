"""What an image must come to, decoded by Pillow alone and by its rules for what is broken."""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, TiffImagePlugin

from tests import png_maker
from tests.fakes import brightness_labels
from tests.known_images import NODATA, ORIENTATION

# How an image is turned upright by its orientation; EXIF 2.3, tag 274.
TURNS = {
    2: np.fliplr,
    3: lambda values: np.rot90(values, 2),
    4: np.flipud,
    5: lambda values: np.swapaxes(values, 0, 1),
    6: lambda values: np.rot90(values, -1),
    7: lambda values: np.rot90(np.swapaxes(values, 0, 1), 2),
    8: lambda values: np.rot90(values, 1),
}
# Tags of TIFF 6.0.
WIDTH, HEIGHT, STRIP_OFFSETS, ROWS_PER_STRIP, COLORS = 256, 257, 273, 278, 320
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS = 322, 323, 324
MAX_PIXELS = 1 << 22
# Parameter of mallopt in malloc.h of glibc.
M_PERTURB = -6
# Why we refuse what Pillow decodes.
STRICTER = re.compile(
    r"truncated or corrupt (JPEG|PNG|TIFF)|32 bits a sample|pixels exceed the limit|"
    r"the scene cannot be opened|the header of the scene cannot be read|"
    r"which is not supported|while decompressing data"
)


def labels_of(encoded: bytes) -> np.ndarray | str:
    """The labels of an image; what is wrong if Pillow does not decode it, or not all of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(encoded)) as image:
                if image.width * image.height > MAX_PIXELS:
                    return "too many pixels"
            both = []
            for filler in (0x00, 0xA5):
                with _memory_filled_with(filler):
                    both.append(_labels(encoded))
            if not is_whole(encoded):
                return "pixels are missing"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if not np.array_equal(*both):
        return "decoded are pixels that nobody wrote"
    return both[0]


@contextlib.contextmanager
def _memory_filled_with(filler: int) -> Iterator[None]:
    """Have what the C library hands out hold a byte, where it can."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    # The library writes the complement of the parameter, and nothing for 0.
    mallopt(M_PERTURB, filler ^ 0xFF)
    yield
    mallopt(M_PERTURB, 0)


def stated_size(encoded: bytes) -> tuple[int, int] | None:
    """Height and width by the header as Pillow reads it, before any turn; None without one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(encoded)) as image:
                return image.height, image.width
    except Exception:
        return None


def is_whole(encoded: bytes) -> bool:
    """Whether there is something for every pixel; Pillow leaves black what is missing."""
    with Image.open(io.BytesIO(encoded)) as image:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            tags = image.tag_v2
            rows, columns = tags.get(TILE_LENGTH), tags.get(TILE_WIDTH)
            if rows is None or columns is None:
                rows, columns = tags.get(ROWS_PER_STRIP, tags[HEIGHT]), tags[WIDTH]
            parts = -(-tags[HEIGHT] // rows) * -(-tags[WIDTH] // columns)
            return len(tags.get(TILE_OFFSETS) or tags[STRIP_OFFSETS]) >= parts
    return not encoded.startswith(png_maker.SIGNATURE) or png_maker.is_filled(encoded)


def _labels(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG", "WEBP", "TIFF")) as image:
        image.load()
        orientation = image.getexif().get(ORIENTATION, 1)
        values, alpha = _values(image)
    labels = np.where(alpha > 0, brightness_labels(values), NODATA)
    return TURNS.get(orientation, np.asarray)(labels)


def _values(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """`(height, width, bands)` values of 8 bits, and alpha."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        key = image.info.get("transparency")
        return (values >> 8)[..., None], np.where(values == key, 0, 255)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode == "P":
        # 255 is 65280 or 65535, as GDAL finds out.
        colors = np.array(image.tag_v2[COLORS]).reshape(3, -1).T
        colors = colors // (257 if (colors % 256).any() else 256)
        return colors[np.asarray(image)], np.full(image.size[::-1], 255)
    rgba = np.asarray(image.convert("RGBA"))
    if image.mode == "CMYK" or not image.has_transparency_data:
        return np.asarray(image.convert("RGB")), np.full(rgba.shape[:2], 255)
    return rgba[..., :3], rgba[..., 3]
