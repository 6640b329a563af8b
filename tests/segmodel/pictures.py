"""Encoded pictures, made chunk by chunk where no library would write them."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image

from segmodel.images.encoded import decode_pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
END = b"\0\0\0\0IEND\xaeB`\x82"


def noise(height: int = 40, width: int = 60, bands: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)


def smooth(height: int = 200, width: int = 230) -> np.ndarray:
    """A picture such as cameras take: lossy formats store it well."""
    rows, columns = np.mgrid[:height, :width]
    bands = [rows + columns, 2 * columns, 128 + 90 * np.sin(rows / 9) * np.cos(columns / 7)]
    return (np.stack(bands, axis=-1) % 256).astype(np.uint8)


def image_of(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values[..., 0] if values.shape[-1:] == (1,) else values)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (image_of(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(content: bytes, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert(mode))


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


def png_file(
    size: tuple[int, int],
    depth: int,
    color: int,
    rows: list[bytes],
    before: bytes = b"",
    behind: bytes = b"",
) -> bytes:
    """A PNG of packed rows, with more chunks before and behind its pixels."""
    width, height = size
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return SIGNATURE + header + before + pixels + behind + END


def exif_chunk(orientation: int) -> bytes:
    return chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0"))


def grey_of(colours: np.ndarray) -> np.ndarray:
    """ITU-R 601-2 luma in the 16-bit fixed point of Pillow."""
    weighted = (colours.astype(np.int64) * [19595, 38470, 7471]).sum(axis=-1)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)


def check(content: bytes, colours: np.ndarray, alpha: np.ndarray | None = None) -> None:
    """Assert pixels and nodata at 1, 3 and 4 bands; no decoder may warn."""
    height, width = colours.shape[:2]
    opaque = np.full((height, width), 255, np.uint8)
    whole = np.dstack([colours, opaque if alpha is None else alpha])
    expected = {1: grey_of(colours)[..., None], 3: colours, 4: whole}
    for bands, values in expected.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            actual = decode_pixels(content, bands)
        np.testing.assert_array_equal(actual.values, values)
        assert actual.values.dtype == np.uint8
        if bands == 4 or alpha is None or alpha.all():
            assert actual.valid is None
        else:
            np.testing.assert_array_equal(actual.valid, alpha > 0)


def grey(values: np.ndarray) -> np.ndarray:
    """As colours."""
    return np.repeat(values[..., None], 3, axis=2)
