"""The streaming engine: rasters in, label maps out, in order and in bounded memory.

Threads open and read rasters ahead of the model; windows of equal shape are gathered in batches;
labels are stitched and handed on in the order of the jobs. It knows neither TensorFlow nor Beam.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from segmodel.classes import ClassTable
from segmodel.errors import ConfigurationError, InputError
from segmodel.stitching import Batches, Failed, Labelled, MapInProgress, Pixels, WindowRead
from segmodel.windows import MOST_IN_BATCH, Layout, Tile, Window, tiles

# Rasters that are open and not yet asked for have at most the pixels of so many full windows.
OPEN_WINDOWS = 4


class Raster(Protocol):
    """What can be read by windows, from any thread."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    def read(self, window: Window) -> Pixels:
        """Pixels of a window that lies within the raster."""


@dataclass(frozen=True)
class ArrayRaster:
    """A raster in memory: `(height, width, bands)` values and, optionally, where they are valid."""

    values: np.ndarray
    valid: np.ndarray | None = None

    @property
    def height(self) -> int:
        """Rows."""
        return self.values.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.values.shape[1]

    def read(self, window: Window) -> Pixels:
        """Pixels of a window, without a copy."""
        valid = None if self.valid is None else self.valid[window.slices]
        return Pixels(self.values[window.slices], valid)


class Model(Protocol):
    """What labels batches."""

    @property
    def classes(self) -> ClassTable:
        """Classes of its labels."""

    @property
    def fill(self) -> np.ndarray:
        """`(bands,)` raw value that stands for nodata."""

    def labels(self, images: np.ndarray) -> np.ndarray:
        """`(batch, height, width, bands)` raw values to `(batch, height, width)` labels."""

    def labels_and_confidence(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels, and the probability of each in [0, 1] as float32."""


@dataclass(frozen=True)
class Job:
    """One label map to make.

    Args:
        key: Names it in the outcome.
        open: Gives the raster; runs in a thread.
        area: What to label, or None for the whole raster.
    """

    key: str
    open: Callable[[], Raster]
    area: Window | None = None


class Engine:
    """Labels a stream of rasters.

    Args:
        model: Labels batches.
        layout: How rasters are cut.
        threads: Threads that open and read.
        confidence: Whether confidence is wanted.
        on_pixels: Told the number of pixels that each batch has finished.
    """

    def __init__(
        self,
        model: Model,
        layout: Layout,
        threads: int = 2,
        confidence: bool = False,
        on_pixels: Callable[[int], None] = lambda pixels: None,
    ) -> None:
        self.model, self.layout, self.threads = model, layout, threads
        self.confidence, self.on_pixels = confidence, on_pixels
        # Until the first one is open, nobody knows how large they are.
        self._rasters_ahead = 1

    def run(self, jobs: Iterable[Job]) -> Iterator[Labelled | Failed]:
        """Outcomes in the order of the jobs.

        Which windows share a batch depends on the jobs and the layout alone, never on timing. An
        error of the model ends the stream, as it says nothing about one raster.
        """
        with ThreadPoolExecutor(self.threads, "beamseg-read") as pool:
            try:
                yield from self._stream(jobs, pool)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _stream(self, jobs: Iterable[Job], pool: ThreadPoolExecutor) -> Iterator[Labelled | Failed]:
        opened = self._open_ahead(jobs, pool)
        slots: deque[MapInProgress] = deque()
        batches = Batches(self.layout)
        # Windows that are read but not used are bounded in pixels, whatever the number of threads.
        most_pixels = 2 * self.layout.batch * self.layout.read_px**2
        reads = self._reads(opened, pool)
        for slot, tile, reading in _ahead(reads, 2 * self.threads, _window_pixels, most_pixels):
            if slot.handed_on:
                continue
            if not slots or slots[-1] is not slot:
                slots.append(slot)
            if tile is not None and reading is not None:
                window = slot.receive(tile, reading, self.model.fill)
                if window is not None:
                    batches.add(window)
                elif slot.failure is None:
                    self.on_pixels(tile.core.pixels)
            for batch in batches.due():
                self._label(batch)
            while self._holds_too_much(slots) and (batch := batches.oldest()):
                self._label(batch)
            while slots and slots[0].finished:
                yield slots.popleft().hand_on()
        while batch := batches.oldest():
            self._label(batch)
        while slots:
            yield slots.popleft().hand_on()

    def _open_ahead(
        self, jobs: Iterable[Job], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[Job, Future[Raster]]]:
        """Jobs that begin to open before they are asked for, fewer where rasters are large."""
        queue: deque[tuple[Job, Future[Raster]]] = deque()
        for job in jobs:
            queue.append((job, pool.submit(job.open)))
            while len(queue) > self._rasters_ahead:
                yield queue.popleft()
        yield from queue

    def _reads(
        self, opened: Iterable[tuple[Job, Future[Raster]]], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[MapInProgress, Tile | None, Future[Pixels] | None]]:
        for job, future in opened:
            slot = MapInProgress(job.key, self.model.classes)
            try:
                raster = future.result()
            except Exception as error:
                slot.failure = Failed(job.key, "open", error)
                yield slot, None, None
                continue
            whole = Window(0, 0, raster.height, raster.width)
            affordable = OPEN_WINDOWS * self.layout.read_px**2 // max(1, whole.pixels)
            self._rasters_ahead = max(1, min(self.threads + 1, affordable))
            area = job.area or whole
            try:
                plan = list(tiles(whole, area, self.layout))
            except ConfigurationError as error:
                slot.failure = Failed(job.key, "open", InputError(str(error)))
                yield slot, None, None
                continue
            slot.begin(area, len(plan), self.confidence)
            if not plan:
                yield slot, None, None
            for tile in plan:
                if slot.failure is not None:
                    break
                yield slot, tile, pool.submit(raster.read, tile.read)

    def _holds_too_much(self, slots: deque[MapInProgress]) -> bool:
        """Whether finished maps pile up behind one whose last window still waits for others."""
        if not slots or slots[0].finished:
            return False
        pixels = sum(slot.labels.size for slot in slots if slot.failure is None)
        most = 4 * self.layout.batch * self.layout.read_px**2
        return len(slots) > 4 * MOST_IN_BATCH or pixels > max(most, 2 * slots[0].labels.size)

    def _label(self, batch: list[WindowRead]) -> None:
        images = np.stack([read.values for read in batch])
        if self.confidence:
            labels, confidence = self.model.labels_and_confidence(images)
        else:
            labels, confidence = self.model.labels(images), None
        for number, read in enumerate(batch):
            read.slot.stitch(
                read, labels[number], None if confidence is None else confidence[number]
            )
        self.on_pixels(sum(read.tile.core.pixels for read in batch))


T = TypeVar("T")


def _ahead(
    items: Iterable[T],
    count: int,
    size: Callable[[T], int] = lambda item: 0,
    most: int = 0,
) -> Iterator[T]:
    """The same items, some of which are begun before the first is asked for.

    Args:
        items: Whose iteration begins them.
        count: Most items begun and not yet asked for.
        size: Of an item.
        most: Of items begun and not yet asked for, greatest sum of sizes, but for one item.
    """
    queue: deque[T] = deque()
    waiting = 0
    for item in items:
        queue.append(item)
        waiting += size(item)
        while len(queue) > count or (len(queue) > 1 and waiting > most):
            waiting -= size(queue[0])
            yield queue.popleft()
    yield from queue


def _window_pixels(entry: tuple[MapInProgress, Tile | None, object]) -> int:
    tile = entry[1]
    return 0 if tile is None else tile.height * tile.width
