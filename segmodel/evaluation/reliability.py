"""Whether confidence is the share of pixels that are right, from counts of pixels by confidence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segmodel.evaluation.calibration import BINS

# Confidence of 8 bits, in which 1.0 is 255.
LEVELS = 256
_LEVELS_A_BIN = (LEVELS - 1) // BINS


class ReliabilityBin(NamedTuple):
    """Pixels of similar confidence.

    Args:
        low: Confidence above which they are.
        high: Greatest confidence.
        pixels: Number of pixels.
        confidence: Their mean confidence; None without pixels.
        accuracy: Share of them that are right; None without pixels.
    """

    low: float
    high: float
    pixels: int
    confidence: float | None
    accuracy: float | None


def confidence_counts(confidence: np.ndarray, is_right: np.ndarray) -> np.ndarray:
    """Counts of pixels by confidence and by whether they are right.

    Args:
        confidence: uint8 of any shape; 1.0 is 255.
        is_right: bool of the same shape.

    Returns:
        `(256, 2)` int64: wrong and right pixels of each confidence; counts of images add up.
    """
    places = 2 * confidence.ravel().astype(np.int64) + is_right.ravel()
    return np.bincount(places, minlength=2 * LEVELS).reshape(LEVELS, 2)


def reliability_table(counts: np.ndarray) -> list[ReliabilityBin]:
    """Mean confidence and share of right pixels in 15 bins of equal width.

    Args:
        counts: `(256, 2)` counts, see `confidence_counts`.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), section 2.

    >>> counts = np.zeros((256, 2), np.int64)
    >>> counts[255] = 1, 3
    >>> reliability_table(counts)[-1]._replace(low=0.9)
    ReliabilityBin(low=0.9, high=1.0, pixels=4, confidence=1.0, accuracy=0.75)
    """
    # A confidence on the border of two bins is in the lower one.
    bins = np.maximum(0, -(-np.arange(LEVELS) // _LEVELS_A_BIN) - 1)
    table = []
    for number in range(BINS):
        inside = counts[bins == number]
        pixels = int(inside.sum())
        levels = int((np.flatnonzero(bins == number) * inside.sum(axis=1)).sum())
        table.append(
            ReliabilityBin(
                low=number / BINS,
                high=(number + 1) / BINS,
                pixels=pixels,
                confidence=levels / pixels / (LEVELS - 1) if pixels else None,
                accuracy=int(inside[:, 1].sum()) / pixels if pixels else None,
            )
        )
    return table


def expected_calibration_error(counts: np.ndarray) -> float | None:
    """Mean difference of confidence and share of right pixels over the bins, by their pixels.

    Args:
        counts: `(256, 2)` counts, see `confidence_counts`.

    Returns:
        A number in [0, 1]; None without pixels.

    Source: Guo et al. (2017), equation 3.

    >>> counts = np.zeros((256, 2), np.int64)
    >>> counts[255] = 1, 3
    >>> expected_calibration_error(counts)
    0.25
    """
    table, total = reliability_table(counts), int(counts.sum())
    if not total:
        return None
    gaps = (row.pixels * abs((row.confidence or 0) - (row.accuracy or 0)) for row in table)
    return sum(gaps) / total
