"""Halo and stride: measured, as no formula tells what context a network really uses."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import tensorflow as tf

from segmodel.engine.engine import Engine, Model
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Labelled
from segmodel.savedmodel.contract import MeasuredHalo, MeasuredSizes
from segmodel.tiling.raster import ArrayRaster
from segmodel.tiling.windows import Layout, Window, tiles

CORE_PX = 512
# Greatest halo that is tried where the receptive field is unknown, and the least distance from
# sides at which labels of small samples are compared.
MAX_HALO_PX, MIN_MARGIN_PX = 256, 16
# Cores of fewer strides would be smaller than any that are used.
MIN_CORE_STRIDES = 2
EQUAL_SHARE = 0.999
# Sizes are compared on so many samples; strides up to this one are tried.
SIZE_SAMPLES, MAX_STRIDE = 3, 128
# Samples of which one label covers more than this say little about seams.
MAX_ONE_LABEL = 0.99
# How often the search for a halo starts again above one whose neighbour is not enough.
MAX_ROUNDS = 3


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

    def check(self) -> None:
        """Raise `_TimeLimitError` when the time has passed."""
        if time.monotonic() - self._start > self._measuring.max_seconds:
            raise _TimeLimitError

    def log(self, text: str) -> None:
        """A line of text, with the time that has passed."""
        self._measuring.log(f"{text} ({time.monotonic() - self._start:.0f} s)")


def _unheard() -> MeasuringClock:
    return MeasuringClock(Measuring(float("inf"), lambda line: None))


class PaddedModel:
    """A model whose images are filled to multiples of a greater stride.

    Args:
        model: Model whose stride divides the other.
        stride: Stride to fill to.
    """

    def __init__(self, model: Model, stride: int) -> None:
        self.classes, self.fill = model.classes, model.fill
        self._model, self._stride = model, stride

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Labels of a batch: `(batch, height, width, bands)` to `(batch, height, width)`."""
        height, width = images.shape[1:3]
        filled = _filled(images, self.fill, self._stride)
        return self._model.labels(filled)[:, :height, :width]

    def labels_and_confidence(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels of a batch, and the probability of each in [0, 1] as float32."""
        height, width = images.shape[1:3]
        filled = _filled(images, self.fill, self._stride)
        labels, confidence = self._model.labels_and_confidence(filled)
        return labels[:, :height, :width], confidence[:, :height, :width]


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


def _equal_share(
    model: Model,
    samples: Sequence[tuple[HaloSample, np.ndarray]],
    layout: Layout,
    clock: MeasuringClock,
) -> float | None:
    """Share in [0, 1] of tiled labels that equal those of whole images; None if none counts."""
    jobs = [Job(str(n), partial(ArrayRaster, one.image)) for n, (one, _) in enumerate(samples)]
    equal = total = 0
    outcomes = Engine(model, layout).run(jobs)
    for (sample, whole), outcome in zip(samples, outcomes, strict=True):
        assert isinstance(outcome, Labelled)
        alike = outcome.labels == whole
        counted = alike if sample.counted is None else alike[sample.counted]
        equal += int(counted.sum())
        total += counted.size
        clock.check()
    return equal / total if total else None


def measure_halo(
    model: Model,
    samples: Sequence[HaloSample],
    stride: int,
    max_px: int,
    clock: MeasuringClock | None = None,
) -> MeasuredHalo | None:
    """The least halo at which at least 99.9 % of labels equal the untiled ones.

    Cores are of 512 pixels, or of half the longest side where no image is larger than that. Halos
    are doubled until one is enough, and then found by bisection, as more context is never worse;
    the next greater halo is tried too, and where it is not enough, the search goes on above it.

    Args:
        model: Model to measure.
        samples: Images to label; those that one core covers are not used.
        stride: Stride of the model, of which halos are multiples.
        max_px: Greatest halo to try.
        clock: Clock and log of the measurement; None for no limit.

    Returns:
        The halo, or None if none is enough, as with networks that use global context. Where it
        cannot be measured, `max_px` with `equal_labels` None: every image fits in one window, with
        halos that are too small already, or time was up.
    """
    clock = clock or _unheard()
    core = _choose_core(samples, stride)
    not_measured = MeasuredHalo(max_px, core or usual_core_px(stride), None)
    if core is None:
        longest = max((max(sample.image.shape[:2]) for sample in samples), default=0)
        clock.log(f"halo not measured: no sample can be cut, the longest side is {longest} px")
        return not_measured
    search = _HaloSearch(model, samples, stride, core, clock)
    try:
        found = search.least(-(-max_px // stride))
    except _TimeLimitError:
        found = min((step for step, share in search.shares.items() if _is_enough(share)), default=0)
        if not _is_enough(search.shares.get(found)):
            clock.log("halo not measured: time was up before one was enough")
            return not_measured
        clock.log(f"time is up: halo {found * stride} px is enough, a smaller one may be too")
    if found is None:
        clock.log(f"no halo up to {max_px} px is enough")
        return None
    share = search.shares[found]
    if share is None:
        clock.log("halo not measured: samples are too small to be cut with the halo they need")
        return not_measured
    return MeasuredHalo(found * stride, core, share)


def _is_enough(share: float | None) -> bool:
    return share is not None and share >= EQUAL_SHARE


class _HaloSearch:
    """Trials of halos, which are numbered in strides, and their shares of equal labels."""

    def __init__(
        self,
        model: Model,
        samples: Sequence[HaloSample],
        stride: int,
        core: int,
        clock: MeasuringClock,
    ) -> None:
        self._model, self._stride, self._core, self._clock = model, stride, core, clock
        self._large = [sample for sample in samples if max(sample.image.shape[:2]) > core]
        self._untiled: list[tuple[HaloSample, np.ndarray]] = []
        self.shares: dict[int, float | None] = {}

    def least(self, last: int) -> int | None:
        """The least number whose halo is enough, or that cannot be tried; None if none is."""
        below = -1
        for _ in range(MAX_ROUNDS):
            step = below + 1
            # Up by 1, 2, 4 and so on.
            while step <= last and not self._ends(step):
                below, step = step, min(max(step + 1, 2 * step), max(last, step + 1))
            if step > last:
                return None
            while step - below > 1:
                middle = (below + step) // 2
                below, step = (below, middle) if self._ends(middle) else (middle, step)
            if step == last or self._ends(step + 1):
                return step
            below = step + 1
        return None

    def _ends(self, step: int) -> bool:
        """Whether a halo is enough, or so large that it cannot be tried."""
        if step not in self.shares:
            self.shares[step] = self._share(step)
        share = self.shares[step]
        return share is None or share >= EQUAL_SHARE

    def _share(self, step: int) -> float | None:
        halo = step * self._stride
        if not self._untiled:
            for sample in self._large:
                self._clock.check()
                self._untiled.append((sample, self._model.labels(sample.image[None])[0]))
            _log_if_one_label([labels for _, labels in self._untiled], self._clock)
        self._clock.check()
        layout = Layout(self._core, halo, self._stride)
        tiled = [pair for pair in self._untiled if _is_tiled(pair[0].image, layout)]
        share = _equal_share(self._model, tiled, layout, self._clock)
        if share is not None:
            self._clock.log(f"halo {halo} px: {100 * share:.2f} % of labels as untiled")
        return share


def _log_if_one_label(maps: Sequence[np.ndarray], clock: MeasuringClock) -> None:
    """Say that label maps with hardly more than one label show no seams."""
    counts = np.bincount(np.concatenate([labels.ravel() for labels in maps]))
    if counts.max() > MAX_ONE_LABEL * counts.sum():
        clock.log("the samples have hardly more than one label: what is measured says little")


def usual_core_px(stride: int) -> int:
    """Side in pixels of the cores that halos are measured with, a multiple of the stride.

    >>> usual_core_px(96), usual_core_px(600)
    (480, 600)
    """
    return CORE_PX // stride * stride or stride


def _choose_core(samples: Sequence[HaloSample], stride: int) -> int | None:
    """Side of cores that divide at least one image, a multiple of the stride; None if none does.

    >>> _choose_core([HaloSample(np.zeros((256, 300, 3)))], 32)
    128
    """
    longest = max((max(sample.image.shape[:2]) for sample in samples), default=0)
    if longest > usual_core_px(stride):
        return usual_core_px(stride)
    core = longest // 2 // stride * stride
    return core if core >= MIN_CORE_STRIDES * stride else None


def _is_tiled(image: np.ndarray, layout: Layout) -> bool:
    """Whether each window of the layout sees less than the whole image."""
    whole = Window(0, 0, *image.shape[:2])
    return all(tile.read != whole for tile in tiles(whole, whole, layout))


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
