"""Losses of the pixels that count, against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmodel.labels.confusion import IGNORED
from segmodel.training.configuration import TrainingConfig
from tests.examples import examples

tf = pytest.importorskip("tensorflow")

WEIGHTS = (3.0, 1.0, 0.5, 0.0)
EVERY_LOSS = {"cross_entropy": 1.0, "focal": 2.0, "dice": 0.5}
EVERYTHING = TrainingConfig(loss=EVERY_LOSS, label_smoothing=0.1, focal_gamma=1.5)
CONFIGS = [
    TrainingConfig(loss={"cross_entropy": 1.0}),
    TrainingConfig(loss={"cross_entropy": 1.0}, label_smoothing=0.1),
    TrainingConfig(loss={"focal": 1.0}),
    TrainingConfig(loss={"focal": 1.0}, focal_gamma=0.0),
    TrainingConfig(loss={"focal": 1.0}, focal_gamma=0.3),
    TrainingConfig(loss={"dice": 1.0}),
    EVERYTHING,
]
NAMES = ["cross_entropy", "smoothed", "focal", "focal 0", "focal 0.3", "dice", "all"]
every_loss = pytest.mark.parametrize("config", CONFIGS, ids=NAMES)


def example(seed: int = 0, shape=(2, 5, 6), classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Truth of classes 0..classes-2 with a fifth ignored, and logits."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes - 1, shape).astype(np.int16)
    truth[rng.random(shape) < 0.2] = IGNORED
    return truth, rng.normal(0, 2, (*shape, classes)).astype(np.float32)


def loss(config: TrainingConfig, truth, logits, weights=()) -> float:
    from segmodel.training.losses import build_loss

    value = build_loss(config, weights)(tf.constant(truth, tf.int16), tf.constant(logits))
    assert (value.shape, value.dtype) == ((), tf.float32)
    return float(value)


def gradient(config: TrainingConfig, truth, logits, weights=()) -> np.ndarray:
    from segmodel.training.losses import build_loss

    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = build_loss(config, weights)(tf.constant(truth, tf.int16), logits)
    return tape.gradient(value, logits).numpy()


def probabilities(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def pixelwise(truth, logits, weights, smoothing=0.0, gamma=0.0) -> float:
    """The weighted mean of cross-entropy, smoothed or focal, from one-hot truth."""
    counts, classes = truth != IGNORED, logits.shape[-1]
    p, index = probabilities(logits)[counts], truth[counts]
    shares = np.eye(classes)[index] * (1 - smoothing) + smoothing / classes
    values = -(shares * np.log(p)).sum(-1)
    values *= (1 - p[np.arange(len(p)), index]) ** gamma
    weight = np.array(weights or (1.0,) * classes)[index]
    return (values * weight).sum() / weight.sum()


def soft_dice(truth, logits) -> float:
    counts, classes = truth != IGNORED, logits.shape[-1]
    p, y = probabilities(logits)[counts], np.eye(classes)[truth[counts]]
    values = 1 - 2 * (p * y).sum(0) / (p.sum(0) + y.sum(0))
    return values[y.sum(0) > 0].mean()


@pytest.mark.parametrize("weights", [(), WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_that_of_numpy(weights, smoothing):
    truth, logits = example()
    config = TrainingConfig(label_smoothing=smoothing)
    expected = pixelwise(truth, logits, weights, smoothing)
    assert loss(config, truth, logits, weights) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [(), WEIGHTS])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_is_that_of_numpy(weights, gamma):
    truth, logits = example()
    config = TrainingConfig(loss={"focal": 1.0}, focal_gamma=gamma)
    expected = pixelwise(truth, logits, weights, gamma=gamma)
    assert loss(config, truth, logits, weights) == pytest.approx(expected, rel=1e-5)


def test_focal_loss_with_gamma_0_is_cross_entropy():
    truth, logits = example()
    focal = loss(TrainingConfig(loss={"focal": 1.0}, focal_gamma=0.0), truth, logits, WEIGHTS)
    assert focal == pytest.approx(loss(TrainingConfig(), truth, logits, WEIGHTS), rel=1e-6)


def test_dice_is_that_of_numpy_over_the_classes_in_the_truth_of_the_batch():
    truth, logits = example()
    assert 3 not in truth
    expected = soft_dice(truth, logits)
    actual = loss(TrainingConfig(loss={"dice": 1.0}), truth, logits, WEIGHTS)
    assert actual == pytest.approx(expected, rel=1e-5)


def test_dice_is_of_all_pixels_of_the_batch_together():
    config, (truth, logits) = TrainingConfig(loss={"dice": 1.0}), example()
    side_by_side = np.concatenate(truth, 1)[None], np.concatenate(logits, 1)[None]
    assert loss(config, truth, logits) == pytest.approx(loss(config, *side_by_side), rel=1e-6)


def test_dice_of_certain_and_right_scores_is_0_and_of_wrong_ones_1():
    config, truth = TrainingConfig(loss={"dice": 1.0}), np.array([[[0, 1, 1, IGNORED]]])
    right = 50 * np.eye(3, dtype=np.float32)[[[[0, 1, 1, 2]]]]
    wrong = 50 * np.eye(3, dtype=np.float32)[[[[2, 2, 2, 2]]]]
    assert loss(config, truth, right) == pytest.approx(0, abs=1e-6)
    assert loss(config, truth, wrong) == pytest.approx(1, abs=1e-6)


def test_the_losses_are_summed_by_their_weights():
    truth, logits = example()
    expected = (
        pixelwise(truth, logits, WEIGHTS, smoothing=0.1)
        + 2 * pixelwise(truth, logits, WEIGHTS, gamma=1.5)
        + 0.5 * soft_dice(truth, logits)
    )
    assert loss(EVERYTHING, truth, logits, WEIGHTS) == pytest.approx(expected, rel=1e-5)


def test_a_loss_of_weight_0_is_not_computed():
    truth, logits = example()
    config = TrainingConfig(loss={"cross_entropy": 0.0, "dice": 1.0})
    assert loss(config, truth, logits) == pytest.approx(soft_dice(truth, logits), rel=1e-5)


def test_equal_scores_cost_the_logarithm_of_the_number_of_classes():
    value = loss(TrainingConfig(), [[[0, 1, 2]]], np.zeros((1, 1, 3, 3), np.float32))
    assert value == pytest.approx(math.log(3), rel=1e-6)


@every_loss
def test_nothing_that_counts_costs_nothing_and_has_no_gradient(config):
    truth, logits = np.full((2, 3, 3), IGNORED), example(shape=(2, 3, 3))[1]
    assert loss(config, truth, logits, WEIGHTS) == 0.0
    np.testing.assert_array_equal(gradient(config, truth, logits, WEIGHTS), np.zeros_like(logits))


def test_a_class_of_weight_0_costs_nothing():
    logits = np.ones((1, 1, 2, 2), np.float32)
    assert loss(TrainingConfig(), [[[1, 1]]], logits, (1.0, 0.0)) == 0.0


@every_loss
@settings(max_examples=examples(15), deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 1.0, 100.0]))
def test_ignored_pixels_never_matter(config, seed, scale):
    truth, logits = example(seed)
    ignored = truth == IGNORED
    other = np.where(ignored[..., None], scale * example(seed + 1)[1], logits).astype(np.float32)
    before, after = (loss(config, truth, z, WEIGHTS) for z in (logits, other))
    assert after == pytest.approx(before, rel=1e-5)
    slopes = gradient(config, truth, other, WEIGHTS)
    assert not slopes[ignored].any()
    np.testing.assert_allclose(slopes, gradient(config, truth, logits, WEIGHTS), atol=1e-6)


@every_loss
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, 1e30])
def test_gradients_are_finite_however_certain_the_scores(config, scale):
    truth, logits = example()
    assert np.isfinite(loss(config, truth, scale * logits, WEIGHTS))
    assert np.isfinite(gradient(config, truth, scale * logits, WEIGHTS)).all()


@every_loss
def test_gradients_are_the_differences_of_the_loss(config):
    truth, logits = example(shape=(1, 2, 3))
    slopes, step = gradient(config, truth, logits, WEIGHTS), 1e-2
    for place in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[place] += step
        down[place] -= step
        rise = loss(config, truth, up, WEIGHTS) - loss(config, truth, down, WEIGHTS)
        assert rise / (2 * step) == pytest.approx(slopes[place], abs=1e-3)


@every_loss
def test_half_precision_scores_are_summed_in_float32(config):
    # 40,000 pixels are more than float16 counts one by one.
    truth, logits = example(shape=(1, 200, 200))
    half = logits.astype(np.float16)
    expected = loss(config, truth, half.astype(np.float32))
    assert loss(config, truth, half) == pytest.approx(expected, rel=1e-6)


@every_loss
def test_one_pixel_one_class_and_300_classes_have_a_loss(config):
    zeros = np.zeros((1, 1, 1, 1), np.float32)
    assert loss(config, [[[0]]], zeros) == pytest.approx(0, abs=1e-6)
    truth, logits = example(shape=(1, 4, 4), classes=300)
    assert np.isfinite(loss(config, truth, logits))


@every_loss
def test_the_loss_in_a_graph_is_the_eager_one(config):
    from segmodel.training.losses import build_loss

    truth, logits = example()
    in_graph = tf.function(build_loss(config, WEIGHTS))
    actual = float(in_graph(tf.constant(truth), tf.constant(logits)))
    assert actual == pytest.approx(loss(config, truth, logits, WEIGHTS), rel=1e-5)
