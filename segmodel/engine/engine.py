"""The streaming engine: rasters in, label maps out, in order and in bounded memory.

Threads open and read rasters ahead of the model; windows of equal shape are gathered in batches;
labels are stitched; threads finish the maps, which are handed on in the order of the jobs. It knows
neither TensorFlow nor Beam.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from segmodel.engine.batching import CallSizes
from segmodel.engine.read_ahead import Job, ReadAhead
from segmodel.engine.stitching import Batches, Failed, Labelled, MapInProgress, WindowRead
from segmodel.errors import TransientError
from segmodel.labels.classes import ClassTable
from segmodel.tiling.pixels import Pixels
from segmodel.tiling.windows import MAX_IN_BATCH, Layout, Window

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Memory beside the model and its batches; one raster or map at a time may take more.

    Args:
        ahead_bytes: Of rasters that are read before the model asks for them.
        finishing_bytes: Of maps that are being finished.
        calls: Sizes of calls of the model, and what was learned of them; None to begin anew.
    """

    ahead_bytes: int = 512 << 20
    finishing_bytes: int = 128 << 20
    calls: CallSizes | None = None


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

    @property
    def held_bytes(self) -> int:
        """Nothing beside the array, which is there anyway."""
        return 0

    @property
    def source_pixels(self) -> int:
        """None beside those that are labelled: nothing is scaled."""
        return 0

    def on_source_grid(self, values: np.ndarray, nodata: int) -> np.ndarray:
        """The same values: nothing is scaled."""
        return values

    def wants(self, core: Window) -> bool:
        """True: all pixels get a label."""
        return True

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


class Engine:
    """Labels a stream of rasters.

    Args:
        model: Labels batches.
        layout: How rasters are cut.
        threads: Threads that open, read and finish.
        confidence: Whether confidence is wanted.
        on_pixels: Told the number of pixels that each batch has finished.
        limits: Of memory.
    """

    def __init__(
        self,
        model: Model,
        layout: Layout,
        threads: int = 2,
        confidence: bool = False,
        on_pixels: Callable[[int], None] = lambda pixels: None,
        limits: Limits | None = None,
    ) -> None:
        self.model, self.layout, self.threads = model, layout, threads
        self.confidence, self.on_pixels, self.limits = confidence, on_pixels, limits or Limits()
        self.calls = self.limits.calls or CallSizes()

    def run(self, jobs: Iterable[Job]) -> Iterator[Labelled | Failed]:
        """Outcomes in the order of the jobs."""
        return self.run_and_finish(jobs, lambda labelled: labelled)

    def run_and_finish(
        self, jobs: Iterable[Job], finish: Callable[[Labelled], T]
    ) -> Iterator[T | Failed]:
        """What `finish` makes of each label map, in a thread, in the order of the jobs.

        Which windows share a batch depends on the jobs and the layout alone, never on timing. An
        error of the model or of `finish` ends the stream, as it says nothing about one raster.
        """
        with ThreadPoolExecutor(self.threads, "beamseg-engine") as pool:
            try:
                yield from self._finished(self._maps(jobs, pool), finish, pool)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _finished(
        self,
        slots: Iterable[MapInProgress],
        finish: Callable[[Labelled], T],
        pool: ThreadPoolExecutor,
    ) -> Iterator[T | Failed]:
        """Maps through `finish`, a few at a time."""

        def outcome(slot: MapInProgress) -> T | Failed:
            reached = slot.outcome()
            return reached if isinstance(reached, Failed) else finish(reached)

        queue: deque[tuple[int, Future[T | Failed]]] = deque()
        held, most = 0, self.limits.finishing_bytes
        for slot in slots:
            # The map, and about as much again for what it is encoded to.
            takes = 2 * slot.map_bytes
            while queue and (len(queue) > 2 * self.threads or held + takes > most):
                held -= queue[0][0]
                yield queue.popleft()[1].result()
            held += takes
            queue.append((takes, pool.submit(outcome, slot)))
        yield from (future.result() for _, future in queue)

    def _maps(self, jobs: Iterable[Job], pool: ThreadPoolExecutor) -> Iterator[MapInProgress]:
        """Finished maps in the order of the jobs."""
        fill = self.model.fill
        ahead = ReadAhead(
            pool=pool,
            threads=self.threads,
            layout=self.layout,
            classes=self.model.classes,
            confidence=self.confidence,
            itemsize=fill.nbytes,
            most_bytes=self.limits.ahead_bytes,
        )
        slots: deque[MapInProgress] = deque()
        batches = Batches(self.layout)
        for reading in ahead.run(jobs):
            slot, tile = reading.slot, reading.tile
            if slot.emitted:
                continue
            if not slots or slots[-1] is not slot:
                slots.append(slot)
            if tile is not None:
                window = slot.receive(tile, reading.pixels, fill)
                if window is not None:
                    batches.add(window)
                elif slot.failure is None:
                    self.on_pixels(tile.core.pixels)
            for batch in batches.due():
                self._label(batch)
            while self._holds_too_much(slots) and (batch := batches.oldest()):
                self._label(batch)
            while slots and slots[0].finished:
                # Windows that still come in are of no use any more.
                slots[0].emitted = True
                yield slots.popleft()
        while batch := batches.oldest():
            self._label(batch)
        yield from slots

    def _holds_too_much(self, slots: deque[MapInProgress]) -> bool:
        """Whether finished maps pile up behind one whose last window still waits for others."""
        if not slots or slots[0].finished:
            return False
        pixels = sum(slot.pixels for slot in slots)
        most = 4 * self.layout.call_pixels
        return len(slots) > 4 * MAX_IN_BATCH or pixels > max(most, 2 * slots[0].pixels)

    def _label(self, batch: list[WindowRead]) -> None:
        """Label and stitch a batch, in as many calls of the model as memory makes of it."""
        height, width = batch[0].tile.height, batch[0].tile.width
        wanted = self.layout.batch_of(height, width)
        while batch:
            size = self.calls.of(height, width, wanted)
            part = batch[:size]
            called = self._call([read.values for read in part], size)
            if called is None:
                self.calls.step_down(height, width, size)
                continue
            labels, confidence = called
            for number, read in enumerate(part):
                read.slot.stitch(
                    read, labels[number], None if confidence is None else confidence[number]
                )
            self.on_pixels(sum(read.tile.core.pixels for read in part))
            batch = batch[size:]

    def _call(
        self, values: list[np.ndarray], size: int
    ) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Labels of windows of equal shape, and confidence; None if memory ran out in a batch.

        Raises:
            TransientError: If memory does not suffice for one window.
        """
        images = _stacked(values, size)
        try:
            if self.confidence:
                return self.model.labels_and_confidence(images)
            return self.model.labels(images), None
        except MemoryError as error:
            if size == 1:
                height, width = images.shape[1:3]
                raise TransientError(
                    f"out of memory for one window of {height}x{width} pixels: lower --window, or "
                    f"use a device with more memory"
                ) from error
        # Behind the except clause, as the error holds on to what the call had allocated.
        return None


def _stacked(values: list[np.ndarray], size: int) -> np.ndarray:
    """Arrays of equal shape in a batch of so many, the rest of which is zero.

    >>> _stacked([np.ones((2, 2, 1))], 3).sum(axis=(1, 2, 3)).tolist()
    [4.0, 0.0, 0.0]
    """
    if len(values) == size == 1:
        return values[0][None]
    images = np.zeros((size, *values[0].shape), values[0].dtype)
    for image, value in zip(images, values, strict=False):
        image[...] = value
    return images
