"""Zooms made of a deeper one: of each group of pixels the one nearest to its middle.

The middle of `2^n` by `2^n` pixels is a corner of four of them, equally near; the lower right one
is taken. When four zooms are made, all that lower zooms take is among every 16th row and column: so
a thinned copy is all that the next tier needs, and each zoom has labels of the deepest one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from pmtiles.tile import zxy_to_tileid

from pipelines.layers.tiles.mercator import TILE_PX
from segmodel.tiling.windows import Window

# Zooms that one unit makes of a deeper one.
ZOOMS_PER_TIER = 4


class WebTile(NamedTuple):
    """A tile, and its number in an archive: zoom by zoom, along a Hilbert curve."""

    id: int
    zoom: int
    column: int
    row: int


@dataclass(frozen=True)
class Tier:
    """Some zooms that are made together: `deepest` at their bottom, `base` at their top.

    Attributes:
        number: 0 for the tier that reads label maps; each other reads the one before.
        base: Zoom of the tiles of which each is one unit, with all below it.
        deepest: Zoom of the labels that a unit has.
    """

    number: int
    base: int
    deepest: int

    @property
    def stride(self) -> int:
        """Rows and columns of the deepest zoom to a pixel of the base zoom."""
        return 1 << (self.deepest - self.base)

    @property
    def side(self) -> int:
        """Rows and columns of labels of a unit."""
        return TILE_PX * self.stride

    @property
    def zooms(self) -> range:
        """Zooms whose tiles its units write; what is deepest in a tier, the one before has."""
        return range(self.base, self.deepest + (self.number == 0))

    def window(self, column: int, row: int) -> Window:
        """The pixels of the deepest zoom that a tile of the base zoom covers."""
        return Window(row * self.side, column * self.side, self.side, self.side)

    def tiles(self, window: Window) -> Iterator[WebTile]:
        """All tiles of a unit, in order of an archive.

        Args:
            window: Pixels of the deepest zoom, a tile of the base zoom.
        """
        column, row = window.column // self.side, window.row // self.side
        for zoom in self.zooms:
            count = 1 << (zoom - self.base)
            places = product(*(range(count * at, count * (at + 1)) for at in (column, row)))
            yield from sorted(WebTile(zxy_to_tileid(zoom, x, y), zoom, x, y) for x, y in places)

    def pixels(self, labels: np.ndarray, window: Window, tile: WebTile) -> np.ndarray:
        """`(256, 256)` labels of a tile.

        Args:
            labels: `(side, side)` labels of the deepest zoom.
            window: Where they are.
            tile: One of `tiles(window)`.
        """
        step = 1 << (self.deepest - tile.zoom)
        width = TILE_PX * step
        top, left = tile.row * width - window.row, tile.column * width - window.column
        return labels[top : top + width, left : left + width][step // 2 :: step, step // 2 :: step]


def tiers(deepest: int) -> list[Tier]:
    """The tiers of an archive, the one of the deepest zoom first.

    >>> [(tier.base, tier.deepest) for tier in tiers(9)]
    [(5, 9), (1, 5), (0, 1)]
    """
    found = [Tier(0, max(0, deepest - ZOOMS_PER_TIER), deepest)]
    while found[-1].base:
        deepest = found[-1].base
        found.append(Tier(len(found), max(0, deepest - ZOOMS_PER_TIER), deepest))
    return found


def thinned(labels: np.ndarray, tier: Tier) -> np.ndarray:
    """`(256, 256)` of the labels of a unit: all that any lower zoom takes."""
    return labels[:: tier.stride, :: tier.stride]
