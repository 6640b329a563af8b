"""One GDAL VRT over all label maps of a run, so that a GIS shows them as one map."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Reversible
from dataclasses import dataclass
from functools import lru_cache
from typing import IO
from xml.sax.saxutils import escape

import numpy as np
from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError

from segmodel.errors import InputError
from segmodel.escaping import xml_path, xml_text
from segmodel.labels.classes import ClassTable

MAX_PX = 2**31 - 1  # GDAL counts rows and columns in 32 bits
ALIGNED_PX = 1e-4  # edges that are not further from a grid line lie on it
DATA_TYPES = {"uint8": "Byte", "uint16": "UInt16"}


@dataclass(frozen=True)
class Piece:
    """One label map of a mosaic.

    Attributes:
        path: File, relative to the VRT.
        height, width: Rows and columns.
        transform: Pixel (column, row) to CRS coordinates, easting or longitude first.
        crs_wkt: The CRS as WKT; empty if there is none.
        block_px: Side of the tiles of the file.
    """

    path: str
    height: int
    width: int
    transform: Affine
    crs_wkt: str
    block_px: int

    @property
    def is_north_up(self) -> bool:
        """Whether columns go east and rows south, as the sources of a VRT have to."""
        a, b, _, d, e, _ = tuple(self.transform)[:6]
        return all(map(math.isfinite, self.transform)) and a > 0 == b == d > e

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """West, east, north and south edge in CRS units; of a north-up piece."""
        step_x, _, west, _, step_y, north = tuple(self.transform)[:6]
        return west, west + step_x * self.width, north, north + step_y * self.height


@dataclass(frozen=True)
class _Frame:
    """The grid of a mosaic: origin and pixel size in CRS units, rows and columns."""

    west: float
    north: float
    step_x: float
    step_y: float
    height: int
    width: int

    def place(self, piece: Piece) -> tuple[float, float, float, float]:
        """Column, row, width and height of a piece in pixels of the mosaic."""
        west, east, north, south = piece.edges
        column, row = (west - self.west) / self.step_x, (self.north - north) / self.step_y
        width, height = (east - west) / self.step_x, (north - south) / self.step_y
        return _tidy(column), _tidy(row), _tidy(width), _tidy(height)

    @property
    def fits(self) -> bool:
        """Whether GDAL can count the rows and columns."""
        return max(self.height, self.width) <= MAX_PX


class _Extent:
    """The union of the extents of pieces that are north-up and of one CRS, one after another."""

    def __init__(self, first: Piece) -> None:
        self._first = first.transform
        self._steps = self._first.a, -self._first.e
        self._edges = first.edges

    def add(self, piece: Piece) -> None:
        """Add a piece; the first one may be added again."""
        (step_x, step_y), (west, east, north, south) = self._steps, piece.edges
        self._steps = min(step_x, piece.transform.a), min(step_y, -piece.transform.e)
        before = self._edges
        self._edges = (
            min(before[0], west),
            max(before[1], east),
            max(before[2], north),
            min(before[3], south),
        )

    def frame(self) -> _Frame:
        """The finest resolution, the union of all extents, aligned to the first piece."""
        (step_x, step_y), first = self._steps, self._first
        west, east, north, south = self._edges
        left = math.floor((west - first.c) / step_x + ALIGNED_PX)
        right = math.ceil((east - first.c) / step_x - ALIGNED_PX)
        top = math.floor((first.f - north) / step_y + ALIGNED_PX)
        bottom = math.ceil((first.f - south) / step_y - ALIGNED_PX)
        west, north = first.c + left * step_x, first.f - top * step_y
        return _Frame(west, north, step_x, step_y, max(1, bottom - top), max(1, right - left))


def mosaics(pieces: Iterable[Piece]) -> dict[str, str]:
    """The VRTs that show the label maps of a run.

    Args:
        pieces: Label maps in order of priority, of any CRS and grid.

    Returns:
        File names by the name of the CRS, see `crs_name`: `labels.vrt` if all are of one CRS,
        otherwise `labels-EPSG-32633.vrt` and so on, with the first digits of SHA-256 of the WKT in
        place of the code where the CRS has none. No VRT can hold pieces that are rotated, sheared
        or south-up, those without a CRS, and all of a CRS whose mosaic has 2^31 rows or columns.
    """
    held = [name for name, extent in _extents(pieces).items() if extent.frame().fits]
    if len(held) == 1:
        return {held[0]: "labels.vrt"}
    return {name: f"labels-{name}.vrt" for name in held}


def _extents(pieces: Iterable[Piece]) -> dict[str, _Extent]:
    """Extents by the name of the CRS; pieces that no VRT can hold are left out."""
    found: dict[str, _Extent] = {}
    for piece in pieces:
        if piece.is_north_up and (name := crs_name(piece.crs_wkt)):
            found.setdefault(name, _Extent(piece)).add(piece)
    return found


def write_mosaic(stream: IO[str], pieces: Reversible[Piece], classes: ClassTable) -> None:
    """Write a VRT with palette, class names and nodata; no piece is opened.

    Args:
        stream: Text, UTF-8.
        pieces: Label maps of one CRS, north-up, in order of priority: where several have a label,
            that of the first one shows; where one has nodata, the next one does. They are read
            more than once, so that they need not be in memory.
        classes: Type, palette, names and nodata of all label maps.

    Raises:
        InputError: If the pieces are not those of one mosaic, see `mosaics`.

    Source: GDAL's VRT driver, https://gdal.org/en/stable/drivers/raster/vrt.html.
    """
    extents, first = _extents(pieces), next(iter(pieces), None)
    frames = {name: extent.frame() for name, extent in extents.items()}
    held = [name for name, frame in frames.items() if frame.fits]
    left = [p.path for p in pieces if not p.is_north_up or crs_name(p.crs_wkt) not in held]
    if len(held) != 1 or left or first is None:
        raise InputError(
            f"a mosaic must be of north-up label maps of one CRS, with fewer than 2^31 rows and "
            f"columns in all, got {len(held)} mosaics, and {left} that fit in none; write each "
            f"mosaic that mosaics() gives"
        )
    frame = frames[held[0]]
    kind = DATA_TYPES[classes.label_dtype.name]
    transform = (frame.west, frame.step_x, 0.0, frame.north, 0.0, -frame.step_y)
    stream.write(
        f'<VRTDataset rasterXSize="{frame.width}" rasterYSize="{frame.height}">\n'
        f"  <SRS>{escape(first.crs_wkt)}</SRS>\n"
        f"  <GeoTransform>{', '.join(map(repr, transform))}</GeoTransform>\n"
        f'  <VRTRasterBand dataType="{kind}" band="1">\n'
    )
    stream.writelines(_legend(classes))
    # Later sources overwrite earlier ones.
    stream.writelines(_source(piece, frame, classes) for piece in reversed(pieces))
    stream.write("  </VRTRasterBand>\n</VRTDataset>\n")


def _legend(classes: ClassTable) -> Iterator[str]:
    """Description, nodata, palette and class names of the band."""
    yield "    <Description>label</Description>\n"
    yield f"    <NoDataValue>{classes.nodata}</NoDataValue>\n"
    if classes.label_dtype == np.uint8:
        yield "    <ColorInterp>Palette</ColorInterp>\n    <ColorTable>\n"
        for label, (red, green, blue) in enumerate(classes.palette().tolist()):
            alpha = 0 if label == classes.nodata else 255
            yield f'      <Entry c1="{red}" c2="{green}" c3="{blue}" c4="{alpha}"/>\n'
        yield "    </ColorTable>\n"
    yield "    <CategoryNames>\n"
    known = dict(zip(classes.ids, classes.names, strict=True))
    for label in range(max(known) + 1):
        yield f"      <Category>{xml_text(known.get(label, ''))}</Category>\n"
    yield "    </CategoryNames>\n"


def _source(piece: Piece, frame: _Frame, classes: ClassTable) -> str:
    """One label map; with its properties, so that GDAL opens the file only to read it."""
    column, row, width, height = frame.place(piece)
    kind = DATA_TYPES[classes.label_dtype.name]
    return (
        "    <ComplexSource>\n"
        f'      <SourceFilename relativeToVRT="1">{xml_path(piece.path)}</SourceFilename>\n'
        "      <SourceBand>1</SourceBand>\n"
        f'      <SourceProperties RasterXSize="{piece.width}" RasterYSize="{piece.height}"'
        f' DataType="{kind}" BlockXSize="{piece.block_px}" BlockYSize="{piece.block_px}"/>\n'
        f'      <SrcRect xOff="0" yOff="0" xSize="{piece.width}" ySize="{piece.height}"/>\n'
        f'      <DstRect xOff="{column!r}" yOff="{row!r}" xSize="{width!r}" ySize="{height!r}"/>\n'
        f"      <NODATA>{classes.nodata}</NODATA>\n"
        "    </ComplexSource>\n"
    )


def _tidy(pixels: float) -> float:
    """A whole number where only rounding is in the way of one."""
    whole = round(pixels)
    return float(whole if abs(pixels - whole) <= ALIGNED_PX else pixels)


@lru_cache(maxsize=1024)
def crs_name(wkt: str) -> str:
    """Short name of a CRS for a file name, `EPSG-32633`; empty if it cannot be read.

    >>> crs_name(CRS("EPSG:32633").to_wkt())
    'EPSG-32633'
    """
    try:
        crs = CRS.from_wkt(wkt)
    except CRSError:
        return ""
    code = crs.to_epsg(min_confidence=100)
    return f"EPSG-{code}" if code else hashlib.sha256(wkt.encode()).hexdigest()[:8]
