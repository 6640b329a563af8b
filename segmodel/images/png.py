"""PNG images: read chunk by chunk, so that Pillow gets the pixels and none of the rest."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin

from segmodel.errors import FailureCode, InputError
from segmodel.images.limits import MAX_PARTS, check_pixels, too_many_parts
from segmodel.images.orientation import MAX_METADATA_BYTES, stated_orientation
from segmodel.images.stored import StoredImage

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FIELDS = struct.Struct(">IIBBBBB")
_FIELDS_AT = len(PNG_SIGNATURE) + 8
_PALETTE = 3
_CHANNELS = {0: 1, 2: 3, _PALETTE: 1, 4: 2, 6: 4}
_PACKED_BYTES, _INFLATED_BYTES = 1 << 16, 1 << 20
# First column, first row, step of columns, step of rows of each pass of an interlaced PNG.
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip
# Where a PNG says how it is turned, before or behind its pixels.
_PROFILE, _XMP = b"Raw profile type exif", b"XML:com.adobe.xmp"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# What Pillow decodes pixels from, beside these.
_NEEDED = (b"IHDR", b"PLTE", b"tRNS")
# The transparent value of a PNG is in the depth of the file, and Pillow's pixels have 8 bits.
_DEPTHS: dict[object, Callable[[int], int]] = {
    "1": lambda value: 255 if value else 0,
    "L;2": lambda value: value * 85,
    "L;4": lambda value: value * 17,
    "RGB;16B": lambda value: value >> 8,
}


class PngImage(StoredImage):
    """A PNG.

    Args:
        encoded: Content of the file; of its beginning, the size is known.
        max_pixels: Most pixels that it may have.

    Raises:
        InputError: If its header is broken, or states too many pixels.
    """

    driver = "PNG"

    def __init__(self, encoded: bytes, max_pixels: int) -> None:
        if (
            encoded[len(PNG_SIGNATURE) + 4 : _FIELDS_AT] != b"IHDR"
            or len(encoded) < _FIELDS_AT + 13
        ):
            raise _corrupt("it cannot be decoded, as it does not begin with its header")
        width, height, depth, color, _, _, _ = _FIELDS.unpack_from(encoded, _FIELDS_AT)
        if not width or not height:
            raise _corrupt("it has no pixels")
        check_pixels((width, height), max_pixels)
        super().__init__((width, height), _orientation(encoded), depth, color == _PALETTE)
        self._encoded = encoded

    def load(self) -> Image.Image:
        """The decoded image; see `StoredImage.load`."""
        plain, packed = _plain(self._encoded)
        image = PngImagePlugin.PngImageFile(io.BytesIO(plain), "")
        _convert_transparency(image)
        image.load()
        if not _has_last_row(image) and not _has_all_rows(self._encoded, packed):
            raise _corrupt("rows are missing")
        return image


def png_chunks(encoded: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and bytes of each chunk of a PNG, up to its end mark.

    Raises:
        InputError: If the end mark is missing, a checksum does not match, or there are too many.
    """
    view, begin = memoryview(encoded), len(PNG_SIGNATURE)
    for _ in range(MAX_PARTS):
        length = int.from_bytes(view[begin : begin + 4], "big")
        kind, end = encoded[begin + 4 : begin + 8], begin + 8 + length
        if end + 4 > len(encoded):
            raise _corrupt("it ends without its end mark")
        if zlib.crc32(view[begin + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise _corrupt(f"the checksum of chunk {kind!r} does not match")
        yield kind, view[begin : end + 4]
        if kind == b"IEND":
            return
        begin = end + 4
    raise too_many_parts("PNG has chunks", MAX_PARTS)


def _corrupt(what: str) -> InputError:
    return InputError(f"truncated or corrupt PNG: {what}", code=FailureCode.CORRUPT_IMAGE)


def _plain(encoded: bytes) -> tuple[bytes, bytearray]:
    """The same PNG of one chunk of each kind that pixels depend on, and its packed pixels.

    Of kinds that it may have once, the first counts, as for its size.
    """
    found: dict[bytes, memoryview] = {}
    packed, last = bytearray(), memoryview(b"")
    for kind, last in png_chunks(encoded):
        if kind == b"IDAT":
            packed += last[8:-4]
        elif kind in _NEEDED:
            found.setdefault(kind, last)
    head = struct.pack(">I", len(packed)) + b"IDAT"
    checksum = struct.pack(">I", zlib.crc32(packed, zlib.crc32(b"IDAT")))
    return b"".join([PNG_SIGNATURE, *found.values(), head, packed, checksum, last]), packed


def _orientation(encoded: bytes) -> int:
    """The EXIF orientation of a PNG.

    Raises:
        InputError: If the metadata with the orientation are broken.
    """
    if not any(mark in encoded for mark in (b"eXIf", _PROFILE, _XMP)):
        return 1
    exif, texts = b"", dict[bytes, tuple[bytes, memoryview]]()
    for kind, chunk in png_chunks(encoded):
        if kind == b"eXIf":
            exif = bytes(chunk[8:-4])
        elif kind in _TEXTS:
            # A keyword has at most 79 bytes.
            keyword, _, _ = bytes(chunk[8 : 8 + 80]).partition(b"\0")
            if keyword in (_PROFILE, _XMP):
                texts[keyword] = kind, chunk[8 + len(keyword) + 1 : -4]
    profile, xmp = (_text(*texts[key]) if key in texts else b"" for key in (_PROFILE, _XMP))
    try:
        # Three lines about it, and the block in hexadecimal digits.
        digits = b"".join(profile.split(b"\n")[3:]).decode("ascii")
        return stated_orientation(exif or bytes.fromhex(digits), xmp)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise _corrupt(f"its EXIF block cannot be decoded ({error})") from error


def _text(kind: bytes, body: memoryview) -> bytes:
    """The text of a chunk behind its keyword, inflated; nothing where it cannot be."""
    is_packed = kind == b"zTXt"
    begin = 1 if is_packed else 0
    if kind == b"iTXt":
        is_packed = bytes(body[:1]) != b"\0"
        language, _, rest = bytes(body[2 : 2 + MAX_METADATA_BYTES]).partition(b"\0")
        begin = 2 + len(language) + 1 + len(rest.partition(b"\0")[0]) + 1
    text = bytes(body[begin : begin + MAX_METADATA_BYTES])
    if not is_packed:
        return text
    try:
        return zlib.decompressobj().decompress(text, MAX_METADATA_BYTES)
    except zlib.error:
        return b""


def _convert_transparency(image: ImageFile.ImageFile) -> None:
    """Convert the transparent value of a PNG to the bit depth of its decoded pixels."""
    convert = _DEPTHS.get(image.tile[0].args)
    value = image.info.get("transparency")
    if convert is not None and isinstance(value, int):
        image.info["transparency"] = convert(value)
    elif convert is not None and isinstance(value, tuple):
        image.info["transparency"] = tuple(map(convert, value))


def _has_last_row(image: Image.Image) -> bool:
    """Whether the last row is not all 0; Pillow leaves missing rows at 0."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    return not image.info.get("interlace") and bool(np.asarray(last).any())


def _has_all_rows(encoded: bytes, packed: bytearray) -> bool:
    """Whether packed pixels are as many bytes as the header of a PNG says."""
    width, height, depth, color, _, _, interlaced = _FIELDS.unpack_from(encoded, _FIELDS_AT)
    missing = 0
    for column, row, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        if columns > 0:
            missing += max(0, rows) * (1 + -(-columns * _CHANNELS[color] * depth // 8))
    inflated, view = zlib.decompressobj(), memoryview(packed)
    for begin in range(0, len(view), _PACKED_BYTES):
        part: bytes | memoryview = view[begin : begin + _PACKED_BYTES]
        while part and missing > 0:
            missing -= len(inflated.decompress(part, _INFLATED_BYTES))
            part = inflated.unconsumed_tail
    return missing <= 0
