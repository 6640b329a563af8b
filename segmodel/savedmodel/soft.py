"""Soft sums on the device: no map of probabilities leaves it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from segmodel.engine.soft import BINS, LEVELS
from segmodel.labels.classes import ClassTable

# What probabilities of 32 bits may sum to, beside 1.
_TOLERANCE = 1e-3
# Pixels whose levels are summed at once, so that they stay in the cache of a processor.
_STRIP_PIXELS = 1 << 14
# 65536 times the shares of a side by which the phases of neighbours differ: those of the R2
# sequence, by which phases near any pixel are spread evenly (Roberts, The unreasonable
# effectiveness of quasirandom sequences, 2018).
_DOWN, _ACROSS, _PHASES = 49472, 37345, 1 << 16


def levels_of(probabilities: tf.Tensor, top: tf.Tensor | int) -> list[tf.Tensor]:
    """Probabilities in whole levels, 255 in each pixel.

    Class k has `floor(255 P(k) + u) - floor(255 P(k-1) + u)` levels, where P(k) is the sum of the
    probabilities up to class k, and u in (0, 1) follows from the row and the column of the pixel.
    This is systematic sampling (Särndal et al., Model Assisted Survey Sampling, 1992, section
    3.4.2): levels differ by less than 1 from 255 times the probability, and over many
    pixels they sum to it, also where all probabilities are far below a level. Rounding to the
    nearest would lose those.

    Args:
        probabilities: `(batch, rows, columns, classes)` float32 that sum to 1.
        top: Row of the first row in its window.

    Returns:
        For each class `(batch, rows, columns)` float32, whole numbers from 0 to 255.
    """
    shape = tf.shape(probabilities)
    rows, columns = tf.range(top, top + shape[1])[:, None], tf.range(shape[2])[None]
    place = (rows * _DOWN + columns * _ACROSS) % _PHASES
    total = (tf.cast(place, tf.float32)[None] + 0.5) / _PHASES
    parts = tf.unstack(probabilities, axis=-1)
    before, levels = tf.zeros_like(parts[0]), []
    for part in parts[:-1]:
        total += LEVELS * part
        # Sums of 32 bits may exceed 1.
        upto = tf.minimum(tf.floor(total), LEVELS)
        levels.append(upto - before)
        before = upto
    return [*levels, LEVELS - before]


def soft_function(
    probabilities: Callable[..., dict[str, tf.Tensor]],
    images: tf.TensorSpec,
    classes: ClassTable,
    has_maps: bool,
) -> Callable[..., dict[str, tf.Tensor]]:
    """A function of a batch of raw values and weights that gives what `SoftBatch` holds.

    Sums are of whole numbers below 2^53, exact in float64 in any order.

    Args:
        probabilities: Signature `probabilities` of a model.
        images: Raw values that it takes, `(batch, height, width, bands)`.
        classes: Class table of the model.
        has_maps: Whether the levels of all pixels leave the device.

    Returns:
        Function of `images` and `weights`; gives the fields of `SoftBatch`, and as `is_sound`
        whether all probabilities are at least 0 and sum to 1.
    """
    ids, count = np.array(classes.ids, classes.label_dtype), len(classes.ids)

    def soft(images: tf.Tensor, weights: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.ensure_shape(
            probabilities(images=images)["probabilities"], (None, None, None, count)
        )
        best, confidence = tf.argmax(found, -1, output_type=tf.int32), tf.reduce_max(found, -1)
        totals = tf.reduce_sum(found, -1)
        sums = _summed(found, best, weights)
        level = tf.cast(tf.minimum(confidence * LEVELS + 0.5, LEVELS), tf.int32)
        cell = (_numbers(best) * count + best) * BINS + level // (256 // BINS)
        counted, batch = tf.sign(weights), tf.shape(best)[0]
        bins = tf.math.unsorted_segment_sum(counted, cell, batch * count * BINS)
        maps = {}
        if has_maps:
            maps = {"maps": tf.cast(tf.stack(levels_of(found, 0), -1), tf.uint8)}
        is_sound = tf.reduce_all(tf.abs(totals - 1) <= _TOLERANCE) & tf.reduce_all(found >= 0)
        return {
            "labels": tf.gather(tf.constant(ids), best),
            "confidence": confidence,
            "levels": sums[:, 0],
            "weighted": sums[:, 1],
            "bins": tf.reshape(bins, (batch, count, BINS)),
            "is_sound": is_sound,
            **maps,
        }

    weights = tf.TensorSpec((None, None, None), tf.int32, "weights")
    function: Callable[..., dict[str, tf.Tensor]] = tf.function(
        soft, input_signature=[images, weights]
    )
    return function


def _numbers(batch: tf.Tensor) -> tf.Tensor:
    """The number of each window in a batch, `(batch, 1, 1)` int32."""
    return tf.range(tf.shape(batch)[0])[:, None, None]


def _summed(probabilities: tf.Tensor, best: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Sums of levels over pixels by label and class, strip by strip.

    Args:
        probabilities: `(batch, height, width, classes)` float32.
        best: `(batch, height, width)` int32, the place of the label in the class table.
        weights: `(batch, height, width)` int32; see `Weights`.

    Returns:
        `(batch, 2, classes, classes)` float64: of levels, and of levels times weights.
    """
    shape, count = tf.shape(best), probabilities.shape[-1]
    batch, height = shape[0], shape[1]
    step = tf.maximum(1, _STRIP_PIXELS // shape[2])
    sums = tf.zeros((batch, 2 * count, count), tf.float64)
    labels = tf.range(count)[None, :, None, None]

    def add(top: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        strip = slice(top, top + step)
        levels = tf.cast(tf.stack(levels_of(probabilities[:, strip], top), 1), tf.float64)
        weight = tf.cast(weights[:, strip], tf.float64)
        both = tf.stack([tf.sign(weight), weight], 1)[:, :, None]
        is_label = tf.equal(best[:, None, strip], labels)
        chosen = tf.where(is_label[:, None], both, tf.zeros((), tf.float64))
        chosen = tf.reshape(chosen, (batch, 2 * count, -1))
        levels = tf.reshape(levels, (batch, count, -1))
        return top + step, sums + tf.matmul(chosen, levels, transpose_b=True)

    _, sums = tf.while_loop(lambda top, sums: top < height, add, (tf.constant(0), sums))
    return tf.reshape(sums, (batch, 2, count, count))
