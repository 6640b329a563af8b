"""The polygons of a block: those that end in it, and pieces of those that go on beyond it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipelines.layers.polygons.components import Components, components_of, grouped
from pipelines.layers.polygons.corners import Corners, corners_of
from pipelines.layers.polygons.measures import WholeAreas, measures_of
from pipelines.layers.polygons.rings import Rings, rings_of
from segmodel.tiling.windows import Window


class LabelBlock(NamedTuple):
    """Pixels of a block of a label map.

    Attributes:
        window: Rows and columns of the label map.
        width: Columns of the whole label map.
        rimmed: `(height + 2, width + 2)` labels with one pixel around the block, which is nodata
            outside the label map.
        nodata: Label of pixels without a class.
        areas: Ground areas of the pixels of the label map, or None.
        elsewhere: `(height, width)` bool, pixels that count in another scene, or None.
        confidence: `(height, width)` uint8, or None.
    """

    window: Window
    width: int
    rimmed: np.ndarray
    nodata: int
    areas: WholeAreas | None = None
    elsewhere: np.ndarray | None = None
    confidence: np.ndarray | None = None


@dataclass(frozen=True)
class Heads:
    """What is known of components, or of pieces of them, but for their outline.

    Args:
        first: `(n,)` int64 first pixel, counted row by row in the whole label map; ascending.
        labels: `(n,)` int32 class ids.
        measures: `(n, 6)` int64 sums by `MEASURES`.
    """

    first: np.ndarray
    labels: np.ndarray
    measures: np.ndarray

    def select(self, which: np.ndarray) -> "Heads":
        """Those of some indices."""
        return Heads(self.first[which], self.labels[which], self.measures[which])


class Pieces(NamedTuple):
    """Pieces of components that go on beyond the block, or have too many corners.

    Attributes:
        heads: What is known of each piece.
        counts: `(pieces,)` int64 number of corners of each.
        keys: `(corners,)` int64 all corners, piece after piece, as `corner_keys` packs them.
        seams: For each side of `SIDES` the `(runs,)` int64 pieces along it, in order, a piece for
            each run of equal labels that goes on beyond the side. The block beyond has as many.
    """

    heads: Heads
    counts: np.ndarray
    keys: np.ndarray
    seams: tuple[np.ndarray, ...]


class TracedBlock(NamedTuple):
    """What tracing finds in a block: polygons that are finished, and pieces of others."""

    heads: Heads
    rings: Rings
    pieces: Pieces


SIDES = ("top", "left", "bottom", "right")


def corner_keys(rows: np.ndarray, columns: np.ndarray, signs: np.ndarray, width: int) -> np.ndarray:
    """Corners as one int64 each, which ascend row by row.

    Args:
        rows: Row of the pixel below each.
        columns: Column of the pixel to the right of each.
        signs: 1 or -1.
        width: Columns of the whole label map.
    """
    return np.asarray(((rows * (width + 1) + columns) << 1) | (signs > 0))


def unpacked(keys: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and signs of corners; see `corner_keys`."""
    rows, columns = np.divmod(keys >> 1, width + 1)
    return rows, columns, (keys & 1) * 2 - 1


def trace_block(block: LabelBlock, max_corners: int) -> TracedBlock:
    """Trace a block.

    Args:
        block: Its pixels.
        max_corners: Most corners of a polygon that is finished.
    """
    window = block.window
    labels = block.rimmed[1:-1, 1:-1]
    components = components_of(labels)
    corners = corners_of(block.rimmed, block.nodata)
    of = components.at(corners.pixels)
    counts = np.bincount(of, minlength=len(components.first))
    seams = _seams(block, components)
    is_open = counts > max_corners
    is_open[np.concatenate(seams)] = True
    rows, columns = np.divmod(components.first, window.width)
    first = (rows + window.row) * block.width + columns + window.column
    measures = measures_of(components, window, block.areas, block.elsewhere, block.confidence)
    heads = Heads(first, components.labels.astype(np.int32), measures)
    placed = corners._replace(
        rows=corners.rows + window.row, columns=corners.columns + window.column
    )
    is_own = ~is_open[of]
    rings = rings_of(of[is_own], *(values[is_own] for values in placed[1:]))
    pieces = np.flatnonzero(is_open)
    number = np.cumsum(is_open) - 1
    return TracedBlock(
        heads.select(rings.polygons),
        rings,
        Pieces(
            heads.select(pieces),
            counts[pieces],
            _keys(number[of[~is_own]], Corners(*(values[~is_own] for values in placed)), block),
            tuple(number[runs] for runs in seams),
        ),
    )


def _keys(of: np.ndarray, corners: Corners, block: LabelBlock) -> np.ndarray:
    """Corners packed, by their piece and then row by row."""
    keys = corner_keys(corners.rows, corners.columns, corners.signs, block.width)
    return np.asarray(keys[grouped(of, of.max(initial=0) + 1)])


def _seams(block: LabelBlock, components: Components) -> tuple[np.ndarray, ...]:
    """Components along the sides that go on beyond them, as `Pieces.seams` has them."""
    rimmed, (height, width) = block.rimmed, components.shape
    across, down = np.arange(width), np.arange(height) * width
    found = []
    for inner, outer, along in (
        (rimmed[1, 1:-1], rimmed[0, 1:-1], across),
        (rimmed[1:-1, 1], rimmed[1:-1, 0], down),
        (rimmed[-2, 1:-1], rimmed[-1, 1:-1], across + down[-1]),
        (rimmed[1:-1, -2], rimmed[1:-1, -1], down + across[-1]),
    ):
        continues = (inner == outer) & (inner != block.nodata)
        begins = continues.copy()
        begins[1:] &= ~(continues[:-1] & (inner[1:] == inner[:-1]))
        found.append(components.at(along[begins]))
    return tuple(found)
