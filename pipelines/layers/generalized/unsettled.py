"""What the blocks of a scene cannot settle alone: components that go on behind their sides.

A block finds the components that touch a side behind which the scene goes on. How large they are as
a whole, and which class those below the unit take, follows from all blocks together: from areas,
borders and the pixels along the sides, never from other pixels. So the result is that of the whole
scene, however it is cut and however large the unit is; a halo would have to be as wide as the
longest component below the unit can be.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pipelines.layers.generalized.mapping_unit import (
    MappingUnit,
    borders_between,
    longest,
    pairs_with_counts,
)
from pipelines.layers.polygons.components import components_of, joined
from pipelines.layers.polygons.measures import AREA, measures_of
from segmodel.tiling.windows import Window


class Sides(NamedTuple):
    """Sides of a block behind which its scene goes on."""

    top: bool
    left: bool
    bottom: bool
    right: bool


class Unsettled(NamedTuple):
    """Components of a block that go on behind its sides.

    Args:
        labels: `(pieces,)` their labels.
        sizes: `(pieces, 2)` int64 area within the block, as `WholeAreas` has it.
        borders: `(3, borders)` int64: piece, neighbour and length in sides of pixels, for pieces
            that are below the unit within the block. A neighbour is another such piece by its
            number or, from `len(labels)` on, a class that is surely large there.
        top, left, bottom, right: `(pixels,)` int32 piece of each pixel along a side, or -1; empty
            where the scene ends.
    """

    labels: np.ndarray
    sizes: np.ndarray
    borders: np.ndarray
    top: np.ndarray
    left: np.ndarray
    bottom: np.ndarray
    right: np.ndarray


class Settled(NamedTuple):
    """What became of components.

    Args:
        large: `(components,)` bool, whether each is large as a whole.
        labels: `(components,)` label that it has now.
    """

    large: np.ndarray
    labels: np.ndarray


class BlockComponents:
    """The components of a block, how large they are, and which of them go on.

    Attributes:
        found: The components.
        sizes: `(components, 2)` int64 area of each within the block, as `WholeAreas` has it.
        has_class: `(components,)` bool, False for nodata.
        is_open: `(components,)` bool, whether others have to be known to settle it.

    Args:
        labels: `(height, width)` labels.
        window: The block in its label map.
        sides: Where the scene goes on.
        unit: The minimum mapping unit.
        nodata: Value of pixels without a class.
    """

    def __init__(
        self, labels: np.ndarray, window: Window, sides: Sides, unit: MappingUnit, nodata: int
    ) -> None:
        self.found = components_of(labels)
        self.sizes = measures_of(self.found, window, unit.areas, None, None)[:, AREA]
        self._is_large = unit.is_large(self.sizes)
        self.has_class = self.found.labels != nodata
        ids = self.found.ids
        self._rims = [
            rim if is_open else rim[:0]
            for rim, is_open in zip((ids[0], ids[:, 0], ids[-1], ids[:, -1]), sides, strict=True)
        ]
        self.is_open = np.zeros(len(self.found.labels), bool)
        self.is_open[np.concatenate(self._rims)] = True
        self.is_open &= self.has_class

    def unsettled(self) -> Unsettled:
        """What other blocks have to know of it."""
        labels = self.found.labels
        pieces = np.flatnonzero(self.is_open)
        large = self._is_large
        numbers = np.full(len(labels), -1, np.int64)
        numbers[pieces] = np.arange(len(pieces))
        # What is below the unit and settled here is no neighbour that a class is taken from.
        as_neighbour = np.where(large, len(pieces) + labels.astype(np.int64), numbers)
        as_neighbour[~self.has_class] = -1
        owners, others = borders_between(self.found.ids, self.is_open & ~large, as_neighbour >= 0)
        pairs = pairs_with_counts(numbers[owners], as_neighbour[others])
        rims = (numbers[rim].astype(np.int32) for rim in self._rims)
        sizes = self.sizes[pieces]
        return Unsettled(labels[pieces], sizes, pairs, *rims)

    def settle(self, pieces: Settled) -> Settled:
        """What becomes of all components of the block.

        Args:
            pieces: What became of the pieces of `unsettled`, in their order.
        """
        labels, large = self.found.labels.copy(), self._is_large.copy()
        large[self.is_open] = pieces.large
        is_owner = ~large & ~self.is_open & self.has_class
        owners, others = borders_between(self.found.ids, is_owner, large & self.has_class)
        changed, classes = longest(*pairs_with_counts(owners, labels[others]))
        labels[changed] = classes
        labels[self.is_open] = pieces.labels
        return Settled(large, labels)


class SceneSeams:
    """The unsettled pieces of all blocks of a scene, which are added row by row.

    It holds what blocks say of their pieces, and of their sides only those of the last row.

    Args:
        unit: The minimum mapping unit.
    """

    def __init__(self, unit: MappingUnit) -> None:
        self._unit = unit
        self._pieces = 0
        self._blocks: list[int] = []
        self._of_pieces: list[tuple[np.ndarray, np.ndarray]] = []
        # Piece, neighbour or -1, class of a neighbour that is no piece, length.
        self._borders: list[np.ndarray] = []
        self._met: list[np.ndarray] = []
        self._above: list[np.ndarray] = []

    def add_row(self, blocks: Sequence[Unsettled]) -> None:
        """Add a row of blocks, from left to right, below those that were added."""
        firsts = []
        for block in blocks:
            firsts.append(self._pieces)
            self._blocks.append(self._pieces)
            self._of_pieces.append((block.labels, block.sizes))
            self._add_borders(block)
            self._pieces += len(block.labels)
        for (left, first), (right, second) in pairwise(zip(blocks, firsts, strict=True)):
            self._meet(_numbered(left.right, first), _numbered(right.left, second))
        # Of the first row there is none above.
        for above, block, first in zip(self._above, blocks, firsts, strict=False):
            self._meet(above, _numbered(block.top, first))
        pairs = zip(blocks, firsts, strict=True)
        self._above = [_numbered(block.bottom, first) for block, first in pairs]

    def _add_borders(self, block: Unsettled) -> None:
        owners, others, lengths = block.borders
        is_class = others >= len(block.labels)
        pieces = np.where(is_class, -1, others + self._pieces)
        classes = others - len(block.labels)
        self._borders.append(np.stack([owners + self._pieces, pieces, classes, lengths]))

    def _meet(self, first: np.ndarray, second: np.ndarray) -> None:
        """Add what lies on both sides of a seam, pixel by pixel."""
        both = (first >= 0) & (second >= 0)
        self._met.append(pairs_with_counts(first[both], second[both]))

    def settle(self) -> tuple[list[Settled], int]:
        """What became of the pieces of each block, in their order.

        Returns:
            It by block, and the number of components that stay as they are below the unit.
        """
        labels, sizes = (np.concatenate(values) for values in zip(*self._of_pieces, strict=True))
        first, second, lengths = np.hstack([np.empty((3, 0), np.int64), *self._met])
        same = labels[first] == labels[second]
        groups = joined(len(labels), first[same], second[same])
        # Sums of whole numbers are exact in floating point below 2^53.
        large = self._unit.is_large(np.stack([np.bincount(groups, p) for p in sizes.T], axis=1))
        apart = first[~same], second[~same], second[~same], lengths[~same]
        both_ways = np.hstack([*self._borders, apart, [apart[i] for i in (1, 0, 0, 3)]])
        owners, others, classes, lengths = both_ways
        classes = np.where(others < 0, classes, labels[others])
        counts = ~large[groups[owners]] & ((others < 0) | large[groups[others]])
        changed, taken = longest(groups[owners[counts]], classes[counts], lengths[counts])
        # Groups are numbered by their first pieces, and all pieces of one have one label.
        now = labels[np.unique(groups, return_index=True)[1]]
        stays = int(np.count_nonzero(~large)) - len(changed)
        now[changed] = taken
        parts = map(slice, self._blocks, [*self._blocks[1:], len(labels)])
        return [Settled(large[groups[part]], now[groups[part]]) for part in parts], stays


def _numbered(rim: np.ndarray, first: int) -> np.ndarray:
    """Pieces along a side by their number in the scene, or -1."""
    return np.where(rim < 0, -1, rim.astype(np.int64) + first)
