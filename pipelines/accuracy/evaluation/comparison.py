"""One label map against what is true: counts of pixels and ground area, window by window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygon_masks import ScenePolygons
from segmodel.errors import FailureCode, InputError
from segmodel.evaluation.boundary import BoundaryCounts, boundary_counts
from segmodel.evaluation.reliability import LEVELS, confidence_counts
from segmodel.labels.classes import ClassTable
from segmodel.labels.confusion import IGNORED
from segmodel.tiling.windows import Window

TILE_PX = 1024
# Up to so many cells of a matrix are counted in an array; of more, those that occur are looked for.
MAX_DENSE = 1 << 20

# Values of a window, `(height, width)`.
Read = Callable[[Window], np.ndarray]
# Pixels and area in m² by reference class and label, both as places in the class table; a label
# behind the last class is nodata. Without ground the area is 0.
Cells = dict[tuple[int, int], tuple[int, Fraction]]


@dataclass(frozen=True)
class MapPair:
    """A label map, or a block of one, and what is true there.

    Args:
        area: What is compared.
        whole: The whole label map.
        labels: Reads ids.
        truth: Reads class indices, `IGNORED` where nothing is known; None where points say it.
        confidence: Reads confidence of 8 bits; None where there is none.
        ground: Place on the ground, area of a pixel in m², or None where it is not known.
        zones: Zones on the label map, or None.
    """

    area: Window
    whole: Window
    labels: Read
    truth: Read | None
    confidence: Read | None = None
    ground: GroundGrid | float | None = None
    zones: ScenePolygons | None = None

    def areas_m2(self, window: Window) -> np.ndarray | None:
        """Ground area of the pixels of a window, `(height, width)` float64; None if not known."""
        shape = (window.height, window.width)
        if self.ground is None:
            return None
        if isinstance(self.ground, float):
            return np.full(shape, self.ground)
        found = self.ground.pixel_areas_m2(window.row, window.column, *shape)
        return np.broadcast_to(found, shape)


@dataclass(frozen=True)
class PlacedPoints:
    """Points with a class on a label map.

    Args:
        rows: `(points,)` int64 rows of the pixels that they lie in.
        columns: `(points,)` int64 columns.
        truth: `(points,)` class indices.
    """

    rows: np.ndarray
    columns: np.ndarray
    truth: np.ndarray

    def inside(self, window: Window) -> "PlacedPoints":
        """Those in a window of the label map."""
        row, column = self.rows - window.row, self.columns - window.column
        inside = (row >= 0) & (row < window.height) & (column >= 0) & (column < window.width)
        return PlacedPoints(self.rows[inside], self.columns[inside], self.truth[inside])


@dataclass
class ComparedCounts:
    """What comparing came to so far.

    Args:
        classes: Number of classes.
        cells: Confusion in all.
        zones: Confusion by number of the zone.
        boundary: Pixels near boundaries, or None if they are not asked for.
        confidence: `(256, 2)` wrong and right pixels by confidence, or None without it.
    """

    classes: int
    cells: Cells = field(default_factory=dict)
    zones: dict[int, Cells] = field(default_factory=dict)
    boundary: BoundaryCounts | None = None
    confidence: np.ndarray | None = None

    def add(self, codes: np.ndarray, areas_m2: np.ndarray | None, zone: int | None = None) -> None:
        """Add pixels; `codes` are of reference and label, see `codes_of`."""
        cells = self.cells if zone is None else self.zones.setdefault(zone, {})
        size = self.classes * (self.classes + 1)
        found = np.arange(size)
        if size > MAX_DENSE:
            found, codes = np.unique(codes, return_inverse=True)
        counts = np.bincount(codes, minlength=len(found))
        sums = None if areas_m2 is None else np.bincount(codes, areas_m2, len(found))
        for place in np.flatnonzero(counts).tolist():
            key = divmod(int(found[place]), self.classes + 1)
            pixels, area = cells.get(key, (0, Fraction(0)))
            more = Fraction(0) if sums is None else Fraction(float(sums[place]))
            cells[key] = pixels + int(counts[place]), area + more

    @property
    def has_ground(self) -> bool:
        """Whether the ground area of a pixel is known."""
        return any(area for _, area in self.cells.values())

    @property
    def matrix(self) -> np.ndarray:
        """Pixels by reference class and label, `(classes, classes + 1)` int64; last is nodata."""
        matrix = np.zeros((self.classes, self.classes + 1), np.int64)
        for key, (pixels, _) in self.cells.items():
            matrix[key] = pixels
        return matrix

    @property
    def matrix_m2(self) -> np.ndarray:
        """The same in m², float64; each cell is exactly rounded."""
        matrix = np.zeros((self.classes, self.classes + 1))
        for key, (_, area) in self.cells.items():
            matrix[key] = float(area)
        return matrix

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """As in the file of a unit.

        Args:
            names: Names of the zones.
        """
        zones = {names[zone]: _rows(cells) for zone, cells in sorted(self.zones.items())}
        document: dict[str, Any] = {"cells": _rows(self.cells), "zones": zones}
        if self.boundary is not None:
            found = zip(self.boundary.intersection, self.boundary.union, strict=True)
            pairs = [(n, int(both), int(either)) for n, (both, either) in enumerate(found)]
            document["boundary"] = [pair for pair in pairs if pair[2]]
        if self.confidence is not None:
            levels = np.flatnonzero(self.confidence.any(axis=1)).tolist()
            document["confidence"] = [(n, *self.confidence[n].tolist()) for n in levels]
        return document

    def add_json(self, document: dict[str, Any]) -> None:
        """Add what `to_json` gave, but for zones."""
        add_rows(self.cells, document["cells"])
        if (rows := document.get("boundary")) is not None:
            more = BoundaryCounts.empty(self.classes)
            for place, both, either in rows:
                more.intersection[place], more.union[place] = both, either
            self.boundary = more if self.boundary is None else self.boundary + more
        if (rows := document.get("confidence")) is not None:
            if self.confidence is None:
                self.confidence = np.zeros((LEVELS, 2), np.int64)
            for level, wrong, right in rows:
                self.confidence[level] += (wrong, right)


def _rows(cells: Cells) -> list[tuple[int, int, int, str]]:
    return [(*key, pixels, str(area)) for key, (pixels, area) in sorted(cells.items())]


def add_rows(cells: Cells, rows: Sequence[tuple[int, int, int, str]]) -> None:
    """Add cells as `ComparedCounts.to_json` has them."""
    for true, given, pixels, area in rows:
        before = cells.get((true, given), (0, Fraction(0)))
        cells[true, given] = before[0] + pixels, before[1] + Fraction(area)


def compare_maps(pair: MapPair, classes: ClassTable, boundary_px: int | None) -> ComparedCounts:
    """Compare a label map with what is true at its pixels, tile by tile.

    Args:
        pair: Label map and truth.
        classes: Class table of the labels.
        boundary_px: Distance for boundary IoU, or None.

    Raises:
        InputError: If one of them cannot be read, or a label is not in the class table.
    """
    counts = ComparedCounts(len(classes.ids))
    if boundary_px is not None:
        counts.boundary = BoundaryCounts.empty(counts.classes)
    if pair.confidence is not None:
        counts.confidence = np.zeros((LEVELS, 2), np.int64)
    assert pair.truth is not None
    for tile in pair.area.subdivide(TILE_PX, TILE_PX):
        read = grown(tile, boundary_px or 0, pair.whole)
        core = tile.relative_to(read)
        truth = pair.truth(read)
        known = truth[core.slices] > IGNORED
        if known.any():
            given = class_places(pair.labels(read), classes)
            if boundary_px is not None and counts.boundary is not None:
                labelled = np.where(given == counts.classes, IGNORED, given)
                edges = boundary_counts(truth, labelled, counts.classes, boundary_px, core)
                counts.boundary += edges
            areas = pair.areas_m2(tile)
            of_known = None if areas is None else areas[known]
            pixels = _Pixels(known, truth[core.slices][known], given[core.slices][known], of_known)
            _count(pixels, tile, pair, counts)
    return counts


def compare_points(pair: MapPair, points: PlacedPoints, classes: ClassTable) -> ComparedCounts:
    """Compare a label map with points, each with the pixel that it lies in.

    Points have no area. Two points in one pixel count twice.

    Args:
        pair: Label map.
        points: Points on it.
        classes: Class table of the labels.

    Raises:
        InputError: If the label map cannot be read, or a label is not in the class table.
    """
    counts = ComparedCounts(len(classes.ids))
    if pair.confidence is not None:
        counts.confidence = np.zeros((LEVELS, 2), np.int64)
    for tile in pair.area.subdivide(TILE_PX, TILE_PX):
        here = points.inside(tile)
        if len(here.truth):
            at = here.rows - tile.row, here.columns - tile.column
            given = class_places(pair.labels(tile)[at], classes)
            _count(_Pixels(at, here.truth, given, None), tile, pair, counts)
    return counts


@dataclass(frozen=True)
class _Pixels:
    """Pixels of a tile that are compared: where they are, `(pixels,)` truth, labels and areas."""

    at: Any
    truth: np.ndarray
    given: np.ndarray
    areas_m2: np.ndarray | None


def _count(pixels: _Pixels, tile: Window, pair: MapPair, counts: ComparedCounts) -> None:
    codes = codes_of(pixels.truth, pixels.given, counts.classes)
    areas = pixels.areas_m2
    counts.add(codes, areas)
    if pair.zones is not None:
        for layer in range(pair.zones.layers):
            index = pair.zones.indices(tile, layer)[pixels.at]
            for zone in np.unique(index[index >= 0]).tolist():
                here = index == zone
                counts.add(codes[here], None if areas is None else areas[here], zone)
    if pair.confidence is not None and counts.confidence is not None:
        labelled = pixels.given < counts.classes
        levels = pair.confidence(tile)[pixels.at][labelled]
        counts.confidence += confidence_counts(levels, (pixels.truth == pixels.given)[labelled])


def codes_of(truth: np.ndarray, given: np.ndarray, classes: int) -> np.ndarray:
    """One int64 for reference class and label of each pixel."""
    return np.asarray(truth.astype(np.int64) * (classes + 1) + given)


def grown(window: Window, pixels: int, whole: Window) -> Window:
    """A window with pixels around it, as far as there are any.

    >>> grown(Window(0, 4, 2, 2), 3, Window(0, 0, 9, 9))
    Window(row=0, column=1, height=5, width=8)
    """
    top, left = window.row - pixels, window.column - pixels
    outer = Window(top, left, window.height + 2 * pixels, window.width + 2 * pixels)
    return outer.intersection(whole)


def class_places(labels: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Places of labels in the class table, int32; that of nodata is behind the last.

    Raises:
        InputError: If a label is neither a class nor nodata.
    """
    places = np.full(np.iinfo(classes.label_dtype).max + 1, -1, np.int32)
    places[[*classes.ids, classes.nodata]] = np.arange(len(classes.ids) + 1)
    found = places[labels]
    if found.size and found.min() < 0:
        unknown = sorted(set(labels[found < 0].tolist()))[:5]
        raise InputError(
            f"the label map holds {', '.join(map(str, unknown))}, which is no class of the run: "
            f"check the run with `beamseg verify`",
            code=FailureCode.UNKNOWN_CLASS,
        )
    return np.asarray(found)
