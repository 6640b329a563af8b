"""A network of a few layers that learns two colours."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from segmodel.training.configuration import Configuration
from segmodel.training.loop import Learner, device_strategy

BATCH, SIDE = 4, 8


def tiny_network(precision: str) -> keras.Model:
    keras.utils.set_random_seed(3)
    images = keras.Input((None, None, 3))
    features = keras.layers.Rescaling(1 / 255)(images)
    features = keras.layers.Conv2D(4, 3, padding="same", dtype=precision)(features)
    features = keras.layers.BatchNormalization(dtype=precision)(features)
    logits = keras.layers.Conv2D(2, 1, dtype="float32", name="scores")(features)
    return keras.Model(images, logits)


def learner(config: Configuration, weights: tuple[float, ...] = (), steps: int = 20) -> Learner:
    strategy = device_strategy(config.training)
    return Learner(
        lambda: tiny_network(config.training.precision), config, weights, steps, strategy
    )


def batches(count: int) -> tf.data.Dataset:
    """Red on the left, blue on the right, with noise."""
    random = np.random.default_rng(5)
    shape = (count * BATCH, SIDE, SIDE)
    truth = np.broadcast_to(np.arange(SIDE) >= SIDE // 2, shape).astype(np.int16)
    colors = np.array([(200, 40, 40), (40, 40, 200)], np.float32)[truth]
    images = colors + random.uniform(-20, 20, colors.shape).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((images, truth)).batch(BATCH)


def losses_of(learner: Learner, count: int) -> list[float]:
    """Learn from so many batches."""
    losses = []
    for step, (images, truth) in enumerate(learner.distributed(batches(count)), 1):
        losses.append(learner.step(images, truth))
        learner.update_average(step)
    return losses
