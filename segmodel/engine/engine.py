"""The streaming engine: rasters in, label maps out, in order and in bounded memory.

Threads open and read rasters ahead of the model; windows of equal shape are gathered in batches;
labels are stitched; threads finish the maps, which are yielded in the order of the jobs. The engine
knows neither TensorFlow nor Beam.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from segmodel.engine.read_ahead import Job, ReadAhead
from segmodel.engine.soft import SoftBatch
from segmodel.engine.stitching import BatchQueue, Failed, Labelled, MapInProgress, ModelWindow
from segmodel.errors import ContractError, TransientError
from segmodel.labels.classes import ClassTable
from segmodel.tiling.windows import MAX_BATCH_SIZE, Layout

T = TypeVar("T")


_log = logging.getLogger("beamseg")
# What probabilities of 32 bits exceed 1 by once they are summed.
_ROUNDING = 1e-4


@dataclass
class BatchSizes:
    """Sizes of batches where those that the layout asks for do not fit in memory.

    A batch is halved until it fits. Its size depends on the shape of its windows and on where this
    process ran out of memory, never on what else is in the batch.

    Args:
        fitting: Size that replaced one that did not fit, by height and width of windows; shared by
            all that use the same model in a process.
        max_pixels: Most pixels in a batch of several windows, or None where only running out of
            memory tells.
        reduced: Sizes that were used in place of greater ones, by height and width; grows.
    """

    fitting: dict[tuple[int, int], int] = field(default_factory=dict)
    max_pixels: int | None = None
    reduced: dict[tuple[int, int], int] = field(default_factory=dict)

    def limit(self, height: int, width: int, requested: int) -> int:
        """The size of a batch of windows of this shape: what is requested, or less.

        Args:
            height: Rows of a window.
            width: Columns of a window.
            requested: Size that the layout asks for.

        >>> sizes = BatchSizes(max_pixels=300)
        >>> sizes.limit(10, 10, 13), sizes.limit(10, 10, 2), sizes.limit(20, 20, 4), sizes.reduced
        (2, 2, 1, {(10, 10): 2, (20, 20): 1})
        """
        size = min(requested, self.fitting.get((height, width), requested))
        while self.max_pixels is not None and size > 1 and size * height * width > self.max_pixels:
            size = _half(size)
        if size < requested:
            self.reduced[height, width] = min(size, self.reduced.get((height, width), size))
        return size

    def halve(self, height: int, width: int, size: int) -> None:
        """Keep batches of windows of this shape below a size that memory ran out at.

        Args:
            height: Rows of a window.
            width: Columns of a window.
            size: Size that did not fit.

        >>> sizes = BatchSizes()
        >>> sizes.halve(64, 64, 13)
        >>> sizes.limit(64, 64, 13)
        7
        """
        self.fitting[height, width] = _half(size)
        _log.warning(
            "out of memory in a batch of %d windows of %dx%d pixels: from now on %d",
            *(size, height, width, _half(size)),
        )


def _half(size: int) -> int:
    """Half a batch, rounded up, so that two of them hold it.

    >>> _half(13), _half(2)
    (7, 1)
    """
    return -(-size // 2)


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


class Model(Protocol):
    """What labels batches of windows: a `Predictor`, a `KerasModel`, or a fake of a test.

    Attributes:
        classes: Classes whose ids the labels are.
        fill: `(bands,)` raw value of each band that stands for nodata, of the input's dtype.
    """

    classes: ClassTable
    fill: np.ndarray

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Labels `(batch, height, width)` of raw values `(batch, height, width, bands)`."""

    def labels_and_confidence(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels as above, and the probability of each in [0, 1], of that shape, float32."""


class SoftModel(Model, Protocol):
    """A model that sums the probabilities of what it labels, such as a `Predictor`."""

    def soft_sums(
        self,
        images: np.ndarray,
        weights: np.ndarray,
        labelled: np.ndarray | None = None,
        index: np.ndarray | None = None,
        has_maps: bool = False,
    ) -> SoftBatch:
        """Labels and soft sums of raw values `(batch, height, width, bands)`.

        Args:
            images: Raw values.
            weights: `(batch, height, width)` int32; see `segmodel.engine.soft.Weights`.
            labelled: `(batch, height, width)` int32 number of pixels that each labels; None where
                that is one.
            index: `(batch, height, width)` int32 place of each in the zones of its window; None
                where it is the first.
            has_maps: Whether the levels of all pixels are given as well.
        """


class Engine:
    """Labels a stream of rasters.

    Args:
        model: Model that labels batches of windows.
        layout: Sizes of windows and batches.
        threads: Number of threads that open rasters, read windows and finish maps.
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
        self.soft, self.probabilities = soft, probabilities and soft is not None
        self.model, self.layout, self.threads = model, layout, threads
        self.confidence, self.on_pixels, self.value_range = confidence, on_pixels, value_range
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

    def _maps(self, jobs: Iterable[Job], pool: ThreadPoolExecutor) -> Iterator[MapInProgress]:
        """Finished maps in the order of the jobs."""
        fill = self.model.fill
        ahead = ReadAhead(
            pool=pool,
            threads=self.threads,
            layout=self.layout,
            classes=self.model.classes,
            confidence=self.confidence,
            fill=fill,
            value_range=self.value_range,
            max_bytes=self.limits.read_ahead_bytes,
            has_weights=self.soft is not None,
            probabilities=self.probabilities,
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
                self._label(batch)
            while self._holds_too_much(slots) and (batch := batches.pop_oldest()):
                self._label(batch)
            while slots and slots[0].finished:
                # Windows that still come in are of no use any more.
                slots[0].emitted = True
                yield slots.popleft()
        while batch := batches.pop_oldest():
            self._label(batch)
        yield from slots

    def _holds_too_much(self, slots: deque[MapInProgress]) -> bool:
        """Whether finished maps pile up behind one whose last window still waits for others."""
        if not slots or slots[0].finished:
            return False
        pixels = sum(slot.pixels for slot in slots)
        limit = max(4 * self.layout.max_batch_pixels, 2 * slots[0].pixels)
        return len(slots) > 4 * MAX_BATCH_SIZE or pixels > limit

    def _label(self, batch: list[ModelWindow]) -> None:
        """Label and stitch a batch, in as many calls of the model as memory makes of it."""
        height, width = batch[0].tile.height, batch[0].tile.width
        requested = self.layout.batch_size(height, width)
        while batch:
            size = self.batch_sizes.limit(height, width, requested)
            part = batch[:size]
            outputs = self._call(part, size)
            if outputs is None:
                self.batch_sizes.halve(height, width, size)
                continue
            labels, confidence, soft = outputs
            for number, window in enumerate(part):
                window.slot.stitch(
                    window, labels[number], None if confidence is None else confidence[number]
                )
                if soft is not None:
                    window.slot.stitch_soft(window, soft, number)
            self.on_pixels(sum(window.tile.core.pixels for window in part))
            batch = batch[size:]

    def _call(
        self, part: Sequence[ModelWindow], size: int
    ) -> tuple[np.ndarray, np.ndarray | None, SoftBatch | None] | None:
        """Labels of windows of equal shape, with what is asked for; None if memory ran out.

        Raises:
            ContractError: If the model gives something else.
            TransientError: If memory does not suffice for one window.
        """
        images, soft = _stacked([window.values for window in part], size), None
        labels: np.ndarray
        confidence: np.ndarray | None = None
        try:
            if self.soft is not None:
                weights = [window.weights for window in part if window.weights is not None]
                values = _stacked([entry.values for entry in weights], size)
                labelled = _stacked_if_any([entry.labelled for entry in weights], size)
                index = _stacked_if_any([entry.index for entry in weights], size)
                soft = self.soft.soft_sums(images, values, labelled, index, self.probabilities)
                labels, confidence = soft.labels, soft.confidence
            elif self.confidence:
                labels, confidence = self.model.labels_and_confidence(images)
            else:
                labels = self.model.labels(images)
            _check_output("labels", labels, images.shape[:3], self.model.classes.label_dtype)
            if confidence is not None:
                _check_output("confidence", confidence, images.shape[:3], np.dtype(np.float32))
                _check_confidence(confidence)
            return labels, confidence if self.confidence else None, soft
        except MemoryError as error:
            if size == 1:
                height, width = images.shape[1:3]
                raise TransientError(
                    f"out of memory for one window of {height}x{width} pixels: lower --window, or "
                    f"use a device with more memory"
                ) from error
        # Behind the except clause, as the error holds on to what the call had allocated.
        return None


def _check_output(name: str, given: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse an output that is not what the contract promises; it would be stretched or wrapped.

    Raises:
        ContractError: Names what was expected and what was given.
    """
    if given.shape != shape or given.dtype != dtype:
        raise ContractError(
            f"{name}: the model must give {dtype} of shape {shape} for these images, and gives "
            f"{given.dtype} of shape {given.shape}: export it again, or wrap it with beamseg wrap"
        )


def _check_confidence(given: np.ndarray) -> None:
    least, most = float(given.min()), float(given.max())
    # NaN is neither.
    if not (least >= -_ROUNDING and most <= 1 + _ROUNDING):
        raise ContractError(
            f"confidence: the model must give values from 0 to 1, and gives {least:g} to {most:g}: "
            f"mend the model and export it again"
        )


def _stacked_if_any(values: Sequence[np.ndarray | None], size: int) -> np.ndarray | None:
    """As `_stacked`, with zeros for what is None; None where all are."""
    shape = next((value.shape for value in values if value is not None), None)
    if shape is None:
        return None
    return _stacked([np.zeros(shape, np.int32) if v is None else v for v in values], size)


def _stacked(values: list[np.ndarray], size: int) -> np.ndarray:
    """Arrays of equal shape as a batch of a given size, the rest of which is zero.

    >>> _stacked([np.ones((2, 2, 1))], 3).sum(axis=(1, 2, 3)).tolist()
    [4.0, 0.0, 0.0]
    """
    if len(values) == size == 1:
        return values[0][None]
    images = np.zeros((size, *values[0].shape), values[0].dtype)
    for image, value in zip(images, values, strict=False):
        image[...] = value
    return images
