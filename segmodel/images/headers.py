"""Checks of encoded images by their bytes, before a decoder reads them."""

import re
import zlib
from collections.abc import Iterator
from typing import Literal

import simplejpeg
from PIL import TiffImagePlugin as Tiff

from segmodel.errors import InputError

PNG_SIGNATURE_BYTES = 8
_BIG_TIFF = 43
# A marker of a JPEG, which is neither a byte of its data nor a restart of its decoder.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_JPEG_START, _JPEG_END, _SCAN, _TEMPORARY = 0xD8, 0xD9, 0xDA, 0x01
# Progressive JPEGs have about ten, and each takes the time of a whole picture.
_MAX_SCANS = 128
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_FRAMES = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WEBP_CHUNK, _WEBP_DATA = 12, 20
_FOURTEEN_BITS = (1 << 14) - 1


def jpeg_scans(encoded: bytes, enough: int) -> int:
    """Number of scans of a JPEG, each of which may go over all of its pixels.

    Args:
        encoded: Content of the file.
        enough: Number up to which the answer may be too large.
    """
    scans, place, bands, progressive = 0, 2, 0, False
    while marker := _MARKER.search(encoded, place):
        kind, place = marker[1][0], marker.end()
        if kind == _JPEG_END:
            break
        if kind in _FRAMES and place + 7 < len(encoded):
            bands, progressive = encoded[place + 7], kind in _PROGRESSIVE_FRAMES
        scans += kind == _SCAN
        if kind == _SCAN and scans == 1:
            if not progressive and encoded[place + 2 : place + 3] == bytes([bands]):
                return 1  # As most are: all bands in one scan, and decoders read no other.
            # Bytes that look like a scan may be metadata, or a video behind the image.
            found = encoded.count(bytes([0xFF, _SCAN]), place) + 1
            if found <= enough:
                return found
        if kind not in (_JPEG_START, _TEMPORARY):
            place += int.from_bytes(encoded[place : place + 2], "big")
    return scans


def check_jpeg_scans(encoded: bytes) -> None:
    """Refuse a JPEG with so many scans that decoding would take very long.

    Args:
        encoded: Content of the file.

    Raises:
        InputError: If it has more than any camera or program writes.
    """
    if jpeg_scans(encoded, _MAX_SCANS) > _MAX_SCANS:
        raise InputError(
            f"the JPEG has more than {_MAX_SCANS} scans, as no camera or program writes"
        )


def webp_size(encoded: bytes) -> tuple[int, int] | None:
    """Width and height that the header of a WebP states; None if it has no such header.

    Source: RFC 9649, sections 2.7 (VP8X) and 3.4 (VP8L); RFC 6386, section 9.1 (VP8).
    """
    kind, data = encoded[_WEBP_CHUNK : _WEBP_CHUNK + 4], encoded[_WEBP_DATA : _WEBP_DATA + 10]
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


def has_duplicate_tag(encoded: bytes) -> bool:
    """Whether the first directory of a TIFF has a tag twice; decoders differ in which they take.

    Source: TIFF 6.0, section 2; BigTIFF has longer numbers in the same places.
    """
    order: Literal["little", "big"] = "little" if encoded[:2] == b"II" else "big"
    big = int.from_bytes(encoded[2:4], order) == _BIG_TIFF
    place, length, count_bytes, entry_bytes = (8, 8, 8, 20) if big else (4, 4, 2, 12)
    first = int.from_bytes(encoded[place : place + length], order) + count_bytes
    count = int.from_bytes(encoded[first - count_bytes : first], order)
    places = range(first, min(first + count * entry_bytes, len(encoded)), entry_bytes)
    tags = [encoded[place : place + 2] for place in places]
    return len(set(tags)) < len(tags)


def png_chunks(encoded: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and bytes of each chunk of a PNG, up to its end mark.

    Raises:
        InputError: If the end mark is missing or a checksum does not match.
    """
    view, begin, kind = memoryview(encoded), PNG_SIGNATURE_BYTES, b""
    while kind != b"IEND":
        length = int.from_bytes(view[begin : begin + 4], "big")
        kind = encoded[begin + 4 : begin + 8]
        if begin == PNG_SIGNATURE_BYTES and kind != b"IHDR":
            raise InputError("truncated or corrupt PNG: it does not begin with its header")
        end = begin + 8 + length
        if end + 4 > len(encoded):
            raise InputError("truncated or corrupt PNG: it ends without its end mark")
        if zlib.crc32(view[begin + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise InputError(
                f"truncated or corrupt PNG: the checksum of chunk {kind!r} does not match"
            )
        yield kind, view[begin : end + 4]
        begin = end + 4


_BAND_AFTER_BAND = 2  # Of the tag PlanarConfiguration.
# Where others, such as fax codes, are damaged, libtiff prints a line and leaves what happens to be
# in memory.
_CHECKED = frozenset(
    {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd", "webp"}
)


def check_tiff_parts(image: Tiff.TiffImageFile, encoded: bytes) -> None:
    """Refuse a TIFF of which some pixels would be black, or bytes that happen to be in memory.

    Args:
        image: TIFF, opened by its header.
        encoded: Content of the file.

    Raises:
        InputError: If a strip or tile is missing, a JPEG in it is damaged, or the compression is
            one in which damage goes unnoticed.
    """
    compression = image.info.get("compression", "raw")
    if compression not in _CHECKED and compression != "jpeg":
        raise InputError(
            f"the TIFF has compression {compression}, in which damage goes unnoticed: convert it, "
            f"for example with tiffcp -c lzw"
        )
    tags = image.tag_v2
    width, height = tags[Tiff.IMAGEWIDTH], tags[Tiff.IMAGELENGTH]
    tiled = Tiff.TILEWIDTH in tags and Tiff.TILELENGTH in tags
    across = tags[Tiff.TILEWIDTH] if tiled else width
    down = tags[Tiff.TILELENGTH] if tiled else tags.get(Tiff.ROWSPERSTRIP) or height
    columns, rows = -(-width // across), -(-height // down)
    parts = columns * rows
    if tags.get(Tiff.PLANAR_CONFIGURATION) == _BAND_AFTER_BAND:
        parts *= tags.get(Tiff.SAMPLESPERPIXEL, 1)
    offsets = tags.get(Tiff.TILEOFFSETS) or tags.get(Tiff.STRIPOFFSETS) or ()
    sizes = tags.get(Tiff.TILEBYTECOUNTS) or tags.get(Tiff.STRIPBYTECOUNTS) or ()
    if len(offsets) < parts or (compression == "jpeg" and len(sizes) < parts):
        raise InputError("truncated or corrupt TIFF: strips or tiles are missing")
    for number in range(parts if compression == "jpeg" else 0):
        least = down if tiled else min(down, height - number // columns % rows * down)
        first, tables = offsets[number], tags.get(Tiff.JPEGTABLES, b"")
        part = encoded[first : first + sizes[number]]
        _check_jpeg(tables[:-2] + part[2:] if tables else part, across, range(least, down + 1))


def _check_jpeg(encoded: bytes, across: int, down: range) -> None:
    """Refuse a strip or tile that is no whole JPEG.

    Args:
        encoded: JPEG, with the tables that all strips or tiles share.
        across: Width that it must have.
        down: Heights that it may have; the last strip may be as high as the others.
    """
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(encoded)
        if width != across or height not in down:
            raise InputError(
                f"truncated or corrupt TIFF: a JPEG in it has {width}x{height} pixels, "
                f"{across}x{down[0]} are stated"
            )
        check_jpeg_scans(encoded)
        target = "CMYK" if space in ("CMYK", "YCCK") else "GRAY"
        simplejpeg.decode_jpeg(encoded, target, strict=True)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"truncated or corrupt JPEG in a TIFF: {error}") from error
