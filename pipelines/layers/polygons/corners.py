"""Corners of components: where their outlines turn, from which the polygons follow.

A corner has the sign of the second difference of the component there: with 1 inside and 0 outside,
upper left plus lower right minus upper right minus lower left. Where two pixels of a component
touch in a corner only, it counts twice. Whether a pixel gives a corner follows from the eight
pixels around it. So a block that sees one pixel beyond its sides has the corners of the whole.
"""

from typing import NamedTuple

import numpy as np

# The pixels around a corner: row, column, and sign where it is the only one inside.
_PIXELS = ((0, 0, 1), (0, 1, -1), (1, 0, -1), (1, 1, 1))


class Corners(NamedTuple):
    """Corners of components.

    Args:
        pixels: `(corners,)` int64 pixel of the component by which a corner is one, counted row by
            row in the label map without its rim.
        rows: `(corners,)` int64 row of the pixel below the corner.
        columns: `(corners,)` int64 column of the pixel to the right of it.
        signs: `(corners,)` int64, 1 or -1.
    """

    pixels: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    signs: np.ndarray


def corners_of(rimmed: np.ndarray, nodata: int) -> Corners:
    """All corners of the components of a label map, in no order that matters.

    Args:
        rimmed: `(height + 2, width + 2)` label map with one pixel around it, which is nodata where
            nothing is.
        nodata: Label without components.
    """
    height, width = (side - 2 for side in rimmed.shape)
    beside = rimmed[:, 1:] != rimmed[:, :-1]
    below = rimmed[1:] != rimmed[:-1]
    up, left = beside[:-1], below[:, :-1]
    # Everywhere else nothing turns: no line meets, or one that goes straight on.
    turns = (up != beside[1:]) | (left != below[:, 1:]) | (up & left)
    rows, columns = np.divmod(np.flatnonzero(turns), width + 1)
    around = {(y, x): rimmed[rows + y, columns + x] for y in (0, 1) for x in (0, 1)}
    found = []
    for y, x, sign in _PIXELS:
        label = around[y, x]
        leaves_row, leaves_column = label != around[y, 1 - x], label != around[1 - y, x]
        is_notch = label != around[1 - y, 1 - x]
        is_corner = (leaves_row == leaves_column) & (leaves_row | is_notch) & (label != nodata)
        row, column = rows + (y - 1), columns + (x - 1)
        is_corner &= (row >= 0) & (row < height) & (column >= 0) & (column < width)
        signs = np.where(leaves_row, sign, -sign)
        own = np.flatnonzero(is_corner)
        found.append((row[own] * width + column[own], rows[own], columns[own], signs[own]))
    return Corners(*map(np.concatenate, zip(*found, strict=True)))
