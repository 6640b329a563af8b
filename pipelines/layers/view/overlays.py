"""What lies on the labels of a run: outlines, shared ground, failed blocks, points of the sample.

All of it is found by boxes around it, so that a page has what is in view, and no more than it draws
at ease.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import shapely
from affine import Affine

from pipelines.geodesy.ellipsoid import wrap_near
from pipelines.geodesy.longitudes import Bounds, from_west
from pipelines.layers.catalogue.item_outlines import item_outline
from pipelines.layers.maps import LabelMap, LabelMaps
from pipelines.layers.tiles.mercator import degrees_of
from pipelines.layers.tiles.scene_places import scene_places
from pipelines.layers.view.placed_maps import PlacedMaps
from pipelines.layers.view.sample import of_sample
from pipelines.rasters.reader import ground_grid
from pipelines.run.directory import RunDirectory
from pipelines.storage import filesystem
from segmodel.errors import counted
from segmodel.escaping import inert
from segmodel.tiling.windows import Window

# Most shapes of one overlay in an answer; where there are more, they are counted in so many cells
# along each side of the view.
MAX_DRAWN, CELLS = 500, 12
# Outlines that are remembered.
_OUTLINES = 4 * MAX_DRAWN

Feature = dict[str, Any]


@dataclass(frozen=True)
class OverlayStyle:
    """How a page shows an overlay.

    Args:
        title: Name of it, with how many there are.
        color: Its colour.
        named: Whether each shape says what it is where one points at it.
        visible: Whether it shows at first.
    """

    title: str
    color: str
    named: bool = True
    visible: bool = True


class NamedShape(NamedTuple):
    """A shape in degrees, and what it is."""

    shape: shapely.Geometry | None
    name: str


@dataclass(frozen=True)
class Overlay:
    """Shapes of one kind.

    Args:
        style: How a page shows them.
        noun: What one of them is.
        bounds: `(shapes, 4)` west, south, east and north of each in degrees, none of which begins
            before the west of all scenes.
        shape: Gives one by its number.
    """

    style: OverlayStyle
    noun: str
    bounds: np.ndarray
    shape: Callable[[int], NamedShape]

    def meeting(self, box: Bounds) -> list[Feature]:
        """GeoJSON features of the shapes that a box may hold some of; few, or how many where.

        Args:
            box: West, south, east and north in degrees; east may be above 180.
        """
        west, south, east, north = self.bounds.T
        across = (west <= box[2]) & (east >= box[0])
        numbers = np.flatnonzero(across & (south <= box[3]) & (north >= box[1]))
        if len(numbers) > MAX_DRAWN:
            return self._counts(numbers, box)
        middles = ((west + east) / 2)[numbers]
        shapes = map(self.shape, numbers.tolist())
        return [
            _feature(_around(middle, found.shape), name=found.name)
            for middle, found in zip(middles.tolist(), shapes, strict=True)
            if found.shape is not None
        ]

    def _counts(self, numbers: np.ndarray, box: Bounds) -> list[Feature]:
        """How many of some shapes there are in each cell of a box, in the middle of these."""
        low, high = np.array(box[:2]), np.array(box[2:])
        middles = self.bounds[numbers].reshape(-1, 2, 2).mean(axis=1)
        cells = np.clip((middles - low) / (high - low) * CELLS, 0, CELLS - 1).astype(int)
        _, groups, sizes = np.unique(cells @ [CELLS, 1], return_inverse=True, return_counts=True)
        sums = np.zeros((len(sizes), 2))
        np.add.at(sums, groups, middles)
        return [
            _feature(shapely.Point(place), name=counted(size, self.noun), count=f"{size:,}")
            for place, size in zip(sums / sizes[:, np.newaxis], sizes.tolist(), strict=True)
        ]


class Overlays:
    """All overlays of a run.

    Attributes:
        scenes: Where scenes are.
        by_name: Overlays by their names.

    Args:
        maps: Label maps of the run.
        placed: Those that have a place on the map, at least one.
    """

    def __init__(self, maps: LabelMaps, placed: PlacedMaps) -> None:
        self._maps = placed.maps
        edges = np.array([extent.bounds for extent in placed.extents])
        self.scenes = scene_places([one.key for one in self._maps], edges)
        self._bounds = from_west(edges, self.scenes.bounds[0])
        self._outline = lru_cache(_OUTLINES)(lambda number: _outline(self._maps[number]))
        made = {
            "scenes": self._of_scenes(),
            "overlaps": self._of_overlaps(maps.work.run),
            "failed": self._of_failed(maps),
            "sample": self._of_sample(maps),
        }
        self.by_name = {name: one for name, one in made.items() if len(one.bounds)}

    def _of_scenes(self) -> Overlay:
        title = f"outlines of {counted(len(self._maps), 'scene')}"
        return Overlay(
            OverlayStyle(title, "#8250df", named=False),
            "scene",
            self._bounds,
            lambda number: NamedShape(self._outline(number), _key(self._maps[number])),
        )

    def _of_overlaps(self, run: RunDirectory) -> Overlay:
        """Ground of two scenes, where the run counts it once."""
        # By their keys as in tables.
        numbers = {_key(one): number for number, one in enumerate(self._maps)}
        rows = table_rows(run, "overlaps.csv")
        named = dict.fromkeys(tuple(sorted((row["scene"], row["counted_in"]))) for row in rows)
        pairs = [names for names in named if numbers.keys() >= {*names}]
        places = np.array([[numbers[name] for name in names] for names in pairs], int)
        both = self._bounds[places.reshape(-1, 2)]
        bounds = np.hstack([both[:, :, :2].max(axis=1), both[:, :, 2:].min(axis=1)])

        def shape(number: int) -> NamedShape:
            one, other = (self._outline(place) for place in places[number].tolist())
            ground = None if one is None or other is None else shapely.intersection(one, other)
            return NamedShape(ground, ", ".join(pairs[number]))

        style = OverlayStyle("ground of two scenes", "#bf8700", visible=False)
        return Overlay(style, "overlap", bounds, shape)

    def _of_failed(self, maps: LabelMaps) -> Overlay:
        lost = [(one, w) for one in self._maps for w in maps.lost.get(one.key, ())]
        boxes = [_boxes(one, maps.lost[one.key]) for one in self._maps if one.key in maps.lost]
        bounds = from_west(np.concatenate([np.empty((0, 4)), *boxes]), self.scenes.bounds[0])

        def shape(number: int) -> NamedShape:
            one, window = lost[number]
            place = f"rows from {window.row}, columns from {window.column}"
            return NamedShape(_outline(one, window), f"{_key(one)}: {place}, could not be read")

        style = OverlayStyle(counted(len(lost), "failed block"), "#d1242f")
        return Overlay(style, "failed block", bounds, shape)

    def _of_sample(self, maps: LabelMaps) -> Overlay:
        points = of_sample(maps, "design.json").get("points", ())
        places = np.array([(row["lon"], row["lat"]) for row in points]).reshape(-1, 2)
        bounds = from_west(np.hstack([places, places]), self.scenes.bounds[0])
        style = OverlayStyle(counted(len(points), "sample point"), "#bf3989", visible=False)
        return Overlay(
            style,
            "sample point",
            bounds,
            lambda number: NamedShape(shapely.Point(places[number]), points[number]["id"]),
        )


def _key(found: LabelMap) -> str:
    return str(inert(found.key))


def _outline(found: LabelMap, window: Window | None = None) -> shapely.Geometry | None:
    """Where a label map lies, or a window of it; None if it is not on the Earth."""
    grid = found.grid
    if window is not None:
        place = grid.transform @ Affine.translation(window.column, window.row)
        grid = replace(grid, height=window.height, width=window.width, transform=place)
    outline = item_outline(ground_grid(grid))
    return None if outline is None else shapely.geometry.shape(outline.geometry)


def _boxes(found: LabelMap, windows: Sequence[Window]) -> np.ndarray:
    """`(windows, 4)` west, south, east and north around places at the edges of windows."""
    ends = [(w.column, w.row, w.width, w.height) for w in windows]
    column, row, width, height = np.array(ends, float).T[..., np.newaxis, np.newaxis]
    down, across = np.meshgrid(*[[0, 0.5, 1]] * 2, indexing="ij")
    places = degrees_of(found.grid, column + width * across, row + height * down)
    assert places is not None  # as the label map has a place
    lon, lat = (np.where(np.isfinite(at), at, np.nan).reshape(len(windows), -1) for at in places)
    lon = wrap_near(lon, lon[:, :1], 360.0)
    sides = (np.nanmin(lon, 1), np.nanmin(lat, 1), np.nanmax(lon, 1), np.nanmax(lat, 1))
    return np.stack(sides, axis=1)


def _around(middle: float, shape: shapely.Geometry) -> shapely.Geometry:
    """A shape whose parts are moved by turns to a longitude, joined where they were cut."""
    parts = shapely.get_parts(shape)
    ends = shapely.bounds(parts)[:, [0, 2]]
    turns = np.round((middle - ends.mean(axis=1)) / 360)
    return shapely.union_all(list(map(_moved, parts, turns.tolist()))) if turns.any() else shape


def _moved(shape: shapely.Geometry, turns: float) -> shapely.Geometry:
    return shapely.transform(shape, lambda places: places + np.array([360 * turns, 0]))


def _feature(shape: shapely.Geometry, **properties: str) -> Feature:
    geometry = shapely.geometry.mapping(shape)
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def table_rows(run: RunDirectory, path: str) -> list[dict[str, str]]:
    """Rows of a table of a run; none if it has no such table.

    Args:
        run: The run.
        path: Name of the table.
    """
    if not filesystem.exists(run.path(path)):
        return []
    text = run.read(path).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))
