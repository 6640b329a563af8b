"""Halo and stride: measured, as no formula tells what context a network really uses."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product, starmap

import numpy as np
import tensorflow as tf

from segmodel.savedmodel.contract import MeasuredHalo, MeasuredSizes
from segmodel.tiling.borders import BorderCurve

CORE_PX = 512
# Greatest halo that is tried where the receptive field is unknown, and the least distance from
# sides at which labels of small samples are compared.
MAX_HALO_PX, MIN_MARGIN_PX = 256, 16
# Windows of fewer strides would be smaller than any that are used.
MIN_CORE_STRIDES = 2
# Distance to the middle of an axis that is not cut.
FAR_PX = 1 << 30
EQUAL_SHARE = 0.999
# Sizes are compared on so many samples; strides up to this one are tried.
SIZE_SAMPLES, MAX_STRIDE = 3, 128
# Samples of which one label covers more than this say little about seams.
MAX_ONE_LABEL = 0.99


@dataclass(frozen=True)
class HaloSample:
    """An image to measure the halo on.

    Args:
        image: `(height, width, bands)` raw values of the model's dtype, nodata filled.
        counted: `(height, width)` bool, pixels whose labels are compared; None for all.
    """

    image: np.ndarray
    counted: np.ndarray | None = None


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@dataclass(frozen=True)
class Measuring:
    """How long a measurement may take, and who hears of it.

    Args:
        max_seconds: Seconds after which what is known so far is taken; a call of the model that
            has begun is waited for.
        log: Called with a line of text at each step; by default it goes to standard error.
    """

    max_seconds: float = 600.0
    log: Callable[[str], None] = _to_stderr


# Sizes of windows, and the least share of equal labels in them.
Compared = tuple[tuple[int, ...], float]
# Function of a batch of raw values: labels.
Labels = Callable[[np.ndarray], np.ndarray]


class _TimeLimitError(Exception):
    """The time limit of a measurement has passed."""


class MeasuringClock:
    """The clock of one measurement.

    Args:
        measuring: Limit and log.
    """

    def __init__(self, measuring: Measuring) -> None:
        self._measuring, self._start = measuring, time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the time has passed."""
        return time.monotonic() - self._start > self._measuring.max_seconds

    def check(self) -> None:
        """Raise `_TimeLimitError` when the time has passed."""
        if self.is_over:
            raise _TimeLimitError

    def log(self, text: str) -> None:
        """A line of text, with the time that has passed."""
        self._measuring.log(f"{text} ({time.monotonic() - self._start:.0f} s)")


def _unheard() -> MeasuringClock:
    return MeasuringClock(Measuring(float("inf"), lambda line: None))


def padded(labels: Labels, fill: np.ndarray, stride: int) -> Labels:
    """A function of labels whose images are filled to multiples of a greater stride.

    Args:
        labels: Function of a batch of raw values: labels `(batch, height, width)`.
        fill: `(bands,)` raw value of each band that stands for nodata.
        stride: Stride to fill to.
    """

    def of_filled(images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        return labels(_filled(images, fill, stride))[:, :height, :width]

    return of_filled


def _filled(images: np.ndarray, fill: np.ndarray, stride: int) -> np.ndarray:
    """A batch of images, filled on the right and at the bottom to multiples of a stride."""
    count, height, width, bands = images.shape
    below, right = -height % stride, -width % stride
    if not below and not right:
        return images
    filled = np.empty((count, height + below, width + right, bands), images.dtype)
    filled[...] = fill
    filled[:, :height, :width] = images
    return filled


def measure_halo(
    labels: Labels,
    samples: Sequence[HaloSample],
    stride: int,
    max_px: int,
    clock: MeasuringClock | None = None,
) -> MeasuredHalo | None:
    """The share of unequal labels by distance to the border of a window, and the halo for 512 px.

    A sample is labelled as a whole, and cut through its middle into two or four windows, whose
    labels differ near the border. No window with a halo needs to be tried, as a label depends on
    how far from it the window ends, and not on which part of the window is kept.

    Args:
        labels: Function of a batch of raw values: labels `(batch, height, width)`.
        samples: Images to label; sides of less than four strides are not cut.
        stride: Stride of the model, of which halos are multiples.
        max_px: Greatest halo to recommend.
        clock: Clock and log of the measurement; None for no limit.

    Returns:
        The halo with the curve, or None if none is enough, as with networks that use global
        context. Where it cannot be measured, `max_px` with `equal_labels` None: no image can be
        cut, or only into windows that are too small, or time was up before the first one.
    """
    clock = clock or _unheard()
    core = usual_core_px(stride)
    rings = _Rings(stride, -(-max_px // stride))
    for sample in samples:
        try:
            rings.add(labels, sample, clock)
        except _TimeLimitError:
            clock.log(f"time is up: borders measured on {rings.samples} of {len(samples)} samples")
            break
    curve = rings.curve()
    if curve is None:
        longest = max((max(sample.image.shape[:2]) for sample in samples), default=0)
        clock.log(f"halo not measured: {rings.samples} samples cut, the longest side: {longest} px")
        return MeasuredHalo(max_px, core, None)
    rings.log_if_one_label(clock)
    halo = curve.least_halo_px(core)
    if halo is None and rings.reach_all:
        clock.log(f"no halo up to {max_px} px is enough")
        return None
    # Labels must hold over as many pixels as they do not, unless no greater halo is needed.
    if halo is None or (2 * halo > curve.halos_px[-1] and not rings.reach_all):
        clock.log("halo not measured: samples are too small to be cut with the halo they need")
        return MeasuredHalo(max_px, core, None)
    equal = 1 - curve.unequal_share(halo, core, core)
    clock.log(f"halo {halo} px: {100 * equal:.2f} % of labels as untiled, cores of {core} px")
    return MeasuredHalo(halo, core, equal, curve)


class _Rings:
    """Labels by their distance to where samples are cut, and how many differ from untiled ones."""

    def __init__(self, stride: int, rings: int) -> None:
        self._stride, self._last, self.samples = stride, rings, 0
        self._unequal, self._counted = np.zeros((2, rings + 1), np.int64)
        self._labels = np.zeros(1, np.int64)

    def add(self, labels: Labels, sample: HaloSample, clock: MeasuringClock) -> None:
        """Label a sample whole and cut; a sample that cannot be cut is left out."""
        image = sample.image
        middles = [_middle(length, self._stride) for length in image.shape[:2]]
        if not any(middles):
            return
        clock.check()
        whole = labels(image[None])[0]
        unequal = np.empty(whole.shape, bool)
        for part in product(*map(_halves, middles)):
            clock.check()
            unequal[part] = labels(image[part][None])[0] != whole[part]
        rows, columns = starmap(_distances, zip(middles, whole.shape, strict=True))
        away = np.minimum(np.minimum.outer(rows, columns) // self._stride, self._last)
        counted = np.ones(whole.shape, bool) if sample.counted is None else sample.counted
        rings = self._last + 1
        self._unequal += np.bincount(away[counted & unequal], minlength=rings)
        self._counted += np.bincount(away[counted], minlength=rings)
        found = np.bincount(whole.ravel(), minlength=self._labels.size)
        found[: self._labels.size] += self._labels
        self._labels, self.samples = found, self.samples + 1

    @property
    def reach_all(self) -> bool:
        """Whether labels were compared further from the border than any halo."""
        return bool(self._counted[-1])

    def curve(self) -> BorderCurve | None:
        """The curve, as far as labels were compared; None where none was."""
        rings = np.flatnonzero(self._counted)
        if not rings.size:
            return None
        counted = self._counted[: rings[-1] + 1]
        shares = self._unequal[: counted.size] / np.maximum(counted, 1)
        return BorderCurve(self._stride, tuple(map(float, shares)))

    def log_if_one_label(self, clock: MeasuringClock) -> None:
        """Say that label maps with hardly more than one label show no seams."""
        if self._labels.max() > MAX_ONE_LABEL * self._labels.sum():
            clock.log("the samples have hardly more than one label: what is measured says little")


def _middle(length: int, stride: int) -> int:
    """Where an axis is cut in two, a multiple of the stride; 0 where it is too short.

    >>> _middle(300, 32), _middle(127, 32)
    (128, 0)
    """
    return length // 2 // stride * stride if length >= 2 * MIN_CORE_STRIDES * stride else 0


def _halves(middle: int) -> list[slice]:
    return [slice(0, middle), slice(middle, None)] if middle else [slice(None)]


def _distances(middle: int, length: int) -> np.ndarray:
    """Pixels between each of an axis and its middle; more than any halo where it is not cut."""
    if not middle:
        return np.full(length, FAR_PX)
    places = np.arange(length) - middle
    return np.where(places < 0, -1 - places, places)


def usual_core_px(stride: int) -> int:
    """Side in pixels of the cores that halos are measured with, a multiple of the stride.

    >>> usual_core_px(96), usual_core_px(600)
    (480, 600)
    """
    return CORE_PX // stride * stride or stride


def measure_sizes(
    labels: Labels,
    fill: np.ndarray,
    samples: Sequence[HaloSample],
    stride: int,
    margin_px: int | None,
    clock: MeasuringClock | None = None,
) -> tuple[int | None, MeasuredSizes | None]:
    """The least stride at which labels do not depend on the size of the window.

    A sample is labelled as a window of n pixels, of n + 1 filled to the stride, and of one and
    three strides more; labels are compared away from the sides that moved. Networks that halve
    odd sizes, or that stretch their output from corner to corner, shift their labels with the size.
    Strides are tried that are the stated one times a power of two, then three times that.

    Args:
        labels: Function of a batch of raw values: labels `(batch, height, width)`.
        fill: `(bands,)` raw value of each band that stands for nodata.
        samples: Images to label.
        stride: Stride of the model as stated.
        margin_px: Distance from a side that moves up to which labels may depend on it; None if it
            is unknown: then a stride may be found, but not that there is none, on small samples.
        clock: Clock and log of the measurement; None for no limit.

    Returns:
        The stride, None if there is none, and what was found; the stated stride and None where no
        sample is large enough to tell, or time was up.
    """
    clock = clock or _unheard()
    longest = max((max(sample.image.shape[:2]) for sample in samples), default=0)
    margin = MAX_HALO_PX if margin_px is None else margin_px
    needed = _least_size(margin, stride)
    is_sure = longest >= needed
    if margin_px is None and not is_sure:
        margin = max(longest // 4, MIN_MARGIN_PX)
    trial = cache(partial(_size_share, labels, fill, samples[:SIZE_SAMPLES], margin, clock))
    larger = f"samples of at least {needed} px are needed to tell"
    try:
        stated = trial(stride)
        if stated is None:
            clock.log(f"sizes of windows not compared: {larger}")
            return stride, None
        if stated[1] >= EQUAL_SHARE:
            return stride, MeasuredSizes(*stated, stride, stated[1])
        if (found := _least_stride(trial, stride)) is not None:
            clock.log(f"stride {stride} raised to {found[0]}")
            return found[0], MeasuredSizes(*found[1], stride, stated[1])
    except _TimeLimitError:
        clock.log("sizes of windows not compared: time was up")
        return stride, None
    if not is_sure:
        clock.log(f"no stride was found at which labels hold: {larger}")
        return stride, None
    clock.log("labels depend on the size of the window at every stride")
    return None, MeasuredSizes(*stated, stride, stated[1])


def _least_stride(
    trial: Callable[[int], Compared | None], stated: int
) -> tuple[int, Compared] | None:
    """The least multiple of a stride at which labels hold, with its trial; None if none does."""
    for first in (2 * stated, 3 * stated):
        found = None
        # Multiples of a stride that holds hold too, so that the greatest decides.
        for stride in reversed(list(_doubled(first))):
            # Samples are too small for the greatest ones.
            if (compared := trial(stride)) is not None:
                if compared[1] < EQUAL_SHARE:
                    break
                found = stride, compared
        if found is not None:
            return found
    return None


def _doubled(first: int) -> Iterator[int]:
    while first <= MAX_STRIDE:
        yield first
        first *= 2


def _least_size(margin_px: int, stride: int) -> int:
    return max(-(-2 * margin_px // stride) * stride, stride) + 3 * stride


def _size_share(
    labels: Labels,
    fill: np.ndarray,
    samples: Sequence[HaloSample],
    margin_px: int,
    clock: MeasuringClock,
    stride: int,
) -> Compared | None:
    """Sizes that were compared, and the least share of equal labels; None if no sample will do."""
    wide = max(margin_px, 1)
    offsets = sorted({0, 1, stride, 3 * stride})
    equal, total = np.zeros(len(offsets), np.int64), 0
    refused: set[int] = set()
    sizes: tuple[int, ...] = ()
    for sample in samples:
        lengths = sample.image.shape[:2]
        bases = [_base_size(length, wide, stride) for length in lengths]
        if not any(bases):
            continue
        axes = list(zip(bases, lengths, strict=True))
        kept = tuple(slice(base - wide if base else whole) for base, whole in axes)
        counted = np.s_[:] if sample.counted is None else sample.counted[kept]
        first = None
        for number, offset in enumerate(offsets):
            clock.check()
            part = tuple(slice(base + offset if base else whole) for base, whole in axes)
            try:
                found = labels(_filled(sample.image[part][None], fill, stride))[0][kept]
            except tf.errors.InvalidArgumentError:
                # Networks with shortcuts refuse sizes that do not fit.
                refused.add(number)
                continue
            first = found if first is None else first
            equal[number] += int(np.count_nonzero((found == first)[counted]))
        if first is not None:
            total += first[counted].size
        base = max(base for base in bases if base)
        sizes = sizes or tuple(base + offset for offset in offsets)
    if not sizes:
        return None
    share = float(equal.min() / total) if total else 0.0
    if refused:
        sides = ", ".join(str(sizes[number]) for number in sorted(refused))
        clock.log(f"stride {stride}: the network does not take windows of {sides} px")
    else:
        sides = ", ".join(map(str, sizes))
        clock.log(f"stride {stride}: {100 * share:.2f} % of labels alike in windows of {sides} px")
    return sizes, share


def _base_size(length: int, margin_px: int, stride: int) -> int | None:
    """Side of the least window along an axis; None where the axis is too short to vary it."""
    if length < _least_size(margin_px, stride):
        return None
    wanted = max(CORE_PX, 2 * margin_px)
    return max(min(length - 3 * stride, wanted) // stride * stride, stride)
