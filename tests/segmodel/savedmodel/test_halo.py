"""The halo that is measured is the least one that is enough."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from segmodel.savedmodel.contract import MeasuredHalo
from segmodel.savedmodel.halo import (
    HaloSample,
    Measuring,
    MeasuringClock,
    measure_halo,
    measure_sizes,
    padded,
)
from segmodel.tiling.borders import BorderCurve
from tests.fakes import CLASSES

SHAPE = (1, 1536, 3)


class Looking:
    """Labels a pixel bright if a bright one is at most `radius` columns away."""

    classes, fill = CLASSES, np.zeros(3, np.uint8)

    def __init__(self, radius: int) -> None:
        self.radius = radius

    def labels(self, images):
        bright = images[..., 0] > 127
        padded = np.pad(bright, [(0, 0), (0, 0), (self.radius, self.radius)])
        views = np.lib.stride_tricks.sliding_window_view(padded, 2 * self.radius + 1, axis=2)
        return np.where(views.any(axis=-1), 7, 0).astype(np.uint8)


class Global(Looking):
    """Labels a pixel bright if it is brighter than the mean of all it is given."""

    def __init__(self) -> None:
        super().__init__(0)

    def labels(self, images):
        mean = images[..., 0].mean(axis=(1, 2), keepdims=True)
        return np.where(images[..., 0] > mean, 7, 0).astype(np.uint8)


def beyond_the_cut(rows: int = 1) -> np.ndarray:
    """One bright column just beyond the cut through the middle.

    The window on the left does not see it, so that as many of its columns lose their label as the
    radius of a model, those nearest to the cut.
    """
    image = np.zeros((rows, *SHAPE[1:]), np.uint8)
    image[:, 768] = 255
    return image


def measured(radius: int, image: np.ndarray, max_px: int = 32, stride: int = 4):
    return measure_halo(Looking(radius).labels, [HaloSample(image)], stride, max_px)


@pytest.mark.parametrize(("radius", "expected"), [(0, 0), (3, 4), (4, 4), (5, 8), (16, 16)])
def test_the_halo_is_the_least_multiple_of_the_stride_that_is_enough(radius, expected):
    actual = measured(radius, beyond_the_cut())
    assert (actual.pixels, actual.window_px, actual.equal_labels) == (expected, 512, 1.0)


def test_the_curve_holds_the_share_of_unequal_labels_by_distance_to_the_border():
    # Of 5 columns that lose their label, 4 are in the first ring, of 4 columns on both sides.
    actual = measured(5, beyond_the_cut(), max_px=8)
    assert actual.curve == BorderCurve(4, (4 / 8, 1 / 8, 0.0))
    # Both axes are cut; what is near two cuts is in the ring of the nearer one.
    square = np.zeros((64, 64, 3), np.uint8)
    square[:, 32] = 255
    actual = measured(5, square, max_px=8)
    first, second = 64**2 - 56**2, 56**2 - 48**2
    assert actual.curve.unequal_labels == ((4 * 64 + 8) / first, (64 - 8) / second, 0.0)


def test_the_share_is_that_of_equal_labels_in_cores_of_512_pixels():
    # One of 15 rows has a bright pixel beyond the cut: 1 of 8 x 15 labels in the ring differs.
    image = np.zeros((15, *SHAPE[1:]), np.uint8)
    image[0, 768] = 255
    actual = measured(1, image, max_px=8)
    curve = BorderCurve(4, (1 / (8 * 15), 0.0, 0.0))
    share = (512**2 - 504**2) / (8 * 15) / 512**2
    assert actual == MeasuredHalo(0, 512, 1 - share, curve)


def test_larger_cores_need_less_halo():
    curve = BorderCurve(32, (0.1, 0.008, 0.0005, 0.0))
    halo = MeasuredHalo(64, 512, 0.9999, curve)
    assert [halo.px_for(side) for side in (256, 512, 4096, 16384, 65536)] == [64, 64, 32, 32, 0]
    assert MeasuredHalo(64, 512, 0.9999).px_for(2048) == 64


def test_a_model_with_global_context_has_no_halo():
    image = np.repeat((np.arange(1536) // 6).astype(np.uint8)[None, :, None], 3, axis=2)
    assert measure_halo(Global().labels, [HaloSample(image)], stride=32, max_px=256) is None


def test_a_halo_beyond_the_greatest_is_not_recommended():
    assert measured(20, beyond_the_cut(), max_px=12) is None


@pytest.mark.parametrize("shape", [(512, 512, 3), (1, 512, 3), (40, 130, 3)])
def test_images_of_four_strides_are_cut_in_halves(shape):
    sample = HaloSample(np.zeros(shape, np.uint8))
    rings = min(3, shape[1] // 64) + 1
    curve = BorderCurve(32, (0.0,) * rings)
    actual = measure_halo(Looking(0).labels, [sample], 32, 96)
    assert actual == MeasuredHalo(0, 512, 1.0, curve)


@pytest.mark.parametrize("shape", [(1, 1, 3), (127, 127, 3), (64, 1, 3)])
def test_images_of_less_than_four_strides_say_nothing(shape):
    sample = HaloSample(np.zeros(shape, np.uint8))
    assert measure_halo(Looking(0).labels, [sample], 32, 96) == MeasuredHalo(96, 512, None)


def test_windows_that_are_smaller_than_the_greatest_halo_prove_no_global_context():
    image = np.repeat((np.arange(600) // 3).astype(np.uint8)[None, :, None], 3, axis=2)
    model = Global()
    assert measure_halo(model.labels, [HaloSample(image)], 32, 512) == MeasuredHalo(512, 512, None)


def test_without_samples_the_greatest_halo_is_taken_as_not_measured():
    assert measure_halo(Global().labels, [], 32, 96) == MeasuredHalo(96, 512, None)


def test_labels_are_compared_only_where_they_count():
    image = beyond_the_cut()
    counted = np.zeros(SHAPE[:2], bool)
    counted[:, 740:796] = True
    actual = measure_halo(Looking(5).labels, [HaloSample(image, counted)], stride=4, max_px=32)
    assert (actual.pixels, actual.equal_labels) == (8, 1.0)
    assert actual.curve == BorderCurve(4, (4 / 8, 1 / 8, *[0.0] * 5))
    counted[...] = False
    counted[:, :100] = True
    actual = measure_halo(Looking(5).labels, [HaloSample(image, counted)], stride=4, max_px=32)
    assert (actual.pixels, actual.equal_labels) == (0, 1.0)
    nothing = HaloSample(image, np.zeros(SHAPE[:2], bool))
    assert measure_halo(Looking(5).labels, [nothing], 4, 32) == MeasuredHalo(32, 512, None)


def test_the_core_is_a_multiple_of_the_stride():
    sample = HaloSample(np.zeros((1, 600, 3), np.uint8))
    actual = measure_halo(Looking(0).labels, [sample], stride=48, max_px=48)
    assert (actual.pixels, actual.window_px, actual.equal_labels) == (0, 480, 1.0)


class Counting(Looking):
    """Remembers the shapes of what it labels."""

    def __init__(self, radius: int) -> None:
        super().__init__(radius)
        self.shapes: list[tuple[int, ...]] = []

    def labels(self, images):
        self.shapes.append(images.shape)
        return super().labels(images)


class Shifting(Looking):
    """Looks as many columns to the left as the width is more than a multiple of its own stride."""

    def __init__(self, stride: int, radius: int = 0) -> None:
        super().__init__(radius)
        self.stride = stride

    def labels(self, images):
        return np.roll(super().labels(images), images.shape[2] % self.stride, axis=2)


def noise(width: int = 1536) -> HaloSample:
    bright = np.random.default_rng(0).integers(0, 2, (1, width, 1), np.uint8) * 255
    return HaloSample(np.repeat(bright, 3, axis=2))


def test_a_halo_of_many_strides_takes_two_labellings_of_a_sample():
    lines: list[str] = []
    model, image = Counting(200), beyond_the_cut()
    clock = MeasuringClock(Measuring(log=lines.append))
    actual = measure_halo(model.labels, [HaloSample(image)], 1, 256, clock)
    assert (actual.pixels, actual.equal_labels) == (200, 1.0)
    assert model.shapes == [(1, *SHAPE), (1, 1, 768, 3), (1, 1, 768, 3)]
    assert [line.rsplit(" (", 1)[0] for line in lines] == [
        "halo 200 px: 100.00 % of labels as untiled, cores of 512 px"
    ]


def test_where_time_is_up_what_was_measured_counts():
    lines: list[str] = []
    clock = MeasuringClock(Measuring(max_seconds=-1, log=lines.append))
    sample = HaloSample(beyond_the_cut())
    actual = measure_halo(Looking(5).labels, [sample], 1, 256, clock)
    assert actual == MeasuredHalo(256, 512, None)
    assert lines[0].startswith("time is up: borders measured on 0 of 1 samples (")
    lines.clear()
    labels = Looking(0).labels
    assert measure_sizes(labels, np.zeros(3, np.uint8), [noise()], 1, 8, clock) == (1, None)
    assert lines[-1].startswith("sizes of windows not compared: time was up")


def test_samples_that_were_compared_before_time_was_up_count(monkeypatch):
    lines: list[str] = []
    now = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(now)))
    # Three checks of the first sample, at 1, 2 and 3 s.
    clock = MeasuringClock(Measuring(max_seconds=3.5, log=lines.append))
    both = [HaloSample(beyond_the_cut()), HaloSample(beyond_the_cut(rows=2))]
    assert measure_halo(Looking(5).labels, both, 4, 32, clock).pixels == 8
    assert lines[0] == "time is up: borders measured on 1 of 2 samples (5 s)"


def sizes_of(model, stride: int, sample: HaloSample, margin: int | None = 8):
    return measure_sizes(model.labels, np.zeros(3, np.uint8), [sample], stride, margin)


def test_labels_that_do_not_depend_on_the_window_keep_the_stride():
    stride, found = sizes_of(Looking(8), 4, noise())
    assert (stride, found.sizes_px, found.equal_labels) == (4, (512, 513, 516, 524), 1.0)
    assert (found.stated_stride, found.stated_equal_labels) == (4, 1.0)


@pytest.mark.parametrize(("stated", "own"), [(1, 2), (1, 8), (2, 8), (1, 12), (3, 24)])
def test_a_stride_at_which_labels_hold_is_found(stated, own):
    stride, found = sizes_of(Shifting(own), stated, noise())
    assert (stride, found.equal_labels, found.stated_stride) == (own, 1.0, stated)
    # Of pixels at random, half are another one a column further.
    assert found.stated_equal_labels < 0.6
    labels = padded(Shifting(own).labels, np.zeros(3, np.uint8), own)
    halo = measure_halo(labels, [noise()], own, 4 * own)
    assert (halo.pixels, halo.equal_labels) == (0, 1.0)


def test_no_stride_is_found_where_labels_depend_on_all_that_is_seen():
    image = np.repeat((np.arange(1536) // 6).astype(np.uint8)[None, :, None], 3, axis=2)
    sample = HaloSample(np.repeat(image, 32, axis=0))
    stride, found = sizes_of(Global(), 32, sample, margin=32)
    assert stride is None
    assert found.equal_labels == found.stated_equal_labels < 0.999


@pytest.mark.parametrize("width", [1, 19, 530])
def test_samples_that_are_too_small_to_compare_sizes_say_nothing(width):
    assert sizes_of(Shifting(8), 1, noise(width=width), margin=300) == (1, None)


@pytest.mark.parametrize(("own", "width"), [(16, 1536), (16, 301), (24, 1530)])
def test_sizes_that_the_network_refuses_do_not_hold(own, width):
    tf = pytest.importorskip("tensorflow")

    class Refusing(Looking):
        def labels(self, images):
            if images.shape[2] % own:
                raise tf.errors.InvalidArgumentError(None, None, "shapes do not match")
            return super().labels(images)

    stride, found = sizes_of(Refusing(0), 1, noise(width=width))
    assert (stride, found.stated_equal_labels) == (own, 0.0)


def test_samples_of_one_label_are_said_to_say_little():
    lines: list[str] = []
    sample = HaloSample(np.zeros((1, 1536, 3), np.uint8))
    measure_halo(Looking(0).labels, [sample], 4, 8, MeasuringClock(Measuring(log=lines.append)))
    assert lines[0].startswith("the samples have hardly more than one label")


@pytest.mark.parametrize(("width", "own"), [(1536, 8), (256, 8), (256, 16), (100, 4)])
def test_a_stride_is_found_on_small_samples_of_networks_of_unknown_reach(width, own):
    stride, found = sizes_of(Shifting(own), 1, noise(width), margin=None)
    assert (stride, found.equal_labels) == (own, 1.0)


def test_on_small_samples_of_unknown_reach_no_window_is_fixed():
    image = np.repeat((np.arange(1536) // 6).astype(np.uint8)[None, :, None], 3, axis=2)
    wide = np.repeat(image, 32, axis=0)
    assert sizes_of(Global(), 32, HaloSample(wide), margin=None)[0] is None
    assert sizes_of(Global(), 32, HaloSample(wide[:, 600:856]), margin=None) == (32, None)
