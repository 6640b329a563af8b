"""Filters of red, green and blue for any bands."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.networks.backbones import band_filters, band_means, imagenet_sources

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        (("red", "green", "blue"), (0, 1, 2)),
        (("blue", "green", "red"), (2, 1, 0)),
        (("B4", "B3", "B2"), (0, 1, 2)),
        (("nir", "Red", "green"), (None, 0, 1)),
        (("vv", "vh"), (None, None)),
        (("blue", "green", "red", "nir"), (2, 1, 0, None)),
    ],
)
def test_bands_are_found_by_name_and_three_without_names_by_order(bands, expected):
    assert imagenet_sources(bands) == expected


def test_red_green_blue_keep_their_filters_bit_for_bit():
    np.testing.assert_array_equal(band_filters(("red", "green", "blue"), KERNEL), KERNEL)


def test_blue_green_red_take_their_own_filters():
    actual = band_filters(("blue", "green", "red"), KERNEL)
    np.testing.assert_array_equal(actual, KERNEL[:, :, ::-1])


def test_other_bands_take_the_mean_and_all_are_scaled_by_3_over_n():
    actual = band_filters(("nir", "green", "red", "sar"), KERNEL)
    mean = KERNEL.mean(axis=2)
    expected = np.stack([mean, KERNEL[:, :, 1], KERNEL[:, :, 0], mean], axis=2) * 0.75
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize("bands", [("grey",), ("a", "b"), tuple("abcdefghij")])
def test_an_image_that_is_equal_in_all_bands_activates_as_a_grey_one(bands):
    actual = band_filters(bands, KERNEL).sum(axis=2)
    np.testing.assert_allclose(actual, KERNEL.sum(axis=2), rtol=0, atol=1e-5)


def test_means_follow_the_bands():
    actual = band_means(("nir", "blue", "red"), (123.68, 116.779, 103.939))
    assert actual == pytest.approx((114.79933333, 103.939, 123.68), rel=1e-9)
