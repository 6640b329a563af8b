"""The one grid of a mosaic, and the cells that its files are."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pyproj
from affine import Affine
from rasterio.crs import CRS

from pipelines.scenes.vrt import ALIGNED_PX, crs_name
from segmodel.errors import ConfigurationError
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window

# Sides of a cell where nobody says another one.
DEFAULT_CELL_M, DEFAULT_CELL_DEGREES = 100_000.0, 3.0
# Side of a cell in pixels that is chosen: at least, so that files are not as many as scenes of
# coarse pixels have degrees, and at most. The shortest and the longest that can be asked for.
LEAST_CELL_PX, USUAL_CELL_PX = 1 << 11, 1 << 16
MIN_CELL_PX, MAX_CELL_PX = 1 << 3, 1 << 20


@dataclass(frozen=True)
class MosaicGrid:
    """A north-up grid without end, and its division into cells.

    Rows and columns count from the upper left corner of the first label map, and may be negative.

    Args:
        crs: The CRS, as WKT.
        origin: Easting and northing of the corner of pixel (0, 0).
        step: Width and height of a pixel in units of the CRS.
        cell: Side of a cell in units of the CRS; cells begin at its multiples.
        is_common: Whether the pixels of all label maps are pixels of this grid.
    """

    crs: str
    origin: tuple[float, float]
    step: tuple[float, float]
    cell: float
    is_common: bool

    @classmethod
    def of(cls, grids: Sequence[Grid], cell: float | None) -> "MosaicGrid":
        """The finest resolution of some rasters of one CRS, aligned to the first of them.

        Args:
            grids: Size and place of each; with a CRS.
            cell: Side of a cell in units of the CRS, or None for the usual one.

        Raises:
            ConfigurationError: If a cell has too few pixels, or too many.
        """
        first = grids[0]
        assert first.crs is not None
        wkt = first.crs.to_wkt()
        sizes = [_pixel_size(grid) for grid in grids]
        step = min(x for x, _ in sizes), min(y for _, y in sizes)
        west, _, _, north = _bounds(first)
        side = _usual_cell(first, min(step)) if cell is None else cell
        if not MIN_CELL_PX <= side / min(step) <= MAX_CELL_PX:
            raise ConfigurationError(
                f"--cell {side:g} must be a side of {MIN_CELL_PX} to {MAX_CELL_PX:,} pixels in "
                f"each reference system, and is one of {side / min(step):.6g} in "
                f"{crs_name(wkt)}: give another one, or leave it out"
            )
        found = cls(wkt, (west, north), step, side, is_common=False)
        return replace(found, is_common=all(map(found.holds, grids)))

    def holds(self, grid: Grid) -> bool:
        """Whether the pixels of a raster are pixels of this grid, whichever way it is turned."""
        a, b, c, d, e, f = tuple(~self.part(Window(0, 0, 1, 1)).transform @ grid.transform)[:6]
        off = [abs(place - round(place)) for place in (c, f)]
        for pixels, side in ((grid.width, (a, d)), (grid.height, (b, e))):
            across, along = sorted(map(abs, side))
            off += [pixels * across, pixels * abs(along - 1)]
        return bool(max(off) <= ALIGNED_PX)

    @classmethod
    def from_json(cls, shape: dict[str, Any]) -> "MosaicGrid":
        """From the fields of one, of which JSON has made lists."""
        pairs = {name: tuple(shape[name]) for name in ("origin", "step")}
        return cls(**shape | pairs)

    def window_around(self, grid: Grid) -> Window:
        """The pixels of this grid that a raster lies on; those that it lies on in part, too."""
        west, south, east, north = _bounds(grid)
        (x, y), (width, height) = self.origin, self.step
        left, right = _floor((west - x) / width), _ceil((east - x) / width)
        top, bottom = _floor((y - north) / height), _ceil((y - south) / height)
        return Window(top, left, bottom - top, right - left)

    def part(self, window: Window) -> Grid:
        """Size and place of a window."""
        (x, y), (width, height) = self.origin, self.step
        corner = x + window.column * width, y - window.row * height
        transform = Affine(width, 0.0, corner[0], 0.0, -height, corner[1])
        return Grid(window.height, window.width, transform, _crs_of(self.crs))

    def cells(self, window: Window) -> Iterator[tuple[str, Window]]:
        """Cells that share pixels with a window, by name, and the pixels that they share."""
        for row, top, height in self._spans(window.row, window.height, 1):
            for column, left, width in self._spans(window.column, window.width, 0):
                west, south = column * self.cell, 0.0 - (row + 1) * self.cell
                yield f"{west:.12g}_{south:.12g}", Window(top, left, height, width)

    def _spans(self, first: int, count: int, axis: int) -> Iterator[tuple[int, int, int]]:
        """Number of each cell along an axis, and what of a range of pixels is in it.

        Cells count eastwards from 0 of the CRS, and southwards.
        """
        step, start = self.step[axis], (self.origin[0], -self.origin[1])[axis]

        def begin(number: int) -> int:
            """First pixel of a cell: the first with its centre in it, at most half a pixel off."""
            return _ceil((number * self.cell - start) / step - 0.5)

        number = math.floor((start + first * step) / self.cell) - 1
        while begin(number) < first + count:
            top, bottom = max(first, begin(number)), min(first + count, begin(number + 1))
            if top < bottom:
                yield number, top, bottom - top
            number += 1


@lru_cache(64)
def _crs_of(wkt: str) -> CRS:
    return CRS.from_wkt(wkt)


def _floor(place: float) -> int:
    return math.floor(place + ALIGNED_PX)


def _ceil(place: float) -> int:
    return math.ceil(place - ALIGNED_PX)


def _pixel_size(grid: Grid) -> tuple[float, float]:
    """Width and height of a pixel in units of the CRS, whichever way the raster is turned."""
    a, b, _, d, e, _ = tuple(grid.transform)[:6]
    return math.hypot(a, d), math.hypot(b, e)


def _bounds(grid: Grid) -> tuple[float, float, float, float]:
    """West, south, east and north of all corners."""
    right, down = float(grid.width), float(grid.height)
    corners = [grid.transform @ place for place in ((0, 0), (right, 0), (right, down), (0, down))]
    x, y = zip(*corners, strict=True)
    return min(x), min(y), max(x), max(y)


def _usual_cell(grid: Grid, step: float) -> float:
    """Side of a cell: 100 km or 3 degrees, doubled or halved until its pixels are in bounds."""
    assert grid.crs is not None
    crs = pyproj.CRS.from_wkt(grid.crs.to_wkt())
    metres = crs.axis_info[0].unit_conversion_factor
    cell = DEFAULT_CELL_DEGREES if crs.is_geographic else DEFAULT_CELL_M / metres
    while cell / step < LEAST_CELL_PX:
        cell *= 2
    while cell / step > USUAL_CELL_PX:
        cell /= 2
    return cell
