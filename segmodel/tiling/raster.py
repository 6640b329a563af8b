"""Rasters that are read by windows, and the pixels that a read gives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segmodel.tiling.windows import Tile, Window

# Pixels whose areas are in memory as 64 bits at once.
_STRIP_PIXELS = 1 << 18

# Function of a map of what was read, and its nodata value.
ToSourceGrid = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Pixels:
    """Pixels of one window.

    Args:
        values: `(height, width, bands)` raw values.
        valid: `(height, width)` bool, False for nodata; None where all are valid.
        wanted: `(height, width)` bool, False where a pixel is context that gets no label; None
            where all get one.
        source: `(height, width)` bool of the source, where a raster is read resampled: which of the
            pixels that were read for the window get a label; None where all do.
    """

    values: np.ndarray
    valid: np.ndarray | None = None
    wanted: np.ndarray | None = None
    source: np.ndarray | None = None

    @property
    def finite(self) -> np.ndarray | None:
        """`(height, width)` bool, where pixels are valid and no band is NaN or infinite.

        None where that is everywhere.
        """
        if not np.issubdtype(self.values.dtype, np.floating):
            return self.valid
        return combine_masks(np.isfinite(self.values).all(axis=-1), self.valid)

    def filled(self, fill: np.ndarray) -> np.ndarray:
        """`(height, width, bands)` values, with a fill value where a pixel is not finite.

        Args:
            fill: `(bands,)` fill value of each band, of the dtype of the values.
        """
        finite = self.finite
        if finite is None:
            return self.values
        return np.where(finite[..., None], self.values, fill).astype(self.values.dtype)


def out_of_range(
    values: np.ndarray, labelled: np.ndarray | None, limits: tuple[float, float]
) -> np.ndarray | None:
    """Pixels that get a label and hold a value outside the range of a model in some band.

    Args:
        values: `(height, width, bands)` raw values.
        labelled: `(height, width)` bool, the pixels that get a label; None for all.
        limits: Least and greatest value. Of floating point, a few units in the last place beyond
            them are within, as scaling and resampling round.

    Returns:
        `(height, width)` bool, or None if there is no such pixel.

    >>> values = np.array([[[3, 0], [9, 1], [4, 12]]], np.int16)
    >>> out_of_range(values, np.array([[True, True, False]]), (0, 8)).tolist()
    [[False, True, False]]
    """
    low, high = limits
    if np.issubdtype(values.dtype, np.floating):
        sizes = [abs(limit) for limit in limits if np.isfinite(limit)]
        margin = 4 * float(np.spacing(values.dtype.type(max(sizes, default=0.0))))
        low, high = low - margin, high + margin
    else:
        # Whole limits spare a copy of the values in floating point.
        low, high = (
            low if np.isinf(low) else math.ceil(low),
            high if np.isinf(high) else math.floor(high),
        )
    if not values.size:
        return None
    with np.errstate(invalid="ignore"):
        if low <= values.min() and values.max() <= high:
            return None
        beyond = values < low
        beyond |= values > high
    found = beyond[..., 0].copy()
    for band in range(1, values.shape[2]):
        found |= beyond[..., band]
    if labelled is not None:
        found &= labelled
    return found if found.any() else None


def combine_masks(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    """Where two boolean masks of equal shape both hold; None holds everywhere.

    >>> combine_masks(None, np.array([True, False]))
    array([ True, False])
    """
    if one is None or other is None:
        return one if other is None else other
    return np.asarray(one & other)


@dataclass(frozen=True)
class Counted:
    """How the pixels of a core count where labels are summed.

    Args:
        areas: `(height, width)` floating point, area of what each of them labels.
        labelled: `(height, width)` int32 number of pixels of the label map that take their label
            from each; None where that is one.
        index: `(height, width)` int32 place of each in `zones`; None where it is the first.
        zones: Combinations of zones, each as their numbers; None where zones are not told apart.
    """

    areas: np.ndarray
    labelled: np.ndarray | None = None
    index: np.ndarray | None = None
    zones: tuple[tuple[int, ...] | None, ...] = (None,)


class Raster(ABC):
    """What the engine reads by windows, from any thread.

    A raster has a size and can be read. The rest has defaults for one that takes no memory between
    reads, is labelled everywhere, is not resampled and has pixels of equal area.

    Attributes:
        height: Rows, as they are read.
        width: Columns, as they are read.
        held_bytes: Memory that it takes from the first read to the last, beside the windows.
        source_pixels: Pixels of the source grid, if it is read resampled; else 0.
        on_source_grid: Function of a `(height, width, ...)` map of what was read and its nodata;
            gives the map on the source grid. It outlives the reads and must not keep pixels.
    """

    height: int
    width: int
    held_bytes: int = 0
    source_pixels: int = 0
    on_source_grid: ToSourceGrid = staticmethod(lambda values, nodata: values)

    @abstractmethod
    def read(self, window: Window) -> Pixels:
        """Pixels of a window that lies within the raster.

        Raises:
            InputError: If they cannot be read.
        """

    def wants(self, core: Window) -> bool:
        """Whether any pixel of a core may get a label; where none does, nothing is read."""
        return True

    def pixel_areas(self, core: Window) -> np.ndarray | None:
        """Areas of the pixels of a core, in a unit of the raster; None where all are equal.

        Returns:
            `(height, 1)` or `(height, width)` float64.
        """
        return None

    def counted(self, tile: Tile, pixels: Pixels) -> Counted:
        """How the pixels of a core count where labels are summed, if they get a label.

        Args:
            tile: Window with its halo.
            pixels: What was read of it.
        """
        return Counted(self._areas(tile.core))

    def _areas(self, core: Window) -> np.ndarray:
        """Areas of the pixels of a core, `(height, width)` float32, made strip by strip."""
        areas = np.empty((core.height, core.width), np.float32)
        for strip in core.subdivide(max(1, _STRIP_PIXELS // core.width), core.width):
            found = self.pixel_areas(strip)
            areas[strip.relative_to(core).slices] = 1 if found is None else found
        return areas


class ArrayRaster(Raster):
    """A raster in memory.

    Args:
        values: `(height, width, bands)` raw values.
        valid: `(height, width)` bool, False for nodata; None where all are valid.
    """

    def __init__(self, values: np.ndarray, valid: np.ndarray | None = None) -> None:
        self.values, self.valid = values, valid
        self.height, self.width = values.shape[:2]

    def read(self, window: Window) -> Pixels:
        """Pixels of a window, without a copy."""
        valid = None if self.valid is None else self.valid[window.slices]
        return Pixels(self.values[window.slices], valid)
