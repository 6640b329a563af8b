"""The recommended halo: measured, as no formula tells how far a network really looks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from segmodel.contract import MeasuredHalo
from segmodel.engine import ArrayRaster, Engine, Job, Labelled, Model
from segmodel.windows import Layout

CORE_PX = 512
EQUAL_SHARE = 0.999


def equal_share(
    model: Model, images: Sequence[np.ndarray], untiled: Sequence[np.ndarray], layout: Layout
) -> float:
    """Share of labels of tiled images that equal those of the whole images, in [0, 1]."""
    jobs = [Job(str(n), partial(ArrayRaster, image)) for n, image in enumerate(images)]
    equal = total = 0
    for whole, outcome in zip(untiled, Engine(model, layout).run(jobs), strict=True):
        assert isinstance(outcome, Labelled)
        equal += int((outcome.labels == whole).sum())
        total += whole.size
    return equal / total


def measure_halo(
    model: Model, images: Sequence[np.ndarray], stride: int, most_px: int
) -> MeasuredHalo | None:
    """The least halo at which at least 99.9 % of labels equal the untiled ones.

    Args:
        model: Labels batches.
        images: `(height, width, bands)` samples; those that one core covers say nothing.
        stride: Halos are multiples of it.
        most_px: Greatest halo that is tried.

    Returns:
        The halo, or None if none is enough, as with networks that use global context. Without an
        image larger than a core, `most_px` with `equal_labels` None.
    """
    core = CORE_PX // stride * stride or stride
    large = [image for image in images if max(image.shape[:2]) > core]
    if not large:
        return MeasuredHalo(most_px, core, None)
    untiled = [model.labels(image[None])[0] for image in large]
    for halo in range(0, most_px + stride, stride):
        share = equal_share(model, large, untiled, Layout(core, halo, stride))
        if share >= EQUAL_SHARE:
            return MeasuredHalo(halo, core, share)
    return None
