"""Windows of rasters: nodata filled, gathered in batches of equal shape, stitched to label maps."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from segmodel.engine.soft import SoftBatch, SoftSums, Weights
from segmodel.errors import InputError
from segmodel.labels.classes import ClassTable
from segmodel.tiling.raster import Pixels, Raster, combine_masks, out_of_range
from segmodel.tiling.windows import Layout, Tile, Window


@dataclass(frozen=True)
class LostWindow:
    """The core of a window that could not be read, and the error of the read.

    Args:
        core: Rectangle in rows and columns of the raster; it is nodata in the label map.
        error: Error that reading raised.
    """

    core: Window
    error: Exception


@dataclass(frozen=True)
class Labelled:
    """The label map of a job.

    Args:
        key: Name of the job.
        labels: `(height, width)` class ids of the class table's dtype.
        confidence: `(height, width)` float32 probability of each label in [0, 1]; None if the
            engine computes none.
        lost: Windows that could not be read, which are nodata; see `Job.allow_partial`.
        out_of_range: `(height, width)` bool, labelled pixels with values outside the range that
            the engine was given; None where there are none.
        soft: Probabilities of the pixels that are labelled, summed; None if the engine sums none.
        probabilities: `(height, width, classes)` uint8 levels of all classes, 255 in each pixel
            that is labelled and 0 in others; None if the engine gives none.
    """

    key: str
    labels: np.ndarray
    confidence: np.ndarray | None = None
    lost: tuple[LostWindow, ...] = ()
    out_of_range: np.ndarray | None = None
    soft: SoftSums | None = None
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class Failed:
    """A job whose raster could not be opened or read.

    Args:
        key: Name of the job.
        stage: `open` or `read`.
        error: Error that it raised.
    """

    key: str
    stage: str
    error: Exception

    def __post_init__(self) -> None:
        # Many wait to be reported, and frames hold what was being decoded.
        error: BaseException | None = self.error
        while isinstance(self.error, InputError) and error is not None:
            error.__traceback__ = None
            error = error.__cause__ or error.__context__


@dataclass(frozen=True)
class ModelWindow:
    """A window as the model takes it.

    Args:
        slot: Label map that the window belongs to.
        tile: Window with its halo.
        values: `(height, width, bands)` raw values, nodata filled, of the tile's size.
        labelled: `(height, width)` bool, the pixels that get a label; None for all.
        out_of_range: `(height, width)` bool of the core; see `Labelled.out_of_range`.
        weights: How much its pixels count in soft sums; None where there are none.
    """

    slot: MapInProgress
    tile: Tile
    values: np.ndarray
    labelled: np.ndarray | None
    out_of_range: np.ndarray | None = None
    weights: Weights | None = None


@dataclass(frozen=True)
class WindowRead:
    """A window as it was read.

    Args:
        values: `(height, width, bands)` raw values.
        finite: `(height, width)` bool, where pixels are valid and finite; None where all are.
        labelled: `(height, width)` bool, the pixels that get a label; None for all.
        out_of_range: `(height, width)` bool of the core; see `Labelled.out_of_range`.
        weights: How much its pixels count in soft sums; None where there are none.
    """

    values: np.ndarray
    finite: np.ndarray | None
    labelled: np.ndarray | None
    out_of_range: np.ndarray | None = None
    weights: Weights | None = None

    @classmethod
    def of(
        cls,
        raster: Raster,
        tile: Tile,
        bands: int,
        value_range: tuple[float, float] | None,
        has_weights: bool = False,
    ) -> WindowRead:
        """Read a window; called in a thread.

        Args:
            raster: Raster to read from.
            tile: Window with its halo.
            bands: Number of bands that the model takes.
            value_range: Least and greatest value of the model, or None if none can be outside.
            has_weights: Whether weights for soft sums are made.

        Raises:
            InputError: If the pixels have not the shape of the window and these bands.
        """
        pixels = _checked(raster.read(tile.read), tile, bands)
        values, finite = pixels.values, pixels.finite
        labelled = combine_masks(finite, pixels.wanted)
        weights = None
        if has_weights:
            weights = Weights.of(raster.counted(tile, pixels), tile, labelled)
        if value_range is None:
            return cls(values, finite, labelled, weights=weights)
        core = tile.core.relative_to(tile.read).slices
        part = None if labelled is None else labelled[core]
        beyond = out_of_range(values[core], part, value_range)
        return cls(values, finite, labelled, beyond, weights)


class MapInProgress:
    """The label map of one job while its windows are read and labelled.

    Args:
        key: Name of the job.
        classes: Class table of the label map.
        allow_partial: See `Job.allow_partial`.
    """

    def __init__(self, key: str, classes: ClassTable, allow_partial: bool) -> None:
        self.key, self.classes, self.allow_partial = key, classes, allow_partial
        self.failure: Failed | None = None
        self.expected = self.done = 0
        self.emitted = False
        self.lost: list[LostWindow] = []
        self.soft: SoftSums | None = None

    def begin(self, area: Window, windows: int, wants: tuple[bool, bool], raster: Raster) -> None:
        """Say what is to be labelled, once the raster is open.

        Args:
            area: Part of the raster that is labelled.
            windows: Number of windows that cover it.
            wants: Whether confidence and all probabilities are kept beside labels.
            raster: The raster, which is not kept: only how its map gets on the source grid.
        """
        self.area, self.expected = area, windows
        self.on_source_grid, self.source_pixels = raster.on_source_grid, raster.source_pixels
        self._wants_confidence, self._wants_probabilities = wants
        self._labels: np.ndarray | None = None
        self._confidence: np.ndarray | None = None
        self._probabilities: np.ndarray | None = None
        self._out_of_range: np.ndarray | None = None

    @property
    def finished(self) -> bool:
        """Whether no window is missing, or one has failed."""
        return self.failure is not None or self.done == self.expected

    def receive(
        self, tile: Tile, pending: Future[WindowRead] | None, fill: np.ndarray
    ) -> ModelWindow | None:
        """Take in a window that was read.

        Args:
            tile: Window with its halo.
            pending: Its pixels once they are read, or None if none of them gets a label.
            fill: `(bands,)` raw value of each band that stands for nodata.

        Returns:
            The window with nodata filled; None where reading failed, or no pixel gets a label.
        """
        if self.failure is not None:
            return None
        if pending is None:
            self.done += 1
            return None
        try:
            read = pending.result()
        except Exception as error:
            # The window is left nodata where the job allows it and has others.
            if self.allow_partial and self.expected > 1:
                self.lost.append(LostWindow(tile.core, error))
                self.done += 1
            else:
                self.failure = Failed(self.key, "read", error)
            return None
        values, valid, labelled = read.values, read.finite, read.labelled
        if labelled is not None and not labelled[tile.core.relative_to(tile.read).slices].any():
            self.done += 1
            return None
        if valid is not None and not valid.all():
            values = np.where(valid[..., None], values, fill)
        if values.shape[:2] != (tile.height, tile.width):
            whole = np.full((tile.height, tile.width, values.shape[2]), fill, values.dtype)
            whole[: values.shape[0], : values.shape[1]] = values
            values = whole
        return ModelWindow(self, tile, values, labelled, read.out_of_range, read.weights)

    def stitch(
        self, window: ModelWindow, labels: np.ndarray, confidence: np.ndarray | None
    ) -> None:
        """Write the core of a labelled window into the map.

        Args:
            window: Window that was labelled.
            labels: `(height, width)` labels of the whole tile.
            confidence: `(height, width)` confidence of the whole tile, or None.
        """
        self.done += 1
        source = window.tile.core.relative_to(window.tile.read).slices
        core = np.asarray(labels[source], self.classes.label_dtype)
        levels = None if confidence is None else np.asarray(confidence[source], np.float32)
        if window.labelled is not None:
            core = np.where(window.labelled[source], core, core.dtype.type(self.classes.nodata))
            levels = None if levels is None else levels * window.labelled[source]
        if window.out_of_range is not None:
            self._mark(window.out_of_range, window.tile.core)
        if self.expected == 1 and window.tile.core == self.area:
            # Nothing to stitch: the only core is the map.
            self._labels, self._confidence = core, levels
            return
        whole, whole_levels = self._maps()
        target = window.tile.core.relative_to(self.area).slices
        whole[target] = core
        if whole_levels is not None:
            whole_levels[target] = levels

    def stitch_soft(self, window: ModelWindow, batch: SoftBatch, number: int) -> None:
        """Add the soft sums of a window, and write its probabilities into their map.

        Args:
            window: Window that was labelled, which has weights.
            batch: What the model says of the batch.
            number: Place of the window in the batch.
        """
        assert window.weights is not None
        if self.soft is None:
            self.soft = SoftSums.zeros(len(self.classes.ids))
        self.soft.add(batch, number, window.weights)
        if batch.maps is None:
            return
        if self._probabilities is None:
            shape = (self.area.height, self.area.width, len(self.classes.ids))
            self._probabilities = np.zeros(shape, np.uint8)
        source = window.tile.core.relative_to(window.tile.read).slices
        levels = batch.maps[number][source]
        if window.labelled is not None:
            levels = levels * window.labelled[source][..., None]
        self._probabilities[window.tile.core.relative_to(self.area).slices] = levels

    def _mark(self, out_of_range: np.ndarray, core: Window) -> None:
        """Note pixels of a core that are out of range, in a map made at the first of them."""
        if self._out_of_range is None:
            self._out_of_range = np.zeros((self.area.height, self.area.width), bool)
        self._out_of_range[core.relative_to(self.area).slices] = out_of_range

    def _maps(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Label map and confidence, made at the first window that is written."""
        if self._labels is None:
            shape = (self.area.height, self.area.width)
            self._labels = np.full(shape, self.classes.nodata, self.classes.label_dtype)
            self._confidence = np.zeros(shape, np.float32) if self._wants_confidence else None
        return self._labels, self._confidence

    @property
    def pixels(self) -> int:
        """Pixels of the map."""
        return 0 if self.failure is not None else self.area.pixels

    @property
    def map_bytes(self) -> int:
        """Memory of label map, confidence and what is out of range."""
        if self.failure is not None:
            return 0
        of_confidence = 4 if self._wants_confidence else 0
        of_range = 0 if self._out_of_range is None else 1
        of_pixel = self.classes.label_dtype.itemsize + of_confidence + of_range
        of_pixel += len(self.classes.ids) if self._wants_probabilities else 0
        return max(self.pixels, self.source_pixels) * of_pixel

    def outcome(self) -> Labelled | Failed:
        """The finished label map on the source grid, or the failure; called in a thread."""
        if self.failure is not None:
            return self.failure
        if self.lost and len(self.lost) == self.expected:
            return Failed(self.key, "read", self.lost[0].error)
        labels, levels = self._maps()
        labels = self.on_source_grid(labels, self.classes.nodata)
        confidence = None if levels is None else self.on_source_grid(levels, 0)
        beyond = self._out_of_range
        if beyond is not None:
            beyond = self.on_source_grid(beyond, 0)
        every = self._probabilities
        if self._wants_probabilities:
            if every is None:
                every = np.zeros((*labels.shape, len(self.classes.ids)), np.uint8)
            else:
                every = self.on_source_grid(every, 0)
        return Labelled(self.key, labels, confidence, tuple(self.lost), beyond, self.soft, every)


def _checked(pixels: Pixels, tile: Tile, bands: int) -> Pixels:
    """The pixels themselves.

    Raises:
        InputError: If they have not the shape of the window and its bands.
    """
    shape = (tile.read.height, tile.read.width, bands)
    masks = {"valid": pixels.valid, "wanted": pixels.wanted}
    wrong = {name: m.shape for name, m in masks.items() if m is not None and m.shape != shape[:2]}
    if pixels.values.shape != shape or wrong:
        found = ", ".join([str(pixels.values.shape), *(f"{n} {s}" for n, s in wrong.items())])
        raise InputError(f"a read of {tile.read} with {bands} bands gave {found}")
    return pixels


class BatchQueue:
    """Windows that wait for others of their shape; never more than a few full batches.

    Args:
        layout: Sizes of windows and batches.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.waiting: OrderedDict[tuple[int, int], list[ModelWindow]] = OrderedDict()

    def add(self, window: ModelWindow) -> None:
        """Queue a window."""
        self.waiting.setdefault((window.tile.height, window.tile.width), []).append(window)

    def pop_due(self) -> list[list[ModelWindow]]:
        """Take out full batches, and the oldest ones while too many pixels wait."""
        full = [s for s, found in self.waiting.items() if len(found) == self.layout.batch_size(*s)]
        batches = [self.waiting.pop(shape) for shape in full]
        while self._pixels() > 2 * self.layout.max_batch_pixels:
            batches.append(self.pop_oldest())
        return batches

    def pop_oldest(self) -> list[ModelWindow]:
        """Take out the batch whose first window has waited longest; empty where none waits."""
        return self.waiting.popitem(last=False)[1] if self.waiting else []

    def _pixels(self) -> int:
        return sum(h * w * len(found) for (h, w), found in self.waiting.items())
