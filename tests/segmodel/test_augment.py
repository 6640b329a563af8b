"""Augmentation moves image and truth alike."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.configuration import TrainingConfig

tf = pytest.importorskip("tensorflow")

STILL = TrainingConfig(flips=False, quarter_turns=False, brightness=0.0, contrast=0.0)
MOVING = TrainingConfig(flips=True, quarter_turns=True, brightness=0.0, contrast=0.0)
LIT = TrainingConfig(flips=False, quarter_turns=False, brightness=0.5, contrast=0.9)
TRUTH = np.arange(64, dtype=np.int16).reshape(8, 8)
IMAGE = np.repeat(TRUTH[..., None], 3, -1).astype(np.uint8)
RANGE = (0.0, 255.0)


@pytest.fixture(scope="module")
def augmented():
    from segmodel.augment import augment

    def run(config, number, image=IMAGE):
        changed = augment(image, tf.constant(TRUTH), tf.constant([3, number]), config, RANGE)
        return [part.numpy() for part in changed]

    return run


def test_nothing_allowed_changes_nothing(augmented):
    image, truth = augmented(STILL, 0)
    np.testing.assert_array_equal(image, IMAGE.astype(np.float32))
    np.testing.assert_array_equal(truth, TRUTH)
    assert (image.dtype, truth.dtype) == (np.float32, np.int16)


def test_image_and_truth_are_moved_alike_in_all_eight_ways(augmented):
    ways = set()
    for number in range(60):
        image, truth = augmented(MOVING, number)
        np.testing.assert_array_equal(image[..., 0], truth)
        np.testing.assert_array_equal(image[..., 2], truth)
        ways.add(truth.tobytes())
    turned = {np.rot90(m, k).tobytes() for m in (TRUTH, TRUTH[:, ::-1]) for k in range(4)}
    assert ways == turned


def test_flips_alone_mirror_left_and_right_only(augmented):
    config = TrainingConfig(flips=True, brightness=0.0, contrast=0.0)
    ways = {augmented(config, number)[1].tobytes() for number in range(20)}
    assert ways == {TRUTH.tobytes(), TRUTH[:, ::-1].tobytes()}


def test_the_same_seed_gives_the_same_crop(augmented):
    config = TrainingConfig(quarter_turns=True, brightness=0.3, contrast=0.3)
    for number in range(5):
        first, second = augmented(config, number), augmented(config, number)
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])


def test_other_seeds_give_other_light(augmented):
    config = TrainingConfig(flips=False, brightness=0.05, contrast=0.0)
    middle = np.full((8, 8, 3), 100, np.uint8)
    means = {float(augmented(config, number, middle)[0].mean()) for number in range(20)}
    assert len(means) == 20


def test_values_are_clipped_to_the_value_range(augmented):
    extremes = np.zeros((8, 8, 3), np.uint8)
    extremes[:4] = 255
    images = np.stack([augmented(LIT, number, extremes)[0] for number in range(40)])
    assert images.min() == 0.0
    assert images.max() == 255.0


def test_brightness_shifts_by_no_more_than_its_share_of_the_range(augmented):
    config = TrainingConfig(flips=False, brightness=0.1, contrast=0.0)
    middle = np.full((8, 8, 3), 100, np.uint8)
    shifts = np.array([augmented(config, n, middle)[0] - 100 for n in range(60)])
    assert np.abs(shifts).max() <= 25.5 + 1e-4
    assert shifts.min() < -15
    assert shifts.max() > 15


def test_light_does_not_touch_the_truth(augmented):
    np.testing.assert_array_equal(augmented(LIT, 7)[1], TRUTH)
