"""Weights of classes by how often they are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segmodel.errors import ConfigurationError
from segmodel.training.losses import loss_weights


def test_without_a_setting_all_classes_count_alike():
    assert loss_weights((), np.array([5, 7])) == ()


def test_weights_of_the_user_are_taken_as_they_are():
    assert loss_weights((1, 0.0, 2.5), np.array([5, 7, 9])) == (1.0, 0.0, 2.5)


def test_median_frequency_divides_by_the_share_in_images_that_have_the_class():
    counts = np.array([[80, 20, 0], [50, 0, 50]])
    shares = (130 / 200, 20 / 100, 50 / 100)
    expected = [0.5 / share for share in shares]
    np.testing.assert_allclose(loss_weights("median_frequency", counts), expected, rtol=1e-12)


def test_median_frequency_takes_sums_over_images_as_it_takes_the_images():
    counts = np.array([[80, 20, 0], [50, 0, 50]])
    assert loss_weights(
        "median_frequency", counts.sum(axis=0), np.array([200, 100, 100])
    ) == loss_weights("median_frequency", counts)


def test_median_frequency_takes_no_notice_of_images_without_a_pixel_that_counts():
    counts = np.array([[30, 10]])
    more = np.array([[30, 10], [0, 0]])
    assert loss_weights("median_frequency", counts) == loss_weights("median_frequency", more)


def test_median_frequency_is_that_of_the_classes_that_are_there():
    assert loss_weights("median_frequency", np.array([0, 50, 25, 25])) == (
        0.0,
        0.5,
        1.0,
        1.0,
    )


def test_inverse_log_is_the_formula_of_enet():
    expected = [1 / math.log(1.02 + 0.9), 1 / math.log(1.02 + 0.1)]
    actual = loss_weights("inverse_log", np.array([[400, 100], [500, 0]]))
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("setting", ["median_frequency", "inverse_log"])
def test_a_class_alone_has_a_finite_weight_and_absent_ones_have_0(setting):
    weights = loss_weights(setting, np.array([0, 12, 0]))
    assert weights[0] == weights[2] == 0.0
    assert 0 < weights[1] < 51


@pytest.mark.parametrize("setting", ["median_frequency", "inverse_log"])
def test_counts_beyond_32_bits_are_counted(setting):
    small, large = np.array([3, 1]), np.array([3, 1]) * 10**14
    np.testing.assert_allclose(
        loss_weights(setting, large), loss_weights(setting, small), rtol=1e-12
    )


@pytest.mark.parametrize("setting", ["median_frequency", "inverse_log"])
def test_no_pixel_that_counts_is_refused_with_the_remedy(setting):
    with pytest.raises(ConfigurationError, match=f"{setting}.*ignore_ids"):
        loss_weights(setting, np.zeros((2, 3), np.int64))
