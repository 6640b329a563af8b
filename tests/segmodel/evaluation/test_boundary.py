"""Boundary IoU: the published figure, sums over blocks, ignored pixels and edges of images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from segmodel.evaluation.boundary import BoundaryCounts, boundary_counts
from segmodel.labels.confusion import IGNORED
from segmodel.tiling.windows import Window


def square() -> np.ndarray:
    truth = np.zeros((140, 140), np.int16)
    truth[20:120, 20:120] = 1
    return truth


def whole(values: np.ndarray) -> Window:
    return Window(0, 0, *values.shape)


@pytest.mark.parametrize(("distance", "expected"), [(1, 1 / 3), (2, 0.6), (5, 0.8181818182)])
def test_a_square_shifted_by_one_pixel_has_the_iou_of_its_bands(distance, expected):
    truth = square()
    shifted = np.roll(truth, 1, axis=(0, 1))

    found = boundary_counts(truth, np.roll(truth, 1, axis=1), 2, distance, whole(truth))

    assert found.iou[1] == pytest.approx(expected, abs=1e-10)
    assert boundary_counts(truth, shifted, 2, distance, whole(truth)).iou[1] < expected


def test_counts_are_those_of_erosions_of_each_class():
    random = np.random.default_rng(5)
    truth, labels = (random.integers(0, 3, (8, 9)).repeat(6, 0).repeat(7, 1) for _ in range(2))

    found = boundary_counts(truth, labels, 3, 2, whole(truth))

    for index in range(3):
        bands = []
        for values in (truth, labels):
            inside = values == index
            bands.append(inside & ~binary_erosion(inside, np.ones((3, 3)), iterations=2))
        assert found.intersection[index] == np.count_nonzero(bands[0] & bands[1])
        assert found.union[index] == np.count_nonzero(bands[0] | bands[1])


def test_blocks_that_see_as_far_as_the_distance_add_up_to_the_whole():
    random = np.random.default_rng(8)
    truth, labels = (random.integers(-1, 3, (50, 70)) for _ in range(2))
    expected = boundary_counts(truth, labels, 3, 3, whole(truth))

    total = BoundaryCounts.empty(3)
    for core in whole(truth).subdivide(16, 16):
        top, left = max(0, core.row - 3), max(0, core.column - 3)
        read = Window(top, left, min(50, core.row + core.height + 3) - top, 0)
        read = Window(top, left, read.height, min(70, core.column + core.width + 3) - left)
        part = core.relative_to(read)
        total += boundary_counts(truth[read.slices], labels[read.slices], 3, 3, part)

    np.testing.assert_array_equal(total.intersection, expected.intersection)
    np.testing.assert_array_equal(total.union, expected.union)


def test_ignored_pixels_are_not_counted_and_make_no_boundary():
    truth = np.zeros((30, 30), int)
    truth[10:20, 10:20] = IGNORED

    found = boundary_counts(truth, np.zeros_like(truth), 1, 1, Window(5, 5, 20, 20))

    assert (found.intersection.tolist(), found.union.tolist()) == ([0], [0])
    assert found.iou == (None,)
