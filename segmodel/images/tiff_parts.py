"""Whether strips and tiles of a TIFF are all there, as far as its decoders would not say."""

from __future__ import annotations

import simplejpeg
from PIL import TiffImagePlugin

from segmodel.errors import InputError
from segmodel.images.headers import check_scans

_WIDTH, _HEIGHT, _SAMPLES, _PLANES = 256, 257, 277, 284
_STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_JPEG_TABLES, _BAND_AFTER_BAND = 347, 2
# Of others, such as fax codes, libtiff says no more than a line on stderr where they make no sense,
# and leaves what happens to be in memory.
_CHECKED = frozenset(
    {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd", "webp"}
)


def check_parts(image: TiffImagePlugin.TiffImageFile, encoded: bytes) -> None:
    """Refuse a TIFF some pixels of which would be black or what happens to be in memory.

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
    width, height = tags[_WIDTH], tags[_HEIGHT]
    tiled = _TILE_WIDTH in tags and _TILE_HEIGHT in tags
    across = tags[_TILE_WIDTH] if tiled else width
    down = tags[_TILE_HEIGHT] if tiled else tags.get(_ROWS_PER_STRIP) or height
    columns, rows = -(-width // across), -(-height // down)
    parts = columns * rows
    if tags.get(_PLANES) == _BAND_AFTER_BAND:
        parts *= tags.get(_SAMPLES, 1)
    offsets = tags.get(_TILE_OFFSETS) or tags.get(_STRIP_OFFSETS) or ()
    sizes = tags.get(_TILE_BYTES) or tags.get(_STRIP_BYTES) or ()
    if len(offsets) < parts or (compression == "jpeg" and len(sizes) < parts):
        raise InputError("truncated or corrupt TIFF: strips or tiles are missing")
    for number in range(parts if compression == "jpeg" else 0):
        least = down if tiled else min(down, height - number // columns % rows * down)
        first, tables = offsets[number], tags.get(_JPEG_TABLES, b"")
        part = encoded[first : first + sizes[number]]
        _check_jpeg(tables[:-2] + part[2:] if tables else part, across, range(least, down + 1))


def _check_jpeg(encoded: bytes, across: int, down: range) -> None:
    """Refuse a strip or tile that is no whole JPEG.

    Args:
        encoded: The JPEG with the tables that all share.
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
        check_scans(encoded)
        inks = space in ("CMYK", "YCCK")
        simplejpeg.decode_jpeg(encoded, "CMYK" if inks else "GRAY", strict=True)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"truncated or corrupt JPEG in a TIFF: {error}") from error
