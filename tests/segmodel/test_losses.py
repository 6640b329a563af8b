"""Cross-entropy of the pixels that count."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segmodel.confusion import IGNORED

tf = pytest.importorskip("tensorflow")


def loss(truth, logits, weights=()) -> float:
    from segmodel.losses import cross_entropy

    value = cross_entropy(tf.constant(truth, tf.int16), tf.constant(logits, tf.float32), weights)
    assert value.shape == ()
    assert value.dtype == tf.float32
    return float(value)


def test_equal_scores_cost_the_logarithm_of_the_number_of_classes():
    assert loss([[[0, 1, 2]]], np.zeros((1, 1, 3, 3))) == pytest.approx(math.log(3), rel=1e-6)


def test_it_is_the_mean_over_pixels_that_count():
    logits = np.array([[[[0.0, 0.0], [2.0, 0.0], [9.0, -9.0]]]])
    expected = (math.log(2) + math.log1p(math.exp(2))) / 2
    assert loss([[[0, 1, IGNORED]]], logits) == pytest.approx(expected, rel=1e-6)


def test_nothing_that_counts_costs_nothing():
    assert loss([[[IGNORED, IGNORED]]], np.ones((1, 1, 2, 2))) == 0.0


def test_ignored_pixels_have_no_gradient():
    from segmodel.losses import cross_entropy

    logits = tf.Variable(np.ones((1, 1, 2, 2)), dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = cross_entropy(tf.constant([[[0, IGNORED]]], tf.int16), logits)
    gradient = tape.gradient(value, logits).numpy()
    assert gradient[0, 0, 1].tolist() == [0.0, 0.0]
    assert gradient[0, 0, 0].tolist() == [-0.5, 0.5]


def test_class_weights_weigh_pixels_by_their_true_class():
    logits = np.array([[[[0.0, 0.0], [2.0, 0.0], [9.0, -9.0]]]])
    expected = (3 * math.log(2) + 1 * math.log1p(math.exp(2))) / 4
    actual = loss([[[0, 1, IGNORED]]], logits, (3.0, 1.0))
    assert actual == pytest.approx(expected, rel=1e-6)


def test_a_class_of_weight_0_costs_nothing():
    assert loss([[[1, 1]]], np.ones((1, 1, 2, 2)), (1.0, 0.0)) == 0.0
