"""Boundary IoU: whether the edges of labels lie where those of the truth do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segmodel.labels.confusion import IGNORED
from segmodel.tiling.windows import Window

_OUTSIDE = IGNORED - 1


@dataclass(frozen=True)
class BoundaryCounts:
    """Pixels near boundaries, by class; those of images and blocks add up.

    Args:
        intersection: `(classes,)` int64 pixels that are near a boundary of the class in both maps.
        union: `(classes,)` int64 pixels that are near one in either map.
    """

    intersection: np.ndarray
    union: np.ndarray

    @classmethod
    def empty(cls, classes: int) -> BoundaryCounts:
        """No pixels."""
        return cls(np.zeros(classes, np.int64), np.zeros(classes, np.int64))

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(self.intersection + other.intersection, self.union + other.union)

    @property
    def iou(self) -> tuple[float | None, ...]:
        """Boundary IoU of each class; None where neither map has a boundary of it."""
        parts, wholes = self.intersection.tolist(), self.union.tolist()
        return tuple(p / w if w else None for p, w in zip(parts, wholes, strict=True))


def boundary_counts(
    truth: np.ndarray, predicted: np.ndarray, classes: int, distance_px: int, core: Window
) -> BoundaryCounts:
    """Counts of the pixels of a window that are near boundaries.

    A pixel is near a boundary if a square of `2 * distance_px + 1` pixels around it holds another
    class, or reaches beyond the arrays. What is ignored is no other class, and is not counted.

    Args:
        truth: `(height, width)` class indices, `IGNORED` where they count nowhere.
        predicted: The same of the labels.
        classes: Number of classes.
        distance_px: Erosions by a square of 3 x 3, at least 1.
        core: Which pixels are counted. Arrays go on for `distance_px` around it, or end where the
            image does, so that sums over blocks are those of the whole image.

    Source: Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation
    (2021), equation 4; pixels beyond the image are of no class, as in its published code.

    >>> truth = np.zeros((9, 9), int)
    >>> truth[2:7, 2:7] = 1
    >>> shifted = np.roll(truth, 1, axis=1)
    >>> boundary_counts(truth, shifted, 2, 1, Window(0, 0, 9, 9)).iou[1]
    0.3333333333333333
    """
    true, given = truth[core.slices], predicted[core.slices]
    counts = true > IGNORED
    of_truth = counts & _near_boundary(truth, distance_px)[core.slices]
    of_labels = counts & (given > IGNORED) & _near_boundary(predicted, distance_px)[core.slices]
    both = of_truth & of_labels & (true == given)

    def by_class(values: np.ndarray) -> np.ndarray:
        return np.bincount(values.astype(np.int64), minlength=classes)

    intersection = by_class(true[both])
    return BoundaryCounts(
        intersection, by_class(true[of_truth]) + by_class(given[of_labels]) - intersection
    )


def _near_boundary(indices: np.ndarray, distance_px: int) -> np.ndarray:
    """Where the square around a pixel holds two classes, `(height, width)` bool."""
    values = np.pad(indices.astype(np.int32), distance_px, constant_values=_OUTSIDE)
    ignored, size = values == IGNORED, 2 * distance_px + 1
    least = np.where(ignored, np.iinfo(np.int32).max, values)
    greatest = np.where(ignored, np.iinfo(np.int32).min, values)
    for _ in range(2):
        least = _running(least, size, np.minimum).T
        greatest = _running(greatest, size, np.maximum).T
    return np.asarray(least < greatest)


def _running(values: np.ndarray, size: int, extreme: np.ufunc) -> np.ndarray:
    """Extremes of so many rows from each row on, in a number of steps that is a logarithm."""
    covered = 1
    while covered < size:
        step = min(covered, size - covered)
        values = extreme(values[:-step], values[step:])
        covered += step
    return values
