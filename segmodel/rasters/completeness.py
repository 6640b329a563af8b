"""Whether the files of a raster hold all the pixels that its header promises.

GDAL reads the end of many formats without compression as zeros where a file was cut short. So what
a header says is held against the sizes of files, and for formats that GDAL refuses if it
reads line by line, the first and the last line of each band are read.
"""

from __future__ import annotations

import os
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import rasterio
from rasterio.enums import Interleaving
from rasterio.windows import Window as RasterioWindow

from segmodel.rasters.opening import GDAL_ERRORS, Opener
from segmodel.tiling.windows import Window

SHORTER = "the file is shorter than its header says"
MISSING = "there is no such file"
# What is no path in names of GDAL: addresses, file systems of its own, subdatasets, texts.
NO_PATH = re.compile(r"(?i)\s*(?:/vsi|[<{]|[a-z][\w+.-]*:)")
# Files that GDAL does not read beyond their end, so that a VRT of many need not open each.
_CHECKED_BY_GDAL = (".tif", ".tiff", ".jp2", ".j2k", ".webp")
# VRTs that name other VRTs.
_MAX_DEPTH = 8
_MAX_VRT_BYTES = 1 << 24
# Of a name, which a VRT may have of any length.
_SHOWN_CHARACTERS = 255
_PAGED = {"GPKG", "MBTiles", "Rasterlite", "SQLite"}
# What the last bytes of a file hold: GDAL does not miss it in images of 12 bits, and small ones.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_END_BYTES = 1 << 16
# Where a line is no piece of the file, so that to read one takes more than that.
_NOT_BY_LINES = {"BIGGIF", "GIF", "GRIB", "GTiff", "HDF5Image", "JPEG", "PNG", "VRT", "netCDF"}
_ILWIS_TYPES = {b"Byte": 1, b"Int": 2, b"Long": 4, b"Float": 4, b"Real": 8}
# Bytes of a value by the number of its type.
_NETCDF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_TEXT_GRIDS = {"AAIGrid", "GRASSASCIIGrid", "ISG"}
# Of an error of GDAL at the end of a raw raster.
_PAST_END = re.compile(r"Failed to (?:read|seek to) scanline|Failed to read block|Read failed")


T = TypeVar("T")


@dataclass(frozen=True)
class _Raster:
    """A raster whose files are looked at.

    Args:
        source: Open dataset.
        uri: Location of the raster.
        opener: Opener of rasters there, which knows the sizes of files.
        depth: How many VRTs name it through each other.
    """

    source: rasterio.DatasetReader
    uri: str
    opener: Opener
    depth: int = 0

    @property
    def plain_bytes(self) -> int:
        """Bytes of all samples without compression."""
        pixel = sum(np.dtype(dtype).itemsize for dtype in self.source.dtypes)
        return int(pixel * self.source.width * self.source.height)

    def needs(self, count: int) -> str | None:
        """What is wrong where the file has fewer bytes than so many."""
        size = self.opener.size(self.uri)
        return None if size is None else _shortage(count, size)


def shortage_of(source: rasterio.DatasetReader, uri: str, opener: Opener) -> str | None:
    """What is wrong with a raster whose files end before its pixels do.

    Args:
        source: Open dataset.
        uri: Location of the raster.
        opener: Opener of rasters there, which knows the sizes of files.

    Returns:
        A reason, or None where all that the header promises is there.

    Raises:
        TransientError: If it may be read later.
    """
    if source.driver not in _CHECKS and not _is_by_lines(source):
        return None
    # A handle of its own: GDAL keeps for each whether it reads by lines, which is slow for parts.
    with opener.env(uri, GDAL_ONE_BIG_READ="NO"):
        return _shortage_at(uri, opener, 0)


def last_block(source: rasterio.DatasetReader) -> Window | None:
    """The block of a GeoTIFF that stands last in its file; None for other formats.

    Args:
        source: Open dataset.
    """
    if source.driver != "GTiff":
        return None
    bands = (1,) if source.interleaving == Interleaving.pixel else source.indexes
    places = (
        (int(offset), window)
        for band in bands
        for (row, column), window in source.block_windows(band)
        if (offset := source.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band))
    )
    _, last = max(places, key=lambda place: place[0], default=(0, None))
    if last is None:
        return None
    return Window(last.row_off, last.col_off, last.height, last.width)


def _shortage_at(uri: str, opener: Opener, depth: int) -> str | None:
    # What cannot be opened is an error once its pixels are read.
    with suppress(*GDAL_ERRORS, OSError), opener.open(uri) as source:
        return _shortage_of(_Raster(source, uri, opener, depth))
    return None


def _is_by_lines(source: rasterio.DatasetReader) -> bool:
    """Whether to read a line shows whether it is there."""
    is_by_lines = all(shape == (1, source.width) for shape in source.block_shapes)
    return is_by_lines and source.driver not in _NOT_BY_LINES


def _shortage_of(raster: _Raster) -> str | None:
    check = _CHECKS.get(raster.source.driver)
    if check is not None:
        # A header that is no header of this kind is for GDAL to judge.
        with suppress(OSError, ValueError, struct.error, IndexError):
            if found := check(raster):
                return found
    return _probed_lines(raster.source) if _is_by_lines(raster.source) else None


def _probed_lines(source: rasterio.DatasetReader) -> str | None:
    """Read the first and the last line of each band: between them are all others."""
    for row in dict.fromkeys((source.height - 1, 0)):
        try:
            source.read(window=RasterioWindow(0, row, source.width, 1))
        except GDAL_ERRORS as error:
            innermost: BaseException = error
            while innermost.__cause__ is not None:
                innermost = innermost.__cause__
            return SHORTER if _PAST_END.search(f"{error} {innermost}") else None
    return None


def _check_envi(raster: _Raster) -> str | None:
    tags = raster.source.tags(ns="ENVI")
    if int(tags.get("file_compression", "0")):
        return None
    return raster.needs(int(tags.get("header_offset", "0")) + raster.plain_bytes)


def _check_pcidsk(raster: _Raster) -> str | None:
    """The file says how many blocks of 512 bytes it has (PCIDSK file format, file header)."""
    return raster.needs(int(raster.opener.read_bytes(raster.uri, 32)[16:32]) * 512)


def _check_pcraster(raster: _Raster) -> str | None:
    """Cells follow 256 bytes of headers; two bits of the representation are the size of a cell."""
    (representation,) = struct.unpack_from("<H", raster.opener.read_bytes(raster.uri, 68), 66)
    pixels = raster.source.height * raster.source.width
    return raster.needs(256 + pixels * (1 << (representation & 3)))


def _check_pages(raster: _Raster) -> str | None:
    """A database of SQLite says how many pages it has, if that count is as new as the rest."""
    start = raster.opener.read_bytes(raster.uri, 100)
    (page,) = struct.unpack_from(">H", start, 16)
    changes, pages = struct.unpack_from(">II", start, 24)
    (counted_at,) = struct.unpack_from(">I", start, 92)
    return raster.needs(pages * (65536 if page == 1 else page)) if changes == counted_at else None


def _check_ilwis(raster: _Raster) -> str | None:
    """Samples of a type that the header names are in a file beside it, from its first byte on."""
    stem, suffix = os.path.splitext(raster.uri)
    stored = raster.opener.size(f"{stem}.mp#") if suffix.lower() == ".mpr" else None
    kinds = re.findall(rb"(?m)^Type=(\w+)", raster.opener.read_bytes(raster.uri, 1 << 16))
    sizes = [_ILWIS_TYPES[kind] for kind in kinds if kind in _ILWIS_TYPES]
    if stored is None or len(sizes) != 1:
        return None
    return _shortage(raster.source.height * raster.source.width * sizes[0], stored)


def _check_end(raster: _Raster) -> str | None:
    """An image ends with a mark of its own, behind which there may be a little more."""
    size = raster.opener.size(raster.uri)
    if size is None:
        return None
    start = max(0, size - _END_BYTES)
    tail = raster.opener.read_bytes(raster.uri, size - start, start)
    return None if _ENDS[raster.source.driver] in tail else SHORTER


def _check_text(raster: _Raster) -> str | None:
    """Read all rows in turn: GDAL loops for ever where it is asked for one behind the end."""
    for row in range(raster.source.height):
        try:
            raster.source.read(1, window=RasterioWindow(0, row, raster.source.width, 1))
        except GDAL_ERRORS:
            return SHORTER
    return None


def _check_netcdf(raster: _Raster) -> str | None:
    """Classic files say where each variable begins; others are refused by their library."""
    path = netcdf_path(raster.uri)
    size = raster.opener.size(path)
    start = raster.opener.read_bytes(path, 1 << 20)
    if size is None or start[:3] != b"CDF":
        return None
    return _shortage(netcdf_bytes(start), size)


def netcdf_path(uri: str) -> str:
    """The file of an address of a variable.

    >>> netcdf_path('NETCDF:"a/b.nc":ndvi'), netcdf_path("a/b.nc")
    ('a/b.nc', 'a/b.nc')
    """
    found = re.fullmatch(r'NETCDF:(?:"([^"]+)"|([^"]+?))(?::[^:/\\]*)?', uri, re.IGNORECASE)
    return uri if found is None else found[1] or found[2]


def netcdf_bytes(start: bytes) -> int:
    """Bytes that a classic NetCDF file has at least.

    Args:
        start: Beginning of the file, with its whole header.

    Returns:
        End of the last value of any variable.

    Raises:
        struct.error: If the header does not end there.
        ValueError: If it is no header.

    Source: NetCDF Classic Format Specification, "The Classic Format in Detail".
    """
    header = _ClassicHeader(start)
    return max(header.ends(), default=0)


class _ClassicHeader:
    """Reads the header of a classic NetCDF file: versions 1, 2 and 5."""

    def __init__(self, start: bytes) -> None:
        self._bytes, self._place, self._version = start, 4, start[3]
        if self._version not in (1, 2, 5):
            raise ValueError("no classic NetCDF file")

    def ends(self) -> Iterator[int]:
        """Where the last value of each variable ends."""
        records = self._count()
        if records == (1 << (64 if self._version == 5 else 32)) - 1:
            records = 0
        lengths = self._list(self._dimension)
        self._list(self._attribute)
        variables = self._list(self._variable)
        is_record = [bool(of) and lengths[of[0]] == 0 for of, _, _ in variables]
        padded, exact = [], []
        for (of, size, _), recorded in zip(variables, is_record, strict=True):
            values = int(np.prod([lengths[i] for i in of[recorded:]], dtype=object)) if of else 1
            exact.append(values * size)
            padded.append(-(-values * size // 4) * 4)
        # One record variable alone has no padding between its records.
        alone = is_record.count(True) == 1
        step = sum(
            (real if alone else whole)
            for real, whole, recorded in zip(exact, padded, is_record, strict=True)
            if recorded
        )
        for (_, _, begin), size, recorded in zip(variables, exact, is_record, strict=True):
            if not recorded:
                yield begin + size
            elif records:
                yield begin + (records - 1) * step + size

    def _dimension(self) -> int:
        self._name()
        return self._count()

    def _attribute(self) -> None:
        self._name()
        size = _NETCDF_SIZES[self._int()]
        self._skip(self._count() * size)

    def _variable(self) -> tuple[list[int], int, int]:
        """Dimensions, bytes of a value, and where the variable begins."""
        self._name()
        of = [self._count() for _ in range(self._count())]
        self._list(self._attribute)
        size = _NETCDF_SIZES[self._int()]
        self._count()
        return of, size, self._read(">I" if self._version == 1 else ">Q")

    def _list(self, read: Callable[[], T]) -> list[T]:
        self._int()
        return [read() for _ in range(self._count())]

    def _name(self) -> None:
        self._skip(self._count())

    def _skip(self, count: int) -> None:
        self._place += -(-count // 4) * 4

    def _count(self) -> int:
        return self._read(">Q" if self._version == 5 else ">I")

    def _int(self) -> int:
        return self._read(">I")

    def _read(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._bytes, self._place)
        self._place += struct.calcsize(form)
        return int(value)


def _check_vrt(raster: _Raster) -> str | None:
    """Bands that are raw files by their offsets, and other sources by what they are."""
    if raster.depth == _MAX_DEPTH:
        return None
    text = raster.opener.read_bytes(raster.uri, _MAX_VRT_BYTES).decode("utf-8", "replace")
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return None
    raw = {}
    for band in root.iter("VRTRasterBand"):
        if band.get("subClass") == "VRTRawRasterBand":
            for element in band.iter("SourceFilename"):
                raw[element] = band
    seen = set()
    for name in ("SourceFilename", "SourceDataset"):
        for element in root.iter(name):
            path = _source_path(raster.opener.place(raster.uri), element)
            if path in seen:
                continue
            found = _shortage_of_source(raster, path, raw.get(element))
            if element not in raw:
                seen.add(path)
            if found is not None:
                return f"{os.path.basename(path)[:_SHOWN_CHARACTERS]}: {found}"
    return None


def _shortage_of_source(raster: _Raster, path: str, raw: ET.Element | None) -> str | None:
    """What is wrong with a source of a VRT.

    Args:
        raster: The VRT.
        path: Path or address of the source.
        raw: The band of the VRT, if the source is a raw file, else None.
    """
    if _is_missing(path):
        return MISSING
    if raw is not None:
        return _shortage_of_raw(raster, path, raw)
    if path.lower().endswith(_CHECKED_BY_GDAL):
        return None
    return _shortage_at(path, raster.opener, raster.depth + 1)


def _is_missing(path: str) -> bool:
    """Whether a path of this machine leads nowhere.

    GDAL says so at the first read only. At later ones, while any other VRT is open in the process,
    it fails without an error, and rasterio gives zeros.
    """
    return bool(path) and not NO_PATH.match(path) and not os.path.exists(path)


def _source_path(uri: str, element: ET.Element) -> str:
    path = (element.text or "").strip()
    relative = element.get("relativeToVRT") or element.get("relativetoVRT") or "0"
    return os.path.join(os.path.dirname(uri), path) if relative == "1" else path


def _shortage_of_raw(raster: _Raster, path: str, band: ET.Element) -> str | None:
    size = raster.opener.size(path)
    if size is None:
        return None
    source = raster.source
    sample = np.dtype(source.dtypes[int(band.get("band") or 1) - 1]).itemsize
    pixel = int(band.findtext("PixelOffset") or sample)
    line = int(band.findtext("LineOffset") or pixel * source.width)
    across, down = pixel * (source.width - 1), line * (source.height - 1)
    end = int(band.findtext("ImageOffset") or 0) + max(0, across) + max(0, down) + sample
    return _shortage(end, size)


def _shortage(needed: int, found: int) -> str | None:
    return f"{SHORTER}: {found} of {needed} bytes" if found < needed else None


_CHECKS: dict[str, Callable[[_Raster], str | None]] = {
    "ENVI": _check_envi,
    "PCIDSK": _check_pcidsk,
    "PCRaster": _check_pcraster,
    "ILWIS": _check_ilwis,
    "netCDF": _check_netcdf,
    "VRT": _check_vrt,
    **dict.fromkeys(_ENDS, _check_end),
    **dict.fromkeys(_PAGED, _check_pages),
    **dict.fromkeys(_TEXT_GRIDS, _check_text),
}
