"""Soft sums: probabilities in whole levels, summed by label and class over the pixels that count.

A probability is one of 256 levels, of which 255 stand for 1. Sums of levels are whole numbers, so
they depend neither on the order of pixels nor on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from segmodel.tiling.raster import Counted
from segmodel.tiling.windows import Tile

# Levels of a pixel, over all classes.
LEVELS = 255
# Bins of the histogram of confidence: the levels of each begin with the same four bits.
BINS = 16
# What the largest area of a window is in steps, at most: 2^25 pixels of 255 levels stay below 2^53,
# up to which float64 is exact.
_STEPS = 20


@dataclass(frozen=True)
class BatchWeights:
    """How much the pixels of a batch count.

    Args:
        values: `(batch, height, width)` int32; see `Weights`.
        labelled: `(batch, height, width)` int32 number of pixels that each labels; None where that
            is one.
        index: `(batch, height, width)` int32 place of each in the zones of its window; None where
            it is the first.
    """

    values: np.ndarray
    labelled: np.ndarray | None = None
    index: np.ndarray | None = None


@dataclass(frozen=True)
class Weights:
    """How much the pixels of a window count.

    Args:
        values: `(height, width)` int32, the area of each pixel in steps, rounded; 0 where a pixel
            does not count, else at least 1.
        step: What a step is: the area of each pixel, if they have the same; else a power of two, so
            that multiplying with it is exact.
        labelled: As in `Counted`, of the whole window.
        index: Likewise.
        zones: As in `Counted`.
    """

    values: np.ndarray
    step: float
    labelled: np.ndarray | None = None
    index: np.ndarray | None = None
    zones: tuple[tuple[int, ...] | None, ...] = (None,)

    @classmethod
    def of(cls, counted: Counted, tile: Tile, has_label: np.ndarray | None) -> Weights:
        """Weights of the pixels that get a label in the core of a window.

        Args:
            counted: How the pixels of the core count; its areas are not kept.
            tile: Window with its halo.
            has_label: `(height, width)` bool of what was read, the pixels that get a label; None
                for all.
        """

        def placed(values: np.ndarray) -> np.ndarray:
            whole = np.zeros((tile.height, tile.width), np.int32)
            whole[core] = values
            return whole

        core = tile.core.relative_to(tile.read).slices
        areas = counted.areas
        least, largest = float(areas.min(initial=np.inf)), float(areas.max(initial=0))
        step = largest or 1.0
        if least < largest:
            # A power of two by which the largest has _STEPS bits.
            step = 2.0 ** (math.ceil(math.log2(largest)) - _STEPS)
        areas /= np.float32(step)
        values = placed(np.maximum(np.rint(areas, out=areas), 1, out=areas))
        if has_label is not None:
            values[core] *= has_label[core]
        labelled = None if counted.labelled is None else placed(counted.labelled)
        if labelled is not None:
            values *= labelled > 0
        index = None if counted.index is None else placed(counted.index)
        return cls(values, step, labelled, index, counted.zones)


@dataclass(frozen=True)
class SoftBatch:
    """What a model says of a batch of windows; classes are in the order of the class table.

    Args:
        labels: `(batch, height, width)` class ids of the class table's dtype.
        confidence: `(batch, height, width)` float32 probability of each label in [0, 1].
        levels: `(batch, zones, classes, classes)` int64, sum of levels of the pixels that count, by
            place in `Weights.zones`, label and class; for the window with the most zones.
        weighted: The same of levels times weights, float64; whole.
        bins: `(batch, zones, classes, BINS)` int64, the number of these pixels by zones, label and
            confidence.
        maps: `(batch, height, width, classes)` uint8 levels of all pixels, where they are asked
            for; else None.
    """

    labels: np.ndarray
    confidence: np.ndarray
    levels: np.ndarray
    weighted: np.ndarray
    bins: np.ndarray
    maps: np.ndarray | None = None


@dataclass
class LevelSums:
    """Levels summed over the pixels of a label map.

    Args:
        levels: `(classes, classes)` int64 sum of levels by label and class.
        areas: `(classes, classes)` float64, the same of levels times areas, in the unit of
            `Raster.pixel_areas`; in the order of windows, so the last bits do not depend on time.
    """

    levels: np.ndarray
    areas: np.ndarray

    @classmethod
    def zeros(cls, classes: int) -> LevelSums:
        """Sums of no pixel."""
        return cls(np.zeros((classes, classes), np.int64), np.zeros((classes, classes)))

    def add(self, levels: np.ndarray, areas: np.ndarray) -> None:
        """Add the levels of more pixels, and levels times areas."""
        self.levels += levels
        self.areas += areas


@dataclass
class SoftSums:
    """Soft sums of a label map, window by window.

    Args:
        whole: Of all pixels.
        bins: `(classes, BINS)` int64 number of pixels by label and confidence.
        by_zones: Of the pixels in each combination of zones that there is; empty where zones are
            not told apart.
    """

    whole: LevelSums
    bins: np.ndarray
    by_zones: dict[tuple[int, ...], LevelSums] = field(default_factory=dict)

    @classmethod
    def zeros(cls, classes: int) -> SoftSums:
        """Sums of no pixel."""
        return cls(LevelSums.zeros(classes), np.zeros((classes, BINS), np.int64))

    def add(self, batch: SoftBatch, number: int, weights: Weights) -> None:
        """Add a window of a batch.

        Args:
            batch: What the model says of the batch.
            number: Place of the window in the batch.
            weights: Weights of the window.
        """
        self.bins += batch.bins[number].sum(axis=0)
        self._add(weights.zones, batch.levels[number], batch.weighted[number] * weights.step)

    def add_pixels(self, levels: np.ndarray, label: np.ndarray, counted: Counted) -> None:
        """Add pixels whose levels are at hand; confidence is not known of them.

        Args:
            levels: `(height, width, classes)` uint8.
            label: `(height, width)` place of the label in the class table; below 0 where a pixel
                does not count.
            counted: Areas and zones of the pixels.
        """
        classes = levels.shape[2]
        shape = (len(counted.zones), classes, classes)
        index = 0 if counted.index is None else counted.index
        cells = len(counted.zones) * classes
        # Those that do not count come behind the others.
        cell = np.where(label < 0, cells, index * classes + label).ravel()
        found = np.empty((2, cells, classes))
        for place in range(classes):
            part = levels[..., place]
            for sums, factor in zip(found, (1.0, counted.areas), strict=True):
                sums[:, place] = np.bincount(cell, (part * factor).ravel(), cells + 1)[:-1]
        self._add(counted.zones, found[0].astype(np.int64).reshape(shape), found[1].reshape(shape))

    def _add(
        self, zones: Sequence[tuple[int, ...] | None], levels: np.ndarray, areas: np.ndarray
    ) -> None:
        """Add sums by combination of zones, of which there may be more at the end that are 0."""
        for combination, of_levels, of_areas in zip(zones, levels, areas, strict=False):
            self.whole.add(of_levels, of_areas)
            if combination is not None:
                zeros = LevelSums.zeros(len(of_levels))
                self.by_zones.setdefault(combination, zeros).add(of_levels, of_areas)
