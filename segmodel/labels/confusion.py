"""Confusion matrices and the scores that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

IGNORED = -1
# Pixels that are counted at a time, as counting widens each to 8 bytes.
COUNTED_PIXELS = 1 << 20


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts of pixels by true and predicted class.

    Args:
        truth: Class indices, any integer dtype; `IGNORED` and other values outside 0..classes-1
            are not counted.
        predicted: Class indices of the same shape, all in 0..classes-1 where truth counts.
        classes: Number of classes.

    Returns:
        `(classes, classes)` int64, rows are truth.

    >>> confusion_matrix(np.array([0, 1, 1, -1]), np.array([0, 1, 0, 0]), 2)
    array([[1, 0],
           [1, 1]])
    """
    matrix = np.zeros(classes**2, np.int64)
    truth, predicted = truth.ravel(), predicted.ravel()
    for start in range(0, truth.size, COUNTED_PIXELS):
        strip = slice(start, start + COUNTED_PIXELS)
        counted = (truth[strip] >= 0) & (truth[strip] < classes)
        pairs = truth[strip][counted].astype(np.int64) * classes + predicted[strip][counted]
        matrix += np.bincount(pairs, minlength=classes**2)
    return matrix.reshape(classes, classes)


PerClass = tuple[float | None, ...]


@dataclass(frozen=True)
class Scores:
    """Scores of one confusion matrix; None where there is nothing to score, never 0.

    Args:
        pixel_accuracy: Share of counted pixels that are right.
        mean_iou: Mean IoU of the classes that occur in truth or prediction.
        iou: Intersection over union of each class; None if it is in neither.
        precision: Share of the pixels that were given a class which are of it; None if none was.
        recall: Share of the pixels of a class that were given it; None if there is none.
        f1: Harmonic mean of precision and recall (Dice); None if the class is in neither.
        mean_f1: Mean F1 of the classes that occur in truth or prediction.
        frequency_weighted_iou: IoU weighted by the share of pixels of each true class.
    """

    pixel_accuracy: float | None
    mean_iou: float | None
    iou: PerClass
    precision: PerClass
    recall: PerClass
    f1: PerClass
    mean_f1: float | None
    frequency_weighted_iou: float | None

    @property
    def mean_iou_of_truth(self) -> float | None:
        """Mean IoU of the classes that truth has.

        A class that truth lacks is 0 in `mean_iou` from its first wrong pixel on; here it is left
        out, so that models can be compared by it.
        """
        of_classes = zip(self.iou, self.recall, strict=True)
        return _mean(tuple(iou for iou, recall in of_classes if recall is not None))

    @classmethod
    def of(cls, matrix: np.ndarray) -> Scores:
        """Scores of a confusion matrix.

        Args:
            matrix: `(classes, classes)` counts of pixels, or their ground area; rows are truth.

        Source: Long, Shelhamer and Darrell, Fully Convolutional Networks for Semantic Segmentation
        (2015), section 5.

        >>> scores = Scores.of(np.array([[3, 1], [0, 4]]))
        >>> scores.pixel_accuracy, scores.iou
        (0.875, (0.75, 0.8))
        >>> scores.precision, scores.recall
        ((1.0, 0.8), (0.75, 1.0))
        """
        hits, true, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
        iou = _shares(hits, true + predicted - hits)
        f1 = _shares(2 * hits, true + predicted)
        total = matrix.sum().item()
        weighted = sum(t * (value or 0.0) for t, value in zip(true.tolist(), iou, strict=True))
        return cls(
            pixel_accuracy=hits.sum().item() / total if total else None,
            mean_iou=_mean(iou),
            iou=iou,
            precision=_shares(hits, predicted),
            recall=_shares(hits, true),
            f1=f1,
            mean_f1=_mean(f1),
            frequency_weighted_iou=weighted / total if total else None,
        )

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """Scores as in `scores.json`, those of classes by name.

        Args:
            names: Names of the classes, in their order.

        >>> Scores.of(np.array([[3, 1], [0, 4]])).to_json(["sea", "land"])["iou"]
        {'sea': 0.75, 'land': 0.8}
        """
        overall = "mean_iou mean_iou_of_truth pixel_accuracy frequency_weighted_iou mean_f1"
        return {name: getattr(self, name) for name in overall.split()} | {
            name: dict(zip(names, getattr(self, name), strict=True))
            for name in ("iou", "f1", "precision", "recall")
        }


def _shares(parts: np.ndarray, wholes: np.ndarray) -> PerClass:
    """Ratios of counts or areas as floats, None where the denominator is 0."""
    pairs = zip(parts.tolist(), wholes.tolist(), strict=True)
    return tuple(part / whole if whole else None for part, whole in pairs)


def _mean(values: PerClass) -> float | None:
    """Mean of the values that are not None; None if all are."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
