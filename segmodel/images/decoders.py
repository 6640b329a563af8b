"""Encoded images as Pillow images: opened by their header, loaded and checked to the last byte."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, TiffImagePlugin

from segmodel.errors import InputError
from segmodel.images.headers import (
    PNG_SIGNATURE_BYTES,
    check_parts,
    check_scans,
    has_tag_twice,
    png_chunks,
    webp_size,
)

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
_JPEG_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_ORIENTATION = 0x0112  # EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLES, _TIFF_PLANES = 258, 262, 277, 284
_TIFF_SAMPLE_FORMAT, _SIGNED = 339, 2
_TIFF_TILE_SIDES = (322, 323)
_PNG_HEADER_BYTES = 33
_INFLATED_BYTES = 1 << 20
_PNG_FIELDS = struct.Struct(">IIBBBBB")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column, first row, step of columns, step of rows of each pass of an interlaced PNG.
_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip
# Where a PNG may say how it is to be turned, before or behind its pixels.
_PNG_TURNS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
_PNG_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
# The transparent value of a PNG is in the depth of the file, and Pillow's pixels have 8 bits.
_PNG_DEPTHS: dict[object, Callable[[int], int]] = {
    "1": lambda value: 255 if value else 0,
    "L;2": lambda value: value * 85,
    "L;4": lambda value: value * 17,
    "RGB;16B": lambda value: value >> 8,
}


def open_image(encoded: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """The image by its header.

    Raises:
        InputError: If it is none or has too many pixels.
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
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        sides = [image.tag_v2.get(tag, 1) for tag in _TIFF_TILE_SIDES]
        # A tile is decoded whole, however little of it the image covers.
        if has_tag_twice(encoded) or not all(isinstance(side, int) for side in sides):
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


def upright_size(image: Image.Image, encoded: bytes) -> tuple[int, int]:
    """Height and width once it is turned upright, without decoding it.

    Raises:
        InputError: If what says how it is to be turned is broken.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.height, image.width  # Pillow gives it as it is once it is turned.
    try:
        if image.format != "PNG":
            sideways = _orientation(image) in _SIDEWAYS
        elif any(mark in encoded for mark in _PNG_TURNS):
            sideways = _orientation(_png_notes(encoded)) in _SIDEWAYS
        else:
            sideways = False
    except (InputError, MemoryError):
        raise
    except Exception as error:
        # Of a broken EXIF block, Pillow raises whatever it stumbles over.
        raise InputError(f"cannot be decoded: {error}") from error
    return (image.width, image.height) if sideways else (image.height, image.width)


def is_plain_color(image: Image.Image) -> bool:
    """Whether it is a colour JPEG that stands upright: what most collections hold."""
    # Of a PNG, Pillow would decode all pixels to find its EXIF block.
    plain = image.format == "JPEG" and image.mode == "RGB"
    return plain and _orientation(image) not in _TURNS


def leaves_a_band_out(image: Image.Image) -> bool:
    """Whether it is a TIFF with a band beside its colours of which Pillow makes nothing."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    return image.mode == "RGB" and image.tag_v2.get(_TIFF_SAMPLES, 3) > 3


def load_upright(image: ImageFile.ImageFile, encoded: bytes) -> Image.Image:
    """The image with its pixels, as its EXIF orientation says, in the mode of the file.

    Raises:
        InputError: If pixels are missing or corrupt, as far as the format can tell.
        Exception: Whatever Pillow's decoders raise then.
    """
    loaded = _loaded(image, encoded)
    turn = _TURNS.get(_orientation(loaded))
    return loaded if turn is None else loaded.transpose(turn)


def jpeg_values(image: Image.Image, encoded: bytes) -> np.ndarray:
    """Values of a JPEG; an error where libjpeg warns, which Pillow hides.

    So does a picture that ends in the middle and got an end mark from someone: the rest is grey.
    """
    check_scans(encoded)
    try:
        height, width = simplejpeg.decode_jpeg_header(encoded)[:2]
        if (width, height) != image.size:
            raise InputError(f"the header says {image.size}, decoded are {(width, height)}")
        values = simplejpeg.decode_jpeg(encoded, _JPEG_SPACES[image.mode], strict=True)
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
    stated = image.getexif().get(_ORIENTATION)
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
        _fit_transparency(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiff_samples(image)
        check_parts(image, encoded)
    image.load()
    if image.format == "PNG" and not _ends_in_color(image) and not _is_filled(encoded):
        raise InputError("truncated or corrupt PNG: rows are missing")
    return image


def _check_tiff_samples(image: TiffImagePlugin.TiffImageFile) -> None:
    """Refuse samples that Pillow would read as what they are not, without a word."""
    tags = image.tag_v2
    depth, kind = max(tags.get(_TIFF_BITS, (1,))), max(tags.get(_TIFF_SAMPLE_FORMAT, (1,)))
    several = tags.get(_TIFF_SAMPLES, 1) > 1
    strange = {
        f"{depth} bits a sample": 8 < depth < 16,
        "8 bits a sample with a sign": depth == 8 and kind == _SIGNED,
        "16 bits a sample, band after band": depth == 16
        and several
        and tags.get(_TIFF_PLANES) == 2,
        "16 bits a sample in which white is 0": depth == 16 and tags.get(_TIFF_PHOTOMETRIC) == 0,
    }
    found = [words for words, holds in strange.items() if holds]
    if found:
        raise InputError(
            f"the TIFF has {found[0]}, which is not supported: convert it, for example with "
            f"gdal_translate -ot Byte -scale"
        )


def _fit_transparency(image: ImageFile.ImageFile) -> None:
    """Bring the transparent value of a PNG to the depth that its pixels will have."""
    convert = _PNG_DEPTHS.get(image.tile[0].args)
    value = image.info.get("transparency")
    if convert is not None and isinstance(value, int):
        image.info["transparency"] = convert(value)
    elif convert is not None and isinstance(value, tuple):
        image.info["transparency"] = tuple(map(convert, value))


def _ends_in_color(image: Image.Image) -> bool:
    """Whether something stands in the last row; Pillow leaves rows that are missing empty."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    return not image.info.get("interlace") and bool(np.asarray(last).any())


def _is_filled(encoded: bytes) -> bool:
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


def _png_notes(encoded: bytes) -> Image.Image:
    """An image of one pixel with the metadata of a PNG, for which Pillow would decode all of it."""
    kept = [chunk for kind, chunk in png_chunks(encoded) if kind in _PNG_NOTES]
    pixel = io.BytesIO()
    Image.new("L", (1, 1)).save(pixel, "PNG")
    header, rest = pixel.getvalue()[:_PNG_HEADER_BYTES], pixel.getvalue()[_PNG_HEADER_BYTES:]
    return Image.open(io.BytesIO(b"".join([header, *kept, rest])), formats=("PNG",))
