"""Rasters opened and windows read by threads before they are asked for, within a limit of bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from segmodel.engine.stitching import Failed, MapInProgress, WindowRead
from segmodel.errors import ConfigurationError, InputError
from segmodel.labels.classes import ClassTable
from segmodel.tiling.raster import Raster
from segmodel.tiling.windows import Layout, Tile, Window, tiles

Tiling = Callable[[Window, Window, Layout], Iterable[Tile]]


@dataclass(frozen=True)
class Job:
    """One label map to make.

    Args:
        key: Name of the job in its outcome.
        open: Function that opens the raster; called in a thread.
        area: Part of the raster to label, or a function that returns it once the raster is open;
            None for the whole raster.
        held_bytes: Memory that the job takes until its raster is read, such as encoded bytes.
        open_inline: Whether to open the raster without a thread, as opening takes next to no time.
        allow_partial: Whether a window that cannot be read becomes nodata; else the job fails.
        tiling: Function of the whole raster, the area and the layout that returns the tiles.
    """

    key: str
    open: Callable[[], Raster]
    area: Window | Callable[[], Window] | None = None
    held_bytes: int = 0
    open_inline: bool = False
    allow_partial: bool = False
    tiling: Tiling = tiles

    def windows(self, raster: Raster, layout: Layout) -> tuple[Window, list[Tile]]:
        """Part of the open raster to label, and the windows that cover it."""
        whole = Window(0, 0, raster.height, raster.width)
        area = (self.area() if callable(self.area) else self.area) or whole
        return area, list(self.tiling(whole, area, layout))


@dataclass(frozen=True)
class PendingWindow:
    """A window that is being read.

    Args:
        slot: Label map that the window belongs to.
        tile: The window; None where the raster has none, or did not open.
        pixels: Its pixels once they are read; None where none of them gets a label.
    """

    slot: MapInProgress
    tile: Tile | None = None
    pixels: Future[WindowRead] | None = None


# Steps that wait, also those that read nothing, as of rasters that fail and of windows of nodata.
MAX_PLANNED = 1024


@dataclass(frozen=True)
class _PlannedRead:
    """A read that can be started.

    Args:
        slot: Label map that the window belongs to.
        tile: The window, or None where there is none.
        raster: Raster to read it from, or None where no pixel of it gets a label.
        takes: Bytes that starting the read takes.
        gives: Bytes that are free once the window has been asked for.
    """

    slot: MapInProgress
    tile: Tile | None = None
    raster: Raster | None = None
    takes: int = 0
    gives: int = 0


@dataclass(frozen=True)
class ReadAhead:
    """Opens and reads rasters in the order of the jobs, before they are asked for.

    A raster that takes more than the limit by itself is read while no other is.

    Args:
        pool: Threads that open and read.
        threads: Number of these threads.
        layout: Sizes of windows and batches.
        classes: Class table of the label maps.
        confidence: Whether label maps come with confidence.
        fill: `(bands,)` raw value of each band that stands for nodata.
        value_range: Least and greatest value of the model, or None if none can be outside.
        max_bytes: Limit of what is opened or read and not yet asked for; a quarter of it is for
            what is only opened.
        has_weights: Whether windows come with weights for soft sums.
        probabilities: Whether label maps come with all probabilities.
    """

    pool: ThreadPoolExecutor
    threads: int
    layout: Layout
    classes: ClassTable
    confidence: bool
    fill: np.ndarray
    value_range: tuple[float, float] | None
    max_bytes: int
    has_weights: bool = False
    probabilities: bool = False

    def run(self, jobs: Iterable[Job]) -> Iterator[PendingWindow]:
        """Windows of all jobs, in order, while their pixels are read."""
        queue: deque[tuple[_PlannedRead, PendingWindow]] = deque()
        held = reads = 0
        max_bytes = self.max_bytes - self.max_bytes // 4
        for step in self._reads(self._opened(jobs)):
            # So many that no thread waits while the model or the reader of a shard has its turn.
            while queue and (
                reads > 2 * self.threads
                or held + step.takes > max_bytes
                or len(queue) >= MAX_PLANNED
            ):
                before, pending = queue.popleft()
                held -= before.gives
                reads -= before.raster is not None
                yield pending
            held += step.takes
            pixels = None
            if step.tile is not None and step.raster is not None:
                size = self.fill.size
                read = step.raster, step.tile, size, self.value_range, self.has_weights
                pixels = self.pool.submit(WindowRead.of, *read)
                reads += 1
            queue.append((step, PendingWindow(step.slot, step.tile, pixels)))
        yield from (pending for _, pending in queue)

    def _opened(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Callable[[], Raster]]]:
        """Jobs, each with a function that returns its raster once it is open."""
        queue: deque[tuple[Job, Callable[[], Raster]]] = deque()
        held = 0
        for job in jobs:
            opening = job.open if job.open_inline else self.pool.submit(job.open).result
            queue.append((job, opening))
            held += job.held_bytes
            while len(queue) > 1 and (len(queue) > 2 * self.threads or held > self.max_bytes // 4):
                held -= queue[0][0].held_bytes
                yield queue.popleft()
        yield from queue

    def _reads(self, opened: Iterable[tuple[Job, Callable[[], Raster]]]) -> Iterator[_PlannedRead]:
        for job, opening in opened:
            slot = MapInProgress(job.key, self.classes, job.allow_partial)
            try:
                raster = opening()
                area, plan = job.windows(raster, self.layout)
            except ConfigurationError as error:
                slot.failure = Failed(
                    job.key, "open", InputError(error.text, code=error.code, name=error.name)
                )
            except Exception as error:
                slot.failure = Failed(job.key, "open", error)
            if slot.failure is not None:
                yield _PlannedRead(slot)
                continue
            slot.begin(area, len(plan), (self.confidence, self.probabilities), raster)
            yield from self._reads_of(slot, raster, plan)

    def _reads_of(
        self, slot: MapInProgress, raster: Raster, plan: list[Tile]
    ) -> Iterator[_PlannedRead]:
        """Reads of one raster, and at the end one that frees what it held."""
        takes = holds = raster.held_bytes
        for tile in plan:
            if slot.failure is not None:
                break
            if not raster.wants(tile.core):
                yield _PlannedRead(slot, tile)
                continue
            window = tile.height * tile.width * (self.fill.nbytes + 8 * self.has_weights)
            yield _PlannedRead(slot, tile, raster, takes + window, window)
            takes = 0
        yield _PlannedRead(slot, gives=0 if takes else holds)
