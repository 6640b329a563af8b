"""Encoded images as Pillow images: opened by their header, loaded and checked to the last byte."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageFile
from PIL import TiffImagePlugin as Tiff

from segmodel.errors import InputError
from segmodel.images.headers import (
    PNG_SIGNATURE_BYTES,
    check_jpeg_scans,
    check_tiff_parts,
    has_duplicate_tag,
    png_chunks,
    webp_size,
)

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
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
_SIDEWAYS = (5, 6, 7, 8)
_SIGNED = 2  # Of the tag SampleFormat.
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


def open_image(encoded: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """An encoded image, opened by its header; its pixels are not decoded.

    Args:
        encoded: Content of the file.
        max_pixels: Most pixels that it may have.

    Raises:
        InputError: If it is no image, or has too many pixels.
    """
    if not encoded:
        raise InputError("empty file")
    # `Image.open` would apply Pillow's own limit of pixels, which all of a process shares.
    Image.init()
    for name in _FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is not None and accepts(encoded[:16]) is True:
            break
    else:
        raise InputError("not a JPEG, PNG, WebP or TIFF image")
    stated = webp_size(encoded) if name == "WEBP" else None
    if stated is not None:
        _check_pixels(stated, max_pixels)
    try:
        image = factory(io.BytesIO(encoded), "")
    except MemoryError:
        raise
    except Exception as error:
        if stated is not None:
            # Without memory for its two canvases, libwebp says no more than of a broken file.
            np.empty((2, *stated, 4), np.uint8)
        raise InputError(f"cannot be decoded: {error}") from error
    _check_pixels(image.size, max_pixels)
    if isinstance(image, Tiff.TiffImageFile):
        sides = [image.tag_v2.get(tag, 1) for tag in (Tiff.TILEWIDTH, Tiff.TILELENGTH)]
        # A tile is decoded whole, however little of it the image covers.
        if has_duplicate_tag(encoded) or not all(isinstance(side, int) for side in sides):
            raise InputError("truncated or corrupt TIFF: its header contradicts itself")
        if math.prod(sides) > max_pixels:
            raise InputError(
                f"the TIFF has tiles of {sides[0]}x{sides[1]} pixels, above the limit of "
                f"{max_pixels}"
            )
    return image


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise InputError(
            f"{width}x{height} pixels exceed the limit of {max_pixels}: raise --max_pixels (and "
            f"--memory) if it is no decompression bomb"
        )


def oriented_size(image: Image.Image, encoded: bytes) -> tuple[int, int]:
    """Height and width of an image once its EXIF orientation is applied, without decoding it.

    Args:
        image: Image from `open_image`.
        encoded: Content of the file.

    Raises:
        InputError: If the metadata with the orientation are broken.
    """
    if isinstance(image, Tiff.TiffImageFile):
        return image.height, image.width  # Pillow states the size of the upright image.
    try:
        if image.format != "PNG":
            sideways = _orientation(image) in _SIDEWAYS
        elif any(mark in encoded for mark in _PNG_ORIENTATIONS):
            sideways = _orientation(_png_metadata(encoded)) in _SIDEWAYS
        else:
            sideways = False
    except (InputError, MemoryError):
        raise
    except Exception as error:
        # For a broken EXIF block, Pillow raises errors of many kinds.
        raise InputError(f"cannot be decoded: {error}") from error
    return (image.width, image.height) if sideways else (image.height, image.width)


def is_plain_jpeg(image: Image.Image) -> bool:
    """Whether an image is a colour JPEG that stands upright, as most images are."""
    # For a PNG, Pillow would decode all pixels to find its EXIF block.
    plain = image.format == "JPEG" and image.mode == "RGB"
    return plain and _orientation(image) not in _TRANSPOSITIONS


def has_unmarked_band(image: Image.Image) -> bool:
    """Whether an image is a TIFF with a fourth band, not marked as alpha, which Pillow drops."""
    if not isinstance(image, Tiff.TiffImageFile):
        return False
    return image.mode == "RGB" and image.tag_v2.get(Tiff.SAMPLESPERPIXEL, 3) > 3


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
            raise InputError(f"the header says {image.size}, decoded are {(width, height)}")
        values: np.ndarray = simplejpeg.decode_jpeg(encoded, _JPEG_SPACES[image.mode], strict=True)
    except InputError:
        raise
    except ValueError as error:
        if "Insufficient memory" in str(error):
            raise MemoryError(str(error)) from error
        raise InputError(f"truncated or corrupt JPEG: {error}") from error
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
    if isinstance(image, Tiff.TiffImageFile):
        _check_tiff_samples(image)
        check_tiff_parts(image, encoded)
    image.load()
    if image.format == "PNG" and not _has_last_row(image) and not _has_all_rows(encoded):
        raise InputError("truncated or corrupt PNG: rows are missing")
    return image


def _check_tiff_samples(image: Tiff.TiffImageFile) -> None:
    """Refuse samples that Pillow would misread without an error."""
    tags = image.tag_v2
    depth, kind = max(tags.get(Tiff.BITSPERSAMPLE, (1,))), max(tags.get(Tiff.SAMPLEFORMAT, (1,)))
    several = tags.get(Tiff.SAMPLESPERPIXEL, 1) > 1
    unsupported = {
        f"{depth} bits a sample": 8 < depth < 16,
        "8 bits a sample with a sign": depth == 8 and kind == _SIGNED,
        "16 bits a sample, band after band": depth == 16
        and several
        and tags.get(Tiff.PLANAR_CONFIGURATION) == 2,
        "16 bits a sample in which white is 0": depth == 16
        and tags.get(Tiff.PHOTOMETRIC_INTERPRETATION) == 0,
    }
    found = [words for words, holds in unsupported.items() if holds]
    if found:
        raise InputError(
            f"the TIFF has {found[0]}, which is not supported: convert it, for example with "
            f"gdal_translate -ot Byte -scale"
        )


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
