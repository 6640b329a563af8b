"""Ground areas of cells, whole ones and those that the rim of a projection cuts.

The rim is where the Earth ends in the plane of a map: the circle around a disk, the curves on the
left and right of a world map, the gaps between its lobes. What lies beyond it has no area. A cell
that is cut is seen from a point of it that is on the Earth: all around, the rim is found on lines
from there to its outline. Such areas are good to 1e-4 of the ground in the cut cells.
"""

from collections.abc import Callable

import numpy as np

from pipelines.geodesy.ellipsoid import solid_angle, square

# Columns and rows to `(..., 3)` unit vectors on the authalic sphere; NaN off the Earth.
Places = Callable[[np.ndarray, np.ndarray], np.ndarray]

SIDE_STEPS = 4  # points along a side of a cell that is cut
HALVINGS = 20  # of the way to the rim
BATCH = 1 << 16  # cells at a time, to spare memory


def lattice_areas(places: Places, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Areas of the cells between grid lines on the unit sphere.

    Args:
        places: Where columns and rows are on the ground.
        columns: `(n + 1,)` ascending columns of the lines.
        rows: `(m + 1,)` ascending rows of the lines.

    Returns:
        `(m, n)` steradians: 0 for cells without a corner on the Earth; NaN for those that have some
        corners there and others not, see `cut_areas`.
    """
    nodes = places(*np.meshgrid(columns, rows))
    corners = nodes[:-1, :-1], nodes[:-1, 1:], nodes[1:, 1:], nodes[1:, :-1]
    return _corner_areas(*corners)


def _corner_areas(*corners: np.ndarray) -> np.ndarray:
    """Areas of cells by their four corners in turn; 0 if none is on the Earth, NaN if some are."""
    one, other = corners[2] - corners[0], corners[3] - corners[1]
    doubled = np.linalg.norm(np.cross(one, other), axis=-1)
    diagonals = np.einsum("...i,...i", one, one) + np.einsum("...i,...i", other, other)
    areas = doubled * (0.5 + diagonals / 32)  # of chords, and what the sphere adds to a square
    off_earth = np.logical_and.reduce([np.isnan(corner[..., 0]) for corner in corners])
    return np.where(off_earth, 0.0, areas)


def cut_areas(places: Places, columns: np.ndarray, rows: np.ndarray, size: float) -> np.ndarray:
    """Areas on the unit sphere of square cells of which the rim of the projection may cut some.

    Args:
        places: Where columns and rows are on the ground.
        columns, rows: `(n,)` corner of each cell with the least column and row.
        size: Side of the cells.

    Returns:
        `(n,)` steradians; 0 for cells without a corner on the Earth.
    """
    areas = [np.zeros(0)]
    for start in range(0, len(columns), BATCH):
        part = slice(start, start + BATCH)
        areas.append(_cut_areas(places, columns[part], rows[part], size))
    return np.concatenate(areas)


def _cut_areas(places: Places, columns: np.ndarray, rows: np.ndarray, size: float) -> np.ndarray:
    origin = np.stack([columns, rows], axis=-1)[:, np.newaxis]
    ring = origin + size * np.stack(square(1, 1), axis=-1)
    areas = _corner_areas(*places(ring[..., 0], ring[..., 1]).swapaxes(0, 1))
    is_cut = np.isnan(areas)
    if not is_cut.any():
        return areas
    ring = origin[is_cut] + size * np.stack(square(SIDE_STEPS, SIDE_STEPS), axis=-1)
    known = np.isfinite(places(ring[..., 0], ring[..., 1])[..., 0])
    # A side that is not cut is one step, as for the cell on its other side.
    corners = known[:, ::SIDE_STEPS]
    uncut = (corners & np.roll(corners, -1, axis=1)).repeat(SIDE_STEPS, axis=1)
    ring = np.where(uncut[..., np.newaxis], ring[:, ::SIDE_STEPS].repeat(SIDE_STEPS, 1), ring)
    known |= uncut
    apex = _apexes(places, ring, known)
    # The rim on the way to each point, and between two points if it passes there.
    far, off = ring.copy(), ~known
    far[off] = _at_rim(places, np.broadcast_to(apex[:, np.newaxis], ring.shape)[off], ring[off])
    between, following = far.copy(), np.roll(ring, -1, axis=1)
    crossed, is_first = off != np.roll(off, -1, axis=1), known[..., np.newaxis]
    near, beyond = np.where(is_first, ring, following), np.where(is_first, following, ring)
    between[crossed] = _at_rim(places, near[crossed], beyond[crossed])
    path = np.stack([far, between], axis=2).reshape(len(ring), -1, 2)
    centres = places(apex[:, 0], apex[:, 1])
    areas[is_cut] = np.abs(solid_angle(centres, places(path[..., 0], path[..., 1])))
    return areas


def _apexes(places: Places, ring: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A point `(n, 2)` on the Earth in each cell, in the middle of what is there if it can be."""
    count = known.sum(axis=1, keepdims=True)
    middle = np.where(known[..., np.newaxis], ring, 0).sum(axis=1) / count
    corner = np.take_along_axis(ring, known.argmax(axis=1)[:, np.newaxis, np.newaxis], axis=1)[:, 0]
    is_known = np.isfinite(places(middle[:, 0], middle[:, 1])[:, :1])
    return np.where(is_known, middle, corner)


def _at_rim(places: Places, near: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """The last points `(n, 2)` on the Earth on the ways from points there to points beyond."""
    for _ in range(HALVINGS):
        middle = (near + beyond) / 2
        known = np.isfinite(places(middle[:, 0], middle[:, 1])[:, :1])
        near, beyond = np.where(known, middle, near), np.where(known, beyond, middle)
    return near
