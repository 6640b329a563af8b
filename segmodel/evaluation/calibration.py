"""The temperature at which confidence is the share of pixels that are right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np

from segmodel.errors import TrainingError
from segmodel.pairs.pairs import Pair
from segmodel.savedmodel.contract import Calibration
from segmodel.tiling.windows import Layout, Tile, Window, tiles

MAX_BYTES = 256 << 20
MAX_WINDOWS_OF_A_PAIR, MAX_WINDOWS = 4, 128
BINS = 15
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
# Precision of the search, in the logarithm of the temperature.
TOLERANCE = 1e-4
VALUES_AT_ONCE = 1 << 22

Item = TypeVar("Item")


class LogitSample(NamedTuple):
    """Logits at some pixels, and the true classes there.

    Args:
        logits: `(pixels, classes)` float32.
        truth: `(pixels,)` int64 class indices.
    """

    logits: np.ndarray
    truth: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[LogitSample]) -> LogitSample:
        """Logits and truth of several samples, one behind the other."""
        if not parts:
            return cls(np.empty((0, 0), np.float32), np.empty(0, np.int64))
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def sample_logits(
    logits_of: Callable[[np.ndarray], np.ndarray],
    pairs: Sequence[Pair],
    fill: np.ndarray,
    window_px: int,
    stride: int,
    max_pixels: int = 1_000_000,
) -> tuple[LogitSample, LogitSample]:
    """Logits at some pixels whose truth counts, in two samples; always the same ones.

    A few windows of each pair, so that large images do not outweigh small ones, and of each window
    a share of its counted pixels that is the same for all. Windows go to either by turns; where
    only one has a counted pixel, its upper pixels go to one and its lower ones to the other.

    Args:
        logits_of: `(1, height, width, bands)` raw values to `(1, height, width, classes)`.
        pairs: Pairs of validation; of many, evenly spaced ones are taken.
        fill: `(bands,)` raw values that stand for nodata.
        window_px: Longest side of what the network is given at once; pixels near its edges are
            left out, as they lack the context that they have in production.
        stride: Stride of the network in pixels.
        max_pixels: Pixels of both samples together; fewer if their logits take more than
            `MAX_BYTES`.
    """
    windows = []
    for pair, tile in _windows(pairs, window_px, stride):
        if count := int((pair.truth(tile.core) >= 0).sum()):
            windows.append((pair, tile, count))
    total, before = sum(count for *_, count in windows), 0
    chosen = []
    for number, (pair, tile, count) in enumerate(windows):
        values = pair.pixels(tile.read).filled(fill)
        logits = np.asarray(logits_of(values[None]))[0][tile.core.relative_to(tile.read).slices]
        classes = logits.shape[-1]
        most = min(max_pixels, MAX_BYTES // (4 * classes), total)
        # Rounded so that all quotas together are `most`.
        quota = (before + count) * most // total - before * most // total
        before += count
        truth = pair.truth(tile.core).ravel()
        random = np.random.default_rng(number)
        counted = np.sort(random.choice(np.flatnonzero(truth >= 0), quota, replace=False))
        rows = logits.reshape(-1, classes)[counted].astype(np.float32)
        chosen.append(LogitSample(rows, truth[counted].astype(np.int64)))
    if len(chosen) == 1:
        halves = (np.array_split(values, 2) for values in chosen[0])
        chosen = list(map(LogitSample, *halves))
    return LogitSample.joined(chosen[::2]), LogitSample.joined(chosen[1::2])


def calibrate(one: LogitSample, other: LogitSample) -> Calibration:
    """The temperature of both samples together, and what it is worth on pixels it has not seen.

    The errors are of all pixels; that with a temperature takes for each sample the one that the
    other sample gives. A temperature that makes them no better is none: with few images it may be
    right for these and wrong for the next.

    Args:
        one: First sample.
        other: Second sample, of other pixels.

    Raises:
        TrainingError: If a logit is not a finite number.
    """
    samples = [sample for sample in (one, other) if len(sample.truth)]
    if not samples:
        return Calibration(1.0, 0.0, 0.0, 0)
    if not all(np.isfinite(sample.logits).all() for sample in samples):
        raise TrainingError("the network gives logits that are not finite: its weights are lost")
    whole = LogitSample.joined(samples)
    fitted = [fit_temperature(*sample) for sample in samples[::-1]]
    scaled = [sample.logits / of for sample, of in zip(samples, fitted, strict=True)]
    before = calibration_error(*whole, 1.0)
    after = calibration_error(np.concatenate(scaled), whole.truth, 1.0)
    if after >= before:
        return Calibration(1.0, before, before, len(whole.truth))
    return Calibration(fit_temperature(*whole), before, after, len(whole.truth))


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The temperature of least negative log-likelihood, by golden section over its logarithm.

    Args:
        logits: `(pixels, classes)` floats.
        truth: `(pixels,)` class indices.

    Returns:
        Temperature 1 where none can be fitted: no pixel, one class, or all pixels right, for then
        the likelihood rises without end as the temperature falls.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), section 4.2. The
    likelihood is concave in the inverse of the temperature, so it has one maximum.
    """
    if logits.shape[1] < 2 or (logits.argmax(axis=1) == truth).all():
        return 1.0
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    golden = (math.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    loss = cache(lambda x: log_loss(logits, truth, math.exp(x)))
    while high - low > TOLERANCE:
        if loss(left) <= loss(right):
            high, right = right, left
            left = high - golden * (high - low)
        else:
            low, left = left, right
            right = low + golden * (high - low)
    return math.exp((low + high) / 2)


def log_loss(logits: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """Mean negative log-likelihood of the truth, in nats.

    Args:
        logits: `(pixels, classes)` floats.
        truth: `(pixels,)` class indices.
        temperature: Divisor of the logits before the softmax.

    >>> round(log_loss(np.array([[0.0, 0.0]]), np.array([1]), 1.0), 4)
    0.6931
    """
    total = 0.0
    for part in _parts(logits):
        scaled = _scaled(logits[part], temperature)
        true = np.take_along_axis(scaled, truth[part, None], axis=1)[:, 0]
        total += float((np.log(np.exp(scaled).sum(axis=1)) - true).sum())
    return total / len(truth)


def calibration_error(logits: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """Expected calibration error in [0, 1], with 15 bins of equal width.

    The difference of mean confidence and share of right pixels in each bin of confidence, weighted
    by its pixels (Guo et al. 2017, section 2).

    Args:
        logits: `(pixels, classes)` floats.
        truth: `(pixels,)` class indices.
        temperature: Divisor of the logits before the softmax.

    >>> calibration_error(np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([0, 1]), 1.0)
    0.0
    """
    confidence, right = np.zeros(BINS), np.zeros(BINS)
    for part in _parts(logits):
        best = 1 / np.exp(_scaled(logits[part], temperature)).sum(axis=1)
        bins = np.clip(np.ceil(best * BINS).astype(np.int64) - 1, 0, BINS - 1)
        confidence += np.bincount(bins, best, BINS)
        right += np.bincount(bins, logits[part].argmax(axis=1) == truth[part], BINS)
    return float(np.abs(confidence - right).sum() / len(truth))


def _scaled(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Logits over the temperature, in float64, the greatest of each pixel 0."""
    scaled = logits.astype(np.float64)
    scaled -= scaled.max(axis=1, keepdims=True)
    scaled /= temperature
    return scaled


def _parts(logits: np.ndarray) -> Iterator[slice]:
    """Pixels a few at a time, so that what is computed from them takes little memory."""
    rows = max(1, VALUES_AT_ONCE // max(1, logits.shape[1]))
    for start in range(0, len(logits), rows):
        yield slice(start, start + rows)


def _windows(pairs: Sequence[Pair], window_px: int, stride: int) -> Iterator[tuple[Pair, Tile]]:
    """A few windows of each pair, with what the network is given for each."""
    margin = window_px // 8 // stride * stride
    core = max(stride, (window_px - 2 * margin) // stride * stride)
    layout = Layout(core, margin, stride)
    for pair in _spread(pairs, MAX_WINDOWS):
        whole = Window(0, 0, pair.height, pair.width)
        each = min(MAX_WINDOWS_OF_A_PAIR, max(1, MAX_WINDOWS // len(pairs)))
        for tile in _spread(list(tiles(whole, whole, layout)), each):
            yield pair, tile


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spaced.

    >>> _spread("abcdefgh", 3), _spread("ab", 3)
    (['b', 'e', 'g'], ['a', 'b'])
    """
    count = min(most, len(items))
    return [items[(2 * n + 1) * len(items) // (2 * count)] for n in range(count)]
