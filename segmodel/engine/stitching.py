"""Windows on their way: filled, gathered in batches of equal shape, stitched to label maps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from segmodel.errors import InputError
from segmodel.labels.classes import ClassTable
from segmodel.tiling.pixels import Pixels, both
from segmodel.tiling.windows import Layout, Tile, Window


@dataclass(frozen=True)
class Lost:
    """A core that could not be read, in rows and columns of the raster, and why."""

    core: Window
    error: Exception


@dataclass(frozen=True)
class Labelled:
    """A finished job: `(height, width)` labels, and confidence in [0, 1] where it was asked for.

    `lost` are cores that could not be read, where the job goes on without them; they are nodata.
    """

    key: str
    labels: np.ndarray
    confidence: np.ndarray | None = None
    lost: tuple[Lost, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A job whose raster could not be opened or read."""

    key: str
    stage: str
    error: Exception


@dataclass(frozen=True)
class WindowRead:
    """A window on its way to the model."""

    slot: MapInProgress
    tile: Tile
    values: np.ndarray
    labelled: np.ndarray | None


class MapInProgress:
    """The label map of one job while its windows come in."""

    def __init__(self, key: str, classes: ClassTable) -> None:
        self.key, self.classes = key, classes
        self.failure: Failed | None = None
        self.expected = self.done = 0
        self.emitted = self.allow_partial = False
        self.lost: list[Lost] = []

    def begin(
        self,
        area: Window,
        windows: int,
        confidence: bool,
        on_source_grid: Callable[[np.ndarray, int], np.ndarray] = lambda values, nodata: values,
        source_pixels: int = 0,
    ) -> None:
        """Make room for the labels of `area`, which so many windows cover.

        Args:
            area: Of the raster.
            windows: Their number.
            confidence: Whether it is wanted.
            on_own_grid: Brings the finished map to the grid of the raster.
            own_pixels: Of that grid, where it has more than `area`.
        """
        self.area, self.expected, self.on_source_grid = area, windows, on_source_grid
        self.source_pixels = source_pixels
        self._wants_confidence = confidence
        self._labels: np.ndarray | None = None
        self._confidence: np.ndarray | None = None

    @property
    def finished(self) -> bool:
        """Whether no window is missing, or one has failed."""
        return self.failure is not None or self.done == self.expected

    def receive(
        self, tile: Tile, reading: Future[Pixels] | None, fill: np.ndarray
    ) -> WindowRead | None:
        """The window with nodata filled; None where it failed or the model has nothing to see.

        Args:
            tile: The window.
            reading: Its pixels, or None if none of them is wanted.
            fill: `(bands,)` what stands for nodata.
        """
        if self.failure is not None:
            return None
        if reading is None:
            self.done += 1
            return None
        try:
            pixels = _checked(reading.result(), tile, fill)
        except Exception as error:
            self._miss(tile, error)
            return None
        values, valid = pixels.values, pixels.finite
        labelled = both(valid, pixels.wanted)
        if labelled is not None and not labelled[tile.core.relative_to(tile.read).slices].any():
            self.done += 1
            return None
        if valid is not None and not valid.all():
            values = np.where(valid[..., None], values, fill)
        if values.shape[:2] != (tile.height, tile.width):
            whole = np.empty((tile.height, tile.width, values.shape[2]), values.dtype)
            whole[...] = fill
            whole[: values.shape[0], : values.shape[1]] = values
            values = whole
        return WindowRead(self, tile, values, labelled)

    def _miss(self, tile: Tile, error: Exception) -> None:
        """Go on without a window, or fail if the job does not, or if it has no other one."""
        if self.allow_partial and self.expected > 1:
            self.lost.append(Lost(tile.core, error))
            self.done += 1
        else:
            self.failure = Failed(self.key, "read", error)

    def stitch(self, read: WindowRead, labels: np.ndarray, confidence: np.ndarray | None) -> None:
        """Write the core of a labelled window into the map."""
        self.done += 1
        source = read.tile.core.relative_to(read.tile.read).slices
        core = np.asarray(labels[source], self.classes.label_dtype)
        levels = None if confidence is None else np.asarray(confidence[source], np.float32)
        if read.labelled is not None:
            core = np.where(read.labelled[source], core, core.dtype.type(self.classes.nodata))
            levels = None if levels is None else levels * read.labelled[source]
        if self.expected == 1 and read.tile.core == self.area:
            # Nothing to stitch: the only core is the map.
            self._labels, self._confidence = core, levels
            return
        whole, whole_levels = self._maps()
        target = read.tile.core.relative_to(self.area).slices
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
        """What the job has come to; runs in a thread."""
        if self.failure is not None:
            return self.failure
        if self.lost and len(self.lost) == self.expected:
            return Failed(self.key, "read", self.lost[0].error)
        labels, levels = self._maps()
        labels = self.on_source_grid(labels, self.classes.nodata)
        confidence = None if levels is None else self.on_source_grid(levels, 0)
        return Labelled(self.key, labels, confidence, tuple(self.lost))


def _checked(pixels: Pixels, tile: Tile, fill: np.ndarray) -> Pixels:
    """The same pixels.

    Raises:
        InputError: If they are not what was asked for.
    """
    shape = (tile.read.height, tile.read.width, fill.size)
    masks = {"valid": pixels.valid, "wanted": pixels.wanted}
    wrong = {name: m.shape for name, m in masks.items() if m is not None and m.shape != shape[:2]}
    if pixels.values.shape != shape or wrong:
        found = ", ".join([str(pixels.values.shape), *(f"{n} {s}" for n, s in wrong.items())])
        raise InputError(f"a read of {tile.read} with {fill.size} bands gave {found}")
    return pixels


class Batches:
    """Windows that wait for others of their shape; never more than a few full batches."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.waiting: OrderedDict[tuple[int, int], list[WindowRead]] = OrderedDict()

    def add(self, read: WindowRead) -> None:
        """Have a window wait."""
        self.waiting.setdefault((read.tile.height, read.tile.width), []).append(read)

    def due(self) -> list[list[WindowRead]]:
        """Full batches, and the oldest ones while too many pixels wait."""
        full = [s for s, reads in self.waiting.items() if len(reads) == self._size(s)]
        batches = [self.waiting.pop(shape) for shape in full]
        while self._pixels() > 2 * self.layout.call_pixels:
            batches.append(self.oldest())
        return batches

    def oldest(self) -> list[WindowRead]:
        """The batch whose first window has waited longest; empty where none waits."""
        return self.waiting.popitem(last=False)[1] if self.waiting else []

    def _size(self, shape: tuple[int, int]) -> int:
        return self.layout.batch_of(*shape)

    def _pixels(self) -> int:
        return sum(h * w * len(reads) for (h, w), reads in self.waiting.items())
