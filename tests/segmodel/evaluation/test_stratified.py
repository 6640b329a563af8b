"""Estimates of accuracy and area, against published examples."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmodel.errors import InputError
from segmodel.evaluation.intervals import METHODS, Intervals
from segmodel.evaluation.stratified import (
    Estimated,
    LabelledPoints,
    Strata,
    class_strata,
    difference,
    general_strata,
)
from tests.examples import examples

NOTHING = Estimated(None, None, None, None, None, None)

# Olofsson et al. (2014), table 8: deforestation, gain, stable forest, stable other; areas in ha.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
AREAS = np.array([18000.0, 13500.0, 288000.0, 580500.0])

# The same, 2013: examples 1 and 2.
FIRST = np.array([[97, 0, 3], [3, 279, 18], [2, 1, 97]]), np.array([22353, 1122543, 610228])
SECOND = np.array([[127, 66, 54], [2, 322, 17], [0, 15, 540]]), np.array([0.007, 0.295, 0.698])

# Stehman (2014), table 2.
STEHMAN_MAP = "AAAAAAABBB" + "ABBBBBBBBB" + "BBCCCCCCBB" + "DDDDDDDDDD"
STEHMAN_REFERENCE = "AAAAACBABC" + "ABBBBBAABB" + "CCCCCDDBBA" + "DDDDDDDCCB"
STEHMAN_PIXELS = np.array([40000, 30000, 20000, 10000])

TRUTH = np.array([1, 1, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0])
PROBABILITY = np.array([0.9, 0.8, 0.95, 0.6, 0.85, 0.05, 0.1, 0.4, 0.02, 0.03, 0.01, 0.2, 0.1])
TWO_STRATA = np.repeat([0, 1], [5, 8])


def printed(values: np.ndarray, digits: int = 10) -> str:
    return " ".join(f"{value:.{digits}f}" for value in np.ravel(values))


def stehman_points() -> LabelledPoints:
    mapped, reference = (
        np.array(["ABCD".index(letter) for letter in text])
        for text in (STEHMAN_MAP, STEHMAN_REFERENCE)
    )
    return LabelledPoints(np.repeat(range(4), 10), mapped, reference, 4)


def test_accuracies_of_the_published_example_of_2014():
    result, z = class_strata(COUNTS, AREAS), Intervals().z
    users, producers, overall = (
        result.users_accuracy,
        result.producers_accuracy,
        result.overall_accuracy,
    )
    assert printed(users.value) == "0.8800000000 0.7333333333 0.9272727273 0.9630769231"
    assert (
        printed(z * users.standard_error) == "0.0740396216 0.1007551631 0.0397446394 0.0205331234"
    )
    assert printed(producers.value) == "0.7486614048 0.8471563981 0.9345089086 0.9616089928"
    assert (
        printed(z * producers.standard_error)
        == "0.2133059334 0.2544036859 0.0343237919 0.0183611981"
    )
    assert printed(overall.value) == "0.9465118881"
    assert printed(overall.standard_error) == "0.0094304172"
    assert printed(overall.value - overall.wald_low) == "0.0184832781"


def test_areas_of_the_published_example_of_2014():
    result = class_strata(COUNTS, AREAS)
    shares, areas = result.area_shares, result.areas
    assert printed(shares.value) == "0.0235086247 0.0129846154 0.3175221445 0.6459846154"
    assert printed(shares.standard_error) == "0.0034907224 0.0021291531 0.0087924242 0.0092299639"
    assert printed(areas.value, 7) == "21157.7622378 11686.1538462 285769.9300699 581386.1538462"
    assert printed(areas.standard_error, 7) == "3141.6501970 1916.2377681 7913.1817848 8306.9675267"
    assert (
        printed(areas.wald_high - areas.value, 7)
        == "6157.5212381 3755.7570112 15509.5513013 16281.3571730"
    )


@pytest.mark.parametrize(
    ("method", "low", "high"),
    [
        ("wilson", "17757.7 9599.5 269447.6 563846.2", "33417.5 22292.3 302412.8 598227.9"),
        ("jeffreys", "17564.9 9530.6 269937.4 564467.6", "31258.0 19627.8 301784.9 597797.6"),
        (
            "clopper-pearson",
            "17194.1 9356.2 268704.0 563183.2",
            "33342.2 22102.4 303110.6 599066.3",
        ),
    ],
)
def test_limits_of_areas_by_method(method, low, high):
    areas = class_strata(COUNTS, AREAS, Intervals(method=method)).areas
    assert printed(areas.low, 1) == low
    assert printed(areas.high, 1) == high


def test_limits_of_users_accuracy_are_those_of_its_share():
    users = class_strata(COUNTS, AREAS).users_accuracy
    low, high = Intervals().of_shares(np.diag(COUNTS), COUNTS.sum(1))
    np.testing.assert_allclose(users.low, low, atol=1e-15)
    np.testing.assert_allclose(users.high, high, atol=1e-15)


def test_the_published_examples_of_2013():
    first, second = class_strata(*FIRST), class_strata(*SECOND)
    assert printed(first.overall_accuracy.value, 8) == "0.94441678"
    assert printed(first.producers_accuracy.value) == "0.4806308243 0.9941886771 0.8969258968"
    assert printed(first.areas.value, 2) == "45112.40 1050067.27 659944.33"
    assert printed(first.areas.standard_error, 4) == "10751.4045 17652.0438 18635.8559"
    z = Intervals().z
    assert second.overall_accuracy.value == pytest.approx(0.9612973752, abs=1e-10)
    assert printed(z * second.overall_accuracy.standard_error) == "0.0118642725"
    assert printed(second.users_accuracy.value) == "0.5141700405 0.9442815249 0.9729729730"
    assert printed(second.producers_accuracy.value) == "0.6753468084 0.9307202679 0.9766497594"
    assert (
        printed(z * second.producers_accuracy.standard_error)
        == "0.3045836864 0.0293817216 0.0096037152"
    )


def test_the_published_example_of_strata_that_are_not_classes():
    strata = Strata(STEHMAN_PIXELS, population=STEHMAN_PIXELS)
    result = general_strata(stehman_points(), strata)
    assert (
        printed(result.area_shares.value) == "0.3500000000 0.3400000000 0.2000000000 0.1100000000"
    )
    assert (
        printed(result.area_shares.standard_error)
        == "0.0822477963 0.0758530744 0.0642797704 0.0307222323"
    )
    assert printed(result.overall_accuracy.value) == "0.6300000000"
    assert printed(result.overall_accuracy.standard_error) == "0.0846421881"
    of_b = result.users_accuracy[1], result.producers_accuracy[1]
    assert (
        printed(np.array([(part.value, part.standard_error) for part in of_b]))
        == "0.5744680851 0.1247822472 0.7941176471 0.1165479135"
    )


def test_without_a_population_variances_are_not_corrected():
    result = general_strata(stehman_points(), Strata(STEHMAN_PIXELS))
    error = result.overall_accuracy.standard_error
    assert error > 0.0846421881
    # Shares .6 .8 .4 .7 of weights .4 .3 .2 .1.
    of_points = np.array([0.6 * 0.4, 0.8 * 0.2, 0.4 * 0.6, 0.7 * 0.3]) / 9
    expected = np.sqrt((np.array([0.16, 0.09, 0.04, 0.01]) * of_points).sum())
    assert error == pytest.approx(expected, rel=1e-12)


def test_pairs_of_classes_have_the_points_and_the_area_that_these_stand_for():
    points, strata = stehman_points(), Strata(STEHMAN_PIXELS)
    pairs, found = points.pairs(strata), general_strata(points, strata)
    assert pairs[:3] == [
        (0, 0, 6, pytest.approx(0.23)),
        (0, 1, 1, pytest.approx(0.04)),
        (0, 2, 1, pytest.approx(0.04)),
    ]
    assert sum(pair.points for pair in pairs) == 40
    of_truth = [sum(pair.share for pair in pairs if pair.reference == n) for n in range(4)]
    np.testing.assert_allclose(of_truth, found.area_shares.value, atol=1e-15)
    agreed = sum(pair.share for pair in pairs if pair.mapped == pair.reference)
    assert agreed == pytest.approx(found.overall_accuracy.value, abs=1e-15)


def test_points_one_by_one_give_the_estimates_of_their_numbers():
    points = stehman_points()
    counts = np.zeros((4, 4, 4), int)
    np.add.at(counts, (points.stratum, points.mapped, points.reference), 1)
    strata = Strata(STEHMAN_PIXELS, classes=({0, 1}, {0, 1}, {1, 2}, {3}))
    actual, expected = general_strata(points, strata), general_strata(counts, strata)
    for name in ("users_accuracy", "producers_accuracy", "overall_accuracy", "areas"):
        for part in ("value", "standard_error", "low", "high", "wald_low", "wald_high"):
            numbers = (getattr(getattr(of, name), part) for of in (actual, expected))
            np.testing.assert_array_equal(*numbers)


def test_memory_follows_the_points_and_not_strata_times_classes_times_classes():
    strata, classes = 300, 300
    stratum = np.repeat(np.arange(strata), 2)
    points = LabelledPoints(stratum, stratum % classes, (stratum + 1) % classes, classes)
    shares = Strata(np.ones(strata), classes=[range(classes)] * strata)
    tracemalloc.start()
    try:
        pairs = points.pairs(shares)
        users = general_strata(points, shares).users_accuracy
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(pairs) == classes
    assert users.value.tolist() == [0.0] * classes
    assert peak < 20e6


def test_strata_that_are_known_to_be_classes_give_the_estimates_of_classes():
    counts = COUNTS[:, None, :] * np.eye(4, dtype=int)[..., None]
    general = general_strata(counts, Strata(AREAS, classes=({0}, {1}, {2}, {3})))
    of_classes = class_strata(COUNTS, AREAS)
    for name in ("users_accuracy", "producers_accuracy", "overall_accuracy", "areas"):
        for part in ("value", "standard_error", "low", "high", "wald_low", "wald_high"):
            actual, expected = (getattr(getattr(r, name), part) for r in (general, of_classes))
            np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_users_accuracy_of_a_class_in_two_zones_has_limits_by_mover():
    # Zones of 30 and 70; strata are classes by zone: 0 and 1 of the first, 0 and 1 of the second.
    matrix = np.array([[9, 1], [0, 10], [6, 4], [2, 8]])
    counts = matrix[:, None, :] * np.eye(2, dtype=int)[[0, 1, 0, 1]][..., None]
    strata = Strata(np.array([10.0, 20.0, 40.0, 30.0]), classes=({0}, {1}, {0}, {1}))
    actual = general_strata(counts, strata).users_accuracy[0]
    shares, weights = np.array([0.9, 0.6]), np.array([0.2, 0.8])
    limits = Intervals().of_shares(np.array([9, 6]), np.array([10, 10]))
    low, high = Intervals().of_mean(shares, limits, weights)
    assert actual.value == pytest.approx(0.66, abs=1e-12)
    assert (actual.low, actual.high) == pytest.approx((low, high), abs=1e-12)


def test_a_class_that_also_lies_in_a_mixed_stratum_has_users_accuracy_as_a_ratio():
    # A class of its own, and a zone in which the map has both classes.
    counts = np.array([[[18, 2], [0, 0]], [[5, 1], [2, 12]]])
    strata = Strata(np.array([50.0, 50.0]), classes=({0}, {0, 1}))
    first, second = general_strata(counts, strata).users_accuracy
    # (.5 * .9 + .5 * .25) / (.5 * 1 + .5 * .3), and 12 / 14 in the zone alone.
    assert first.value == pytest.approx(0.575 / 0.65, abs=1e-12)
    assert second.value == pytest.approx(12 / 14, abs=1e-12)
    # The first stratum cannot hold the second class, so only the zone's variance counts.
    variance = (0.6 * 0.4 + (12 / 14) ** 2 * 0.7 * 0.3 - 2 * 12 / 14 * 0.6 * 0.3) / 19 / 0.7**2
    assert second.standard_error == pytest.approx(np.sqrt(variance), rel=1e-12)


def test_a_class_that_only_the_reference_has_gets_an_area_and_no_users_accuracy():
    counts = np.array([[18, 2, 0], [0, 19, 1], [0, 0, 0]])
    result = class_strata(counts, np.array([100.0, 300.0, 0.0]))
    assert result.areas[2].value == pytest.approx(15.0, abs=1e-12)
    assert result.areas[2].standard_error == pytest.approx(300 * np.sqrt(0.95 * 0.05 / 19))
    assert 0 < result.areas[2].low < 15 < result.areas[2].high
    assert result.users_accuracy[2] == NOTHING
    assert result.producers_accuracy[2] == Estimated(0.0, None, None, None, None, None)


def test_a_class_that_the_reference_lacks_has_an_upper_limit_of_its_area():
    result = class_strata(np.array([[0, 20], [0, 40]]), np.array([10.0, 90.0]))
    area = result.areas[0]
    assert (area.value, area.standard_error, area.wald_low, area.wald_high) == (0, None, None, None)
    assert area.low == 0
    assert 0 < area.high < 20
    assert result.producers_accuracy[0] == NOTHING


@pytest.mark.parametrize("method", ["wilson", "jeffreys", "clopper-pearson"])
def test_without_an_error_there_is_width_but_neither_standard_error_nor_usual_limits(method):
    result = class_strata(np.diag([20, 30]), np.array([1.0, 3.0]), Intervals(method=method))
    for estimated in (
        *result.users_accuracy,
        *result.areas,
        *result.area_shares,
        *result.producers_accuracy,
        result.overall_accuracy.item(),
    ):
        assert estimated.low < estimated.high
        assert estimated.low <= estimated.value <= estimated.high
        assert (estimated.standard_error, estimated.wald_low, estimated.wald_high) == (None,) * 3


def test_one_point_in_a_stratum_leaves_estimates_without_any_limits():
    result = class_strata(np.array([[1, 0], [2, 18]]), np.array([100.0, 300.0]))
    alone = Estimated(1.0, None, None, None, None, None)
    assert result.users_accuracy[0] == alone
    assert result.areas[0] == Estimated(130.0, None, None, None, None, None)
    assert result.overall_accuracy.item() == Estimated(0.925, None, None, None, None, None)
    assert result.producers_accuracy[1].low is None
    # The other stratum has enough points for what it tells alone.
    assert result.users_accuracy[1].low == pytest.approx(0.6989664, abs=1e-6)


def test_a_class_with_area_and_no_point_is_refused_by_name():
    with pytest.raises(InputError, match="'lake' has no labelled point"):
        class_strata(np.array([[5, 0], [0, 0]]), np.array([3.0, 1.0]), names=("sea", "lake"))


def test_points_of_a_class_without_area_are_refused_by_name():
    with pytest.raises(InputError, match="'lake' has labelled points but the area 0"):
        class_strata(np.array([[5, 0], [0, 1]]), np.array([3.0, 0.0]), names=("sea", "lake"))


def test_a_class_that_the_map_cannot_have_in_a_stratum_is_refused_by_name():
    counts = np.array([[[5, 0], [0, 2]], [[0, 0], [1, 6]]])
    strata = Strata(np.array([1.0, 2.0]), ("rare", "rest"), ({0}, {1}))
    with pytest.raises(InputError, match="'rare' cannot have class 1 on the map"):
        general_strata(counts, strata)


@pytest.mark.parametrize("areas", [[1.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf]])
def test_areas_that_are_none_are_refused(areas):
    with pytest.raises(InputError, match="2 areas of 0 or more"):
        class_strata(np.array([[5, 0], [0, 1]]), np.array(areas))


def test_a_map_of_no_area_is_refused():
    with pytest.raises(InputError, match="labels no ground"):
        class_strata(np.zeros((2, 2), int), np.zeros(2))


def test_many_samples_at_once_give_what_each_gives_alone():
    other = COUNTS[::-1, ::-1]
    both = class_strata(np.stack([COUNTS, other]), AREAS)
    for number, counts in enumerate((COUNTS, other)):
        alone = class_strata(counts, AREAS)
        np.testing.assert_array_equal(both.areas.low[number], alone.areas.low)
        np.testing.assert_array_equal(
            both.producers_accuracy.high[number], alone.producers_accuracy.high
        )


def test_the_difference_estimator_of_the_worked_example():
    strata = Strata(np.array([0.02, 0.98]))
    sample = TWO_STRATA, TRUTH, PROBABILITY
    corrected = difference(sample, strata, np.array([0.85, 0.04])).item()
    assert printed(corrected.value, 6) == "0.066825"
    assert printed(corrected.standard_error) == "0.0852125614"
    alone = difference((TWO_STRATA, TRUTH, 0 * PROBABILITY), strata, np.zeros(2)).item()
    assert printed(alone.value, 4) == "0.1385"
    assert printed(alone.standard_error) == "0.1225652887"
    # 5 points of a stratum are too few for limits.
    assert (corrected.low, corrected.high, corrected.wald_low, corrected.wald_high) == (None,) * 4


def test_probabilities_of_0_and_1_give_the_estimates_of_classes():
    stratum, truth = np.nonzero(COUNTS)
    repeats = COUNTS[stratum, truth]
    stratum, truth = np.repeat(stratum, repeats), np.repeat(truth, repeats)
    classes = np.arange(4)[:, None]
    sample = stratum, truth == classes, (stratum == classes).astype(float)
    actual = difference(sample, Strata(AREAS / AREAS.sum()), np.eye(4))
    expected = class_strata(COUNTS, AREAS).area_shares
    np.testing.assert_allclose(actual.value, expected.value, rtol=0, atol=1e-15)
    np.testing.assert_allclose(actual.standard_error, expected.standard_error, rtol=0, atol=1e-15)


def test_limits_of_a_difference_have_the_degrees_of_freedom_of_its_strata():
    rng = np.random.default_rng(3)
    stratum, truth = np.repeat([0, 1], [10, 40]), rng.random(50) < 0.4
    # All points are surprises, so that limits of their share are within those by t.
    probability = np.clip((~truth) * 0.6 + rng.random(50) * 0.4, 0, 1)
    actual = difference(
        (stratum, truth, probability), Strata(np.array([30.0, 70.0])), np.array([0.4, 0.5])
    ).item()
    residuals = truth - probability
    parts = np.array(
        [
            weight**2 * residuals[stratum == index].var(ddof=1) / count
            for index, weight, count in ((0, 30.0, 10), (1, 70.0, 40))
        ]
    )
    degrees = parts.sum() ** 2 / (parts**2 / [9, 39]).sum()
    low, high = Intervals().by_degrees(
        np.array(actual.value), np.sqrt(parts.sum()), np.array(degrees)
    )
    assert actual.standard_error == pytest.approx(np.sqrt(parts.sum()), rel=1e-12)
    assert (actual.low, actual.high) == pytest.approx((low, high), rel=1e-12)
    assert actual.high - actual.low > actual.wald_high - actual.wald_low


def test_a_class_of_which_a_sample_shows_nothing_has_the_upper_limit_of_a_share():
    truth, probability = np.repeat([1.0, 0.0], [20, 500]), np.repeat([1.0, 0.01], [20, 500])
    probability[20::2] = 0.0
    areas, means = np.array([1.0, 999.0]), np.array([1.0, 0.005])

    actual = difference((np.repeat([0, 1], [20, 500]), truth, probability), Strata(areas), means)

    _, (_, most) = Intervals().of_shares(np.array([20, 0]), np.array([20, 500]))
    assert actual.value == pytest.approx(1.0)
    assert actual.high == pytest.approx(1.0 + 999 * most)
    assert actual.wald_high < 1.5 < 8 < actual.high


def test_a_class_that_the_map_has_too_much_of_may_be_absent_if_a_sample_shows_nothing_of_it():
    probability = np.where(np.arange(500) % 2, 0.01, 0.0)
    sample = np.zeros(500, int), np.zeros(500), probability

    actual = difference(sample, Strata(np.array([1000.0])), np.array([0.01])).item()

    _, most = Intervals().of_shares(np.array(0), np.array(500))
    assert actual.value == pytest.approx(5.0)
    assert (actual.low, actual.high) == pytest.approx((0.0, 1000 * most))
    assert actual.wald_low > 4.5


def test_residuals_that_are_all_alike_give_no_limits():
    sample = np.zeros(12, int), np.ones(12), np.ones(12)
    actual = difference(sample, Strata(np.array([8.0])), np.array([0.75])).item()
    assert actual == Estimated(6.0, None, None, None, None, None)


def test_a_stratum_without_a_point_is_refused_by_the_difference_estimator_too():
    sample = np.zeros(12, int), np.ones(12), np.ones(12)
    with pytest.raises(InputError, match="'b' has no labelled point"):
        difference(sample, Strata(np.array([8.0, 1.0]), names=("a", "b")), np.ones(2))


@settings(max_examples=examples(100))
@given(
    seed=st.integers(0, 2**32),
    points=st.lists(st.integers(2, 60), min_size=1, max_size=4),
    classes=st.integers(2, 4),
    method=st.sampled_from(METHODS),
)
def test_limits_of_any_sample_enclose_the_estimate_and_have_width(seed, points, classes, method):
    rng = np.random.default_rng(seed)
    # Most cells are rare, so that samples without a hit or without a miss are common.
    cells = rng.dirichlet(np.full(classes**2, 0.3), len(points))
    counts = np.stack([rng.multinomial(*row) for row in zip(points, cells, strict=True)])
    counts = counts.reshape(-1, classes, classes)
    result = general_strata(counts, Strata(rng.random(len(points)) + 1e-3), Intervals(0.9, method))
    for estimated in (
        *result.users_accuracy,
        *result.producers_accuracy,
        *result.area_shares,
        result.overall_accuracy.item(),
    ):
        if estimated.value is None:
            assert estimated == NOTHING
        else:
            assert 0 <= estimated.low <= estimated.value + 1e-12
            assert estimated.value - 1e-12 <= estimated.high <= 1
            assert estimated.low < estimated.high
