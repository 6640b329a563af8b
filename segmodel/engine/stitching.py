"""Windows of rasters: nodata filled, gathered in batches of equal shape, stitched to label maps."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from segmodel.errors import InputError
from segmodel.labels.classes import ClassTable
from segmodel.tiling.raster import Pixels, Raster, combine_masks
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
    """

    key: str
    labels: np.ndarray
    confidence: np.ndarray | None = None
    lost: tuple[LostWindow, ...] = ()


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


@dataclass(frozen=True)
class ModelWindow:
    """A window as the model takes it.

    Args:
        slot: Label map that the window belongs to.
        tile: Window with its halo.
        values: `(height, width, bands)` raw values, nodata filled, of the tile's size.
        labelled: `(height, width)` bool, the pixels that get a label; None for all.
    """

    slot: MapInProgress
    tile: Tile
    values: np.ndarray
    labelled: np.ndarray | None


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

    def begin(self, area: Window, windows: int, confidence: bool, raster: Raster) -> None:
        """Say what is to be labelled, once the raster is open.

        Args:
            area: Part of the raster that is labelled.
            windows: Number of windows that cover it.
            confidence: Whether confidence is kept beside labels.
            raster: The raster, which is not kept: only how its map gets on the source grid.
        """
        self.area, self.expected = area, windows
        self.on_source_grid, self.source_pixels = raster.on_source_grid, raster.source_pixels
        self._wants_confidence = confidence
        self._labels: np.ndarray | None = None
        self._confidence: np.ndarray | None = None

    @property
    def finished(self) -> bool:
        """Whether no window is missing, or one has failed."""
        return self.failure is not None or self.done == self.expected

    def receive(
        self, tile: Tile, pending: Future[Pixels] | None, fill: np.ndarray
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
            pixels = _checked(pending.result(), tile, fill)
        except Exception as error:
            # The window is left nodata where the job allows it and has others.
            if self.allow_partial and self.expected > 1:
                self.lost.append(LostWindow(tile.core, error))
                self.done += 1
            else:
                self.failure = Failed(self.key, "read", error)
            return None
        values, valid = pixels.values, pixels.finite
        labelled = combine_masks(valid, pixels.wanted)
        if labelled is not None and not labelled[tile.core.relative_to(tile.read).slices].any():
            self.done += 1
            return None
        if valid is not None and not valid.all():
            values = np.where(valid[..., None], values, fill)
        if values.shape[:2] != (tile.height, tile.width):
            whole = np.full((tile.height, tile.width, values.shape[2]), fill, values.dtype)
            whole[: values.shape[0], : values.shape[1]] = values
            values = whole
        return ModelWindow(self, tile, values, labelled)

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
        if self.expected == 1 and window.tile.core == self.area:
            # Nothing to stitch: the only core is the map.
            self._labels, self._confidence = core, levels
            return
        whole, whole_levels = self._maps()
        target = window.tile.core.relative_to(self.area).slices
        whole[target] = core
        if whole_levels is not None:
            whole_levels[target] = levels

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
        """Memory of label map and confidence."""
        of_confidence = 4 if self.failure is None and self._wants_confidence else 0
        pixels = max(self.pixels, self.source_pixels) if self.failure is None else 0
        return pixels * (self.classes.label_dtype.itemsize + of_confidence)

    def outcome(self) -> Labelled | Failed:
        """The finished label map on the source grid, or the failure; called in a thread."""
        if self.failure is not None:
            return self.failure
        if self.lost and len(self.lost) == self.expected:
            return Failed(self.key, "read", self.lost[0].error)
        labels, levels = self._maps()
        labels = self.on_source_grid(labels, self.classes.nodata)
        confidence = None if levels is None else self.on_source_grid(levels, 0)
        return Labelled(self.key, labels, confidence, tuple(self.lost))


def _checked(pixels: Pixels, tile: Tile, fill: np.ndarray) -> Pixels:
    """The pixels themselves.

    Raises:
        InputError: If they have not the shape of the window and its bands.
    """
    shape = (tile.read.height, tile.read.width, fill.size)
    masks = {"valid": pixels.valid, "wanted": pixels.wanted}
    wrong = {name: m.shape for name, m in masks.items() if m is not None and m.shape != shape[:2]}
    if pixels.values.shape != shape or wrong:
        found = ", ".join([str(pixels.values.shape), *(f"{n} {s}" for n, s in wrong.items())])
        raise InputError(f"a read of {tile.read} with {fill.size} bands gave {found}")
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
