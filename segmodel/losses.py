"""Losses of per-pixel classification."""

from __future__ import annotations

import tensorflow as tf

from segmodel.confusion import IGNORED


def cross_entropy(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy of the pixels that count.

    Args:
        truth: `(batch, height, width)` class indices; `IGNORED` counts nowhere.
        logits: `(batch, height, width, classes)` float32.

    Returns:
        Scalar float32 in nats; 0 where no pixel counts.
    """
    counts = tf.not_equal(truth, IGNORED)
    safe = tf.where(counts, tf.cast(truth, tf.int32), 0)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=safe, logits=logits)
    weight = tf.cast(counts, loss.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(loss * weight), tf.reduce_sum(weight))
