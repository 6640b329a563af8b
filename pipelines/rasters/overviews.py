"""Overviews of maps by the rules of GDAL 3.10, so that a map has the pixels that GDAL gives it.

An overview has half the rows and columns, rounded down. Its pixels stand for two by two; where a
side is odd, for a little more, so that those beside each other have pixels in common. Each is made
of the level below; once there is no column to leave out, of the map itself.

Source: `GDALRegenerateOverviewsMultiBand`, `GDALResampleChunk_Mode` and `_AverageOrRMS` of GDAL.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

# What GDAL takes for rounding at the ends of what a pixel stands for.
_ROUNDING = 1e-10
# Most pixels of a map that an overview of one column is made of: of more it would take too long.
_MAX_NARROW_PIXELS = 1 << 18


def overview_sizes(height: int, width: int, most_px: int) -> list[tuple[int, int]]:
    """Rows and columns of the overviews of a map, of which the last fits in one tile.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        most_px: Side of a tile.

    >>> overview_sizes(1100, 2049, 512)
    [(550, 1024), (275, 512)]
    """
    sizes = []
    while max(height, width) > most_px:
        height, width = max(1, height // 2), max(1, width // 2)
        sizes.append((height, width))
    return sizes


def level_below(level: int, sizes: Sequence[tuple[int, int]], has_palette: bool) -> int:
    """The level that an overview is made of.

    Args:
        level: Number of the overview, from 1 on.
        sizes: Rows and columns of the map and of its overviews.
        has_palette: Whether the map has a palette, with which GDAL never takes the map.

    >>> level_below(2, [(9000, 2), (4500, 1), (2250, 1)], has_palette=False)
    0
    >>> level_below(2, [(9000, 2), (4500, 1), (2250, 1)], has_palette=True)
    1
    """
    is_narrow = sizes[level - 1][1] == sizes[level][1] and not has_palette
    return 0 if is_narrow and math.prod(sizes[0]) <= _MAX_NARROW_PIXELS else level - 1


@dataclass(frozen=True)
class Spans:
    """What some pixels along an axis of an overview stand for.

    Args:
        begins: `(pixels,)` first pixel of each in the level below.
        weights: `(pixels, longest)` how much that pixel and those after it count; 0 behind the
            last one.
        begin: The first pixel of all.
        length: Pixels from there to the last of all.
    """

    begins: np.ndarray
    weights: np.ndarray
    begin: int
    length: int

    @classmethod
    def of(cls, first: int, count: int, source: int, target: int) -> "Spans":
        """Spans of some pixels along an axis.

        Args:
            first: The first of them.
            count: Number of them.
            source: Length of the axis in the level below.
            target: Length of the axis in the overview.

        >>> spans = Spans.of(0, 2, 5, 2)
        >>> spans.begins.tolist(), spans.weights.tolist()
        ([0, 2], [[1.0, 1.0, 0.5], [0.5, 1.0, 1.0]])
        """
        places = first + np.arange(count + 1)
        low, high = places[:-1] * (source / target), places[1:] * (source / target)
        begins = np.floor(low + _ROUNDING).astype(int)
        ends = np.minimum(np.ceil(high - _ROUNDING).astype(int), source)
        pixels = begins[:, None] + np.arange(int((ends - begins).max()))
        # A pixel counts by how much of it is in the span.
        share = np.minimum(pixels + 1, high[:, None]) - np.maximum(pixels, low[:, None])
        weights = np.where(pixels < ends[:, None], share, 0.0)
        return cls(begins, weights, int(begins[0]), int(ends[-1] - begins[0]))

    def steps(self) -> Iterator[tuple[slice | np.ndarray, np.ndarray]]:
        """The first pixel of each span, the second, and so on: places from `begin`, and weights."""
        for number, weights in enumerate(self.weights.T):
            places = self.begins - self.begin + number
            if len(places) == 1 or (np.diff(places) == 2).all():
                # Which numpy reads several times faster.
                yield slice(number, int(places[-1]) + 1, 2), weights
            else:
                yield np.minimum(places, self.length - 1), weights


def mode_of(values: np.ndarray, rows: Spans, columns: Spans, nodata: int) -> np.ndarray:
    """The most frequent label of what each pixel stands for; nodata only where nothing else is.

    Of labels that are equally frequent it is the one that is so first, row by row.

    Args:
        values: `(bands, height, width)` labels of the level below, from the first pixel of both
            spans to the last.
        rows: What rows stand for.
        columns: What columns stand for.
        nodata: Label of pixels without one.

    Returns:
        `(bands, rows, columns)` labels of the overview.
    """
    parts: list[np.ndarray] = []
    for (row, down), (column, across) in product(rows.steps(), columns.steps()):
        part = values[:, row][:, :, column].copy()
        if not (down.all() and across.all()):
            part[:, np.outer(down, across) == 0] = nodata
        parts.append(part)
    result = parts[0]
    # Most pixels stand for one label only; the others are counted.
    is_mixed = np.zeros(result.shape, bool)
    for part in parts[1:]:
        is_mixed |= part != result
    places = np.flatnonzero(is_mixed)
    mixed = [part.ravel()[places] for part in parts]
    best = np.full(len(places), nodata, values.dtype)
    most = np.zeros(len(places), np.min_scalar_type(len(parts)))
    for number, part in enumerate(mixed):
        seen = np.ones_like(most)
        for before in mixed[:number]:
            seen += part == before
        is_more = (part != nodata) & (seen > most)
        best, most = np.where(is_more, part, best), np.where(is_more, seen, most)
    result.ravel()[places] = best
    return result


def mean_of(values: np.ndarray, rows: Spans, columns: Spans) -> np.ndarray:
    """The mean of what each pixel stands for, halves rounded up; uint8.

    Args:
        values: `(bands, height, width)` uint8 of the level below, from the first pixel of both
            spans to the last.
        rows: What rows stand for.
        columns: What columns stand for.

    Returns:
        `(bands, rows, columns)` uint8 of the overview.
    """
    shape = len(values), len(rows.begins), len(columns.begins)
    total = np.zeros(shape)
    for row, down in rows.steps():
        line = np.zeros(shape)
        for column, across in columns.steps():
            line += values[:, row][:, :, column] * across
        total += line * down[:, None]
    weight = np.outer(rows.weights.sum(axis=1), columns.weights.sum(axis=1))
    return np.asarray(total / weight + 0.5).astype(np.uint8)
