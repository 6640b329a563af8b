"""Pixels picked by random numbers, each with a chance in proportion to its ground area."""

from collections.abc import Callable

import numpy as np

# Ground area of the pixels of some rows, `(rows, 1)` or `(rows, width)`, by the first row and the
# number of rows.
AreasOfRows = Callable[[int, int], np.ndarray]


def row_areas(mask: np.ndarray, areas_m2: np.ndarray) -> np.ndarray:
    """Ground area of a mask, row by row.

    Args:
        mask: `(rows, width)` bool.
        areas_m2: Ground area of pixels, `(rows, 1)` or `(rows, width)`.

    Returns:
        `(rows,)` float64.
    """
    if areas_m2.shape[1] == 1:
        return np.asarray(mask.sum(axis=1) * areas_m2[:, 0])
    return np.asarray(np.where(mask, areas_m2, 0.0).sum(axis=1))


def pixels_at(
    mask_of: Callable[[int], np.ndarray],
    ends: np.ndarray,
    areas_m2: AreasOfRows,
    shares: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels at shares of the cumulative ground area of a mask, row by row.

    Args:
        mask_of: `(width,)` bool mask of a row.
        ends: `(height,)` cumulative ground area of the rows of the mask, which has some.
        areas_m2: Ground area of the pixels of some rows.
        shares: `(pixels,)` float64 in [0, 1).

    Returns:
        Row and column of each, `(pixels,)` int64.

    >>> mask = np.array([[True, False], [True, True]])
    >>> ends, shares = np.array([1.0, 3.0]), np.array([0.0, 0.34, 0.99])
    >>> pixels_at(lambda row: mask[row], ends, lambda top, rows: np.ones((rows, 1)), shares)
    (array([0, 1, 1]), array([0, 0, 1]))
    """
    order = np.argsort(shares, kind="stable")
    places = shares[order] * ends[-1]
    rows, columns = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    rows[order] = found = _first_above(ends, places)
    runs = np.unique(found, return_index=True, return_counts=True)
    for row, first, count in np.stack(runs, axis=1).tolist():
        mask = mask_of(row)
        candidates = np.flatnonzero(mask)
        areas = np.broadcast_to(areas_m2(row, 1), (1, len(mask)))[0, candidates]
        here = slice(first, first + count)
        within_row = places[here] - (ends[row - 1] if row else 0.0)
        columns[order[here]] = candidates[_first_above(np.cumsum(areas), within_row)]
    return rows, columns


def _first_above(ends: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Index of the first of ascending ends that is above each place; the last that adds to the sum.

    Rounding may lead to the end itself.
    """
    last = np.searchsorted(ends, ends[-1])
    return np.asarray(np.minimum(np.searchsorted(ends, places, "right"), last))
