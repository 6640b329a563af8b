"""Calls of the model: batches of equal shape as memory holds them, or several windows at a time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from segmodel.engine.soft import BatchWeights, SoftBatch
from segmodel.engine.stitching import ModelWindow
from segmodel.errors import ContractError, TransientError
from segmodel.labels.classes import ClassTable
from segmodel.tiling.windows import Layout

_log = logging.getLogger("beamseg")
# What probabilities of 32 bits exceed 1 by once they are summed.
_ROUNDING = 1e-4

# Labels, and confidence and soft sums where they are asked for.
_Outputs = tuple[np.ndarray, np.ndarray | None, SoftBatch | None]


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
        self, images: np.ndarray, weights: BatchWeights, has_maps: bool = False
    ) -> SoftBatch:
        """Labels and soft sums of raw values `(batch, height, width, bands)`.

        Args:
            images: Raw values.
            weights: How much their pixels count.
            has_maps: Whether the levels of all pixels are given as well.
        """


@dataclass(frozen=True)
class ModelCall:
    """How the model is called.

    Args:
        model: Model that labels batches of windows.
        confidence: Whether label maps come with confidence.
        soft: The same model where label maps come with soft sums; None where they do not.
        probabilities: Whether they come with all probabilities, of that model.
    """

    model: Model
    confidence: bool
    soft: SoftModel | None
    probabilities: bool

    def outputs(self, windows: Sequence[ModelWindow], size: int) -> _Outputs | None:
        """What the model gives for windows of equal shape; None if memory ran out.

        Args:
            windows: The windows.
            size: Size of the batch; what is missing is filled up with zeros.

        Raises:
            ContractError: If the model gives something else than its contract says.
        """
        images = _stacked([window.values for window in windows], size)
        try:
            labels, confidence, soft = self._called(images, windows)
        except MemoryError:
            return None
        _check_output("labels", labels, images.shape[:3], self.model.classes.label_dtype)
        if confidence is not None:
            _check_output("confidence", confidence, images.shape[:3], np.dtype(np.float32))
            _check_confidence(confidence)
        return labels, confidence if self.confidence else None, soft

    def _called(self, images: np.ndarray, windows: Sequence[ModelWindow]) -> _Outputs:
        if self.soft is not None:
            size = len(images)
            weights = [window.weights for window in windows if window.weights is not None]
            stacked = BatchWeights(
                _stacked([entry.values for entry in weights], size),
                _stacked_if_any([entry.labelled for entry in weights], size),
                _stacked_if_any([entry.index for entry in weights], size),
            )
            soft = self.soft.soft_sums(images, stacked, self.probabilities)
            return soft.labels, soft.confidence, soft
        if self.confidence:
            return *self.model.labels_and_confidence(images), None
        return self.model.labels(images), None, None


class ModelCalls:
    """The calls of a stream: windows are labelled and stitched in the order in which they come.

    Windows that are a batch by themselves are given to the model several at a time, because a call
    of few pixels does not keep all processors busy. Together they have at most the pixels that the
    layout has in a batch, so that they take no more memory than one. Their labels do not depend on
    each other. Batches of several windows are called one after another.

    Args:
        call: How the model is called.
        layout: Sizes of windows and batches.
        sizes: Sizes of batches that are known to fit in memory.
        on_pixels: Called with the number of pixels that each call has finished.
        pool: Threads that call the model.
        threads: Number of these threads.
    """

    def __init__(
        self,
        call: ModelCall,
        layout: Layout,
        sizes: BatchSizes,
        on_pixels: Callable[[int], None],
        pool: ThreadPoolExecutor,
        threads: int,
    ) -> None:
        self._call, self._layout, self._sizes, self._on_pixels = call, layout, sizes, on_pixels
        # One more than run at a time for each thread, so that none waits for its next.
        self._pool, self._most = pool, 2 * threads
        self._running: deque[tuple[ModelWindow, Future[_Outputs | None]]] = deque()

    def add(self, batch: list[ModelWindow]) -> None:
        """Have windows of equal shape labelled and stitched, at the latest by `finish`.

        Args:
            batch: At most as many windows as the layout has in a batch.

        Raises:
            ContractError: If the model gives something else than its contract says.
            TransientError: If memory does not suffice for one window.
        """
        tile = batch[0].tile
        requested = self._layout.batch_size(tile.height, tile.width)
        if requested > 1:
            self.finish()
            self._label(batch, requested)
            return
        for window in batch:
            while self._running and not self._has_room(window):
                self._finish_oldest()
            self._running.append((window, self._pool.submit(self._call.outputs, [window], 1)))

    def finish(self) -> None:
        """Wait for all calls, and stitch what they give; raises as `add`."""
        while self._running:
            self._finish_oldest()

    def _has_room(self, window: ModelWindow) -> bool:
        pixels = sum(w.tile.height * w.tile.width for w, _ in self._running)
        pixels += window.tile.height * window.tile.width
        return len(self._running) < self._most and pixels <= self._layout.max_batch_pixels

    def _finish_oldest(self) -> None:
        window, future = self._running.popleft()
        outputs = future.result()
        if outputs is None:
            # Alone it may fit. From now on each call is alone.
            self._most = 1
            wait([future for _, future in self._running])
            self._label([window], 1)
        else:
            self._stitch([window], outputs)

    def _label(self, batch: list[ModelWindow], requested: int) -> None:
        """Label and stitch a batch, in as many calls of the model as memory makes of it."""
        height, width = batch[0].tile.height, batch[0].tile.width
        while batch:
            size = self._sizes.limit(height, width, requested)
            outputs = self._call.outputs(batch[:size], size)
            if outputs is not None:
                self._stitch(batch[:size], outputs)
                batch = batch[size:]
            elif size > 1:
                self._sizes.halve(height, width, size)
            else:
                raise TransientError(
                    f"out of memory for one window of {height}x{width} pixels: lower --window, or "
                    f"use a device with more memory"
                )

    def _stitch(self, windows: Sequence[ModelWindow], outputs: _Outputs) -> None:
        labels, confidence, soft = outputs
        for number, window in enumerate(windows):
            window.slot.stitch(
                window, labels[number], None if confidence is None else confidence[number]
            )
            if soft is not None:
                window.slot.stitch_soft(window, soft, number)
        self._on_pixels(sum(window.tile.core.pixels for window in windows))


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
