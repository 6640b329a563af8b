"""Where label maps are on the square that web tiles divide, and which of them meet a part of it."""

from collections.abc import Iterable

import numpy as np
import shapely

from pipelines.layers.maps import LabelMap
from pipelines.layers.tiles.mercator import extent_of


class PlacedMaps:
    """Finds label maps by their place on the world square.

    Attributes:
        maps: Those that have a place there; what takes precedence comes first.
        extents: Where they are, in the same order.

    Args:
        maps: Label maps of a run; those that take precedence come first.
    """

    def __init__(self, maps: Iterable[LabelMap]) -> None:
        placed = [(found, extent) for found in maps if (extent := extent_of(found.grid))]
        self.maps = [found for found, _ in placed]
        self.extents = [extent for _, extent in placed]
        # What goes beyond the antimeridian is at both edges.
        boxes = [
            (number, max(0.0, extent.west - turn), extent.north, extent.east - turn, extent.south)
            for number, extent in enumerate(self.extents)
            for turn in ((0, 1) if extent.east > 1 else (0,))
        ]
        numbers, *edges = np.array(boxes).reshape(-1, 5).T
        self._numbers = numbers.astype(np.int64)
        self._tree = shapely.STRtree(shapely.box(*edges))

    def meeting(self, west: float, north: float, east: float, south: float) -> list[LabelMap]:
        """Label maps that may show something in a rectangle, in order of precedence.

        Args:
            west: Share of the width at its west edge.
            north: Share of the height at its north edge.
            east: Share of the width at its east edge.
            south: Share of the height at its south edge.
        """
        found = self._numbers[self._tree.query(shapely.box(west, north, east, south))]
        return [self.maps[number] for number in np.unique(found).tolist()]
