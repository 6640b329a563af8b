"""Images that must fail, each with the reason that its row must give."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests import png_maker
from tests.image_kinds import KINDS
from tests.known_images import by_pillow, picture


@dataclass(frozen=True)
class Broken:
    """An image that cannot be labelled: suffix of its name, content, and part of the reason."""

    suffix: str
    encoded: bytes
    reason: str


def of_kind(kind: str) -> bytes:
    """A valid image of a kind."""
    return KINDS[kind](0).encoded


def cut(kind: str, share: float) -> bytes:
    """The first part of a valid image."""
    whole = of_kind(kind)
    return whole[: int(len(whole) * share)]


def with_bytes(content: bytes, place: int, others: bytes) -> bytes:
    """Some bytes in place of others."""
    return content[:place] + others + content[place + len(others) :]


def with_other_byte(content: bytes, place: int) -> bytes:
    """One byte inverted."""
    place %= len(content)
    return with_bytes(content, place, bytes([content[place] ^ 0xFF]))


def png_that_states(width: int, height: int) -> bytes:
    """A PNG of a few bytes."""
    parts = png_maker.header(width, height), png_maker.chunk(b"IDAT", zlib.compress(b"\0"))
    return b"".join([png_maker.SIGNATURE, *parts, png_maker.chunk(b"IEND", b"")])


def png_with(kind: bytes, body: bytes, place: int = 1) -> bytes:
    """A valid PNG with one more chunk; by default it stands behind the header."""
    parts = list(png_maker.chunks(of_kind("png-rgb-8")))
    return png_maker.join([*parts[:place], (kind, body), *parts[place:]])


def png_without(kind: bytes) -> bytes:
    """A valid PNG less one kind of chunk, all checksums right."""
    parts = png_maker.chunks(of_kind("png-rgb-8"))
    return png_maker.join(part for part in parts if part[0] != kind)


def webp_that_states(width: int, height: int) -> bytes:
    """A lossy WebP with another size in its header; RFC 6386, section 9.1."""
    content = of_kind("webp")
    return content[:26] + struct.pack("<HH", width, height) + content[30:]


def tiff_that_states(content: bytes, tag: int, value: int) -> bytes:
    """A TIFF with another number in one tag; TIFF 6.0, section 2."""
    out = bytearray(content)
    first = int.from_bytes(content[4:8], "little")
    for place in range(first + 2, first + 2 + 12 * content[first], 12):
        if int.from_bytes(content[place : place + 2], "little") == tag:
            out[place + 2 : place + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(out)


def shared_tags() -> bytes:
    """A valid TIFF with 20 more tags, each of which names half of the file as its value."""
    content = of_kind("tiff")
    first = int.from_bytes(content[4:8], "little")
    end = first + 2 + 12 * content[first]
    more = b"".join(
        struct.pack("<HHII", tag, 7, len(content) // 2, 8) for tag in range(40000, 40020)
    )
    count = struct.pack("<H", content[first] + 20)
    head = content[:4] + struct.pack("<I", len(content)) + content[8:]
    return head + count + content[first + 2 : end] + more + bytes(4)


def gif() -> bytes:
    """An image of a kind that is not read."""
    buffer = io.BytesIO()
    Image.fromarray(picture(0)[..., 0]).save(buffer, "GIF")
    return buffer.getvalue()


TIFF_WIDTH, TIFF_HEIGHT = 256, 257
NO_IMAGE = "not a JPEG, PNG, WebP or TIFF image"
TRUNCATED_PNG = "truncated or corrupt PNG: "
NO_HEADER = TRUNCATED_PNG + "it cannot be decoded, as it does not begin with its header"
BOMB = "60000x60000 pixels exceed the limit of "
BROKEN: dict[str, Broken] = {
    "empty": Broken(".png", b"", "empty file"),
    "text": Broken(".jpg", b"I am no image, I am a text of some length", NO_IMAGE),
    "gif": Broken(".png", gif(), NO_IMAGE),
    "zeros": Broken(".webp", bytes(500), NO_IMAGE),
    "jpeg-cut": Broken(".jpg", cut("jpeg", 0.95), "truncated or corrupt JPEG: "),
    "jpeg-header-cut": Broken(
        ".jpg", cut("jpeg", 0.3), "the JPEG cannot be decoded: it has no scan"
    ),
    "jpeg-ended": Broken(
        ".jpg", cut("jpeg", 0.9) + b"\xff\xd9", "truncated or corrupt JPEG: Corrupt JPEG data"
    ),
    "jpeg-grey-cut": Broken(".jpg", cut("jpeg-grey", 0.9), "truncated or corrupt JPEG: "),
    "png-cut": Broken(".png", cut("png-rgb-8", 0.9), TRUNCATED_PNG + "it ends without its end"),
    "png-no-end": Broken(".png", png_without(b"IEND"), TRUNCATED_PNG + "it ends without its end"),
    "png-no-header": Broken(".png", png_without(b"IHDR"), NO_HEADER),
    "png-header-second": Broken(".png", png_with(b"tEXt", b"a\0b", 0), NO_HEADER),
    "png-checksum": Broken(
        ".png",
        with_other_byte(of_kind("png-rgb-8"), 300),
        TRUNCATED_PNG + "the checksum of chunk b'IDAT' does not match",
    ),
    "png-checksum-behind-pixels": Broken(
        ".png",
        with_other_byte(of_kind("png-rgb-8"), -1),
        TRUNCATED_PNG + "the checksum of chunk b'IEND' does not match",
    ),
    "png-bomb": Broken(".png", png_that_states(60_000, 60_000), BOMB),
    "webp-cut": Broken(".webp", cut("webp-lossless", 0.6), "cannot be decoded: "),
    "webp-bomb": Broken(
        ".webp", webp_that_states(16_383, 16_383), "16383x16383 pixels exceed the limit of "
    ),
    "tiff-32-bit": Broken(
        ".tif",
        by_pillow(np.ones((9, 8), np.float32), "TIFF"),
        "dtype: the model is given uint8, or the high byte of uint16, of an image without ",
    ),
    "tiff-fax": Broken(
        ".tif",
        by_pillow(picture(0)[..., 0] > 99, "TIFF", compression="group4"),
        "the TIFF has compression group4, in which damage goes unnoticed",
    ),
    "tiff-rows-missing": Broken(
        ".tif",
        tiff_that_states(of_kind("tiff-grey"), TIFF_HEIGHT, 60_000),
        "truncated or corrupt TIFF: strips or tiles are missing",
    ),
    "tiff-shared-tags": Broken(".tif", shared_tags(), "tags of the TIFF share their bytes"),
    "tiff-jpeg-narrow": Broken(
        ".tif",
        tiff_that_states(of_kind("tiff-jpeg"), TIFF_WIDTH, 60_000),
        "truncated or corrupt TIFF: a JPEG in it has 34x21 pixels, 60000x21 are stated",
    ),
    "tiff-jpeg-damaged": Broken(
        ".tif",
        with_bytes(of_kind("tiff-jpeg"), 400, b"\xff\xd9"),
        "truncated or corrupt JPEG in a TIFF: Corrupt JPEG data: premature end",
    ),
}
