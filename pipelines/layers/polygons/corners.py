"""Corners of components: where their outlines turn, from which the polygons follow.

A corner has the sign of the second difference of the component there: with 1 inside and 0 outside,
upper left plus lower right minus upper right minus lower left. Where two pixels of a component
touch in a corner only, it counts twice. Whether a pixel gives a corner follows from the eight
pixels around it. So a block that sees one pixel beyond its sides has the corners of the whole.
"""

from typing import NamedTuple

import numpy as np

from pipelines.layers.polygons.components import STRIP_ROWS

# The pixels around a corner: row, column, and sign where it is the only one inside.
_PIXELS = ((0, 0, 1), (0, 1, -1), (1, 0, -1), (1, 1, 1))


class Corners(NamedTuple):
    """Corners of components, row by row.

    Args:
        pixels: `(corners,)` int64 pixel of the component by which a corner is one, counted row by
            row in the label map without its rim.
        rows: `(corners,)` int64 row of the pixel below the corner.
        columns: `(corners,)` int64 column of the pixel to the right of it.
        signs: `(corners,)` int8, 1 or -1.
    """

    pixels: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    signs: np.ndarray


def corners_of(rimmed: np.ndarray, nodata: int) -> Corners:
    """All corners of the components of a label map.

    Args:
        rimmed: `(height + 2, width + 2)` label map with one pixel around it, which is nodata where
            nothing is.
        nodata: Label without components.
    """
    height, width = (side - 2 for side in rimmed.shape)
    rows, columns = np.divmod(_turns(rimmed), width + 1)
    around = [[rimmed[rows + y, columns + x] for x in (0, 1)] for y in (0, 1)]
    (upper_left, upper_right), (lower_left, lower_right) = around
    leaves_row = upper_left != upper_right, lower_left != lower_right
    leaves_column = upper_left != lower_left, upper_right != lower_right
    # By whether a pixel is on the diagonal from the upper left.
    is_notch = upper_right != lower_left, upper_left != lower_right
    has_row, has_column = (rows > 0, rows < height), (columns > 0, columns < width)
    is_corner = np.empty((len(rows), len(_PIXELS)), bool)
    signs = np.empty(is_corner.shape, np.int8)
    for place, (y, x, sign) in enumerate(_PIXELS):
        turns_here = leaves_row[y] == leaves_column[x]
        turns_here &= leaves_row[y] | is_notch[x == y]
        is_corner[:, place] = turns_here & has_row[y] & has_column[x] & (around[y][x] != nodata)
        signs[:, place] = np.where(leaves_row[y], sign, -sign)
    found = np.flatnonzero(is_corner)
    at, which = np.divmod(found, len(_PIXELS))
    before = np.array([(y - 1) * width + x - 1 for y, x, _ in _PIXELS])
    rows, columns = rows[at], columns[at]
    return Corners(rows * width + columns + before[which], rows, columns, signs.ravel()[found])


def _turns(rimmed: np.ndarray) -> np.ndarray:
    """Places where an outline turns or outlines meet, counted row by row, of `width + 1` a row."""
    found = []
    for top in range(0, len(rimmed) - 1, STRIP_ROWS):
        strip = rimmed[top : top + STRIP_ROWS + 1]
        beside, below = strip[:, 1:] != strip[:, :-1], strip[1:] != strip[:-1]
        # Everywhere else no line is, or one that goes straight on.
        turns = (beside[:-1] != beside[1:]) | (below[:, :-1] != below[:, 1:])
        turns |= beside[:-1] & below[:, :-1]
        found.append(np.flatnonzero(turns) + top * turns.shape[1])
    return np.concatenate(found)
