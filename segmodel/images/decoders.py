"""JPEG, PNG and WebP as Pillow images: opened by their header, checked to the last byte."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageFile

from segmodel.devices.startup import silence_pillow
from segmodel.errors import FailureCode, InputError

_FORMATS = ("JPEG", "PNG", "WEBP")
_JPEG_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
# By EXIF orientation.
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)
# Orientations in which the last row, or the last column, comes first once it is turned.
_FROM_BELOW, _FROM_RIGHT = (3, 4, 7, 8), (2, 3, 6, 7)
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_PNG_HEADER_BYTES = 33
_INFLATED_BYTES = 1 << 20
_PNG_FIELDS = struct.Struct(">IIBBBBB")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column, first row, step of columns, step of rows of each pass of an interlaced PNG.
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip
# Marks of an EXIF orientation in a PNG, before or behind its pixels.
_PNG_ORIENTATIONS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
_PNG_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
# The transparent value of a PNG is in the depth of the file, and Pillow's pixels have 8 bits.
_PNG_DEPTHS: dict[object, Callable[[int], int]] = {
    "1": lambda value: 255 if value else 0,
    "L;2": lambda value: value * 85,
    "L;4": lambda value: value * 17,
    "RGB;16B": lambda value: value >> 8,
}
PNG_SIGNATURE_BYTES = 8
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
            f"the JPEG has more than {_MAX_SCANS} scans, as no camera or program writes",
            code=FailureCode.UNSUPPORTED,
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
            raise InputError(
                "truncated or corrupt PNG: it does not begin with its header",
                code=FailureCode.CORRUPT_IMAGE,
            )
        end = begin + 8 + length
        if end + 4 > len(encoded):
            raise InputError(
                "truncated or corrupt PNG: it ends without its end mark",
                code=FailureCode.CORRUPT_IMAGE,
            )
        if zlib.crc32(view[begin + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise InputError(
                f"truncated or corrupt PNG: the checksum of chunk {kind!r} does not match",
                code=FailureCode.CORRUPT_IMAGE,
            )
        yield kind, view[begin : end + 4]
        begin = end + 4


def open_image(encoded: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """An encoded image, opened by its header; its pixels are not decoded.

    Args:
        encoded: Content of the file.
        max_pixels: Most pixels that it may have.

    Raises:
        InputError: If it is no image, or has too many pixels.
    """
    if not encoded:
        raise InputError("empty file", code=FailureCode.EMPTY_FILE)
    silence_pillow()
    # `Image.open` would apply Pillow's own limit of pixels, which all of a process shares.
    Image.init()
    for name in _FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is not None and accepts(encoded[:16]) is True:
            break
    else:
        raise InputError("not a JPEG, PNG, WebP or TIFF image", code=FailureCode.NOT_AN_IMAGE)
    stated = webp_size(encoded) if name == "WEBP" else None
    if stated is not None:
        check_pixels(stated, max_pixels)
    try:
        image = factory(io.BytesIO(encoded), "")
    except MemoryError:
        raise
    except Exception as error:
        if stated is not None:
            # Without memory for its two canvases, libwebp says no more than of a broken file.
            np.empty((2, *stated, 4), np.uint8)
        raise InputError(f"cannot be decoded: {error}", code=FailureCode.CORRUPT_IMAGE) from error
    check_pixels(image.size, max_pixels)
    return image


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse more pixels than may be decoded.

    Args:
        size: Width and height.
        max_pixels: Most pixels.

    Raises:
        InputError: Says how to allow them.
    """
    width, height = size
    if width * height > max_pixels:
        raise InputError(
            f"{width}x{height} pixels exceed the limit of {max_pixels}: raise --max_pixels (and "
            f"--memory) if it is no decompression bomb",
            code=FailureCode.TOO_MANY_PIXELS,
        )


def oriented_size(image: Image.Image, encoded: bytes) -> tuple[int, int]:
    """Height and width of an image once its EXIF orientation is applied, without decoding it.

    Args:
        image: Image from `open_image`.
        encoded: Content of the file.

    Raises:
        InputError: If the metadata with the orientation are broken.
    """
    sideways = orientation_of(image, encoded) in SIDEWAYS
    return (image.width, image.height) if sideways else (image.height, image.width)


def orientation_of(image: Image.Image, encoded: bytes) -> int:
    """The EXIF orientation of an image without decoding it; arguments as in `oriented_size`.

    Raises:
        InputError: If the metadata with the orientation are broken.
    """
    try:
        if image.format != "PNG":
            return _orientation(image)
        marked = any(mark in encoded for mark in _PNG_ORIENTATIONS)
        return _orientation(_png_metadata(encoded)) if marked else 1
    except (InputError, MemoryError):
        raise
    except Exception as error:
        # For a broken EXIF block, Pillow raises errors of many kinds.
        raise InputError(f"cannot be decoded: {error}", code=FailureCode.CORRUPT_IMAGE) from error


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """An array of a whole image as it is stored, turned as an EXIF orientation says.

    Args:
        array: `(height, width)` or `(height, width, bands)`.
        orientation: EXIF orientation of the image.
    """
    if orientation in SIDEWAYS:
        array = array.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in _FROM_BELOW else 1)
    columns = slice(None, None, -1 if orientation in _FROM_RIGHT else 1)
    return np.ascontiguousarray(array[rows, columns])


def is_plain_jpeg(image: Image.Image) -> bool:
    """Whether an image is a colour JPEG that stands upright, as most images are."""
    # For a PNG, Pillow would decode all pixels to find its EXIF block.
    plain = image.format == "JPEG" and image.mode == "RGB"
    return plain and _orientation(image) not in _TRANSPOSITIONS


def load_oriented(image: ImageFile.ImageFile, encoded: bytes) -> Image.Image:
    """The decoded image, upright as its EXIF orientation says, in the mode of the file.

    Args:
        image: Image from `open_image`.
        encoded: Content of the file.

    Raises:
        InputError: If pixels are missing or corrupt, as far as the format can tell.
        Exception: Errors of many kinds, from Pillow's decoders.
    """
    loaded = _loaded(image, encoded)
    transposition = _TRANSPOSITIONS.get(_orientation(loaded))
    return loaded if transposition is None else loaded.transpose(transposition)


def jpeg_values(image: Image.Image, encoded: bytes) -> np.ndarray:
    """Pixels of a JPEG, `(height, width)` or `(height, width, bands)` uint8.

    Warnings of libjpeg, which Pillow hides, are errors here: a JPEG that ends in the middle but has
    an end mark would be grey from there on.

    Args:
        image: Image from `open_image`.
        encoded: Content of the file.

    Raises:
        InputError: If it is truncated or corrupt.
        MemoryError: If memory does not suffice.
    """
    check_jpeg_scans(encoded)
    try:
        height, width = simplejpeg.decode_jpeg_header(encoded)[:2]
        if (width, height) != image.size:
            raise InputError(
                f"the header says {image.size}, decoded are {(width, height)}",
                code=FailureCode.CORRUPT_IMAGE,
            )
        values: np.ndarray = simplejpeg.decode_jpeg(encoded, _JPEG_SPACES[image.mode], strict=True)
    except InputError:
        raise
    except ValueError as error:
        if "Insufficient memory" in str(error):
            raise MemoryError(str(error)) from error
        raise InputError(
            f"truncated or corrupt JPEG: {error}", code=FailureCode.CORRUPT_IMAGE
        ) from error
    if image.mode == "CMYK":
        np.subtract(255, values, out=values)  # Stored inverted, as Adobe does and Pillow expects.
    return values[..., 0] if image.mode == "L" else values


def _orientation(image: Image.Image) -> int:
    stated = image.getexif().get(ExifTags.Base.Orientation)
    return stated if isinstance(stated, int) else 1


def _loaded(image: ImageFile.ImageFile, encoded: bytes) -> Image.Image:
    if image.format in ("JPEG", "MPO") and image.mode in _JPEG_SPACES:
        values = jpeg_values(image, encoded)
        decoded = Image.frombytes(image.mode, image.size, values.tobytes())
        decoded.info = image.info
        return decoded
    if image.format == "PNG":
        # Pillow stops at the last row.
        for _ in png_chunks(encoded):
            pass
        _convert_transparency(image)
    image.load()
    if image.format == "PNG" and not _has_last_row(image) and not _has_all_rows(encoded):
        raise InputError(
            "truncated or corrupt PNG: rows are missing", code=FailureCode.CORRUPT_IMAGE
        )
    return image


def _convert_transparency(image: ImageFile.ImageFile) -> None:
    """Convert the transparent value of a PNG to the bit depth of its decoded pixels."""
    convert = _PNG_DEPTHS.get(image.tile[0].args)
    value = image.info.get("transparency")
    if convert is not None and isinstance(value, int):
        image.info["transparency"] = convert(value)
    elif convert is not None and isinstance(value, tuple):
        image.info["transparency"] = tuple(map(convert, value))


def _has_last_row(image: Image.Image) -> bool:
    """Whether the last row is not all 0; Pillow leaves missing rows at 0."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    return not image.info.get("interlace") and bool(np.asarray(last).any())


def _has_all_rows(encoded: bytes) -> bool:
    """Whether a PNG has as many bytes of pixels as its header says."""
    place = PNG_SIGNATURE_BYTES + 8
    width, height, depth, color, _, _, interlaced = _PNG_FIELDS.unpack_from(encoded, place)
    missing = 0
    for column, row, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        if columns > 0:
            missing += max(0, rows) * (1 + -(-columns * _PNG_CHANNELS[color] * depth // 8))
    inflated = zlib.decompressobj()
    for kind, chunk in png_chunks(encoded):
        packed = bytes(chunk[8:-4]) if kind == b"IDAT" else b""
        while packed and missing > 0:
            missing -= len(inflated.decompress(packed, _INFLATED_BYTES))
            packed = inflated.unconsumed_tail
    return missing <= 0


def _png_metadata(encoded: bytes) -> Image.Image:
    """An image of one pixel with the metadata of a PNG, as Pillow decodes a PNG to read them."""
    kept = [chunk for kind, chunk in png_chunks(encoded) if kind in _PNG_METADATA]
    pixel = io.BytesIO()
    Image.new("L", (1, 1)).save(pixel, "PNG")
    header, rest = pixel.getvalue()[:_PNG_HEADER_BYTES], pixel.getvalue()[_PNG_HEADER_BYTES:]
    return Image.open(io.BytesIO(b"".join([header, *kept, rest])), formats=("PNG",))
