"""Soft sums on the device: no map of probabilities leaves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from segmodel.engine.soft import BINS, LEVELS
from segmodel.labels.classes import ClassTable

# What probabilities of 32 bits may sum to, beside 1.
_TOLERANCE = 1e-3
# Pixels whose levels are summed at once, or a row of more: they stay in the cache of a processor,
# and their sum stays below 2^24, up to which float32 is exact, for rows of up to 65,000.
_STRIP_PIXELS = 1 << 14
# 65536 times the shares of a side by which the phases of neighbours differ: those of the R2
# sequence, by which phases near any pixel are spread evenly (Roberts, The unreasonable
# effectiveness of quasirandom sequences, 2018).
_DOWN, _ACROSS, _PHASES = 49472, 37345, 1 << 16


def levels_of(probabilities: Sequence[tf.Tensor], top: tf.Tensor | int) -> list[tf.Tensor]:
    """Probabilities in whole levels, 255 in each pixel.

    Class k has `floor(255 P(k) + u) - floor(255 P(k-1) + u)` levels, where P(k) is the sum of the
    probabilities up to class k, and u in (0, 1) follows from the row and the column of the pixel.
    This is systematic sampling (Särndal et al., Model Assisted Survey Sampling, 1992, section
    3.4.2): levels differ by less than 1 from 255 times the probability, and over many pixels they
    sum to it, also where all probabilities are far below a level. Rounding to the nearest would
    lose those.

    Args:
        probabilities: `(batch, rows, columns)` float32 of each class, which sum to 1.
        top: Row of the first row in its window.

    Returns:
        For each class `(batch, rows, columns)` float32, whole numbers from 0 to 255.
    """
    shape = tf.shape(probabilities[0])
    rows, columns = tf.range(top, top + shape[1])[:, None], tf.range(shape[2])[None]
    place = (rows * _DOWN + columns * _ACROSS) % _PHASES
    total = (tf.cast(place, tf.float32)[None] + 0.5) / _PHASES
    before, levels = tf.zeros_like(probabilities[0]), []
    for part in probabilities[:-1]:
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

    Sums are of whole numbers that floating point holds exactly in any order: levels of a strip in
    32 bits, all others in 64. Classes are separate tensors, since operations along a short last
    axis take several times as long.

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
        found = probabilities(images=images)["probabilities"]
        parts = tf.unstack(tf.ensure_shape(found, (None, None, None, count)), axis=-1)
        best, confidence = tf.zeros_like(parts[0]), parts[0]
        for number, part in enumerate(parts[1:], 1):
            best = tf.where(part > confidence, float(number), best)
            confidence = tf.maximum(confidence, part)
        best = tf.cast(best, tf.int32)
        is_whole = tf.abs(tf.add_n(parts) - 1) <= _TOLERANCE
        levels, weighted = _summed(parts, best, weights)
        maps = {}
        if has_maps:
            maps = {"maps": tf.cast(tf.stack(levels_of(parts, 0), -1), tf.uint8)}
        return {
            "labels": tf.gather(tf.constant(ids), best),
            "confidence": confidence,
            "levels": levels,
            "weighted": weighted,
            "bins": _binned(best, confidence, weights, count),
            "is_sound": tf.reduce_all([tf.reduce_all(is_whole), *(_is_positive(p) for p in parts)]),
            **maps,
        }

    weights = tf.TensorSpec((None, None, None), tf.int32, "weights")
    function: Callable[..., dict[str, tf.Tensor]] = tf.function(
        soft, input_signature=[images, weights]
    )
    return function


def _is_positive(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_min(values) >= 0


def _binned(best: tf.Tensor, confidence: tf.Tensor, weights: tf.Tensor, count: int) -> tf.Tensor:
    """Number of pixels that count by label and confidence, `(batch, classes, BINS)` int32."""
    batch = tf.shape(best)[0]
    size = batch * count * BINS
    # Of what is no number the place is 0, as `is_sound` says that it is none.
    level = tf.where(confidence > 0, tf.minimum(confidence * LEVELS + 0.5, LEVELS), 0)
    level = tf.cast(level, tf.int32)
    window = tf.range(batch)[:, None, None]
    cell = (window * count + best) * BINS + level // (256 // BINS)
    # Those that do not count have a cell of their own behind the others.
    cell = tf.reshape(tf.where(weights > 0, cell, size), [-1])
    bins = tf.math.bincount(cell, minlength=size + 1, maxlength=size + 1)
    return tf.reshape(bins[:-1], (batch, count, BINS))


def _summed(
    probabilities: Sequence[tf.Tensor], best: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums of levels over pixels by label and class, strip by strip.

    Args:
        probabilities: `(batch, height, width)` float32 of each class.
        best: `(batch, height, width)` int32, the place of the label in the class table.
        weights: `(batch, height, width)` int32; see `Weights`.

    Returns:
        `(batch, classes, classes)` float64 each: of levels, and of levels times weights.
    """
    shape, count = tf.shape(best), len(probabilities)
    batch, height = shape[0], shape[1]
    step = tf.maximum(1, _STRIP_PIXELS // shape[2])

    def of_labels(chosen: tf.Tensor, values: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
        of_label = tf.where(chosen, values, tf.zeros((), values.dtype))
        return tf.cast(tf.matmul(of_label, levels, transpose_b=True), tf.float64)

    def add(top: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        strip = slice(top, top + step)
        levels = tf.stack(levels_of([part[:, strip] for part in probabilities], top), 1)
        levels = tf.reshape(levels, (batch, count, -1))
        labels = tf.reshape(best[:, strip], (batch, -1))
        chosen = tf.stack([tf.equal(labels, number) for number in range(count)], 1)
        weight = tf.reshape(weights[:, strip], (batch, 1, -1))
        counted = of_labels(chosen, tf.cast(weight > 0, tf.float32), levels)
        weight, levels = tf.cast(weight, tf.float64), tf.cast(levels, tf.float64)
        return top + step, sums[0] + counted, sums[1] + of_labels(chosen, weight, levels)

    zeros, either = (
        tf.zeros((batch, count, count), tf.float64),
        tf.TensorShape((None, count, count)),
    )
    _, levels, weighted = tf.while_loop(
        lambda top, *_: top < height,
        add,
        (tf.constant(0), zeros, zeros),
        shape_invariants=(tf.TensorShape(()), either, either),
    )
    return levels, weighted
