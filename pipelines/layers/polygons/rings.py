"""Rings of components from their corners.

Along a row, corners of a component are the ends of the level sides of its outline, two by two;
along a column those of the upright ones. So sorting them twice gives the outline. Where a component
touches itself in a corner, the two turns there go round what is outside. So rings touch each other
and never themselves, and holes are apart from the shell, as polygons must have it.
"""

from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order

from pipelines.layers.polygons.components import firsts_of, grouped, joined


class Rings(NamedTuple):
    """Closed rings of polygons, without corners on straight lines; the shell of each comes first.

    In a raster whose rows go down, shells are counterclockwise, and holes clockwise.

    Args:
        columns, rows: `(vertices,)` int64 corners of pixels.
        ring_ends: `(rings + 1,)` int64 vertex at which each ring begins, and the end of the last.
        polygon_ends: `(polygons + 1,)` int64 the same of polygons, in rings.
        polygons: `(polygons,)` component of each polygon, in order.
    """

    columns: np.ndarray
    rows: np.ndarray
    ring_ends: np.ndarray
    polygon_ends: np.ndarray
    polygons: np.ndarray

    def geometries(self, transform: Affine) -> np.ndarray:
        """`(polygons,)` geometries of shapely in the coordinates of a transform.

        Equal corners have equal coordinates, whatever polygon and block they are part of.
        """
        a, b, c, d, e, f = tuple(transform)[:6]
        columns, rows = self.columns, self.rows
        places = np.stack([a * columns + b * rows + c, d * columns + e * rows + f], axis=-1)
        ends = self.ring_ends, self.polygon_ends
        found = shapely.from_ragged_array(shapely.GeometryType.POLYGON, places, ends)
        is_mirrored = transform.determinant > 0
        return np.asarray(shapely.reverse(found) if is_mirrored else found)


def rings_of(
    components: np.ndarray, rows: np.ndarray, columns: np.ndarray, signs: np.ndarray
) -> Rings:
    """The rings of components.

    Args:
        components: `(corners,)` component of each corner; with other corners, one that hangs
            together by its sides. Corners are in order, row by row.
        rows: `(corners,)` row of the pixel below each.
        columns: `(corners,)` column of the pixel to the right of each.
        signs: `(corners,)` 1 or -1.

    >>> found = rings_of(np.zeros(4, int), *np.array([[0, 0, 1, 1], [0, 2, 0, 2], [1, -1, -1, 1]]))
    >>> found.columns.tolist(), found.rows.tolist()
    ([2, 0, 0, 2, 2], [0, 0, 1, 1, 0])
    """
    if not len(components):
        empty = np.zeros(0, np.int64)
        return Rings(empty, empty, np.zeros(1, np.int64), np.zeros(1, np.int64), empty)
    order = grouped(components, components.max() + 1)
    of, y, x, sign = (values[order] for values in (components, rows, columns, signs))
    # Of the two ends of a level side, the one where it begins: the inside is on its left.
    inside_below = sign[::2] > 0
    begins = np.arange(0, len(of), 2) + inside_below
    ends = begins ^ 1
    follows = _upright_sides(of, y, x, sign)[ends] >> 1
    ring, first = _cycles(follows)
    order = _in_turn(follows, ring, first)
    vertices = np.stack([begins[order], ends[order]], axis=-1).ravel()
    lengths = 2 * np.bincount(ring)
    # Every ring ends with the vertex that it begins with.
    starts = np.cumsum(lengths) - lengths
    closed = np.insert(vertices, starts + lengths, vertices[starts])
    ring_ends = np.concatenate([[0], np.cumsum(lengths + 1)])
    polygons, polygon_starts = np.unique(of[2 * first], return_index=True)
    polygon_ends = np.append(polygon_starts, len(first))
    return Rings(x[closed], y[closed], ring_ends, polygon_ends, polygons)


def _upright_sides(of: np.ndarray, y: np.ndarray, x: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """The corner at the other end of the upright side at each corner."""
    columns = x - x.min()
    across = grouped(columns, columns.max() + 1)
    order = across[grouped(of[across], of[-1] + 1)]
    # A corner that counts twice: the first one ends the level side on the left.
    is_twice = (of[1:] == of[:-1]) & (y[1:] == y[:-1]) & (x[1:] == x[:-1])
    twice = np.flatnonzero(is_twice & (sign[1:] > 0))
    number = np.arange(len(of))
    number[twice], number[twice + 1] = twice + 1, twice
    order = number[order]
    other = np.empty_like(number)
    other[order[::2]], other[order[1::2]] = order[1::2], order[::2]
    return other


def _cycles(follows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of the cycle that each thing is in, in order of their first things, and those."""
    ring = joined(len(follows), np.arange(len(follows)), follows)
    return ring, firsts_of(ring)


def _in_turn(follows: np.ndarray, ring: np.ndarray, first: np.ndarray) -> np.ndarray:
    """All things, one cycle after the other, each from its first on."""
    size = len(follows)
    path = follows.copy()
    last = np.flatnonzero(follows == first[ring])
    last = last[np.argsort(ring[last])]
    # From the last of a cycle to the first of the next, so that one walk passes all of them.
    path[last[:-1]] = first[1:]
    steps = np.delete(path, last[-1])
    ends = np.arange(size + 1)
    ends[last[-1] + 1 :] -= 1
    graph = csr_array((np.ones(size - 1), steps, ends), (size, size))
    return np.asarray(breadth_first_order(graph, first[0], return_predecessors=False))
