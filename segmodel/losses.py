"""Losses of per-pixel classification."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from segmodel.confusion import IGNORED


def cross_entropy(
    truth: tf.Tensor, logits: tf.Tensor, class_weights: Sequence[float] = ()
) -> tf.Tensor:
    """Weighted mean of the cross-entropy of the pixels that count.

    Args:
        truth: `(batch, height, width)` class indices; `IGNORED` counts nowhere.
        logits: `(batch, height, width, classes)` float32.
        class_weights: How much a pixel of each class counts; all alike if empty.

    Returns:
        Scalar float32 in nats; 0 where no pixel counts.
    """
    counts = tf.not_equal(truth, IGNORED)
    safe = tf.where(counts, tf.cast(truth, tf.int32), 0)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=safe, logits=logits)
    weight = tf.cast(counts, loss.dtype)
    if class_weights:
        weight *= tf.gather(tf.constant(class_weights, loss.dtype), safe)
    return tf.math.divide_no_nan(tf.reduce_sum(loss * weight), tf.reduce_sum(weight))
