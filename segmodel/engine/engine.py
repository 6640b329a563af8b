"""The streaming engine: rasters in, label maps out, in order and in bounded memory.

Threads open and read rasters ahead of the model; windows are given to it one by one, several at a
time, or gathered in batches of equal shape; labels are stitched; threads finish the maps, which are
yielded in the order of the jobs. The engine knows neither TensorFlow nor Beam.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from segmodel.engine.calls import BatchSizes, Model, ModelCall, ModelCalls, SoftModel
from segmodel.engine.read_ahead import Job, ReadAhead
from segmodel.engine.stitching import BatchQueue, Failed, Labelled, MapInProgress
from segmodel.tiling.windows import MAX_BATCH_SIZE, Layout

T = TypeVar("T")


@dataclass(frozen=True)
class MemoryLimits:
    """Memory beside the model and its batches; one raster or map at a time may take more.

    Args:
        read_ahead_bytes: Most bytes of rasters that are read before the model asks for them.
        finishing_bytes: Most bytes of maps that are being finished.
        batch_sizes: Sizes of batches that are known to fit in memory; None if nothing is known.
    """

    read_ahead_bytes: int = 512 << 20
    finishing_bytes: int = 128 << 20
    batch_sizes: BatchSizes | None = None


class Engine:
    """Labels a stream of rasters.

    Args:
        model: Model that labels batches of windows.
        layout: Sizes of windows and batches.
        threads: Number of threads that open rasters, read windows and finish maps; and of calls of
            the model at a time.
        confidence: Whether label maps come with confidence.
        on_pixels: Called with the number of pixels that each batch has finished.
        limits: Limits of memory; None for the defaults.
        value_range: Least and greatest value that the model was made for: pixels with others are
            marked in `Labelled.out_of_range`; None marks none.
        soft: The same model where label maps come with soft sums; None where they do not.
        probabilities: Whether they come with all probabilities, of that model.
    """

    def __init__(
        self,
        model: Model,
        layout: Layout,
        threads: int = 2,
        confidence: bool = False,
        on_pixels: Callable[[int], None] = lambda pixels: None,
        limits: MemoryLimits | None = None,
        value_range: tuple[float, float] | None = None,
        soft: SoftModel | None = None,
        probabilities: bool = False,
    ) -> None:
        has_maps = probabilities and soft is not None
        self.call = ModelCall(model, confidence, soft, has_maps)
        self.layout, self.threads = layout, threads
        self.on_pixels, self.value_range = on_pixels, value_range
        self.limits = limits or MemoryLimits()
        self.batch_sizes = self.limits.batch_sizes or BatchSizes()

    def run(self, jobs: Iterable[Job]) -> Iterator[Labelled | Failed]:
        """Label maps, or why there is none, in the order of the jobs."""
        return self.run_and_finish(jobs, lambda labelled: labelled)

    def run_and_finish(
        self, jobs: Iterable[Job], finish: Callable[[Labelled], T]
    ) -> Iterator[T | Failed]:
        """Results of `finish` for each label map, in the order of the jobs.

        Which windows share a batch depends on the jobs and the layout alone, never on timing. An
        error of the model or of `finish` ends the stream, as it says nothing about one raster.

        Args:
            jobs: Label maps to make; taken from the iterable as memory allows.
            finish: Function of a label map, called in a thread.

        Yields:
            For each job the result of `finish`, or `Failed`.
        """
        with (
            ThreadPoolExecutor(self.threads, "beamseg-engine") as pool,
            ThreadPoolExecutor(self.threads, "beamseg-model") as callers,
        ):
            sized = self.layout, self.batch_sizes, self.on_pixels
            calls = ModelCalls(self.call, *sized, callers, self.threads)
            try:
                yield from self._finished(self._maps(jobs, pool, calls), finish, pool)
            finally:
                callers.shutdown(wait=True, cancel_futures=True)
                pool.shutdown(wait=True, cancel_futures=True)

    def _finished(
        self,
        slots: Iterable[MapInProgress],
        finish: Callable[[Labelled], T],
        pool: ThreadPoolExecutor,
    ) -> Iterator[T | Failed]:
        """Maps through `finish`, a few at a time."""

        def outcome(slot: MapInProgress) -> T | Failed:
            result = slot.outcome()
            return result if isinstance(result, Failed) else finish(result)

        queue: deque[tuple[int, Future[T | Failed]]] = deque()
        held, limit = 0, self.limits.finishing_bytes
        for slot in slots:
            # The map, and about as much again for what it is encoded to.
            takes = 2 * slot.map_bytes
            while queue and (len(queue) > 2 * self.threads or held + takes > limit):
                held -= queue[0][0]
                yield queue.popleft()[1].result()
            held += takes
            queue.append((takes, pool.submit(outcome, slot)))
        yield from (future.result() for _, future in queue)

    def _maps(
        self, jobs: Iterable[Job], pool: ThreadPoolExecutor, calls: ModelCalls
    ) -> Iterator[MapInProgress]:
        """Finished maps in the order of the jobs."""
        fill = self.call.model.fill
        ahead = ReadAhead(
            pool=pool,
            threads=self.threads,
            layout=self.layout,
            classes=self.call.model.classes,
            confidence=self.call.confidence,
            fill=fill,
            value_range=self.value_range,
            max_bytes=self.limits.read_ahead_bytes,
            has_weights=self.call.soft is not None,
            probabilities=self.call.probabilities,
        )
        slots: deque[MapInProgress] = deque()
        batches = BatchQueue(self.layout)
        for pending in ahead.run(jobs):
            slot, tile = pending.slot, pending.tile
            if slot.emitted:
                continue
            if not slots or slots[-1] is not slot:
                slots.append(slot)
            if tile is not None:
                window = slot.receive(tile, pending.pixels, fill)
                if window is not None:
                    batches.add(window)
                elif slot.failure is None:
                    self.on_pixels(tile.core.pixels)
            for batch in batches.pop_due():
                calls.add(batch)
            while self._holds_too_much(slots) and (batch := batches.pop_oldest()):
                calls.add(batch)
            while slots and slots[0].finished:
                # Windows that still come in are of no use any more.
                slots[0].emitted = True
                yield slots.popleft()
        while batch := batches.pop_oldest():
            calls.add(batch)
        calls.finish()
        yield from slots

    def _holds_too_much(self, slots: deque[MapInProgress]) -> bool:
        """Whether finished maps pile up behind one whose last window still waits for others."""
        if not slots or slots[0].finished:
            return False
        pixels = sum(slot.pixels for slot in slots)
        limit = max(4 * self.layout.max_batch_pixels, 2 * slots[0].pixels)
        return len(slots) > 4 * MAX_BATCH_SIZE or pixels > limit
