"""PNG files written from samples, in every colour type and depth that the standard has.

Source: Portable Network Graphics, W3C (2003), chapters 4, 8 and 9. Independent of Pillow.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
SIGNATURE = b"\x89PNG\r\n\x1a\n"
# First column, first row, column step and row step of the passes of an interlaced image.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
_ADAM7 = (*_ADAM7, (0, 1, 1, 2))


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk with its checksum."""
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


def header(width: int, height: int, depth: int = 8, color: int = RGB, interlace: int = 0) -> bytes:
    """The chunk that states the size."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))


def chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each chunk of an intact PNG, up to its end mark."""
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", content, place)
        kind = content[place + 4 : place + 8]
        yield kind, content[place + 8 : place + 8 + length]
        place += 12 + length


def join(parts: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A PNG of chunks."""
    return SIGNATURE + b"".join(chunk(kind, body) for kind, body in parts)


def png_of(
    samples: np.ndarray,
    color: int,
    depth: int = 8,
    interlaced: bool = False,
    extra: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """A PNG of `(height, width, channels)` samples.

    Args:
        samples: Unsigned integers of `depth` bits.
        color: Type of colour.
        depth: Bits a sample.
        interlaced: Whether by Adam7.
        extra: Kind and body of chunks before the pixels, such as `PLTE` and `tRNS`.
    """
    height, width = samples.shape[:2]
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in _ADAM7] if interlaced else [samples]
    rows = b"".join(_filtered(part, depth) for part in passes if part.size)
    # Two chunks of pixels, as larger images have.
    packed = zlib.compress(rows, 9)
    half = len(packed) // 2
    content = [SIGNATURE, header(width, height, depth, color, int(interlaced))]
    content += [chunk(kind, body) for kind, body in extra]
    content += [chunk(b"IDAT", packed[:half]), chunk(b"IDAT", packed[half:]), chunk(b"IEND", b"")]
    return b"".join(content)


def is_filled(content: bytes) -> bool:
    """Whether a PNG with right checksums holds a byte for every byte of pixels that it states."""
    parts = list(chunks(content))
    width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", parts[0][1][:13])
    channels = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}[color]
    stated = 0
    for x, y, across, down in _ADAM7 if interlace else ((0, 0, 1, 1),):
        columns, rows = len(range(x, width, across)), len(range(y, height, down))
        stated += rows * (1 + -(-columns * channels * depth // 8)) if columns else 0
    packed = b"".join(body for kind, body in parts if kind == b"IDAT")
    return len(zlib.decompressobj().decompress(packed, stated)) >= stated


def _filtered(samples: np.ndarray, depth: int) -> bytes:
    """Rows of bytes, each behind its filter: none, sub and up in turn."""
    channels = samples.shape[2]
    pixel = max(1, channels * depth // 8)
    before = np.zeros(_packed(samples[0], depth).size, np.uint8)
    out = []
    for number, row in enumerate(samples):
        line = _packed(row, depth)
        left = np.concatenate([np.zeros(pixel, np.uint8), line[:-pixel]])[: line.size]
        kind = number % 3
        predicted = (np.zeros_like(line), left, before)[kind]
        out.append(bytes([kind]) + (line - predicted).astype(np.uint8).tobytes())
        before = line
    return b"".join(out)


def _packed(row: np.ndarray, depth: int) -> np.ndarray:
    """Samples of a row as bytes, high bits and high bytes first."""
    flat = row.reshape(-1)
    if depth == 16:
        return flat.astype(">u2").view(np.uint8)
    if depth == 8:
        return flat.astype(np.uint8)
    bits = (flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(-1))
