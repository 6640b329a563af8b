"""TIFFs without a place as images: what their tags promise is checked, GDAL reads their pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import simplejpeg
from PIL import ExifTags
from PIL import TiffImagePlugin as Tiff

from segmodel.errors import ContractError, FailureCode, InputError
from segmodel.images.jpeg import check_jpeg_scans
from segmodel.images.limits import MAX_PARTS, check_pixels, too_many_parts
from segmodel.images.orientation import SIDEWAYS, upright
from segmodel.images.tags import read_tags
from segmodel.rasters.bands import ModelBands
from segmodel.rasters.memory import check_mask, image_in_memory
from segmodel.rasters.reader import RasterHandle, RasterReader
from segmodel.tiling.raster import Pixels

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BAND_AFTER_BAND = 2  # Of the tag PlanarConfiguration.
_PALETTE, _CMYK = 3, 5  # Of the tag PhotometricInterpretation.
# Of that tag: grey, RGB, palette, CMYK, YCbCr and kinds of Lab.
_MIN_BANDS: dict[int | None, int] = {0: 1, 1: 1, 2: 3, 3: 1, 5: 1, 6: 3, 8: 3, 9: 3, 10: 3}
_MAX_BITS = 128  # Of a complex number.
_MAX_BYTES_PER_PIXEL = 8  # Samples of 16 bits in four bands.
_MORE_BYTES = 1 << 12  # That a strip or tile may have beside twice those of its pixels.
# Where others, such as fax codes, are damaged, libtiff prints a line and leaves what happens to be
# in memory.
_CHECKED = frozenset(
    {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd", "webp"}
)
# Tags without which pixels are read as what they are not.
_NEEDED = frozenset(
    {Tiff.IMAGEWIDTH, Tiff.IMAGELENGTH, Tiff.BITSPERSAMPLE, Tiff.COMPRESSION}
    | {Tiff.PHOTOMETRIC_INTERPRETATION, Tiff.STRIPOFFSETS, Tiff.SAMPLESPERPIXEL}
    | {Tiff.ROWSPERSTRIP, Tiff.STRIPBYTECOUNTS, Tiff.PLANAR_CONFIGURATION, Tiff.COLORMAP}
    | {Tiff.TILEWIDTH, Tiff.TILELENGTH, Tiff.TILEOFFSETS, Tiff.TILEBYTECOUNTS, Tiff.EXTRASAMPLES}
    | {Tiff.SAMPLEFORMAT, Tiff.JPEGTABLES, Tiff.PREDICTOR, ExifTags.Base.Orientation}
)


def is_tiff(name: str) -> bool:
    """Whether a name is that of a TIFF.

    >>> is_tiff("a/B.TIF"), is_tiff("a.png")
    (True, False)
    """
    return name.lower().endswith((".tif", ".tiff"))


def begins_as_tiff(encoded: bytes) -> bool:
    """Whether a file begins as a TIFF does."""
    return encoded.startswith(TIFF_MARKS)


class TiffImage:
    """An encoded TIFF, of which the first picture counts, with the tags of its header.

    Args:
        encoded: Content of the file; its beginning suffices for the size.
        max_pixels: Most pixels that it may have.

    Attributes:
        height: Rows, once it is turned as its orientation says.
        width: Columns, once it is turned.
        held_bytes: Memory that decoding takes.

    Raises:
        InputError: If its header is broken, or states too many pixels or bands.
    """

    def __init__(self, encoded: bytes, max_pixels: int) -> None:
        self._encoded = encoded
        try:
            self._tags = read_tags(encoded, _NEEDED)
        except ValueError as error:
            raise _corrupt(f"it cannot be decoded, as {error}") from error
        stored = self._number(Tiff.IMAGELENGTH), self._number(Tiff.IMAGEWIDTH)
        self._orientation = self._tags.first(ExifTags.Base.Orientation) or 1
        self._stored = stored
        self.height, self.width = stored[::-1] if self._orientation in SIDEWAYS else stored
        check_pixels((self.width, self.height), max_pixels)
        sides = [self._number(tag, 1) for tag in (Tiff.TILEWIDTH, Tiff.TILELENGTH)]
        if len(np.unique(self._tags.stated)) < len(self._tags.stated):
            raise _corrupt("its header contradicts itself")
        # A tile is decoded whole, however little of it the image covers.
        if math.prod(sides) > max_pixels:
            raise InputError(
                f"the TIFF has tiles of {sides[0]}x{sides[1]} pixels, above the limit of "
                f"{max_pixels}: write it with smaller ones (gdal_translate -co TILED=YES)",
                code=FailureCode.TOO_MANY_PIXELS,
            )
        bands = self._number(Tiff.SAMPLESPERPIXEL, 1)
        pixel_bytes = bands * -(-self._bits // 8)
        if stored[0] * stored[1] * pixel_bytes > _MAX_BYTES_PER_PIXEL * max_pixels:
            raise InputError(
                f"{bands} bands of {self.width}x{self.height} pixels are more than --max_pixels "
                f"{max_pixels} allows for: write those that the model takes (gdal_translate -b)",
                code=FailureCode.TOO_MANY_PIXELS,
            )
        # Samples as GDAL keeps and as it gives them; inks, and colours that are made of them.
        least = 16 if self._is_cmyk else 12
        self.held_bytes = stored[0] * stored[1] * max(least, 2 * pixel_bytes + 2)

    def pixels(
        self,
        bands: int,
        value_range: tuple[float, float],
        beside: bytes | None,
        names: Sequence[str],
    ) -> tuple[Pixels, str]:
        """Pixels of all bands that the model takes, or that it can be given something made of.

        Args:
            bands: Number of the model's bands: 1, 3 or 4.
            value_range: Least and greatest raw value of the model, which takes 8 bits a sample.
            beside: Content of the `.msk` file, or None where there is none.
            names: Names of the model's bands; empty for any.

        Returns:
            Values `(height, width, n)` uint8, turned upright, and their mode as Pillow names it:
            empty if they are the bands of the model, else what these are made of.

        Raises:
            InputError: If it is damaged, or has other bands or samples.
        """
        with self.opened(beside, raw=self._is_cmyk) as handle:
            header = handle.header()
            if beside is not None:
                check_mask(header, beside)
            try:
                taken = ModelBands.as_image(header, names, bands, value_range, self._bits)
            except ContractError as error:
                raise InputError(error.text, code=error.code) from error
            found = RasterReader(handle, taken).read(header.grid.window)
        valid = None if found.valid is None else self.upright(found.valid)
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[taken.count] if taken.count != bands else ""
        is_ink = self._is_cmyk and taken.count == 4
        return Pixels(self.upright(found.values), valid), "CMYK" if is_ink else mode

    def samples(self) -> str:
        """Number and types of its bands, for an error.

        Raises:
            InputError: As `opened` does.
        """
        with self.opened(None) as handle:
            header = handle.header()
        bands = [*header.bands, *([header.alpha_band] if header.alpha_band else [])]
        return f"{len(bands)} of {', '.join(sorted({band.dtype for band in bands}))}"

    def check_dtype(self, dtype: str) -> None:
        """Refuse samples of which a model of another type than uint8 would get the high byte.

        Raises:
            InputError: Says what to do.
        """
        if dtype != "uint8" and self._bits > 8:
            raise InputError(
                f"dtype: the model takes {dtype}, and would be given the high byte of {self._bits} "
                f"bits: give it the TIFF as a file, in a new run",
                code=FailureCode.WRONG_DTYPE,
            )

    @contextmanager
    def opened(self, beside: bytes | None, raw: bool = False) -> Iterator[RasterHandle]:
        """The handle of the TIFF, while the block runs.

        Args:
            beside: Content of the `.msk` file, or None where there is none.
            raw: Whether inks are read as they are stored; else GDAL makes colours of them.

        Raises:
            InputError: If GDAL would read something else than pixels for a part of it, or cannot.
        """
        self._check_parts()
        with image_in_memory(self._encoded, beside, raw) as handle:
            yield handle

    def upright(self, array: np.ndarray) -> np.ndarray:
        """An array of the whole image as it is stored, turned as its EXIF orientation says.

        Args:
            array: `(height, width)` or `(height, width, bands)`.
        """
        return upright(array, self._orientation)

    @property
    def _is_cmyk(self) -> bool:
        return self._photometric == _CMYK and self._number(Tiff.SAMPLESPERPIXEL, 1) >= 4

    @property
    def _photometric(self) -> int | None:
        """What samples stand for."""
        return self._tags.first(Tiff.PHOTOMETRIC_INTERPRETATION)

    @property
    def _bits(self) -> int:
        """Bits of a sample."""
        stated = self._numbers(Tiff.BITSPERSAMPLE)
        bits = int(stated.max()) if len(stated) else 1
        if not 0 < bits <= _MAX_BITS:
            raise _corrupt("its header contradicts itself")
        return bits

    def _number(self, tag: int, default: int | None = None) -> int:
        """The whole number above 0 of a tag."""
        found = self._tags.first(tag) if tag in self._tags.values else default
        if found is None or found < 1:
            is_there = tag in self._tags.values
            raise _corrupt("its header contradicts itself" if is_there else "no size")
        return found

    def _numbers(self, tag: int) -> np.ndarray:
        """The whole numbers of a tag; none if it is not there."""
        found = self._tags.values.get(tag, np.empty(0, np.int64))
        if isinstance(found, bytes):
            raise _corrupt("its header contradicts itself")
        return found

    def _checked_compression(self) -> str:
        """Name of the compression; refuses a header that does not say what samples are.

        Raises:
            InputError: If it is incomplete, or the compression is one in which damage goes
                unnoticed.
        """
        lost = set(_NEEDED.intersection(self._tags.stated.tolist())) - self._tags.values.keys()
        if self._tags.is_cut or lost:
            raise _corrupt("its header is cut off")
        bands, color = self._number(Tiff.SAMPLESPERPIXEL, 1), self._photometric
        depths, kinds = (len(self._numbers(tag)) for tag in (Tiff.BITSPERSAMPLE, Tiff.SAMPLEFORMAT))
        # One bit a sample need not be stated.
        fit = depths in (1, bands) or (depths, bands) == (0, 1)
        has_colors = color != _PALETTE or Tiff.COLORMAP in self._tags.values
        is_said = fit and kinds in (0, 1, bands) and has_colors
        if not is_said or bands < _MIN_BANDS.get(color, bands + 1):
            raise _corrupt("its header does not say what its samples stand for")
        number = self._number(Tiff.COMPRESSION, 1)
        compression = Tiff.COMPRESSION_INFO.get(number, str(number))
        if compression not in _CHECKED and compression != "jpeg":
            raise InputError(
                f"the TIFF has compression {compression}, in which damage goes unnoticed: convert "
                f"it, for example with tiffcp -c lzw",
                code=FailureCode.UNSUPPORTED,
            )
        return compression

    def _check_parts(self) -> None:
        """Refuse a TIFF of which some pixels would be black, or bytes that happen to be in memory.

        Raises:
            InputError: If a strip or tile is missing, a JPEG in it is damaged, or its header as
                `_checked_compression` says.
        """
        compression, bands = self._checked_compression(), self._number(Tiff.SAMPLESPERPIXEL, 1)
        height, width = self._stored
        tiled = {Tiff.TILEWIDTH, Tiff.TILELENGTH} <= self._tags.values.keys()
        across = self._number(Tiff.TILEWIDTH) if tiled else width
        strip = min(self._number(Tiff.ROWSPERSTRIP, height), height)
        down = self._number(Tiff.TILELENGTH) if tiled else strip
        columns, rows = -(-width // across), -(-height // down)
        parts = columns * rows
        if self._tags.first(Tiff.PLANAR_CONFIGURATION) == _BAND_AFTER_BAND:
            parts *= bands
        if parts > MAX_PARTS:
            raise too_many_parts("TIFF has strips or tiles", MAX_PARTS)
        places = (Tiff.TILEOFFSETS, Tiff.TILEBYTECOUNTS)
        if Tiff.TILEOFFSETS not in self._tags.values:
            places = (Tiff.STRIPOFFSETS, Tiff.STRIPBYTECOUNTS)
        offsets, sizes = (self._numbers(tag)[:parts] for tag in places)
        if len(offsets) < parts or len(sizes) < parts:
            raise _corrupt("strips or tiles are missing")
        if not offsets.all() or not sizes.all():
            raise InputError(
                "the TIFF is sparse: strips or tiles are left out; write it whole with "
                "gdal_translate",
                code=FailureCode.UNSUPPORTED,
            )
        # Any number of parts may share the same bytes, and each is read by itself.
        plain = parts * across * down * bands * -(-self._bits // 8)
        if sizes.sum(dtype=np.float64) > 2 * plain + _MORE_BYTES * (parts + 1):
            raise _corrupt("its strips or tiles have more bytes than pixels")
        if compression == "jpeg":
            for part in range(parts):
                least = down if tiled else min(down, height - part // columns % rows * down)
                content = self._encoded[int(offsets[part]) : int(offsets[part]) + int(sizes[part])]
                self._check_jpeg(content, across, range(least, down + 1), parts)

    def _check_jpeg(self, content: bytes, across: int, down: range, parts: int) -> None:
        """Refuse a strip or tile that is no whole JPEG.

        Args:
            content: JPEG without the tables that all strips or tiles share.
            across: Width that it must have.
            down: Heights that it may have; the last strip may be as high as the others.
            parts: Number of strips or tiles.
        """
        tables = self._tags.values.get(Tiff.JPEGTABLES, b"")
        if not isinstance(tables, bytes):
            raise _corrupt("its header contradicts itself")
        encoded = tables[:-2] + content[2:] if tables else content
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(encoded)
            if width != across or height not in down:
                raise _corrupt(
                    f"a JPEG in it has {width}x{height} pixels, {across}x{down[0]} are stated"
                )
            check_jpeg_scans(encoded, parts * width * height)
            target = "CMYK" if space in ("CMYK", "YCCK") else "GRAY"
            simplejpeg.decode_jpeg(encoded, target, strict=True)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(
                f"truncated or corrupt JPEG in a TIFF: {error}", code=FailureCode.CORRUPT_IMAGE
            ) from error


def _corrupt(what: str) -> InputError:
    return InputError(f"truncated or corrupt TIFF: {what}", code=FailureCode.CORRUPT_IMAGE)
