"""How many points a stratified sample needs, and how many of them each stratum gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from segmodel.errors import ConfigurationError, counted

ALLOCATIONS = ("proportional", "neyman", "equal")


def needed_points(
    areas: np.ndarray, expected_accuracy: float | np.ndarray, standard_error: float
) -> float:
    """Points at which overall accuracy has a standard error, with the best allocation (Neyman's).

    Args:
        areas: `(strata,)` areas, all in one unit.
        expected_accuracy: Share of each stratum that the map is expected to have right; `(strata,)`
            or one for all.
        standard_error: Standard error of overall accuracy that is wanted, such as 0.01.

    Returns:
        Points, not rounded up, for strata of many pixels.

    Raises:
        ConfigurationError: If a number is out of its range, or no errors are expected.

    Source: Olofsson et al., Good practices for estimating area and assessing accuracy of land
    change, Remote Sensing of Environment 148 (2014), equation 13.

    >>> round(needed_points(np.array([20.0, 80.0]), np.array([0.6, 0.9]), 0.02), 1)
    285.6
    """
    if not 0 < standard_error < 0.5:
        raise ConfigurationError(
            f"the standard error must be between 0 and 0.5, not {standard_error}: 0.01 is usual"
        )
    weights = np.asarray(areas, float) / np.sum(areas)
    spread = float((weights * deviations(expected_accuracy)).sum())
    if not spread:
        raise ConfigurationError(
            "no errors are expected, so no number of points follows: expect accuracies below 1"
        )
    return (spread / standard_error) ** 2


def deviations(expected_accuracy: float | np.ndarray) -> np.ndarray:
    """Standard deviations of "the map is right here" over the pixels of strata.

    Args:
        expected_accuracy: Share that is right, of any shape.

    Raises:
        ConfigurationError: If one is not between 0 and 1.
    """
    expected = np.asarray(expected_accuracy, float)
    if not ((expected >= 0) & (expected <= 1)).all():
        raise ConfigurationError(
            f"expected accuracies must be between 0 and 1, not {expected.tolist()}"
        )
    return np.asarray(np.sqrt(expected * (1 - expected)))


@dataclass(frozen=True)
class Allocation:
    """How points are shared out among strata.

    Args:
        method: `proportional` to areas; `neyman`: to areas times the deviation that is expected,
            which gives overall accuracy the least standard error; `equal`.
        expected_accuracy: For `neyman`: as in `needed_points`.
        fixed: Points of some strata by their index; the method shares out the others.
        minimum: Points that each other stratum has at least. Two are the fewest that give a
            standard error.

    Raises:
        ConfigurationError: If there is no such method, or a fixed number is below 1.
    """

    method: str = "proportional"
    expected_accuracy: float | np.ndarray | None = None
    fixed: Mapping[int, int] = field(default_factory=dict)
    minimum: int = 2

    def __post_init__(self) -> None:
        if self.method not in ALLOCATIONS:
            raise ConfigurationError(
                f"allocations are {', '.join(ALLOCATIONS)}, not {self.method!r}: name one"
            )
        if self.method == "neyman" and self.expected_accuracy is None:
            raise ConfigurationError(
                "the allocation neyman follows from expected accuracies: give them, or choose "
                "another"
            )
        if any(points < 1 for points in self.fixed.values()):
            raise ConfigurationError("a stratum needs 1 point or more: raise its fixed number")

    def shared_out(self, total: int, areas: np.ndarray) -> np.ndarray:
        """Points of each stratum, not rounded.

        Args:
            total: Points in all.
            areas: `(strata,)` areas, all above 0.

        Returns:
            `(strata,)` float64 that sum to `total`.

        Raises:
            ConfigurationError: If `total` is not what fixed numbers and minima need.

        Source: Cochran, Sampling Techniques (1977), sections 5.5 and 5.9.

        >>> Allocation().shared_out(100, np.array([1.0, 30.0, 69.0]))
        array([ 2.       , 29.6969697, 68.3030303])
        """
        points = np.zeros(len(areas))
        points[list(self.fixed)] = list(self.fixed.values())
        is_free = np.ones(len(areas), bool)
        is_free[list(self.fixed)] = False
        fewest = points.sum() + self.minimum * is_free.sum()
        if total < fewest or (total > fewest and not is_free.any()):
            raise ConfigurationError(
                f"{counted(total, 'point')} cannot be shared out: fixed numbers and at least "
                f"{self.minimum} in each other stratum need {fewest:,.0f}; change the total"
            )
        weights = self._weights(np.asarray(areas, float))
        while is_free.any():
            left, of_free = total - points[~is_free].sum(), weights[is_free].sum()
            points[is_free] = weights[is_free] * left / of_free if of_free else left / is_free.sum()
            is_short = is_free & (points < self.minimum)
            if not is_short.any():
                break
            points[is_short], is_free = self.minimum, is_free & ~is_short
        return points

    def whole(self, total: int, areas: np.ndarray) -> np.ndarray:
        """Points of each stratum as whole numbers, by largest remainder; ties to the first.

        Args:
            total: Points in all.
            areas: `(strata,)` areas, all above 0.

        Returns:
            `(strata,)` int64 that sum to `total`.

        Raises:
            ConfigurationError: If `total` is not what fixed numbers and minima need.

        >>> Allocation().whole(100, np.array([1.0, 30.0, 69.0]))
        array([ 2, 30, 68])
        """
        exact = self.shared_out(total, areas)
        # A number that floating point left just below a whole one is that number.
        points = np.floor(exact + 1e-9).astype(np.int64)
        order = np.argsort(points - exact, kind="stable")
        points[order[: total - int(points.sum())]] += 1
        return points

    def _weights(self, areas: np.ndarray) -> np.ndarray:
        if self.method == "equal":
            return np.ones_like(areas)
        if self.method == "neyman" and self.expected_accuracy is not None:
            return np.asarray(areas * deviations(self.expected_accuracy))
        return areas
