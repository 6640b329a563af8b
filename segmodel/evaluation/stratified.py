"""Accuracy and area of a map from a stratified random sample of it that people have labelled.

Where a symbol stands for a size, `H` is the number of strata and `k` that of classes. The weight of
a stratum is its share of the area. Arrays may have leading axes, one entry a sample.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from segmodel.errors import InputError
from segmodel.evaluation.intervals import WILSON, Intervals, Limits

# Points of a stratum below which the difference estimator has no interval.
MIN_POINTS_OF_DIFFERENCE = 10
# Classes times strata that are looked at at once.
CELLS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Estimated:
    """An estimate with its limits; None where the sample tells no number.

    Args:
        value: The estimate.
        standard_error: None where a stratum has one point, or where all points of each are alike.
        low: Lower limit.
        high: Upper limit.
        wald_low: Lower limit of the usual interval, `value` less z standard errors.
        wald_high: Upper limit of it.
    """

    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    wald_low: float | None
    wald_high: float | None


@dataclass(frozen=True)
class Estimates:
    """Estimates as arrays of one shape, NaN where the sample tells no number.

    Entries along the last axis are `Estimated`: `estimates[2]`, `list(estimates)`; `item` is the
    only one of a shape without axes.
    """

    value: np.ndarray
    standard_error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    wald_low: np.ndarray
    wald_high: np.ndarray

    @classmethod
    def of(
        cls, value: np.ndarray, variance: np.ndarray, limits: Limits, intervals: Intervals
    ) -> Estimates:
        """Estimates with the usual interval beside their limits; without both where these are NaN.

        A sample variance of 0 is no standard error: points that are all alike do not tell how much
        others would differ.

        Args:
            value: Estimates.
            variance: Their variances; NaN where there is none.
            limits: Lower and upper limits of each.
            intervals: Level of the usual interval.
        """
        error = np.sqrt(np.where(variance > 0, variance, np.nan))
        return cls(value, error, *limits, *intervals.of_estimate(value, error))

    @classmethod
    def joined(cls, each: Sequence[Estimates]) -> Estimates:
        """Estimates one behind the other along their last axis."""
        return cls(
            *(np.concatenate([getattr(of, field.name) for of in each], -1) for field in fields(cls))
        )

    def scaled(self, factor: float) -> Estimates:
        """All numbers times a constant, such as shares of an area to areas."""
        return Estimates(*(getattr(self, field.name) * factor for field in fields(self)))

    def item(self) -> Estimated:
        """The only estimate."""
        values = (getattr(self, field.name).item() for field in fields(self))
        return Estimated(*(None if np.isnan(value) else value for value in values))

    def __getitem__(self, index: int) -> Estimated:
        return Estimates(*(getattr(self, field.name)[index] for field in fields(self))).item()

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Estimated]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True)
class ClassEstimates:
    """What a sample tells of a map.

    Args:
        users_accuracy: By class: share of what the map calls so that is so; `(..., k)`.
        producers_accuracy: By class: share of what is so that the map calls so; `(..., k)`.
        overall_accuracy: Share of the area that the map has right; `(...)`.
        area_shares: By class: share of the area that is so; `(..., k)`.
        areas: By class: area that is so, in the unit of the strata's; `(..., k)`.
    """

    users_accuracy: Estimates
    producers_accuracy: Estimates
    overall_accuracy: Estimates
    area_shares: Estimates
    areas: Estimates


@dataclass(frozen=True)
class Strata:
    """The parts of a map that were sampled separately.

    Args:
        areas: `(H,)` areas, all in one unit. A stratum of area 0 has no points.
        names: Names by which messages call them.
        classes: Class indices that the map can have in each stratum, such as one where strata are
            classes, or all but one around that class. Without them, any.
        population: `(H,)` pixels of each, which corrects variances for a sample that is a good part
            of its stratum; limits of shares are not corrected. None for strata of many pixels.
    """

    areas: np.ndarray
    names: Sequence[str] = ()
    classes: Sequence[Collection[int]] = ()
    population: np.ndarray | None = None

    @property
    def weights(self) -> np.ndarray:
        """`(H,)` shares of the area."""
        areas = np.asarray(self.areas, float)
        return np.asarray(areas / areas.sum())

    def possible(
        self, first: int, classes: int, mapped: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Whether the map can have classes in a stratum, and whether it can have another.

        Args:
            first: Index of the first of the classes.
            classes: Number of all classes.
            mapped: `(..., c, H)` points that have each on the map.

        Returns:
            Two arrays `(c, H)` of bool.

        Raises:
            InputError: If a point has a class where the map cannot have it.
        """
        count, strata = mapped.shape[-2:]
        own, number = np.ones((count, strata), bool), np.full(strata, classes)
        if self.classes:
            indices = range(first, first + count)
            own = np.array([[index in of for of in self.classes] for index in indices])
            number = np.array([len(of) for of in self.classes])
        strange = np.argwhere((mapped > 0) & ~own)
        if len(strange):
            index, stratum = strange[0][-2:]
            raise InputError(
                f"stratum {self.name(stratum)!r} cannot have class {first + index} on the map, but "
                "points of it do: they are of another map, or `classes` of the strata are wrong"
            )
        return own, number > own

    def name(self, index: int) -> str:
        """Name of a stratum in messages."""
        return self.names[index] if self.names else str(index)

    def check(self, points: np.ndarray) -> None:
        """Refuse a sample that does not fit the strata.

        Args:
            points: `(..., H)` labelled points.

        Raises:
            InputError: If an area is not a finite number of 0 or more, all are 0, a stratum has no
                point, or one without area has some.
        """
        areas = np.asarray(self.areas, float)
        if areas.shape != points.shape[-1:] or not (np.isfinite(areas) & (areas >= 0)).all():
            raise InputError(
                f"strata need {points.shape[-1]} areas of 0 or more, one a stratum; found {areas}"
            )
        if not areas.any():
            raise InputError("all strata have the area 0: the map labels no ground")
        samples = points.reshape(-1, len(areas))
        for index in np.flatnonzero((areas > 0) & (samples < 1).any(0)).tolist():
            raise InputError(
                f"stratum {self.name(index)!r} has no labelled point, so nothing is known of its "
                "area: label two points of it or more, or draw a sample of other strata"
            )
        for index in np.flatnonzero((areas == 0) & (samples > 0).any(0)).tolist():
            raise InputError(
                f"stratum {self.name(index)!r} has labelled points but the area 0: these points "
                "are of another map"
            )


class ClassCounts(NamedTuple):
    """Points of each stratum that are of some classes: on the map, in truth, and in both.

    All are `(..., c, H)`.
    """

    mapped: np.ndarray
    reference: np.ndarray
    agreed: np.ndarray


class ClassPair(NamedTuple):
    """A class of the map and a true class, by their indices, that points have together.

    Attributes:
        mapped: Class of the map.
        reference: True class.
        points: Number of points.
        share: Share of the area that they stand for.
    """

    mapped: int
    reference: int
    points: int
    share: float


@dataclass(frozen=True)
class LabelledPoints:
    """The points of a sample, one by one: they take memory as they are many, not as classes are.

    Args:
        stratum: `(points,)` index of the stratum of each point.
        mapped: `(points,)` class index that the map has there.
        reference: `(points,)` true class index.
        classes: Number of classes.
    """

    stratum: np.ndarray
    mapped: np.ndarray
    reference: np.ndarray
    classes: int

    def by_stratum(self, strata: int) -> np.ndarray:
        """`(strata,)` number of points."""
        return np.bincount(self.stratum, minlength=strata)

    def by_class(self, strata: int) -> Iterator[ClassCounts]:
        """Points of each class, of some classes at a time.

        >>> mapped, reference = np.array([1, 1, 0]), np.array([1, 0, 0])
        >>> points = LabelledPoints(np.array([0, 0, 1]), mapped, reference, 2)
        >>> [numbers.tolist() for numbers in next(points.by_class(2))]
        [[[0, 1], [2, 0]], [[1, 1], [1, 0]], [[0, 1], [1, 0]]]
        """
        agreed = np.where(self.mapped == self.reference, self.mapped, -1)

        def counted(of_point: np.ndarray, first: int, size: int) -> np.ndarray:
            chosen = (of_point >= first) & (of_point < first + size)
            cells = (of_point[chosen] - first) * strata + self.stratum[chosen]
            return np.bincount(cells, minlength=size * strata).reshape(size, strata)

        at_once = max(1, CELLS_AT_ONCE // strata)
        for first in range(0, self.classes, at_once):
            size = min(at_once, self.classes - first)
            of_points = (self.mapped, self.reference, agreed)
            yield ClassCounts(*(counted(of_point, first, size) for of_point in of_points))

    def pairs(self, strata: Strata) -> list[ClassPair]:
        """Pairs of classes that points have, by class of the map and true class.

        Args:
            strata: The strata, each with points.
        """
        codes, of_point = np.unique(
            self.mapped * self.classes + self.reference, return_inverse=True
        )
        share = (strata.weights / np.maximum(self.by_stratum(len(strata.areas)), 1))[self.stratum]
        columns = np.divmod(codes, self.classes)
        rows = zip(
            *(column.tolist() for column in columns),
            np.bincount(of_point, minlength=len(codes)).tolist(),
            np.bincount(of_point, share, len(codes)).tolist(),
            strict=True,
        )
        return [ClassPair(*row) for row in rows]


class _Sample(NamedTuple):
    """Points of strata, and the share of each stratum's pixels that they leave unseen."""

    points: np.ndarray
    strata: Strata
    intervals: Intervals

    @property
    def variance_factors(self) -> np.ndarray:
        """`(..., H)` factors that make p (1 - p) the variance of a share; NaN for one point."""
        population = self.strata.population
        unseen = 1.0 if population is None else 1 - self.points / np.asarray(population)
        return np.asarray(unseen / np.where(self.points > 1, self.points - 1, np.nan))

    def mean(self, hits: np.ndarray) -> Estimates:
        """Share of the area that has a property.

        Args:
            hits: `(..., H)` points that have it.
        """
        weights = self.strata.weights
        points, hits = np.broadcast_arrays(np.where(self.points > 0, self.points, 1), hits)
        shares = hits / points
        spread = weights**2 * shares * (1 - shares) * self.variance_factors
        variance = np.where(weights > 0, spread, 0.0).sum(-1)
        limits = self.intervals.of_mean(shares, self.intervals.of_shares(hits, points), weights)
        low, high = (np.where(np.isfinite(variance), limit, np.nan) for limit in limits)
        return Estimates.of((weights * shares).sum(-1), variance, (low, high), self.intervals)

    def ratio(
        self, hits: np.ndarray, misses: np.ndarray, can: tuple[np.ndarray, np.ndarray]
    ) -> Estimates:
        """Share of the hits in hits and misses, by area.

        Args:
            hits: `(..., H)` points that have both properties.
            misses: `(..., H)` points that have the second only.
            can: Whether a stratum can have hits, and whether misses; `(..., H)` bool each.
        """
        weights = self.strata.weights
        points = np.where(self.points > 0, self.points, 1)
        points, hits, misses = np.broadcast_arrays(points, hits, misses)
        y, x = hits / points, (hits + misses) / points
        total = (weights * x).sum(-1, keepdims=True)
        scaled = weights / np.where(total > 0, total, np.nan)
        value = (scaled * y).sum(-1)
        each = value[..., None]
        spread = y * (1 - y) + each**2 * x * (1 - x) - 2 * each * y * (1 - x)
        spread = scaled**2 * spread * self.variance_factors
        variance = np.where((can[0] | can[1]) & (weights > 0), spread, 0.0).sum(-1)
        shares = np.where(can[0], weights, 0.0), np.where(can[1], weights, 0.0)
        limits = self.intervals.of_ratio(hits, misses, points, shares)
        is_known = np.isfinite(variance)
        low, high = (np.where(is_known, limit, np.nan) for limit in limits)
        return Estimates.of(value, variance, (low, high), self.intervals)

    def estimates(self, counts: Iterable[ClassCounts], classes: int) -> ClassEstimates:
        """Accuracies and areas.

        Args:
            counts: Of all classes in their order, some at a time.
            classes: Number of classes.
        """
        by_class = _Sample(self.points[..., None, :], self.strata, self.intervals)
        each, agreed, first = [], np.zeros(self.points.shape, np.int64), 0
        for mapped, reference, hits in counts:
            own, other = self.strata.possible(first, classes, mapped)
            users = by_class.ratio(hits, mapped - hits, (own, own))
            producers = by_class.ratio(hits, reference - hits, (own, other))
            each.append((users, producers, by_class.mean(reference)))
            agreed, first = agreed + hits.sum(-2), first + mapped.shape[-2]
        users, producers, shares = map(Estimates.joined, zip(*each, strict=True))
        total = float(np.asarray(self.strata.areas, float).sum())
        return ClassEstimates(users, producers, self.mean(agreed), shares, shares.scaled(total))


def class_strata(
    counts: np.ndarray,
    areas: np.ndarray,
    intervals: Intervals = WILSON,
    names: Sequence[str] = (),
) -> ClassEstimates:
    """Accuracy and areas from a sample whose strata are the classes of the map.

    A class that only the reference has is a row of zeros with area 0: the sample gives its area,
    its producer's accuracy is 0, and its user's accuracy is None.

    Args:
        counts: `(..., k, k)` labelled points; rows the map's class, columns the true one.
        areas: `(k,)` areas of the map's classes.
        intervals: Level and method of the limits.
        names: Names of the classes, for messages.

    Returns:
        User's accuracy with limits of a share; overall accuracy and areas with limits by MOVER;
        producer's accuracy with limits by MOVER-R.

    Raises:
        InputError: If a class with area has no point, or one without area has some.

    Source: Olofsson et al., Good practices for estimating area and assessing accuracy of land
    change, Remote Sensing of Environment 148 (2014), equations 1 to 11.

    >>> result = class_strata(np.array([[9, 1], [2, 18]]), np.array([100.0, 400.0]))
    >>> result.areas.value, result.users_accuracy.value
    (array([130., 370.]), array([0.9, 0.9]))
    >>> of_first = result.areas[0]
    >>> round(of_first.standard_error, 2), round(of_first.low, 2), round(of_first.high, 2)
    (29.29, 88.08, 210.83)
    """
    counts = np.asarray(counts)
    points, classes = counts.sum(-1), counts.shape[-1]
    strata = Strata(areas, names, [{index} for index in range(classes)])
    strata.check(points)
    own = np.eye(classes, dtype=np.int64)
    reference = np.swapaxes(counts, -1, -2)
    of_classes = ClassCounts(points[..., None, :] * own, reference, reference * own)
    return _Sample(points, strata, intervals).estimates([of_classes], classes)


def general_strata(
    counts: np.ndarray | LabelledPoints, strata: Strata, intervals: Intervals = WILSON
) -> ClassEstimates:
    """Accuracy and areas from a sample whose strata are not the classes of the map.

    Args:
        counts: `(..., H, k, k)` numbers of labelled points; of a stratum, rows are the map's class,
            columns the true one. Or the points themselves, where the strata or classes are many.
        strata: The strata.
        intervals: Level and method of the limits.

    Returns:
        Overall accuracy and areas with limits by MOVER; user's and producer's accuracies with
        limits by MOVER-R.

    Raises:
        InputError: If a stratum with area has no point, one without area has some, or a point has
            a class that the map cannot have in its stratum.

    Source: Stehman, Estimating area and map accuracy for stratified random sampling when the strata
    are different from the map classes, International Journal of Remote Sensing 35 (2014),
    equations 1 to 3 and 25 to 28.
    """
    if isinstance(counts, LabelledPoints):
        points, classes = counts.by_stratum(len(strata.areas)), counts.classes
        strata.check(points)
        of_classes = counts.by_class(len(strata.areas))
    else:
        counts = np.asarray(counts)
        points, classes = counts.sum((-2, -1)), counts.shape[-1]
        strata.check(points)
        numbers = counts.sum(-1), counts.sum(-2), np.diagonal(counts, axis1=-2, axis2=-1)
        of_classes = iter([ClassCounts(*(np.swapaxes(of, -1, -2) for of in numbers))])
    return _Sample(points, strata, intervals).estimates(of_classes, classes)


def difference(
    sample: tuple[np.ndarray, np.ndarray, np.ndarray],
    strata: Strata,
    mean_probability: np.ndarray,
    intervals: Intervals = WILSON,
) -> Estimates:
    """Area of a class from the map's probabilities of it everywhere, corrected by a sample.

    Right on average whatever the probabilities are; the better they are, the smaller the standard
    error. Probabilities of 0 and 1 by the map's own class give what `class_strata` gives.

    Args:
        sample: `(points,)` index of the stratum of each point; `(..., points)` 1 where the point
            is of the class, else 0; `(..., points)` probability of the class there.
        strata: The strata; names, classes and population are not used.
        mean_probability: `(..., H)` mean probability of the class over all pixels of the stratum.
        intervals: Level of the limits.

    Returns:
        Areas in the unit of the strata's, without the last axis. Limits by Student's t with
        Satterthwaite's degrees of freedom, or by MOVER from those of the shares of points at which
        the less likely is true, where these are wider; at most from 0 to the whole area. Limits,
        and the usual ones, are NaN if a stratum has less than 10 points.

    Raises:
        InputError: If a stratum with area has no point, or one without area has some.
        ConfigurationError: If scipy is missing.

    Source: Särndal, Swensson and Wretman, Model Assisted Survey Sampling (1992), section 6.3, by
    stratum; Satterthwaite, An approximate distribution of estimates of variance components (1946).
    """
    stratum, truth, probability = sample
    points = np.bincount(stratum, minlength=len(strata.areas))
    strata.check(points)
    residuals = np.asarray(truth, float) - probability
    value: np.ndarray = np.zeros(residuals.shape[:-1])
    variance, squares = np.zeros_like(value), np.zeros_like(value)
    unseen = np.zeros((2, *value.shape))
    for index in np.flatnonzero(points):
        of_stratum, count = residuals[..., stratum == index], points[index]
        weight = strata.weights[index]
        mean = mean_probability[..., index] + of_stratum.mean(-1)
        value = value + weight * mean
        spread = of_stratum.var(-1, ddof=1) if count > 1 else np.nan
        part = weight**2 * spread / count
        variance, squares = variance + part, squares + part**2 / max(count - 1, 1)
        room = _unseen_surprises(of_stratum, truth[..., stratum == index], mean, intervals)
        unseen = unseen + (weight * room) ** 2
    with np.errstate(invalid="ignore"):
        degrees = variance**2 / squares
    error = np.sqrt(np.where(variance > 0, variance, np.nan))
    enough = points[points > 0].min() >= MIN_POINTS_OF_DIFFERENCE
    error_of_limits = error if enough else np.full_like(error, np.nan)
    low, high = intervals.by_degrees(value, error_of_limits, degrees)
    usual = intervals.of_estimate(value, error_of_limits)
    # NaN of few points stays.
    limits = (
        np.minimum(low, value - np.sqrt(unseen[0])),
        np.maximum(high, value + np.sqrt(unseen[1])),
    )
    limits = np.maximum(limits[0], 0.0), np.minimum(limits[1], 1.0)
    total = float(np.asarray(strata.areas, float).sum())
    return Estimates(value, error, *limits, *usual).scaled(total)


def _unseen_surprises(
    residuals: np.ndarray, truth: np.ndarray, mean: np.ndarray, intervals: Intervals
) -> np.ndarray:
    """How much surprises that a sample may have missed lower and raise the mean of a stratum.

    A surprise is a point of which the less likely of two is true. A sample of few shows none of
    what is rare, so that its standard error knows nothing of it; limits of a share do.

    Args:
        residuals: `(..., points)` truth less probability, of the points of a stratum.
        truth: `(..., points)` 1 where the point is of the class, else 0.
        mean: `(...)` estimate of the stratum, by its probabilities and the residuals.
        intervals: Level and method of limits of shares.

    Returns:
        `(2, ...)` float64, at most from the mean to the limits of the share of the class.
    """
    points = residuals.shape[-1]

    def limits(hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return intervals.of_shares(hits.sum(-1), np.full(hits.shape[:-1], points))

    falls, rises = (
        limits(surprising)[1] - surprising.mean(-1)
        for surprising in (residuals < -0.5, residuals > 0.5)
    )
    low, high = limits(truth > 0)
    down, up = np.maximum(mean - low, 0.0), np.maximum(high - mean, 0.0)
    return np.stack([np.minimum(down, falls), np.minimum(up, rises)])
