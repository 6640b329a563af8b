"""Polygons on the pixel grid of one scene: which pixel centres they cover, window by window.

* A centre on an edge belongs to what is below it or to its right, in pixels, so of two polygons
  that share an edge exactly one has it. Runs of pixels are found between the edges of the whole
  scene, so a window is always the slice of the scene.
* In another CRS straight edges become curves: they are halved until within `BOUND_PX` of the
  curve, both sides of a shared edge alike.
* Polygons that leave the CRS of the scene, or that it tears at its rim, are not drawn: the centres
  of pixels are brought to the CRS of the polygons. Exact, but far slower.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from pipelines.geodesy.ellipsoid import turn_of, wrap_near
from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygons import Polygons
from segmodel.errors import FailureCode, InputError
from segmodel.tiling.windows import Window

BOUND_PX = 0.05  # most distance of a halved edge from the true curve, in pixels
STEEPEST = 0.25  # share of a chord that a curve may leave it by, or the chord is halved anywhere
HALVINGS = 32  # an edge that is still not close to its curve after as many is torn
EVERYWHERE = 1e9  # more than any longitude
CROSSINGS = 1 << 20  # of edges and rows that are computed at a time
STRIP_ROWS = 256  # in which the bounds of polygons are searched
KEPT_WINDOWS = 2  # whose runs are kept, as masks and layers of one window follow each other
SAMPLES = 129  # per axis of a scene, to find its place in the CRS of the polygons


@dataclass(frozen=True, eq=False)
class _Edges:
    """Edges that cross a row of pixel centres of the scene, in pixels, by closed outline."""

    points: np.ndarray  # (edges, 4) float64: column and row of the upper end, of the lower end
    rows: np.ndarray  # (edges, 2) int64: first row whose centre is crossed, one after the last
    part: np.ndarray  # (edges,) outline
    index: np.ndarray  # (outlines,) int32: polygon
    reach: np.ndarray  # (outlines, 2) least and greatest column

    @classmethod
    def of(cls, drawn: list[tuple[int, np.ndarray]], height: int) -> "_Edges":
        points = np.concatenate([np.empty((0, 4)), *(edges for _, edges in drawn)])
        part = np.repeat(np.arange(len(drawn)), [len(edges) for _, edges in drawn])
        points = np.where(points[:, 1:2] > points[:, 3:], points[:, [2, 3, 0, 1]], points)
        rows = np.clip(np.ceil(points[:, 1::2] - 0.5), 0, height).astype(np.int64)
        crossing = rows[:, 0] < rows[:, 1]
        points, rows, part = points[crossing], rows[crossing], part[crossing]
        reach = np.tile([np.inf, -np.inf], (len(drawn), 1))
        np.minimum.at(reach[:, 0], part, points[:, ::2].min(axis=1))
        np.maximum.at(reach[:, 1], part, points[:, ::2].max(axis=1))
        return cls(points, rows, part, np.array([at for at, _ in drawn], dtype=np.int32), reach)

    def runs(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs of pixels of a window, ascending: flat start, flat end, and polygon of each."""
        return _runs(self, window)

    def found_runs(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `runs`, which keeps those of the last windows."""
        places = _Odd(len(self.index) * window.height * (window.width + 1))
        for edges in self._some_near(window):
            places.add(self._crossings(edges, window))
        # From odd to even crossings of a row lies what an outline covers.
        line, column = np.divmod(places.numbers().reshape(-1, 2), window.width + 1)
        part, row = np.divmod(line[:, 0], max(1, window.height))
        start, end = (row * window.width + column[:, side] for side in (0, 1))
        order = np.argsort(start, kind="stable")
        return start[order], end[order], self.index[part[order]]

    def _some_near(self, window: Window) -> Iterator[np.ndarray]:
        """Edges that may cross a window; so many at a time as memory is for."""
        bottom, right = window.row + window.height, window.column + window.width
        near = (self.reach[:, 0] < right) & (self.reach[:, 1] > window.column)
        near = near[self.part] & (self.rows[:, 0] < bottom) & (self.rows[:, 1] > window.row)
        edges = np.flatnonzero(near)
        count = np.diff(np.clip(self.rows[edges], window.row, bottom))[:, 0]
        piece = np.cumsum(count) // CROSSINGS
        yield from np.split(edges, np.flatnonzero(np.diff(piece)) + 1)

    def _crossings(self, edges: np.ndarray, window: Window) -> np.ndarray:
        """Where edges cross rows of a window: outline, row and column as one number."""
        rows = np.clip(self.rows[edges], window.row, window.row + window.height)
        count = rows[:, 1] - rows[:, 0]
        edge = np.repeat(edges, count)
        row = np.arange(len(edge)) + np.repeat(rows[:, 0] - np.cumsum(count) + count, count)
        x0, y0, x1, y1 = self.points[edge].T
        x = x0 + (row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        x = np.ceil(np.clip(x, np.minimum(x0, x1), np.maximum(x0, x1)) - 0.5)
        column = np.clip(x, window.column, window.column + window.width) - window.column
        line = self.part[edge] * window.height + row - window.row
        return np.asarray(line * (window.width + 1) + column.astype(np.int64))


@dataclass(frozen=True, eq=False)
class ScenePolygons:
    """Polygons on the pixels of one scene; picklable. Windows are rectangles of the scene."""

    source_wkt: str  # CRS of the polygons
    grid: GroundGrid
    layer_of: tuple[int, ...]  # of every polygon, also of those elsewhere
    drawn: _Edges
    torn: tuple[tuple[int, bytes], ...]  # index and WKB of what cannot be drawn

    @classmethod
    def of(cls, polygons: Polygons, grid: GroundGrid) -> "ScenePolygons":
        """Bring polygons to the pixels of a scene; what lies elsewhere costs nothing later.

        Args:
            polygons: Polygons in any CRS.
            grid: Pixel grid of the scene.

        Raises:
            InputError: If there is no way from one CRS to the other.
        """
        view, drawn, torn = _view(polygons.crs_wkt, grid), [], []
        for index, wkb in enumerate(polygons.geometries):
            for part in view.near(shapely.from_wkb(wkb)):
                if (edges := view.edges(part)) is not None:
                    drawn.append((index, edges))
                else:
                    torn.append((index, bytes(shapely.to_wkb(part))))
        outlines = _Edges.of(drawn, grid.height)
        return cls(polygons.crs_wkt, grid, polygons.layers(), outlines, tuple(torn))

    @property
    def layers(self) -> int:
        """Number of layers; polygons of one layer overlap in slivers at most."""
        return max(self.layer_of, default=-1) + 1

    def bounds(self) -> Window:
        """The smallest window with all pixels that are covered; all where polygons are torn."""
        whole = Window(0, 0, self.grid.height, self.grid.width)
        if self.torn:
            return whole
        found = []
        for strip in whole.subdivide(STRIP_ROWS, whole.width):
            start, end, _ = self.drawn.runs(strip)
            if len(start):
                rows, columns = np.divmod(start, whole.width)
                last = (strip.row + rows.max() + 1, (columns + end - start).max())
                found.append((strip.row + rows.min(), columns.min(), *last))
        if not found:
            return Window(0, 0, 0, 0)
        of_strips = np.array(found)
        top, left = of_strips[:, :2].min(axis=0).tolist()
        bottom, right = of_strips[:, 2:].max(axis=0).tolist()
        return Window(top, left, bottom - top, right - left)

    def touches(self, window: Window) -> bool:
        """Whether a polygon covers the centre of a pixel of a window; exact."""
        covered = (inside.any() for _, inside in self._by_centres(window))
        return len(self.drawn.runs(window)[0]) > 0 or any(covered)

    def near(self, window: Window) -> set[int]:
        """Indices of the polygons that may cover centres of pixels of a window; no other does."""
        return {*self.drawn.runs(window)[2].tolist(), *(index for index, _ in self.torn)}

    def mask(self, window: Window) -> np.ndarray:
        """Pixels whose centres are in any polygon.

        Args:
            window: Rectangle of the scene.

        Returns:
            `(height, width)` bool.
        """
        start, end, _ = self.drawn.runs(window)
        start = np.maximum(start, _reached(end))  # the union of runs
        new = start < end
        mask = _filled((start[new], end[new], np.array(True)), np.array(False), window)
        for _, inside in self._by_centres(window):
            mask |= inside
        return mask

    def indices(self, window: Window, layer: int) -> np.ndarray:
        """The polygon of each pixel of a window.

        Args:
            window: Rectangle of the scene.
            layer: Number of the layer, below `layers`.

        Returns:
            `(height, width)` int32: index of the polygon, the first where there are two; -1 where
            there is none.
        """
        start, end, index = self.drawn.runs(window)
        held = np.array(self.layer_of)[index] == layer
        start, end, index = start[held], end[held], index[held]
        free = start >= _reached(end)
        indices = _filled((start[free], end[free], index[free]), np.array(-1, np.int32), window)
        flat = indices.reshape(-1)
        for first, last, value in zip(start[~free], end[~free], index[~free], strict=True):
            part = flat[first:last]
            part[(part < 0) | (part > value)] = value
        for value, inside in self._by_centres(window):
            if self.layer_of[value] == layer:
                indices[inside & ((indices < 0) | (indices > value))] = value
        return indices

    def _by_centres(self, window: Window) -> list[tuple[int, np.ndarray]]:
        """Index and `(height, width)` bool of the polygons that cannot be drawn."""
        if not self.torn:
            return []
        view = _view(self.source_wkt, self.grid)
        rows, columns = np.indices((window.height, window.width)) + 0.5
        columns, rows = columns + window.column, rows + window.row
        x, y = view.to_source(columns, rows)
        x = np.where(np.isfinite(self.grid.lon_lat(columns, rows)[0]), x, np.nan)
        covered = []
        for index, wkb in self.torn:
            shape = shapely.from_wkb(wkb)
            shapely.prepare(shape)
            inside = [shapely.intersects_xy(shape, x + turn, y) for turn in view.around]
            covered.append((index, np.logical_or.reduce(inside)))
        return covered


def lie_on(polygons: Polygons, grid: GroundGrid) -> bool:
    """Whether the outline of a polygon crosses a scene, though it may cover no centre of a pixel.

    Raises:
        InputError: As `ScenePolygons.of` does.
    """
    view, frame = _view(polygons.crs_wkt, grid), shapely.box(0, 0, grid.width, grid.height)
    for wkb in polygons.geometries:
        for part in view.near(shapely.from_wkb(wkb)):
            edges = view.edges(part)
            lines = shapely.linestrings([] if edges is None else edges.reshape(-1, 2, 2))
            if shapely.intersects(frame, lines).any():
                return True
    return False


@lru_cache(KEPT_WINDOWS)
def _runs(edges: _Edges, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return edges.found_runs(window)


class _Odd:
    """Finds what stands an odd number of times among numbers, of which few are held at a time.

    Args:
        size: All numbers are below it.
    """

    def __init__(self, size: int) -> None:
        # To count is faster than to sort, where there is room for all counts.
        self._counts = np.zeros(size, np.int8) if size <= CROSSINGS else None
        self._numbers = np.empty(0, np.int64)

    def add(self, numbers: np.ndarray) -> None:
        """Look at more numbers."""
        if self._counts is not None:
            self._counts ^= np.bincount(numbers, minlength=len(self._counts)).astype(np.int8) & 1
            return
        values, counts = np.unique(np.append(self._numbers, numbers), return_counts=True)
        self._numbers = values[counts % 2 == 1]

    def numbers(self) -> np.ndarray:
        """All that were found, ascending."""
        return self._numbers if self._counts is None else np.flatnonzero(self._counts)


def _reached(end: np.ndarray) -> np.ndarray:
    """How far the runs before each run go."""
    return np.maximum.accumulate(np.append(np.int64(0), end))[:-1]


def _filled(runs: tuple[np.ndarray, ...], other: np.ndarray, window: Window) -> np.ndarray:
    """Values of disjoint ascending runs, and `other` elsewhere; `(height, width)`."""
    start, end, value = runs
    borders = np.concatenate([[0], np.column_stack([start, end]).ravel(), [window.pixels]])
    values = np.full(len(borders) - 1, other)
    values[1::2] = value
    return np.repeat(values, np.diff(borders)).reshape(window.height, window.width)


@dataclass(frozen=True, eq=False)
class _View:
    """The way from the CRS of polygons, the source, to the pixels of a scene, and back."""

    grid: GroundGrid
    way: Transformer | None  # None where coordinates are the same
    turns: tuple[float, float]  # the way around the Earth in the source and in the scene; or inf
    middle: tuple[float, float]  # x of the middle of the scene in both

    @property
    def around(self) -> set[float]:
        """How far longitudes of the source may be off."""
        turn = self.turns[0] if math.isfinite(self.turns[0]) else 0.0
        return {0.0, -turn, turn}

    @cached_property
    def box(self) -> tuple[float, ...]:
        """Bounds of the scene in the source and a step more; () if part has no place there."""
        size = np.array([self.grid.width, self.grid.height])
        places = np.stack(self.to_source(*np.meshgrid(*np.linspace([0, 0], size, SAMPLES).T)))
        if not np.isfinite(places).all():
            return ()
        steps = [np.abs(np.diff(places, axis=axis)).max(axis=(1, 2)) for axis in (1, 2)]
        low = places.min(axis=(1, 2)) - np.maximum(*steps)
        high = places.max(axis=(1, 2)) + np.maximum(*steps)
        if self.way and self.turns[0] <= high[0] - low[0]:
            low[0], high[0] = -EVERYWHERE, EVERYWHERE
        return (*low.tolist(), *high.tolist())

    def to_source(self, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel to source coordinates, longitudes nearest to the middle of the scene."""
        x, y = self.grid.coordinates(columns, rows)
        if not self.way:
            return x, y
        return _near(self.way.transform(x, y, direction="INVERSE"), self.middle[0], self.turns[0])

    def to_pixels(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Source coordinates to columns and rows, in a last axis of 2."""
        if self.way:
            x, y = _near(self.way.transform(x, y), self.middle[1], self.turns[1])
        a, b, c, d, e, f = tuple(self.grid.transform)[:6]
        x, y = x - c, y - f
        return np.asarray(np.stack([e * x - b * y, a * y - d * x], axis=-1) / (a * e - b * d))

    def near(self, shape: Any) -> list[Any]:
        """What of a polygon is around the scene, with longitudes like those of the scene."""
        (west, _, east, _), turn = shape.bounds, self.turns[0]
        if abs(west + east) > 2 * turn:  # some write longitudes of 540
            shape = _shifted(shape, -turn * round((west + east) / 2 / turn))
        if east - west <= turn:
            return self._turned(shape)
        # Its parts may show the same ground, each in longitudes of its own.
        return [moved for part in shapely.get_parts(shape) for moved in self._turned(part)]

    def _turned(self, shape: Any) -> list[Any]:
        if not self.box:
            return [shape]
        parts, (x0, y0, x1, y1) = [], self.box
        west, low, east, high = shape.bounds
        if low > y1 or high < y0:
            return []
        turn, first, last = self.turns[0], 0, 0
        if math.isfinite(turn) and x0 > -EVERYWHERE:
            first, last = math.ceil((x0 - east) / turn), math.floor((x1 - west) / turn)
        for number in range(first, last + 1):
            moved = _shifted(shape, turn * number) if number else shape
            left, low, right, high = moved.bounds
            if left > x1 or right < x0:
                continue
            if self.way and (left < x0 or right > x1 or low < y0 or high > y1):
                moved = shapely.intersection(moved, shapely.box(*self.box))
            parts += [moved] if shapely.area(moved) > 0 else []
        return parts

    def edges(self, shape: Any) -> np.ndarray | None:
        """Edges of a polygon, `(edges, 4)` column and row of two ends; None if it is torn."""
        rings = shapely.get_rings(shapely.get_parts(shape))
        points, ring = shapely.get_coordinates(rings, return_index=True)
        ends = np.hstack([points[:-1], points[1:]])[ring[:-1] == ring[1:]]
        if not self.way:
            return self.to_pixels(ends[:, ::2], ends[:, 1::2]).reshape(-1, 4)
        if self.turns[0] <= (np.ptp(points, axis=0) * [1, 2]).min():
            return None  # a world with both poles: its edges may fall on each other
        (x0, y0, x1, y1), done = ends.T, []
        back = (x0 > x1) | ((x0 == x1) & (y0 > y1))
        ends = np.where(back[:, np.newaxis], ends[:, [2, 3, 0, 1]], ends)  # as its neighbour has it
        share = np.linspace(0, 1, 5)[:, np.newaxis]
        for _ in range(HALVINGS):
            line = ends[:, np.newaxis, :2] * (1 - share) + ends[:, np.newaxis, 2:] * share
            curve = self.to_pixels(line[..., 0], line[..., 1])
            if not np.isfinite(curve).all():
                return None
            bent = self._bent(curve, share)
            done.append(curve[~bent][:, [0, 4]].reshape(-1, 4))
            if not bent.any():
                return np.concatenate(done)
            ends = np.concatenate([line[bent][:, at].reshape(-1, 4) for at in ([0, 2], [2, 4])])
        return None

    def _bent(self, curve: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Which curves, `(edges, 5, 2)`, are too far from their chords."""
        chord = curve[:, 4:] - curve[:, :1]
        apart = np.linalg.norm(curve - curve[:, :1] - share * chord, axis=2).max(axis=1)
        margin, size = 1 + 2 * apart[:, np.newaxis], [self.grid.width, self.grid.height]
        near = (curve.max(axis=1) > -margin) & (curve.min(axis=1) < size + margin)
        close = BOUND_PX / 2  # at three points; half of the bound is for those between
        steep = apart > STEEPEST * np.hypot(*chord[:, 0].T) + close
        return np.asarray(steep | ((apart > close) & near.all(axis=1)))


@lru_cache(maxsize=16)
def _view(source_wkt: str, grid: GroundGrid) -> _View:
    source, scene = CRS.from_wkt(source_wkt), CRS.from_wkt(grid.crs_wkt)
    try:
        way = Transformer.from_crs(source, scene, always_xy=True)
    except ProjError as error:
        raise InputError(
            f"polygons in {source.name!r} cannot be brought to the scene in {scene.name!r}: "
            f"give them in a CRS of the same body ({error})",
            code=FailureCode.BAD_GEOREFERENCE,
        ) from error
    same = str(way.definition).startswith("proj=noop")
    x, y = grid.coordinates(*np.nan_to_num(grid.middle).tolist())
    middle = float(np.nan_to_num(way.transform(x, y, direction="INVERSE")[0], posinf=0))
    turns = turn_of(source_wkt), turn_of(grid.crs_wkt)
    return _View(grid, None if same else way, turns, (middle, x))


def _shifted(shape: Any, x: float) -> Any:
    return shapely.transform(shape, np.array([x, 0]).__add__)


def _near(places: tuple[Any, Any], middle: float, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Places with longitudes within half a turn of `middle`, else untouched; NaN for no place."""
    x, y = (np.where(np.isfinite(part), part, np.nan) for part in places)
    return wrap_near(x, middle, turn), y
