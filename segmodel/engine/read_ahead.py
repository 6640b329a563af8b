"""Rasters opened and windows read by threads before they are asked for, within a limit of bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from segmodel.engine.stitching import Failed, MapInProgress
from segmodel.errors import ConfigurationError, InputError
from segmodel.labels.classes import ClassTable
from segmodel.tiling.pixels import Pixels
from segmodel.tiling.windows import Layout, Tile, Window, tiles


class Raster(Protocol):
    """What can be read by windows, from any thread."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def held_bytes(self) -> int:
        """Memory it takes from the first read to the last, beside the windows."""

    @property
    def source_pixels(self) -> int:
        """Pixels of its own grid, if what is read is scaled to fewer."""

    def wants(self, core: Window) -> bool:
        """Whether any pixel of a core may get a label; where none does, nothing is read."""

    def read(self, window: Window) -> Pixels:
        """Pixels of a window that lies within the raster."""

    def on_source_grid(self, values: np.ndarray, nodata: int) -> np.ndarray:
        """A map of what was read on the raster's own grid, if what was read is scaled."""


Tiling = Callable[[Window, Window, Layout], Iterable[Tile]]


@dataclass(frozen=True)
class Job:
    """One label map to make.

    Args:
        key: Names it in the outcome.
        open: Gives the raster; runs in a thread.
        area: What to label, or what gives it once the raster is open; None for the whole raster.
        held_bytes: Memory that the job takes until its raster is read, such as encoded bytes.
        opens_at_once: Whether opening takes so little that a thread would cost more.
        goes_on: Whether a window that cannot be read costs itself alone, not the whole map.
        tiling: Gives the tiles of the raster, the area and the layout.
    """

    key: str
    open: Callable[[], Raster]
    area: Window | Callable[[], Window] | None = None
    held_bytes: int = 0
    open_inline: bool = False
    allow_partial: bool = False
    tiling: Tiling = tiles


@dataclass(frozen=True)
class Reading:
    """A window whose pixels are on their way.

    Without a tile the raster has none or did not open; without pixels none of them is wanted.
    """

    slot: MapInProgress
    tile: Tile | None = None
    pixels: Future[Pixels] | None = None


@dataclass(frozen=True)
class _Step:
    """A read that can be begun.

    Args:
        slot: The map that it is for.
        tile: The next one, or None where there is none.
        raster: To read it from, or None where nothing of it is wanted.
        takes: Bytes that beginning it takes.
        gives: Bytes that are free once it has been asked for.
    """

    slot: MapInProgress
    tile: Tile | None = None
    raster: Raster | None = None
    takes: int = 0
    gives: int = 0


class ReadAhead:
    """Opens and reads rasters in the order of the jobs, before they are asked for.

    A raster that takes more than the limit by itself is read while no other is.

    Args:
        pool: Threads that open and read.
        threads: How many they are.
        layout: How rasters are cut.
        classes: Of the label maps.
        confidence: Whether maps have confidence.
        itemsize: Bytes of one pixel in all bands.
        most_bytes: Limit of what is opened or read and not yet asked for; a quarter of it is for
            what is only opened.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        threads: int,
        layout: Layout,
        classes: ClassTable,
        confidence: bool,
        itemsize: int,
        most_bytes: int,
    ) -> None:
        # Enough that no thread waits while the model or the reader of a shard has its turn.
        self.pool, self.most, self.layout = pool, 2 * threads, layout
        self.classes, self.confidence = classes, confidence
        self.itemsize, self.most_opened_bytes = itemsize, most_bytes // 4
        self.most_read_bytes = most_bytes - self.most_opened_bytes

    def run(self, jobs: Iterable[Job]) -> Iterator[Reading]:
        """Windows of all jobs, in order."""
        queue: deque[tuple[_Step, Reading]] = deque()
        held = reads = 0
        for step in self._steps(self._opened(jobs)):
            while queue and (reads > self.most or held + step.takes > self.most_read_bytes):
                before, reading = queue.popleft()
                held -= before.gives
                reads -= before.raster is not None
                yield reading
            held += step.takes
            reads += step.raster is not None
            queue.append((step, self._begin(step)))
        yield from (reading for _, reading in queue)

    def _begin(self, step: _Step) -> Reading:
        if step.tile is None or step.raster is None:
            return Reading(step.slot, step.tile)
        return Reading(step.slot, step.tile, self.pool.submit(step.raster.read, step.tile.read))

    def _opened(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Callable[[], Raster]]]:
        """Jobs, and what gives their raster."""
        queue: deque[tuple[Job, Callable[[], Raster]]] = deque()
        held = 0
        for job in jobs:
            opening = job.open if job.open_inline else self.pool.submit(job.open).result
            queue.append((job, opening))
            held += job.held_bytes
            while len(queue) > 1 and (len(queue) > self.most or held > self.most_opened_bytes):
                held -= queue[0][0].held_bytes
                yield queue.popleft()
        yield from queue

    def _steps(self, opened: Iterable[tuple[Job, Callable[[], Raster]]]) -> Iterator[_Step]:
        for job, opening in opened:
            slot = MapInProgress(job.key, self.classes)
            try:
                raster = opening()
                whole = Window(0, 0, raster.height, raster.width)
                area = (job.area() if callable(job.area) else job.area) or whole
                plan = list(job.tiling(whole, area, self.layout))
            except ConfigurationError as error:
                slot.failure = Failed(job.key, "open", InputError(str(error)))
            except Exception as error:
                slot.failure = Failed(job.key, "open", error)
            if slot.failure is not None:
                yield _Step(slot)
                continue
            slot.begin(
                area, len(plan), self.confidence, raster.on_source_grid, raster.source_pixels
            )
            slot.allow_partial = job.allow_partial
            yield from self._steps_of(slot, raster, plan)

    def _steps_of(self, slot: MapInProgress, raster: Raster, plan: list[Tile]) -> Iterator[_Step]:
        """Reads of one raster, and at the end one that frees what it held."""
        takes = holds = raster.held_bytes
        for tile in plan:
            if slot.failure is not None:
                break
            if not raster.wants(tile.core):
                yield _Step(slot, tile)
                continue
            window = tile.height * tile.width * self.itemsize
            yield _Step(slot, tile, raster, takes + window, window)
            takes = 0
        yield _Step(slot, gives=0 if takes else holds)
