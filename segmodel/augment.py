"""Augmentation of training crops in the graph; image and truth are moved alike."""

from __future__ import annotations

import tensorflow as tf

from segmodel.configuration import TrainingConfig


def augment(
    image: tf.Tensor,
    truth: tf.Tensor,
    seed: tf.Tensor,
    config: TrainingConfig,
    value_range: tuple[float, float],
) -> tuple[tf.Tensor, tf.Tensor]:
    """A mirrored, turned and re-lit crop.

    Args:
        image: `(crop, crop, bands)` raw values.
        truth: `(crop, crop)` class indices.
        seed: `(2,)` int32; the same seed gives the same crop.
        config: What is allowed.
        value_range: Least and greatest raw value, to which the result is clipped.

    Returns:
        Image as float32 and truth, of the same shapes.
    """
    image, truth = tf.cast(image, tf.float32), truth[..., None]
    seeds = _split(seed, 5)
    if config.flips:
        mirror = tf.random.stateless_uniform((), seeds[0]) < 0.5
        image, truth = _when(mirror, tf.image.flip_left_right, image, truth)
    if config.quarter_turns:
        upset = tf.random.stateless_uniform((), seeds[1]) < 0.5
        image, truth = _when(upset, tf.image.flip_up_down, image, truth)
        turns = tf.random.stateless_uniform((), seeds[2], 0, 4, tf.int32)
        image, truth = tf.image.rot90(image, turns), tf.image.rot90(truth, turns)
    low, high = value_range
    gain = 1 + _signed(seeds[3], config.contrast)
    shift = _signed(seeds[4], config.brightness) * (high - low)
    middle = (low + high) / 2
    image = tf.clip_by_value((image - middle) * gain + middle + shift, low, high)
    return image, truth[..., 0]


def _split(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    return [tf.stack([seed[0], seed[1] * count + number]) for number in range(count)]


def _when(condition: tf.Tensor, change, image: tf.Tensor, truth: tf.Tensor):
    return tf.cond(condition, lambda: (change(image), change(truth)), lambda: (image, truth))


def _signed(seed: tf.Tensor, most: float) -> tf.Tensor:
    return tf.random.stateless_uniform((), seed, -most, most)
