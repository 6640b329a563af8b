"""The halo that is measured is the least one that is enough."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.savedmodel.contract import MeasuredHalo
from segmodel.savedmodel.halo import HaloSample, measure_halo
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


def beside_the_seam(distance: int) -> np.ndarray:
    """One bright column at this distance beyond each of two seams, so that both weigh enough."""
    image = np.zeros(SHAPE, np.uint8)
    image[:, [511 + distance, 1024 - distance]] = 255
    return image


@pytest.mark.parametrize(("radius", "expected"), [(0, 0), (3, 4), (4, 4), (5, 8), (16, 16)])
def test_the_halo_is_the_least_multiple_of_the_stride_that_is_enough(radius, expected):
    image = beside_the_seam(radius)
    actual = measure_halo(Looking(radius), [HaloSample(image)], stride=4, max_px=32)
    assert actual.pixels == expected
    assert actual.window_px == 512
    assert 0.999 <= actual.equal_labels <= 1.0


def test_the_share_is_that_of_equal_labels():
    image = np.zeros(SHAPE, np.uint8)
    image[:, 512] = 255
    actual = measure_halo(Looking(1), [HaloSample(image)], stride=4, max_px=8)
    assert actual == MeasuredHalo(0, 512, 1535 / 1536)


def test_a_model_with_global_context_has_no_halo():
    image = np.repeat((np.arange(1536) // 6).astype(np.uint8)[None, :, None], 3, axis=2)
    assert measure_halo(Global(), [HaloSample(image)], stride=32, max_px=256) is None


def test_a_halo_beyond_the_greatest_is_not_tried():
    image = beside_the_seam(15)
    assert measure_halo(Looking(20), [HaloSample(image)], stride=4, max_px=12) is None


@pytest.mark.parametrize(
    ("shape", "core"), [((512, 512, 3), 256), ((1, 512, 3), 256), ((40, 130, 3), 64)]
)
def test_images_that_one_core_covers_are_cut_in_halves(shape, core):
    sample = HaloSample(np.zeros(shape, np.uint8))
    assert measure_halo(Looking(0), [sample], 32, 96) == MeasuredHalo(0, core, 1.0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (127, 127, 3), (64, 1, 3)])
def test_images_of_less_than_four_strides_say_nothing(shape):
    sample = HaloSample(np.zeros(shape, np.uint8))
    assert measure_halo(Looking(0), [sample], 32, 96) == MeasuredHalo(96, 512, None)


def test_a_window_that_is_the_whole_image_proves_no_halo():
    image = np.repeat((np.arange(600) // 3).astype(np.uint8)[None, :, None], 3, axis=2)
    assert measure_halo(Global(), [HaloSample(image)], 32, 512) == MeasuredHalo(512, 512, None)
    # And it does not outweigh an image that is still cut.
    plain = HaloSample(np.repeat(image, 40, axis=0))
    wide = HaloSample(np.repeat((np.arange(1536) // 6).astype(np.uint8)[None, :, None], 3, axis=2))
    assert measure_halo(Global(), [plain, wide], 32, 320) is None


def test_without_samples_the_greatest_halo_is_taken_as_not_measured():
    assert measure_halo(Global(), [], 32, 96) == MeasuredHalo(96, 512, None)


def test_labels_are_compared_only_where_they_count():
    image = beside_the_seam(5)
    counted = np.zeros(SHAPE[:2], bool)
    counted[:, 500:530] = True
    actual = measure_halo(Looking(5), [HaloSample(image, counted)], stride=4, max_px=32)
    # One wrong pixel of 30 is too many, though it would be few of all.
    assert (actual.pixels, actual.equal_labels) == (8, 1.0)
    counted[...] = False
    counted[:, :100] = True
    actual = measure_halo(Looking(5), [HaloSample(image, counted)], stride=4, max_px=32)
    assert actual == MeasuredHalo(0, 512, 1.0)
    nothing = HaloSample(image, np.zeros(SHAPE[:2], bool))
    assert measure_halo(Looking(5), [nothing], 4, 32) == MeasuredHalo(32, 512, None)


def test_the_core_is_a_multiple_of_the_stride():
    sample = HaloSample(np.zeros((1, 600, 3), np.uint8))
    assert measure_halo(Looking(0), [sample], stride=48, max_px=48) == MeasuredHalo(0, 480, 1.0)
