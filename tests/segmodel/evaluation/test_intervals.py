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


def test_limits_of_a_ratio_stay_inside_where_the_usual_ones_do_not():
    ratio, error = np.array(0.95), np.array(0.05)
    low, high = Intervals().of_ratio(ratio, error)
    # Logit 2.944439, and on either side of it 1.959964 * 0.05 / 0.0475 = 2.063120.
    assert (float(low), float(high)) == pytest.approx((0.70709547, 0.99335721), abs=1e-8)
    assert Intervals().of_estimate(ratio, error)[1] > 1


@pytest.mark.parametrize("ratio", [0.0, 1.0, np.nan])
def test_a_ratio_of_0_or_1_has_no_limits(ratio):
    for error in (0.0, 0.1, np.nan):
        assert np.isnan(Intervals().of_ratio(np.array(ratio), np.array(error))).all()


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
