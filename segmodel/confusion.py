"""Confusion matrices and the scores that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IGNORED = -1


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts of pixels by true and predicted class.

    Args:
        truth: Class indices, any integer dtype; `IGNORED` and other values outside 0..classes-1
            count nowhere.
        predicted: Class indices of the same shape, all in 0..classes-1 where truth counts.
        classes: Number of classes.

    Returns:
        `(classes, classes)` int64, rows are truth.

    >>> confusion_matrix(np.array([0, 1, 1, -1]), np.array([0, 1, 0, 0]), 2)
    array([[1, 0],
           [1, 1]])
    """
    counted = (truth >= 0) & (truth < classes)
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True)
class Scores:
    """Scores of one confusion matrix; of a class that is absent altogether they are None."""

    pixel_accuracy: float | None
    mean_iou: float | None
    iou: tuple[float | None, ...]

    @classmethod
    def of(cls, matrix: np.ndarray) -> Scores:
        """Scores as Long, Shelhamer and Darrell (2015), section 5, define them.

        `mean_iou` is the mean over the classes that occur in truth or prediction.

        >>> scores = Scores.of(np.array([[3, 1], [0, 4]]))
        >>> scores.pixel_accuracy, scores.iou
        (0.875, (0.75, 0.8))
        """
        matrix = np.asarray(matrix, np.int64)
        hits = np.diag(matrix)
        union = matrix.sum(0) + matrix.sum(1) - hits
        iou = tuple(int(h) / int(u) if u else None for h, u in zip(hits, union, strict=True))
        present = [value for value in iou if value is not None]
        total = int(matrix.sum())
        return cls(
            pixel_accuracy=int(hits.sum()) / total if total else None,
            mean_iou=sum(present) / len(present) if present else None,
            iou=iou,
        )
