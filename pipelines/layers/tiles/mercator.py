"""The square of the Web Mercator that web tiles divide, and where a label map lies in it.

Zoom 0 is one tile; each zoom halves the tiles of the one before. Where a map lies is told in shares
of the square: from its west edge, at the antimeridian, and from its north edge, at 85.05° N.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from rasterio.crs import CRS as RasterioCRS

from pipelines.geodesy.ellipsoid import wrap_near
from pipelines.layers.options import DEEPEST_ZOOM
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window

TILE_PX = 256
WORLD_M = 2 * math.pi * 6378137.0
# Latitude at which the Web Mercator is cut, so that it is a square.
MAX_LATITUDE = math.degrees(math.atan(math.sinh(math.pi)))
# Places along each side of a map at which it is looked up.
_PLACES = 17
# What lies between places goes beyond them by at most this share of the whole.
_BULGE = 1 / 16
# A pixel that is coarser by this share is the same pixel, and rounding is in the way.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Extent:
    """What a label map takes of the world square, at most.

    Args:
        west: Share of the width at its west edge, in 0..1.
        east: Share at its east edge; above 1 where it goes beyond the antimeridian.
        north: Share of the height at its north edge, in 0..1.
        south: Share at its south edge, in 0..1.
        step: Length of a pixel step of the map in the middle, as a share of the width.
        bounds: West, south, east and north of places on it in degrees; east is above 180 where it
            goes beyond the antimeridian, and all longitudes are between where it may hold a pole.
    """

    west: float
    east: float
    north: float
    south: float
    step: float
    bounds: tuple[float, float, float, float]

    @property
    def zoom(self) -> int:
        """First zoom whose pixels are not coarser than those of the map; `DEEPEST_ZOOM` at most."""
        halvings = -math.log2(self.step * (1 + _ROUNDING) * TILE_PX)
        return min(max(0, math.ceil(halvings)), DEEPEST_ZOOM)

    def windows(self, zoom: int) -> Iterator[Window]:
        """Rectangles of pixels of a zoom that it covers: two where it crosses the antimeridian."""
        side = TILE_PX << zoom
        top, bottom = math.floor(self.north * side), min(math.ceil(self.south * side), side)
        for turn in (0, 1):
            left = max(0, math.floor((self.west - turn) * side))
            right = min(math.ceil((self.east - turn) * side), side)
            if left < right and top < bottom:
                yield Window(top, left, bottom - top, right - left)


def latitude(share: float) -> float:
    """Latitude in degrees at a share of the height of the world square.

    >>> latitude(0.5), round(latitude(0), 4)
    (0.0, 85.0511)
    """
    return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * share))))


@lru_cache(DEEPEST_ZOOM + 1)
def world_grid(zoom: int) -> Grid:
    """All pixels of a zoom as one raster."""
    side = TILE_PX << zoom
    step, edge = WORLD_M / side, WORLD_M / 2
    place = Affine(step, 0.0, -edge, 0.0, -step, edge)
    return Grid(side, side, place, RasterioCRS.from_epsg(3857))


def extent_of(grid: Grid) -> Extent | None:
    """Where a label map lies; None if it is not on the Earth between 85.05° S and N.

    Args:
        grid: Size and place of the label map.
    """
    sides = (np.linspace(0, side, _PLACES) for side in (grid.width, grid.height))
    found = degrees_of(grid, *np.meshgrid(*sides))
    if found is None:
        return None
    lon, lat = found
    is_there = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90 + 1e-9)
    if not is_there.any():
        return None
    middle = lon[is_there][np.count_nonzero(is_there) // 2]
    lon = np.where(is_there, wrap_near(lon, middle, 360.0), np.nan)
    # At the poles the square would have no end: steps are measured on what it has.
    lat = np.where(is_there, np.clip(lat, -MAX_LATITUDE, MAX_LATITUDE), np.nan)
    x, y = lon / 360 + 0.5, 0.5 - np.arcsinh(np.tan(np.radians(lat))) / (2 * np.pi)
    steps = [_step(x, y, axis, side) for axis, side in ((0, grid.height), (1, grid.width))]
    if np.nanmin(y) >= 1 or np.nanmax(y) <= 0 or not min(steps) > 0:
        return None
    return _around(x, y, is_there.all(), min(steps))


def degrees_of(
    grid: Grid, columns: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Longitudes and latitudes of places in a raster; None if it is not on the Earth.

    Args:
        grid: Size and place of the raster.
        columns: Columns of places, where whole numbers are edges of pixels.
        rows: Rows of them.

    Returns:
        Degrees on WGS 84, infinite where the projection does not reach.
    """
    transformer = None if grid.crs is None else _to_degrees(grid.crs.to_wkt())
    if transformer is None:
        return None
    a, b, c, d, e, f = tuple(grid.transform)[:6]
    lon, lat = transformer.transform(a * columns + b * rows + c, d * columns + e * rows + f)
    return lon, lat


def _step(x: np.ndarray, y: np.ndarray, axis: int, pixels: int) -> float:
    """The usual length of a pixel step along an axis; NaN where places have no neighbours."""
    lengths = np.hypot(np.diff(x, axis=axis), np.diff(y, axis=axis))
    known = lengths[np.isfinite(lengths) & (lengths > 0)]
    return float(np.median(known)) * (_PLACES - 1) / pixels if known.size else math.nan


def _around(x: np.ndarray, y: np.ndarray, is_whole: bool, step: float) -> Extent:
    """The extent of places in a map.

    Args:
        x: Shares of the width; NaN where the map leaves its projection.
        y: Shares of the height.
        is_whole: Whether the map nowhere leaves its projection.
        step: Length of a pixel step.
    """
    (west, east), (north, south) = ((float(np.nanmin(at)), float(np.nanmax(at))) for at in (x, y))
    is_over = math.floor(west) != math.ceil(east) - 1
    is_around = not is_whole or (is_over and east - west > 0.5)
    left, right = (0.0, 1.0) if is_around else (west % 1, east - math.floor(west))
    bounds = left * 360 - 180, latitude(min(south, 1.0)), right * 360 - 180, latitude(max(north, 0))
    width, height = (east - west) * _BULGE, (south - north) * _BULGE
    west, east, north, south = west - width, east + width, north - height, south + height
    if not is_whole:
        west, east, north, south = 0.0, 1.0, 0.0, 1.0
    elif east - west > 0.5:
        # It may hold a pole, around which places are at all longitudes.
        west, east = 0.0, 1.0
        north, south = (0.0, south) if north < 0.5 else (north, south)
        north, south = (north, 1.0) if south > 0.5 else (north, south)
    turns = math.floor(west)
    north, south = max(0.0, north), min(1.0, south)
    return Extent(west - turns, east - turns, north, south, step, bounds)


@lru_cache(64)
def _to_degrees(wkt: str) -> Transformer | None:
    try:
        return Transformer.from_crs(CRS.from_wkt(wkt), CRS.from_epsg(4326), always_xy=True)
    except ProjError:
        return None  # no way leads there from another celestial body
