"""The recommended halo: measured, as no formula tells how much context a network really uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from segmodel.engine.engine import Engine, Model
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Labelled
from segmodel.savedmodel.contract import MeasuredHalo
from segmodel.tiling.raster import ArrayRaster
from segmodel.tiling.windows import Layout, Window, tiles

CORE_PX = 512
# Cores of fewer strides would be smaller than any that are used.
MIN_CORE_STRIDES = 2
EQUAL_SHARE = 0.999


@dataclass(frozen=True)
class HaloSample:
    """An image to measure the halo on.

    Args:
        image: `(height, width, bands)` raw values of the model's dtype, nodata filled.
        counted: `(height, width)` bool, pixels whose labels are compared; None for all.
    """

    image: np.ndarray
    counted: np.ndarray | None = None


def _equal_share(
    model: Model, samples: Sequence[tuple[HaloSample, np.ndarray]], layout: Layout
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
    return equal / total if total else None


def measure_halo(
    model: Model, samples: Sequence[HaloSample], stride: int, max_px: int
) -> MeasuredHalo | None:
    """The least halo at which at least 99.9 % of labels equal the untiled ones.

    Cores are of 512 pixels, or of half the longest side where no image is larger than that.

    Args:
        model: Model to measure.
        samples: Images to label; those that one core covers are not used.
        stride: Stride of the model, of which halos are multiples.
        max_px: Greatest halo to try.

    Returns:
        The halo, or None if none is enough, as with networks that use global context. Where it
        cannot be measured, `max_px` with `equal_labels` None: every image fits in one window, with
        halos that are too small already.
    """
    core = _choose_core(samples, stride)
    not_measured = MeasuredHalo(max_px, core or usual_core_px(stride), None)
    if core is None:
        return not_measured
    large = [sample for sample in samples if max(sample.image.shape[:2]) > core]
    untiled = [(sample, model.labels(sample.image[None])[0]) for sample in large]
    for halo in range(0, max_px + stride, stride):
        layout = Layout(core, halo, stride)
        tiled = [(one, whole) for one, whole in untiled if _is_tiled(one.image, layout)]
        share = _equal_share(model, tiled, layout)
        if share is None:
            return not_measured
        if share >= EQUAL_SHARE:
            return MeasuredHalo(halo, core, share)
    return None


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
