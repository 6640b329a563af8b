"""Simplified polygons that still fit each other: neighbours share each edge, and no gap opens.

Vertices are left out by the areas of the triangles that they make, edge by edge for the polygons on
both of its sides (GEOS's coverage simplifier, by Visvalingam and Whyatt, 1993). It wants polygons
that have a vertex wherever others meet them, as those that are traced from pixels have not.

Edges to nodata and to the rim of the map stay as they are, so that the ground of all classes
together stays the same. So do edges between the windows in which a map is simplified; over them the
pieces of a component are joined. Each vertex stays where it was, on a corner of pixels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine

from pipelines.layers.polygons.components import Components, components_of
from pipelines.layers.polygons.corners import corners_of
from pipelines.layers.polygons.rings import rings_of
from segmodel.tiling.windows import Window

# Corners of pixels at which outlines turn or meet, in what is simplified at once: 150 MB.
MAX_MEETINGS = 1 << 18


class SimplifiedPieces(NamedTuple):
    """Components of a block, simplified.

    Attributes:
        components: `(pieces,)` number of each among the components of the block, ascending.
        polygons: `(pieces,)` polygons in pixels (column, row) of the block.
        drift: `(pieces, 3)` float64: how much the area grew, and its moments by column and row, in
            pixels of the block.
    """

    components: np.ndarray
    polygons: np.ndarray
    drift: np.ndarray


def simplify_block(
    rimmed: np.ndarray, components: Components, nodata: int, tolerance_px: float
) -> SimplifiedPieces:
    """Simplify the components of a block.

    Args:
        rimmed: `(height + 2, width + 2)` labels with one pixel around the block, which is nodata
            outside the label map.
        components: Components of the block without its rim.
        nodata: Label of pixels without a class.
        tolerance_px: Side of a square in pixels; a vertex whose triangle is smaller is left out.
    """
    labels = rimmed[1:-1, 1:-1]
    meets = _meetings(rimmed) | _meetings(_alone(labels, nodata))
    windows = [*_windows(meets, Window(0, 0, *labels.shape))]
    # Where windows of different sizes meet, a corner of one is on a side of another.
    has_vertex = meets.copy()
    for window in windows:
        bottom, right = window.row + window.height, window.column + window.width
        has_vertex[np.ix_((window.row, bottom), (window.column, right))] = True
    of, polygons, drift = [], [], []
    for window in windows:
        part = labels[window.slices]
        first, exact = _traced(part, nodata)
        vertices = has_vertex[_corners_in(window)] | _meetings(_alone(part, nodata))
        # GEOS divides a side of 23 pixels into steps that are not quite whole.
        corners = shapely.transform(shapely.segmentize(exact, 1.0), np.rint)
        coverage = _with_vertices(corners, vertices)
        smooth = shapely.coverage_simplify(coverage, tolerance_px, simplify_boundary=False)
        exact, smooth = (_moved(shapes, window) for shapes in (exact, smooth))
        rows, columns = np.divmod(first, window.width)
        of.append(components.at((rows + window.row) * labels.shape[1] + columns + window.column))
        polygons.append(smooth)
        drift.append(moments(smooth) - moments(exact))
    numbers, place = np.unique(np.concatenate(of), return_inverse=True)
    total = np.zeros((len(numbers), 3))
    np.add.at(total, place, np.concatenate(drift))
    # On the rim of the block, where the block beyond has no such corners.
    meets[1:-1, 1:-1] = True
    whole = _with_vertices(dissolved(place, np.concatenate(polygons)), meets)
    return SimplifiedPieces(numbers, whole, total)


def dissolved(groups: np.ndarray, polygons: np.ndarray) -> np.ndarray:
    """The union of the polygons of each group, which share edges and hang together.

    Args:
        groups: `(n,)` group of each polygon, from 0 on without gaps.
        polygons: `(n,)` polygons.

    Returns:
        `(groups,)` polygons.
    """
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups)
    ends = np.cumsum(counts)
    whole = polygons[order[ends - counts]]
    for group in np.flatnonzero(counts > 1):
        pieces = polygons[order[ends[group] - counts[group] : ends[group]]]
        (whole[group],) = shapely.get_parts(shapely.coverage_union_all(pieces))
    return np.asarray(whole)


def moments(polygons: np.ndarray) -> np.ndarray:
    """Area of polygons, and its moments: the integrals of 1, x and y over each.

    Args:
        polygons: `(n,)` polygons.

    Returns:
        `(n, 3)` float64. Areas of polygons of corners of pixels are exact.

    >>> moments(np.array([shapely.box(0, 0, 2, 4)])).tolist()
    [[8.0, 8.0, 16.0]]
    """
    if not len(polygons):
        return np.zeros((0, 3))
    _, points, (starts, firsts) = shapely.to_ragged_array(polygons)
    (x, y), (next_x, next_y) = points.T, np.roll(points, -1, axis=0).T
    twice = x * next_y - next_x * y
    twice[starts[1:] - 1] = 0
    terms = np.stack([twice / 2, (x + next_x) * twice / 6, (y + next_y) * twice / 6], axis=1)
    rings = np.add.reduceat(terms, starts[:-1])
    rings *= -np.sign(rings[:, :1])
    rings[firsts[:-1]] *= -1  # shells
    return np.asarray(np.add.reduceat(rings, firsts[:-1]))


def _meetings(rimmed: np.ndarray) -> np.ndarray:
    """At which corners of pixels an outline turns, or more than two components meet.

    Args:
        rimmed: `(height + 2, width + 2)` labels.

    Returns:
        `(height + 1, width + 1)` bool: not where all is one component, or two have a straight side.
    """
    beside, below = rimmed[:, 1:] != rimmed[:, :-1], rimmed[1:] != rimmed[:-1]
    return np.asarray((beside[:-1] | beside[1:]) & (below[:, :-1] | below[:, 1:]))


def _alone(labels: np.ndarray, nodata: int) -> np.ndarray:
    """Labels with nodata around them, so that all components end there."""
    return np.pad(labels, 1, constant_values=nodata)


def _corners_in(window: Window) -> tuple[slice, slice]:
    """Rows and columns of the corners of the pixels of a window."""
    return Window(window.row, window.column, window.height + 1, window.width + 1).slices


def _windows(meets: np.ndarray, window: Window) -> Iterator[Window]:
    """A window, or what it is halved into until there are few enough meetings in each part."""
    height, width = window.height, window.width
    if np.count_nonzero(meets[_corners_in(window)]) <= MAX_MEETINGS or height == width == 1:
        yield window
        return
    halves = (-(-height // 2), width) if height >= width else (height, -(-width // 2))
    for half in window.subdivide(*halves):
        yield from _windows(meets, half)


def _traced(labels: np.ndarray, nodata: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixels of the components of a window, and their polygons in pixels of the window."""
    components = components_of(labels)
    corners = corners_of(_alone(labels, nodata), nodata)
    rings = rings_of(components.at(corners.pixels), *corners[1:])
    return components.first[rings.polygons], rings.geometries(Affine.identity())


def _moved(polygons: np.ndarray, window: Window) -> np.ndarray:
    """Polygons in pixels of a window in pixels of its block."""
    corner = np.array([window.column, window.row])
    return np.asarray(shapely.transform(polygons, lambda points: points + corner))


def _with_vertices(polygons: np.ndarray, is_vertex: np.ndarray) -> np.ndarray:
    """Polygons with those of their vertices that are marked.

    Args:
        polygons: `(n,)` polygons of corners of pixels.
        is_vertex: `(height + 1, width + 1)` bool, by row and column of a corner.
    """
    if not len(polygons):
        return polygons
    kind, points, (starts, firsts) = shapely.to_ragged_array(polygons)
    columns, rows = points.astype(np.int64).T
    stays = is_vertex[rows, columns]
    # The last point of a ring is its first one; what stays of the others is closed again.
    stays[starts[1:] - 1] = False
    counts = np.add.reduceat(stays, starts[:-1], dtype=np.int64)
    ends, points = np.cumsum(counts), points[stays]
    closed = np.insert(points, ends, points[ends - counts], axis=0)
    starts = np.append(0, ends + np.arange(1, len(ends) + 1))
    return np.asarray(shapely.from_ragged_array(kind, closed, (starts, firsts)))
