"""Limits of shares, means, ratios and differences."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from segmodel.errors import ConfigurationError
from segmodel.evaluation.intervals import METHODS, Intervals


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # The second by integrating the density of beta(8.5, 12.5).
        ("wilson", (0.2188065, 0.6134185)),
        ("jeffreys", (0.2106294, 0.6160797)),
        ("clopper-pearson", (0.1911901, 0.6394574)),
    ],
)
def test_limits_of_8_hits_of_20_are_the_known_ones(method, expected):
    low, high = Intervals(method=method).of_shares(np.array(8), np.array(20))
    assert (float(low), float(high)) == pytest.approx(expected, abs=5e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("points", [1, 2, 30, 5000])
def test_no_hit_and_no_miss_give_limits_at_the_end_and_never_no_width(method, points):
    low, high = Intervals(method=method).of_shares(np.array([0, points]), np.array(points))
    assert low[0] == 0.0
    assert high[1] == 1.0
    assert 0 < high[0] < 1
    assert low[1] == pytest.approx(1 - high[0], abs=1e-12)


def test_a_higher_level_is_wider_by_its_normal_quantile():
    assert Intervals(0.9).z == pytest.approx(1.6448536269514722, abs=1e-15)
    assert Intervals(0.99).z == pytest.approx(2.5758293035489004, abs=1e-15)


def test_a_mean_of_one_stratum_has_the_limits_of_its_share():
    intervals = Intervals()
    hits, points = np.array([3]), np.array([20])
    limits = intervals.of_shares(hits, points)
    low, high = intervals.of_mean(hits / points, limits, np.array([1.0]))
    assert (low, high) == pytest.approx((limits[0][0], limits[1][0]), abs=1e-15)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hits", [0, 1, 7, 19, 20])
def test_a_ratio_in_one_stratum_of_nothing_else_has_the_limits_of_its_share(method, hits):
    intervals, points = Intervals(method=method), np.array([20])
    weights = np.array([0.3]), np.array([0.3])
    actual = intervals.of_ratio(np.array([hits]), points - hits, points, weights)
    expected = intervals.of_shares(np.array(hits), np.array(20))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)


def test_a_ratio_of_independent_samples_has_the_published_closed_form():
    # Hits 55 of 75 of weight .015, misses 1 of 325 of weight .645; MOVER-R as Newcombe writes it.
    intervals, points = Intervals(), np.array([75, 325])
    weights = np.array([0.015, 0]), np.array([0, 0.645])
    low, high = intervals.of_ratio(np.array([55, 0]), np.array([0, 1]), points, weights)
    a, b = 0.015 * 55 / 75, 0.645 / 325
    (la, ua), (lb, ub) = (
        [weight * float(limit) for limit in intervals.of_shares(np.array(hits), np.array(count))]
        for weight, hits, count in ((0.015, 55, 75), (0.645, 1, 325))
    )
    least = a * b - np.sqrt((a * b) ** 2 - lb * ua * (2 * b - lb) * (2 * a - ua))
    most = a * b + np.sqrt((a * b) ** 2 - ub * la * (2 * b - ub) * (2 * a - la))
    expected = 1 / (1 + most / (la * (2 * a - la))), 1 / (1 + least / (ua * (2 * a - ua)))
    assert (low, high) == pytest.approx(expected, rel=1e-12)


def test_a_ratio_without_a_hit_or_without_a_miss_has_width():
    weights, points = (np.array([0.5, 0.5]),) * 2, np.array([20, 30])
    low, high = Intervals().of_ratio(np.array([0, 0]), np.array([2, 3]), points, weights)
    assert low == 0
    assert 0.4 < high < 0.7
    low, high = Intervals().of_ratio(np.array([2, 3]), np.array([0, 0]), points, weights)
    assert high == 1
    assert 0.3 < low < 0.6


def test_a_ratio_of_nothing_or_of_what_is_impossible_has_no_limits():
    points, none, some = np.array([20, 30]), np.array([0, 0]), np.array([3, 4])
    weights, zeros = np.array([0.5, 0.5]), np.zeros(2)
    assert np.isnan(Intervals().of_ratio(none, none, points, (weights, weights))).all()
    assert np.isnan(Intervals().of_ratio(none, some, points, (zeros, weights))).all()
    assert np.isnan(Intervals().of_ratio(some, none, points, (weights, zeros))).all()


def test_limits_of_few_degrees_of_freedom_are_those_of_student():
    low, high = Intervals().by_degrees(np.array(1.0), np.array(2.0), np.array(9.0))
    assert (high - low) / 2 / 2.0 == pytest.approx(2.2621571628, abs=1e-9)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.1, float("nan")])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(ConfigurationError, match=r"between 0 and 1.*0\.95 is usual"):
        Intervals(level)


def test_an_unknown_method_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="clopper-pearson, not 'wald'"):
        Intervals(method="wald")


def test_without_scipy_wilson_works_and_the_others_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    assert Intervals().of_shares(np.array(1), np.array(4))
    with pytest.raises(ConfigurationError, match=r"beamseg\[accuracy\]"):
        Intervals(method="jeffreys").of_shares(np.array(1), np.array(4))
