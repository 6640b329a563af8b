"""What is known of the pixels of a component, as whole numbers: sums of them are exact.

So neither blocks nor the order in which they are added matter. A pixel has the difference of two
whole numbers: the areas of its row up to it and with it, from a column that is fixed on the label
map. A run of pixels has the difference of two as well, so that areas cost little. They are cut at
2^-46 of the mean pixel, and their sums kept as two numbers, so that billions of pixels fit.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from pipelines.geodesy.ground import GroundGrid
from pipelines.layers.polygons.components import Components
from segmodel.tiling.windows import Window

# Columns of the sums of components.
MEASURES = ("pixels", "area_high", "area_low", "counted_high", "counted_low", "confidence")
AREA, COUNTED = slice(1, 3), slice(3, 5)
_BITS, _LOW_BITS = 46, 26
# What of a label map is computed together, so that it is the same in any block.
_TILE_ROWS, _TILE_COLUMNS = 512, 2048

# Area of a row left of a column, in m², given rows and columns in a tile.
AreaLeftOf = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class WholeAreas:
    """Ground areas as whole numbers of a unit, which is a power of two of a m².

    Args:
        ground: Where the label map is on the ground; or the area of each pixel in m².
        exponent: Power of two that is the unit.
    """

    ground: GroundGrid | float
    exponent: int

    @classmethod
    def of(cls, ground: GroundGrid | float) -> "WholeAreas":
        """The areas of a label map; see `ground`."""
        mean = _mean_m2(ground) if isinstance(ground, GroundGrid) else ground
        return cls(ground, math.frexp(mean)[1] - _BITS)

    def of_runs(self, rows: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Areas of runs of pixels.

        Args:
            rows: `(runs,)` row of each; ascending.
            starts: `(runs,)` its first column.
            stops: `(runs,)` its last column, plus one.

        Returns:
            `(runs,)` int64.
        """
        if not isinstance(self.ground, GroundGrid):
            return np.asarray(self._whole(np.array(self.ground)) * (stops - starts))
        found = np.zeros(len(rows), np.int64)
        if not len(rows):
            return found
        first, last = int(starts.min()) // _TILE_COLUMNS, int(stops.max() - 1) // _TILE_COLUMNS
        for down in range(int(rows[0]) // _TILE_ROWS, int(rows[-1]) // _TILE_ROWS + 1):
            top = down * _TILE_ROWS
            own = slice(*np.searchsorted(rows, (top, top + _TILE_ROWS)))
            for left in range(first * _TILE_COLUMNS, (last + 1) * _TILE_COLUMNS, _TILE_COLUMNS):
                area_left_of = _tile(self.ground, top, left)
                width = min(_TILE_COLUMNS, self.ground.width - left)
                begin, end = (np.clip(at[own] - left, 0, width) for at in (starts, stops))
                found[own] += self._whole(area_left_of(rows[own] - top, end))
                found[own] -= self._whole(area_left_of(rows[own] - top, begin))
        return found

    def _whole(self, areas_m2: np.ndarray) -> np.ndarray:
        return np.asarray(np.rint(np.ldexp(areas_m2, -self.exponent)), np.int64)

    def square_metres(self, sums: np.ndarray) -> np.ndarray:
        """`(components,)` float64 m², given `(components, 2)` sums of both numbers."""
        high, low = sums.T.astype(np.float64)
        return np.asarray(np.ldexp(np.ldexp(high, _LOW_BITS) + low, self.exponent))

    def exact(self, sums: Sequence[int] | np.ndarray) -> Fraction:
        """The same, exactly, of one component."""
        whole = (int(sums[0]) << _LOW_BITS) + int(sums[1])
        return whole * Fraction(2) ** self.exponent


@lru_cache(16)
def _mean_m2(ground: GroundGrid) -> float:
    return ground.footprint_m2() / (ground.height * ground.width)


@lru_cache(16)
def _tile(ground: GroundGrid, top: int, left: int) -> AreaLeftOf:
    """Areas in a tile, the same bits whoever asks for them."""
    height, width = min(_TILE_ROWS, ground.height - top), min(_TILE_COLUMNS, ground.width - left)
    smooth = ground.row_areas(top, left, height, width)
    if smooth is None:
        areas = ground.pixel_areas_m2(top, left, height, width)
        sums = np.hstack([np.zeros((height, 1)), np.cumsum(areas, axis=1)])
        return lambda rows, columns: np.asarray(sums[rows, columns])
    return smooth.left_of


def measures_of(
    components: Components,
    window: Window,
    areas: WholeAreas | None,
    elsewhere: np.ndarray | None,
    confidence: np.ndarray | None,
) -> np.ndarray:
    """Sums over the pixels of components.

    Args:
        components: Components of a block.
        window: The block in its label map.
        areas: Ground areas of its pixels; None without ground.
        elsewhere: `(height, width)` bool, pixels that count in another scene; None for no pixel.
        confidence: `(height, width)` uint8, in which 255 is 1.0, or None.

    Returns:
        `(components, 6)` int64 by `MEASURES`; 0 for what is None.
    """
    sums = np.zeros((len(components.first), len(MEASURES)), np.int64)
    sums[:, 0] = components.pixels
    if areas is not None:
        found = _run_areas(window, areas, components.starts, components.lengths)
        sums[:, AREA] = _two_sums(found, components.of_run, len(sums))
        sums[:, COUNTED] = sums[:, AREA]
        if elsewhere is not None and elsewhere.any():
            begins = np.flatnonzero(np.diff(elsewhere.ravel(), prepend=False))
            starts = np.union1d(components.starts, begins)
            lengths = np.diff(starts, append=elsewhere.size)
            is_there = elsewhere.ravel()[starts]
            starts, lengths = starts[is_there], lengths[is_there]
            found = _run_areas(window, areas, starts, lengths)
            sums[:, COUNTED] -= _two_sums(found, components.at(starts), len(sums))
    if confidence is not None:
        sums[:, -1] = components.sums(confidence)
    return sums


def _run_areas(
    window: Window, areas: WholeAreas, starts: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    rows, columns = np.divmod(starts, window.width)
    columns += window.column
    return areas.of_runs(rows + window.row, columns, columns + lengths)


def _two_sums(values: np.ndarray, of: np.ndarray, count: int) -> np.ndarray:
    """`(count, 2)` sums of the high and the low parts of whole numbers, by their group."""
    parts = values >> _LOW_BITS, values & ((1 << _LOW_BITS) - 1)
    # Sums of whole numbers are exact in floating point below 2^53.
    return np.stack([np.bincount(of, part, count).astype(np.int64) for part in parts], axis=1)
