"""Ground area of pixels next to each other in a row, without that of each of them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RowAreas:
    """Ground area of the pixels of a window, as sums along rows.

    The sum of the products of a row of `down` and a column of `across`, term by term, is the area
    of the pixels of the row that are left of the column, in m².

    Args:
        down: `(terms, height)` float64.
        across: `(terms, width + 1)` float64.
    """

    down: np.ndarray
    across: np.ndarray

    def left_of(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Area of the pixels of rows that are left of columns.

        Args:
            rows: `(places,)` rows of the window.
            columns: `(places,)` columns, of which the last is the width of the window.

        Returns:
            `(places,)` float64 in m².
        """
        # Term after term: a product of matrices has other bits when it has other rows.
        total = self.down[0, rows] * self.across[0, columns]
        for down, across in zip(self.down[1:], self.across[1:], strict=True):
            total += down[rows] * across[columns]
        return np.asarray(total)

    def of_runs(self, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Areas of runs of pixels that cover the window, row by row.

        Args:
            rows: `(runs,)` row of each.
            starts: `(runs,)` its first column, from which it goes on to the next run or to the end
                of the row.

        Returns:
            `(runs,)` float64 in m².
        """
        height, width = self.down.shape[1], self.across.shape[1] - 1
        left = self.left_of(rows, starts)
        right, ends = np.roll(left, -1), np.roll(np.flatnonzero(starts == 0), -1) - 1
        right[ends] = self.left_of(np.arange(height), np.full(height, width))
        return np.asarray(right - left)
