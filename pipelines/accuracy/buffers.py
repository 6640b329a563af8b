"""A stratum around a class: where the map is most likely to have missed it.

Errors of omission of a rare class hide in all that the map gives to other classes. Most of them lie
near what it has found, so that points in a buffer find more of them than points anywhere. What a
buffer has is in no commit record: a pass reads all label maps once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipelines.accuracy.map_blocks import MapBlock, label_ground, label_uri, named_label_map
from pipelines.formats.work import Work
from pipelines.rasters.cog import read_block
from pipelines.run import plan
from pipelines.run.areas import Tally, measure
from pipelines.run.plan import CountUnit
from pipelines.scenes.counts import elsewhere_in
from pipelines.storage.threads import in_order
from segmodel.tiling.windows import Window

# Blocks that are in memory at once.
BUFFER_THREADS = 4


class NearTallies(NamedTuple):
    """What of a block is in the buffer, by class: all of it, and what counts in its scene."""

    picked: Tally
    counted: Tally


@dataclass(frozen=True)
class Buffer:
    """The ground around a class: pixels of other classes near it.

    Args:
        class_id: The class.
        distance_px: How many rows and columns from its pixels the buffer reaches, in one scene.
    """

    class_id: int
    distance_px: int

    def read(self, uri: str, window: Window, nodata: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels of a window, and which of its pixels are in the buffer.

        Args:
            uri: Label map.
            window: Part of it.
            nodata: Value of pixels without a class.

        Returns:
            `(height, width)` labels, and bool.
        """
        ground, halo = label_ground(uri), self.distance_px
        corner = window.row - halo, window.column - halo
        grown = Window(*corner, window.height + 2 * halo, window.width + 2 * halo)
        grown = grown.intersection(Window(0, 0, ground.height, ground.width))
        labels = read_block(uri, grown)
        inner = window.relative_to(grown).slices
        near = spread(labels == self.class_id, halo)[inner]
        labels = labels[inner]
        return labels, near & (labels != self.class_id) & (labels != nodata)


def buffered(
    buffer: Buffer, blocks: Iterable[MapBlock], work: Work, counts_once: bool
) -> Iterator[tuple[MapBlock, NearTallies]]:
    """Blocks with what of them is in a buffer, in order; reads all label maps.

    Args:
        buffer: The buffer.
        blocks: Blocks to count.
        work: Of the run.
        counts_once: Whether ground that scenes share counts in one of them only.

    Raises:
        InputError: If a scene that shares ground with others is out of reach.
    """
    units = plan.read_units(work.run.plan, CountUnit) if counts_once else ()
    shared = {unit.file.key: unit for unit in units if len(unit.files) > 1}
    classes = work.contract.classes

    def count(block: MapBlock) -> tuple[MapBlock, NearTallies]:
        uri, window = label_uri(block.file, work), block.window
        with named_label_map(block.file):
            labels, near = buffer.read(uri, window, classes.nodata)
            ground = label_ground(uri)

        def areas(top: int, rows: int) -> np.ndarray:
            return ground.pixel_areas_m2(window.row + top, window.column, rows, window.width)

        empty = labels.dtype.type(classes.nodata)
        picked = counted = measure(np.where(near, labels, empty), classes, areas)
        unit = shared.get(block.file.key)
        if unit is not None and near.any():
            near &= ~elsewhere_in(unit, work, window)
            counted = measure(np.where(near, labels, empty), classes, areas)
        return block, NearTallies(picked, counted)

    for block, near in in_order(count, blocks, BUFFER_THREADS):
        if any(near.picked.pixels.get(str(i)) for i in classes.ids):
            yield block, near


def spread(mask: np.ndarray, distance: int) -> np.ndarray:
    """Where a mask is True within so many rows and columns.

    Args:
        mask: `(height, width)` bool.
        distance: Rows and columns, at least 0.

    Returns:
        `(height, width)` bool.

    >>> spread(np.array([[True, False, False, False]]), 2).tolist()
    [[True, True, True, False]]
    """
    return _spread_rows(_spread_rows(mask, distance).T, distance).T


def _spread_rows(mask: np.ndarray, distance: int) -> np.ndarray:
    found, reach = mask.copy(), 0
    while reach < distance:
        # A greater step would leave gaps at the rim, where what it starts from is cut off.
        step = min(reach + 1, distance - reach)
        before = found.copy()
        found[step:] |= before[:-step]
        found[:-step] |= before[step:]
        reach += step
    return found
