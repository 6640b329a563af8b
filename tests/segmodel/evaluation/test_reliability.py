"""Reliability: counts by confidence, bins as in calibration, and the error that follows."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.evaluation.calibration import BINS
from segmodel.evaluation.reliability import (
    confidence_counts,
    expected_calibration_error,
    reliability_table,
)


def test_counts_are_wrong_and_right_pixels_by_confidence_and_add_up():
    confidence = np.array([[255, 0], [0, 17]], np.uint8)
    counts = confidence_counts(confidence, np.array([[True, False], [True, False]]))

    assert counts.shape == (256, 2)
    assert counts[[255, 0, 17]].tolist() == [[0, 1], [1, 1], [1, 0]]
    assert counts.sum() == 4


def test_a_confidence_between_two_bins_is_in_the_lower_one():
    counts = np.zeros((256, 2), np.int64)
    counts[[0, 17, 18]] = (0, 1)

    table = reliability_table(counts)

    assert [row.pixels for row in table] == [2, 1, *[0] * (BINS - 2)]
    assert (table[0].low, table[0].high) == (0, 1 / 15)
    assert table[0].confidence == pytest.approx(17 / 2 / 255)
    assert (table[2].confidence, table[2].accuracy) == (None, None)


def test_the_error_is_that_of_each_pixel_alone():
    random = np.random.default_rng(1)
    confidence = random.integers(0, 256, 5000).astype(np.uint8)
    right = random.random(5000) < confidence / 255
    expected = 0.0
    for number in range(BINS):
        inside = np.maximum(np.ceil(confidence / 17), 1) - 1 == number
        if inside.any():
            expected += abs((confidence[inside] / 255).sum() - right[inside].sum()) / 5000

    found = expected_calibration_error(confidence_counts(confidence, right))

    assert found == pytest.approx(expected, abs=1e-12)
    assert expected_calibration_error(np.zeros((256, 2), int)) is None
