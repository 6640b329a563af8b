"""Training crops as batches: which one comes at a step depends on seed and step alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from segmodel.errors import InputError, TrainingError
from segmodel.pairs.crops import CropSampler
from segmodel.pairs.stats import collect_stats
from segmodel.training.augment import training_batches
from segmodel.training.configuration import AugmentationConfig
from segmodel.training.loop import StepTimer
from tests.segmodel.made_pairs import CLASSES, ArrayPair, configuration, halves

PAIRS = halves(3, 0)
PLAIN = AugmentationConfig(flips=False, brightness=0.0, contrast=0.0)
CONFIG = replace(configuration(batch=2, crop=32), augmentation=PLAIN)


def sampler(config=CONFIG, pairs=PAIRS) -> CropSampler:
    scale, training = config.augmentation.scale, config.training
    return CropSampler(
        pairs,
        collect_stats(pairs, CLASSES, False),
        training.crop,
        (scale[0], scale[1]),
        training.class_balance,
        np.zeros(3, np.uint8),
        training.seed,
    )


def batches(first: int, last: int, config=CONFIG) -> list[tuple[np.ndarray, np.ndarray]]:
    found = training_batches(sampler(config), config, first, last)
    return [(images.numpy(), truth.numpy()) for images, truth in found]


def test_a_batch_has_the_crops_of_its_numbers():
    found = batches(3, 5)
    assert len(found) == 2
    crops = sampler()
    for step, (images, truth) in zip((3, 4), found, strict=True):
        assert (images.shape, images.dtype) == ((2, 32, 32, 3), np.float32)
        assert (truth.shape, truth.dtype) == ((2, 32, 32), np.int16)
        for place in (0, 1):
            image, indices = crops.crop(2 * step + place)
            np.testing.assert_array_equal(images[place], image)
            np.testing.assert_array_equal(truth[place], indices)


def test_what_is_left_out_changes_nothing_of_the_rest():
    varied = replace(
        CONFIG,
        augmentation=AugmentationConfig(
            quarter_turns=True, scale=(0.5, 2.0), color=0.2, blur=1.0, noise=0.1
        ),
    )
    whole, rest = batches(0, 5, varied), batches(3, 5, varied)
    for (images, truth), (others, other_truth) in zip(whole[3:], rest, strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(truth, other_truth)


def test_another_seed_gives_other_crops():
    other = replace(CONFIG, training=replace(CONFIG.training, seed=1))
    assert not np.array_equal(batches(0, 1)[0][0], batches(0, 1, other)[0][0])


def test_no_step_is_no_batch():
    assert batches(4, 4) == []


def test_class_balance_reaches_the_crops():
    rare = np.zeros((256, 256), np.int16)
    rare[:2, :2] = 1
    pair = ArrayPair("a.png", np.zeros((256, 256, 3), np.uint8), rare)

    def with_rare(balance: float) -> float:
        config = replace(CONFIG, training=replace(CONFIG.training, class_balance=balance))
        crops = sampler(config, (pair,))
        found = training_batches(crops, config, 0, 20)
        return float(np.mean([(t == 1).any() for _, truth in found for t in truth.numpy()]))

    assert with_rare(0.0) < 0.1
    assert 0.3 < with_rare(1.0) < 0.8


def test_a_file_that_can_no_longer_be_read_is_an_error_of_one_line():
    class Gone:
        def crop(self, number: int):
            raise InputError(f"a.png: crop {number} has changed since the run began: train anew")

    found = StepTimer().timed(training_batches(Gone(), CONFIG, 0, 1))
    with pytest.raises(TrainingError) as error:
        next(found)
    (line,) = str(error.value).splitlines()
    assert line.startswith("a crop cannot be cut: a.png: crop ")
    assert line.endswith("has changed since the run began: train anew")
