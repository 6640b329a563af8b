"""Sizes of samples, and how they are shared out among strata."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmodel.errors import ConfigurationError
from segmodel.evaluation.sample_size import Allocation, needed_points

# Olofsson et al. (2014), section 5.1: deforestation, gain, stable forest, stable other.
WEIGHTS = np.array([0.02, 0.015, 0.32, 0.645])
EXPECTED = np.array([0.70, 0.60, 0.90, 0.95])


def test_the_size_of_the_published_example():
    assert round(needed_points(WEIGHTS, EXPECTED, 0.01), 4) == 640.5359


def test_areas_need_not_sum_to_1():
    assert needed_points(WEIGHTS * 9e9, EXPECTED, 0.01) == pytest.approx(640.5359, abs=5e-5)


def test_one_expected_accuracy_is_that_of_all_strata():
    # (sqrt(.8 * .2) / .02)^2, whatever the areas are.
    assert needed_points(np.array([1.0, 7.0]), 0.8, 0.02) == pytest.approx(400)


@pytest.mark.parametrize(
    ("allocation", "expected"),
    [
        (Allocation("proportional"), [12.82, 9.615, 205.12, 413.445]),
        (Allocation("neyman", EXPECTED), [23.21, 18.61, 243.14, 356.04]),
        (Allocation("equal"), [160.25] * 4),
        (Allocation(fixed={0: 100, 1: 100}), [100, 100, 146.24, 294.76]),
        (Allocation(fixed={0: 75, 1: 75}), [75, 75, 162.82, 328.18]),
        (Allocation(fixed={0: 50, 1: 50}), [50, 50, 179.40, 361.60]),
    ],
)
def test_allocations_of_the_published_example(allocation, expected):
    np.testing.assert_allclose(allocation.shared_out(641, WEIGHTS), expected, atol=0.005)


def test_whole_points_go_to_the_largest_remainders():
    assert Allocation().whole(641, WEIGHTS).tolist() == [13, 10, 205, 413]
    assert Allocation("equal").whole(11, np.ones(4)).tolist() == [3, 3, 3, 2]
    assert Allocation(fixed={1: 7}).whole(11, np.ones(3)).tolist() == [2, 7, 2]


def test_a_minimum_takes_points_from_strata_that_have_more():
    areas = np.array([0.001, 0.1, 0.299, 0.6])
    # The first and, once it has 20, also the second would have less than 20.
    assert Allocation(minimum=20).whole(100, areas).tolist() == [20, 20, 20, 40]


def test_a_stratum_in_which_no_error_is_expected_gets_the_minimum():
    allocation = Allocation("neyman", np.array([1.0, 0.8]), minimum=5)
    assert allocation.whole(50, np.array([90.0, 10.0])).tolist() == [5, 45]
    everywhere = Allocation("neyman", 1.0, minimum=5)
    assert everywhere.whole(51, np.array([90.0, 10.0])).tolist() == [26, 25]


@given(
    areas=st.lists(st.floats(1e-3, 1e12), min_size=1, max_size=12),
    minimum=st.integers(0, 40),
    surplus=st.integers(0, 10_000),
    method=st.sampled_from(["proportional", "equal", "neyman"]),
)
def test_whole_points_sum_to_the_total_and_none_has_less_than_the_minimum(
    areas, minimum, surplus, method
):
    total = minimum * len(areas) + surplus
    points = Allocation(method, 0.9, minimum=minimum).whole(total, np.array(areas))
    assert points.sum() == total
    assert points.min() >= minimum
    exact = Allocation(method, 0.9, minimum=minimum).shared_out(total, np.array(areas))
    assert np.abs(points - exact).max() < 1 + 1e-6


@pytest.mark.parametrize(
    ("total", "allocation"),
    [
        (7, Allocation(minimum=2)),
        (20, Allocation(fixed={0: 19})),
        (401, Allocation(fixed=dict.fromkeys(range(4), 100))),
        (399, Allocation(fixed=dict.fromkeys(range(4), 100))),
    ],
)
def test_a_total_that_does_not_fit_is_refused_with_what_is_needed(total, allocation):
    with pytest.raises(ConfigurationError, match=r"need (8|25|400); change the total"):
        allocation.whole(total, WEIGHTS)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ConfigurationError, match=r"between 0 and 0.5, not 1"):
        needed_points(WEIGHTS, EXPECTED, 1)
    with pytest.raises(ConfigurationError, match=r"between 0 and 1, not \[0.9, 1.5\]"):
        needed_points(WEIGHTS[:2], np.array([0.9, 1.5]), 0.01)
    with pytest.raises(ConfigurationError, match="expect accuracies below 1"):
        needed_points(WEIGHTS, 1.0, 0.01)
    with pytest.raises(ConfigurationError, match="not 'optimal'"):
        Allocation("optimal")
    with pytest.raises(ConfigurationError, match="neyman follows from expected accuracies"):
        Allocation("neyman")
    with pytest.raises(ConfigurationError, match="1 point or more"):
        Allocation(fixed={0: 0})
