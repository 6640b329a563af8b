"""Windowed labels equal untiled ones when the halo covers the receptive field."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.savedmodel.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(neighbourhood_savedmodel):
    return Predictor.load(neighbourhood_savedmodel)


@pytest.mark.parametrize("height", [1, 2, 3, 7, 15, 16, 17, 31, 33, 50])
def test_windowed_labels_equal_untiled_labels_bit_for_bit(predictor, height):
    random = np.random.default_rng(height)
    halo = predictor.contract.receptive_field // 2
    for width in (1, 3, 4, 16, 17, 35, 49):
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = predictor.segment(image)
        actual = predictor.segment(image, window=16, halo=halo)
        np.testing.assert_array_equal(actual, expected, err_msg=f"{height}x{width}")


def test_without_halo_labels_differ_so_the_comparison_can_fail(predictor):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = predictor.segment(image)
    actual = predictor.segment(image, window=16, halo=0)
    assert (actual != expected).any()
