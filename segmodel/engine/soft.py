"""Soft sums: probabilities in whole levels, summed by label and class over the pixels that count.

A probability is one of 256 levels, of which 255 stand for 1. Sums of levels are whole numbers, so
they depend neither on the order of pixels nor on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from segmodel.tiling.raster import Raster
from segmodel.tiling.windows import Tile, Window

# Levels of a pixel, over all classes.
LEVELS = 255
# Bins of the histogram of confidence: the levels of each begin with the same four bits.
BINS = 16
# What the largest area of a window is in steps, at most: 2^25 pixels of 255 levels stay below 2^53,
# up to which float64 is exact.
_STEPS = 20
# Pixels whose areas are in memory as 64 bits at once.
_STRIP_PIXELS = 1 << 18


@dataclass(frozen=True)
class Weights:
    """How much the pixels of a window count.

    Args:
        values: `(height, width)` int32, the area of each pixel in steps, rounded; 0 where a pixel
            does not count, else at least 1.
        step: What a step is: a power of two, so that multiplying with it is exact.
    """

    values: np.ndarray
    step: float

    @classmethod
    def of(cls, raster: Raster, tile: Tile, labelled: np.ndarray | None) -> Weights:
        """Weights of the pixels that get a label in the core of a window.

        Args:
            raster: Raster that the window is of.
            tile: Window with its halo.
            labelled: `(height, width)` bool of what was read, the pixels that get a label; None for
                all.
        """
        values = np.zeros((tile.height, tile.width), np.int32)
        core = tile.core.relative_to(tile.read).slices
        areas, step = _areas(raster, tile.core), 1.0
        largest = float(areas.max(initial=0))
        if largest:
            # A power of two by which the largest has _STEPS bits.
            step = 2.0 ** (math.ceil(math.log2(largest)) - _STEPS)
        areas /= np.float32(step)
        values[core] = np.maximum(np.rint(areas, out=areas), 1, out=areas)
        if labelled is not None:
            values[core] *= labelled[core]
        return cls(values, step)


def _areas(raster: Raster, core: Window) -> np.ndarray:
    """Areas of the pixels of a core, `(height, width)` float32, made strip by strip."""
    areas = np.empty((core.height, core.width), np.float32)
    for strip in core.subdivide(max(1, _STRIP_PIXELS // core.width), core.width):
        found = raster.pixel_areas(strip)
        areas[strip.relative_to(core).slices] = 1 if found is None else found
    return areas


@dataclass(frozen=True)
class SoftBatch:
    """What a model says of a batch of windows; classes are in the order of the class table.

    Args:
        labels: `(batch, height, width)` class ids of the class table's dtype.
        confidence: `(batch, height, width)` float32 probability of each label in [0, 1].
        levels: `(batch, classes, classes)` int64, sum of levels of the pixels that count, by label
            and class.
        weighted: `(batch, classes, classes)` float64, the same of levels times weights; whole.
        bins: `(batch, classes, BINS)` int64, the number of these pixels by label and confidence.
        maps: `(batch, height, width, classes)` uint8 levels of all pixels, where they are asked
            for; else None.
    """

    labels: np.ndarray
    confidence: np.ndarray
    levels: np.ndarray
    weighted: np.ndarray
    bins: np.ndarray
    maps: np.ndarray | None = None


class SoftSums:
    """Soft sums of a label map, window by window.

    Args:
        classes: Number of classes.

    Attributes:
        levels: `(classes, classes)` int64 sum of levels by label and class.
        areas: `(classes, classes)` float64, the same of levels times areas, in the unit of
            `Raster.pixel_areas`; in the order of windows, so the last bits do not depend on time.
        bins: `(classes, BINS)` int64 number of pixels by label and confidence.
    """

    def __init__(self, classes: int) -> None:
        self.levels = np.zeros((classes, classes), np.int64)
        self.areas = np.zeros((classes, classes))
        self.bins = np.zeros((classes, BINS), np.int64)

    def add(self, batch: SoftBatch, number: int, step: float) -> None:
        """Add a window of a batch.

        Args:
            batch: What the model says of the batch.
            number: Place of the window in the batch.
            step: Step of the weights of the window.
        """
        self.levels += batch.levels[number]
        self.areas += batch.weighted[number] * step
        self.bins += batch.bins[number]
