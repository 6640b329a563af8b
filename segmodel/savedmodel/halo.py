"""The recommended halo: measured, as no formula tells how far a network really looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from segmodel.engine.engine import Engine, Job, Labelled, Model
from segmodel.savedmodel.contract import MeasuredHalo
from segmodel.tiling.raster import ArrayRaster
from segmodel.tiling.windows import Layout, Window, tiles

CORE_PX = 512
# Cores of fewer strides would be smaller than any that are used.
MIN_CORE_STRIDES = 2
EQUAL_SHARE = 0.999


@dataclass(frozen=True)
class Sample:
    """An image to measure the halo on.

    Args:
        image: `(height, width, bands)` raw values of the model's dtype, nodata filled.
        counted: `(height, width)` bool, the pixels whose labels are compared; None for all.
    """

    image: np.ndarray
    counted: np.ndarray | None = None


def equal_share(
    model: Model, samples: Sequence[Sample], untiled: Sequence[np.ndarray], layout: Layout
) -> float | None:
    """Share in [0, 1] of counted labels of tiled images that equal those of the whole images.

    None where no pixel counts.
    """
    jobs = [Job(str(n), partial(ArrayRaster, sample.image)) for n, sample in enumerate(samples)]
    equal = total = 0
    outcomes = Engine(model, layout).run(jobs)
    for sample, whole, outcome in zip(samples, untiled, outcomes, strict=True):
        assert isinstance(outcome, Labelled)
        alike = outcome.labels == whole
        counted = alike if sample.counted is None else alike[sample.counted]
        equal += int(counted.sum())
        total += counted.size
    return equal / total if total else None


def measure_halo(
    model: Model, samples: Sequence[Sample], stride: int, most_px: int
) -> MeasuredHalo | None:
    """The least halo at which at least 99.9 % of labels equal the untiled ones.

    Cores are of 512 pixels, or of half the longest side where no image is larger than that.

    Args:
        model: Labels batches.
        samples: Images; those that one core covers say nothing.
        stride: Halos are multiples of it.
        most_px: Greatest halo that is tried.

    Returns:
        The halo, or None if none is enough, as with networks that use global context. Where it
        cannot be measured, `most_px` with `equal_labels` None: no image can be cut, or halos that
        are not enough already make a window of each image the whole of it.
    """
    core = core_for(samples, stride)
    not_measured = MeasuredHalo(most_px, core or max(stride, CORE_PX // stride * stride), None)
    if core is None:
        return not_measured
    large = [sample for sample in samples if max(sample.image.shape[:2]) > core]
    untiled = [model.labels(sample.image[None])[0] for sample in large]
    for halo in range(0, most_px + stride, stride):
        layout = Layout(core, halo, stride)
        cut = [n for n, sample in enumerate(large) if is_cut(sample.image, layout)]
        share = equal_share(model, [large[n] for n in cut], [untiled[n] for n in cut], layout)
        if share is None:
            return not_measured
        if share >= EQUAL_SHARE:
            return MeasuredHalo(halo, core, share)
    return None


def core_for(samples: Sequence[Sample], stride: int) -> int | None:
    """Side of the cores that cut at least one image, a multiple of the stride; None for none.

    >>> core_for([Sample(np.zeros((256, 300, 3)))], 32)
    128
    """
    longest = max((max(sample.image.shape[:2]) for sample in samples), default=0)
    usual = CORE_PX // stride * stride or stride
    if longest > usual:
        return usual
    core = longest // 2 // stride * stride
    return core if core >= MIN_CORE_STRIDES * stride else None


def is_cut(image: np.ndarray, layout: Layout) -> bool:
    """Whether each window of the layout sees less than the whole image."""
    whole = Window(0, 0, *image.shape[:2])
    return all(tile.read != whole for tile in tiles(whole, whole, layout))
