"""Limits of what a sample estimates: shares, weighted means of shares, ratios, differences."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from segmodel.errors import ConfigurationError

METHODS = ("wilson", "jeffreys", "clopper-pearson")

Limits = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Intervals:
    """How sure limits are to hold, and how those of a share are made.

    Args:
        level: Share of samples whose limits hold, between 0 and 1.
        method: One of `METHODS`; the last two need scipy.

    Raises:
        ConfigurationError: If the level is not between 0 and 1, or there is no such method.
    """

    level: float = 0.95
    method: str = "wilson"

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ConfigurationError(
                f"the level of an interval must be between 0 and 1, not {self.level}: 0.95 is usual"
            )
        if self.method not in METHODS:
            raise ConfigurationError(
                f"intervals of shares are {', '.join(METHODS)}, not {self.method!r}: name one"
            )

    @property
    def z(self) -> float:
        """Standard errors on either side of the estimate in a Wald interval.

        >>> round(Intervals(0.95).z, 12)
        1.95996398454
        """
        return NormalDist().inv_cdf((1 + self.level) / 2)

    def of_shares(self, hits: np.ndarray, points: np.ndarray) -> Limits:
        """Limits of the share of hits in a simple random sample.

        Args:
            hits: Points that have the property, of any shape; at most `points`.
            points: Points of the sample, of the same shape, all above 0.

        Returns:
            Lower and upper limits, float64; 0 without a hit, and 1 without a miss.

        Source: Brown, Cai and DasGupta, Interval Estimation for a Binomial Proportion (2001),
        equations 4 (Wilson), 8 (Jeffreys, with the limits at 0 and 1 of section 4.1.2) and that of
        Clopper and Pearson in section 4.2.1.

        >>> low, high = Intervals().of_shares(np.array([0, 5]), np.array([10, 10]))
        >>> low.round(3), high.round(3)
        (array([0.   , 0.237]), array([0.278, 0.763]))
        """
        misses = points - hits
        if self.method == "wilson":
            z, n = self.z, points + self.z**2
            middle = (hits + z**2 / 2) / n
            half = z / n * np.sqrt(hits * misses / points + z**2 / 4)
            low, high = middle - half, middle + half
        else:
            tail, quantile = (1 - self.level) / 2, _scipy_special().betaincinv
            below, above = (0.5, 0.5) if self.method == "jeffreys" else (0, 1)
            # Shapes of 0 occur only where a limit is replaced below.
            low = quantile(np.maximum(hits + below, 0.5), misses + above, tail)
            high = quantile(hits + above, np.maximum(misses + below, 0.5), 1 - tail)
        return np.where(hits == 0, 0.0, low), np.where(misses == 0, 1.0, high)

    def of_mean(self, shares: np.ndarray, limits: Limits, weights: np.ndarray) -> Limits:
        """Limits of a weighted mean of shares of independent samples (MOVER).

        Args:
            shares: `(..., strata)` shares.
            limits: Their lower and upper limits, of the same shape.
            weights: `(..., strata)` weights that sum to 1.

        Returns:
            Lower and upper limits without the last axis; never of zero width, as those of shares.

        Source: Zou, Huang and Zhang, A note on confidence interval estimation for a linear function
        of binomial proportions (2009), equation 3.
        """
        mean, (low, high) = (weights * shares).sum(-1), limits
        down = np.sqrt((weights**2 * (shares - low) ** 2).sum(-1))
        up = np.sqrt((weights**2 * (high - shares) ** 2).sum(-1))
        return np.maximum(mean - down, 0.0), np.minimum(mean + up, 1.0)

    def of_ratio(
        self,
        hits: np.ndarray,
        misses: np.ndarray,
        points: np.ndarray,
        weights: tuple[np.ndarray, np.ndarray],
    ) -> Limits:
        """Limits of the share of hits among hits and misses, by weight (MOVER-R).

        Both are counted in the same samples, so that more of one leaves room for less of the other.

        Args:
            hits: `(..., strata)` points that have both properties.
            misses: `(..., strata)` points that have the second only.
            points: `(..., strata)` points of the samples, all above 0.
            weights: Weights of hits and of misses, `(..., strata)` each; 0 where a stratum can have
                none.

        Returns:
            Lower and upper limits without the last axis; never of zero width. NaN where neither is
            found, or where one of them is impossible everywhere.

        Source: the limits of Zou, On the estimation of additive interaction (2008), for a
        difference of correlated estimates, solved for the ratio at which the difference can be 0;
        Donner and Zou, Closed-form confidence intervals for functions of the normal mean and
        standard deviation (2012), section 2.3, and Newcombe, MOVER-R (2016), for independent ones.
        """
        shares = hits / points, misses / points
        of_hits, of_misses = self.of_shares(hits, points), self.of_shares(misses, points)
        # Of two counts of one multinomial sample: -1 where each point is one of the two.
        is_all = hits + misses == points
        room = np.where(is_all, 1.0, (1 - shares[0]) * (1 - shares[1]))
        correlation = np.where(is_all, -1.0, -np.sqrt(shares[0] * shares[1] / room))
        means = [(w * share).sum(-1) for w, share in zip(weights, shares, strict=True)]

        def misses_per_hit(hits_limit: np.ndarray, misses_limit: np.ndarray) -> _Quadratic:
            off = weights[0] * (hits_limit - shares[0]), weights[1] * (misses_limit - shares[1])
            return _Quadratic(
                means[0] ** 2 - (off[0] ** 2).sum(-1),
                means[0] * means[1] + (correlation * off[0] * off[1]).sum(-1),
                means[1] ** 2 - (off[1] ** 2).sum(-1),
            )

        low = 1 / (1 + misses_per_hit(of_hits[0], of_misses[1]).larger)
        high = 1 / (1 + misses_per_hit(of_hits[1], of_misses[0]).smaller)
        is_open = (means[0] + means[1] > 0) & weights[0].any(-1) & weights[1].any(-1)
        return np.where(is_open, low, np.nan), np.where(is_open, high, np.nan)

    def of_estimate(self, value: np.ndarray, standard_error: np.ndarray) -> Limits:
        """The usual interval of an estimate: as many standard errors on either side (Wald).

        Args:
            value: Estimates, of any shape.
            standard_error: Their standard errors; NaN where there is none.
        """
        return value - self.z * standard_error, value + self.z * standard_error

    def by_degrees(
        self, value: np.ndarray, standard_error: np.ndarray, degrees: np.ndarray
    ) -> Limits:
        """Limits of an estimate whose standard error is itself estimated from few points.

        Args:
            value: Estimates, of any shape.
            standard_error: Their standard errors; NaN where there is none.
            degrees: Degrees of freedom of Student's t, of the same shape.
        """
        half = standard_error * _scipy_special().stdtrit(degrees, (1 + self.level) / 2)
        return value - half, value + half


WILSON = Intervals()


class _Quadratic(NamedTuple):
    """Roots of `square * x**2 - 2 * linear * x + constant`, of which none is below 0."""

    square: np.ndarray
    linear: np.ndarray
    constant: np.ndarray

    @property
    def _distance(self) -> np.ndarray:
        return np.asarray(np.sqrt(np.maximum(self.linear**2 - self.square * self.constant, 0.0)))

    @property
    def smaller(self) -> np.ndarray:
        """The smaller root; 0 where the constant is."""
        below = self.linear + self._distance
        is_positive = (self.constant > 0) & (below > 0)
        return np.where(is_positive, self.constant / np.where(is_positive, below, 1.0), 0.0)

    @property
    def larger(self) -> np.ndarray:
        """The larger root; infinite where there is none."""
        has_one = self.square > 0
        root = (self.linear + self._distance) / np.where(has_one, self.square, 1.0)
        return np.where(has_one, root, np.inf)


def _scipy_special() -> Any:
    """Special functions of scipy.

    Raises:
        ConfigurationError: If scipy is missing.
    """
    try:
        import scipy.special
    except ImportError:
        raise ConfigurationError(
            "intervals by jeffreys or clopper-pearson, and those of the difference estimator, "
            "need scipy, which is missing: pip install 'beamseg[accuracy]'"
        ) from None
    return scipy.special
