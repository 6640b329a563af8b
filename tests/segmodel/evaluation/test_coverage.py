"""Limits of 95 % hold the true number of a simulated map in 91 % of its samples or more."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from segmodel.evaluation.stratified import ClassEstimates, Estimates, class_strata

# Olofsson et al. (2014), table 8, as the truth.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
SHARES = COUNTS / COUNTS.sum(1, keepdims=True)
WEIGHTS = np.array([0.02, 0.015, 0.32, 0.645])
DRAWS, PARTS = 100_000, 20

# Points of each stratum, and how often the usual limits hold the area of each class.
DESIGNS = [
    ([75, 75, 165, 325], [0.893, 0.726, 0.953, 0.960]),
    ([30, 30, 30, 30], [0.290, 0.762, 0.920, 0.908]),
    ([10, 10, 50, 100], [0.589, 0.894, 0.942, 0.946]),
]


def samples(points: list[int]) -> Iterator[ClassEstimates]:
    """Estimates of many samples of the published example."""
    rng = np.random.default_rng(2014)
    for _ in range(PARTS):
        rows = zip(points, SHARES, strict=True)
        drawn = [rng.multinomial(count, row, DRAWS // PARTS) for count, row in rows]
        yield class_strata(np.stack(drawn, 1), WEIGHTS)


def held(estimates: Estimates, truth: np.ndarray) -> np.ndarray:
    """Share of samples whose limits hold the truth; none holds it without limits."""
    return np.mean((estimates.low <= truth) & (truth <= estimates.high), axis=0)


@pytest.mark.parametrize(("points", "usual"), DESIGNS)
def test_limits_of_areas_and_accuracies_hold_and_the_usual_ones_do_not(points, usual):
    areas, truth = WEIGHTS[:, None] * SHARES, np.diag(SHARES)
    found = np.zeros((4, 4))
    for part in samples(points):
        shares = part.area_shares
        wald = (shares.wald_low <= areas.sum(0)) & (areas.sum(0) <= shares.wald_high)
        producers = held(part.producers_accuracy, np.diag(areas) / areas.sum(0))
        users = held(part.users_accuracy, truth)
        found += np.stack([held(shares, areas.sum(0)), producers, users, wald.mean(0)]) / PARTS
    assert found[:3].min() >= 0.91
    # The published figures are of 4,000 draws.
    np.testing.assert_allclose(found[3], usual, atol=0.02)


def test_a_map_that_is_sampled_on_arrays_has_its_true_areas_between_the_limits():
    rng = np.random.default_rng(7)
    classes, rounds, points = 4, 5_000, np.array([75, 60, 150, 300])
    # 0.7 %, 2 %, 27 % and 70 % of a map; 4 % of its pixels are of any other class.
    label_map = rng.choice(classes, (500, 500), p=[0.007, 0.02, 0.273, 0.7]).ravel()
    is_wrong = rng.random(label_map.size) < 0.04
    truth = np.where(
        is_wrong, (label_map + rng.integers(1, classes, label_map.size)) % 4, label_map
    )
    areas = np.bincount(label_map, minlength=classes).astype(float)
    counts = np.zeros((rounds, classes, classes), np.int64)
    for stratum, size in enumerate(points):
        pixels = np.flatnonzero(label_map == stratum)
        seen = truth[rng.choice(pixels, (rounds, size))]
        counts[:, stratum] = (seen[..., None] == np.arange(classes)).sum(1)
    result = class_strata(counts, areas)
    true_areas = np.bincount(truth, minlength=classes)
    assert (true_areas / truth.size).min() >= 0.005
    assert held(result.areas, true_areas).min() >= 0.91
    # The map alone is not between the limits where it is biased: of the rarest class it has 40 %.
    assert held(result.areas, areas)[0] < 0.5
    right = np.bincount(truth[truth == label_map], minlength=classes)
    assert held(result.users_accuracy, right / areas).min() >= 0.91
    assert held(result.producers_accuracy, right / true_areas).min() >= 0.91
    assert held(result.overall_accuracy, right.sum() / truth.size) >= 0.91
