"""How often does an interval of 95 % hold the true number? Simulated samples of known maps.

`python benchmarks/coverage.py` prints tables in Markdown; docs/intervals.md shows them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from segmodel.evaluation.intervals import METHODS, Intervals
from segmodel.evaluation.stratified import (
    Estimates,
    Strata,
    class_strata,
    difference,
    general_strata,
)

DRAWS_AT_ONCE = 10_000
SEED = 2014


class Coverage(NamedTuple):
    """Shares of draws; each `(...)` as the true values are."""

    holds: np.ndarray
    usual_holds: np.ndarray
    none: np.ndarray


def coverage_of(estimates: list[Estimates], truth: np.ndarray) -> Coverage:
    """Of draws with an interval, the share that holds the truth; and the share without one."""
    low, high, wald_low, wald_high = (
        np.concatenate([getattr(part, name) for part in estimates])
        for name in ("low", "high", "wald_low", "wald_high")
    )
    has_one = np.isfinite(low)
    holds = ((low <= truth) & (truth <= high)).sum(0) / has_one.sum(0)
    usual_holds = ((wald_low <= truth) & (truth <= wald_high)).mean(0)
    return Coverage(holds, usual_holds, 1 - has_one.mean(0))


# Olofsson et al. (2014), table 8, as the truth; and the samples of their section 5.
OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
OLOFSSON_WEIGHTS = np.array([0.02, 0.015, 0.32, 0.645])
DESIGNS = ([75, 75, 165, 325], [30, 30, 30, 30], [10, 10, 50, 100])


def class_draws(
    truth: np.ndarray, points: list[int], draws: int, seed: int = SEED
) -> Iterator[np.ndarray]:
    """Counts of points by stratum and true class, in parts `(draws, strata, classes)`."""
    rng = np.random.default_rng(seed)
    for start in range(0, draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, draws - start)
        rows = zip(points, truth, strict=True)
        yield np.stack([rng.multinomial(count, row, size) for count, row in rows], 1)


def class_coverage(points: list[int], draws: int, method: str) -> dict[str, Coverage]:
    """Coverage of each quantity that `class_strata` estimates."""
    shares = OLOFSSON / OLOFSSON.sum(1, keepdims=True)
    results = [
        class_strata(counts, OLOFSSON_WEIGHTS, Intervals(method=method))
        for counts in class_draws(shares, points, draws)
    ]
    true = OLOFSSON_WEIGHTS[:, None] * shares
    hits = np.diag(true)
    values = {
        "areas": true.sum(0),
        "users_accuracy": np.diag(shares),
        "producers_accuracy": hits / true.sum(0),
        "overall_accuracy": hits.sum(),
    }
    return {
        name: coverage_of([getattr(result, name) for result in results], value)
        for name, value in values.items()
    }


# A rare class of 1 % with a buffer around it: strata rare, buffer, rest. Rows: the map's class.
BUFFER_WEIGHTS = np.array([0.01, 0.03, 0.96])
BUFFER_CLASSES = ({0}, {1}, {1})
BUFFER = np.array([[[0.85, 0.15], [0, 0]], [[0, 0], [0.1, 0.9]], [[0, 0], [0.001, 0.999]]])
# Zones of 40 % and 60 % in which the map has two classes.
ZONE_WEIGHTS = np.array([0.4, 0.6])
ZONES = np.array([[[0.08, 0.02], [0.03, 0.87]], [[0.25, 0.05], [0.02, 0.68]]])


def general_coverage(
    strata: Strata, truth: np.ndarray, points: list[int], draws: int
) -> dict[str, Coverage]:
    """Coverage of each quantity that `general_strata` estimates."""
    cells = truth.reshape(len(truth), -1)
    results = [
        general_strata(counts.reshape(len(counts), *truth.shape), strata)
        for counts in class_draws(cells, points, draws)
    ]
    true = (strata.weights[:, None, None] * truth).sum(0)
    hits = np.diag(true)
    values = {
        "areas": true.sum(0),
        "users_accuracy": hits / true.sum(1),
        "producers_accuracy": hits / true.sum(0),
    }
    return {
        name: coverage_of([getattr(result, name) for result in results], value)
        for name, value in values.items()
    }


class DifferenceMap(NamedTuple):
    """Strata "is mapped so" and "is not": shares of the area, and shapes of true probabilities.

    These have beta distributions.
    """

    weights: np.ndarray
    shapes: np.ndarray


COMMON = DifferenceMap(np.array([0.1, 0.9]), np.array([[8.0, 2.0], [0.1, 4.9]]))
RARE = DifferenceMap(np.array([0.001, 0.999]), np.array([[8.0, 2.0], [0.01, 9.99]]))


def difference_coverage(
    of: DifferenceMap, points: list[int], draws: int, sharpness: float | None
) -> tuple[Coverage, float]:
    """Coverage of the difference estimator, and its spread by that without probabilities.

    Args:
        of: The map.
        points: Points of each stratum.
        draws: Samples.
        sharpness: The model gives the true probabilities, their odds raised to this power: 1 is
            calibrated. None: it gives 1 in the first stratum and 0 in the second.
    """
    rng = np.random.default_rng(SEED)

    def given(true: np.ndarray, stratum: np.ndarray) -> np.ndarray:
        if sharpness is None:
            return np.broadcast_to((stratum == 0).astype(float), true.shape)
        return np.asarray(true**sharpness / (true**sharpness + (1 - true) ** sharpness))

    def drawn(stratum: np.ndarray, rows: int) -> np.ndarray:
        first, second = of.shapes[stratum].T
        return rng.beta(first, second, (rows, len(stratum)))

    everywhere = [(index, drawn(np.full(2_000_000, index), 1)) for index in (0, 1)]
    truth = of.weights @ [true.mean() for _, true in everywhere]
    means = np.array([given(true, np.array(index)).mean() for index, true in everywhere])
    stratum, strata = np.repeat([0, 1], points), Strata(of.weights)
    parts, plain = [], []
    for _ in range(0, draws, DRAWS_AT_ONCE // 10):
        true = drawn(stratum, DRAWS_AT_ONCE // 10)
        labels = rng.random(true.shape) < true
        parts.append(difference((stratum, labels, given(true, stratum)), strata, means))
        plain.append(difference((stratum, labels, np.zeros(true.shape)), strata, np.zeros(2)))
    spreads = [np.concatenate([part.value for part in found]).std() for found in (parts, plain)]
    return coverage_of(parts, truth), spreads[0] / spreads[1]


def shown(values: np.ndarray) -> str:
    return " / ".join(f"{100 * value:.1f}" for value in np.ravel(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100_000)
    draws = parser.parse_args().draws
    print("| points | quantity | interval | holds, % | Wald holds, % | none, % |")
    print("| --- | --- | --- | --- | --- | --- |")
    for points in DESIGNS:
        of = " / ".join(map(str, points))
        for method in METHODS:
            for name, found in class_coverage(points, draws, method).items():
                print(f"| {of} | {name} | {method} | {' | '.join(map(shown, found))} |")
    for title, strata, truth, designs in (
        (
            "buffer",
            Strata(BUFFER_WEIGHTS, classes=BUFFER_CLASSES),
            BUFFER,
            ([75, 75, 350], [30, 30, 140]),
        ),
        ("zones", Strata(ZONE_WEIGHTS), ZONES, ([100, 150], [40, 60])),
    ):
        for points in designs:
            of = " / ".join(map(str, points))
            for name, found in general_coverage(strata, truth, points, draws).items():
                print(f"| {title} {of} | {name} | | {' | '.join(map(shown, found))} |")
    designs = [(COMMON, points) for points in ([10, 10], [30, 100], [75, 300], [200, 1000])]
    for shown_map, points in [*designs, (RARE, [100, 500]), (RARE, [100, 2000])]:
        for name, sharpness in (("calibrated", 1.0), ("too sure", 2.0), ("0 or 1", None)):
            found, ratio = difference_coverage(shown_map, points, draws // 5, sharpness)
            of = f"{shown_map.weights[0]:.1%}: {' / '.join(map(str, points))}"
            title = f"difference, {name}, spread {ratio:.2f}"
            print(f"| {of} | {title} | t | {' | '.join(map(shown, found))} |")


if __name__ == "__main__":
    main()
