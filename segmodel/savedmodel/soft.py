"""Soft sums on the device: no map of probabilities leaves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from segmodel.engine.soft import BINS, LEVELS
from segmodel.labels.classes import ClassTable

# What probabilities of 32 bits may sum to, beside 1.
_TOLERANCE = 1e-3
# Pixels of a window whose levels are summed at once, or a row of more: they stay in the cache of a
# processor, and their sum stays below 2^24, up to which float32 is exact, for rows of up to 65,000.
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
    is_plain: bool,
    is_even: bool,
) -> Callable[..., dict[str, tf.Tensor]]:
    """A function of a batch of raw values and weights that gives what `SoftBatch` holds.

    Sums are of whole numbers that floating point holds exactly in any order. Classes are separate
    tensors, since operations along a short last axis take several times as long.

    Args:
        probabilities: Signature `probabilities` of a model.
        images: Raw values that it takes, `(batch, height, width, bands)`.
        classes: Class table of the model.
        has_maps: Whether the levels of all pixels leave the device.
        is_plain: Whether each pixel labels one pixel, and zones are not told apart.
        is_even: Whether weights are 0 and 1 only.

    Returns:
        Function of `images` and `weights`, and unless it is plain of `labelled` and `index`, as of
        `SoftModel`, where those of one pixel stand for all; gives the fields of `SoftBatch`, and as
        `is_sound` whether all probabilities are at least 0 and sum to 1.
    """
    ids, count = np.array(classes.ids, classes.label_dtype), len(classes.ids)

    def soft(
        images: tf.Tensor,
        weights: tf.Tensor,
        labelled: tf.Tensor = 1,
        index: tf.Tensor = 0,
    ) -> dict[str, tf.Tensor]:
        found = probabilities(images=images)["probabilities"]
        parts = tf.unstack(tf.ensure_shape(found, (None, None, None, count)), axis=-1)
        best, confidence = _best_of(parts)
        batch, zones = tf.shape(best)[0], tf.reduce_max(index) + 1
        cell, cells = _cells(best, weights, index, count), batch * zones * count
        labelled = tf.broadcast_to(labelled, tf.shape(best))
        sums_of = _by_cell(cell, cells, (labelled, weights))
        if is_plain:
            sums_of = _by_label(best, weights, count, is_even)

        def of_rows(rows: slice) -> tuple[tf.Tensor, ...]:
            some = [part[:, rows] for part in parts]
            pixels = None if is_plain else labelled[:, rows]
            bins = _binned(confidence[:, rows], cell[:, rows], cells, pixels)
            return *sums_of(levels_of(some, rows.start), rows), bins, _unsound(some)

        shape = (batch, count, count) if is_plain else (cells, count)
        levels, weighted, bins, unsound = _summed(of_rows, tf.shape(best), shape, cells)
        of_cells = {"levels": levels, "weighted": weighted, "bins": bins}
        maps = {"maps": tf.cast(tf.stack(levels_of(parts, 0), -1), tf.uint8)} if has_maps else {}
        return {
            "labels": tf.gather(tf.constant(ids), best),
            "confidence": confidence,
            "is_sound": unsound < 1,
            **{
                name: tf.reshape(part, (batch, zones, count, -1)) for name, part in of_cells.items()
            },
            **maps,
        }

    names = ("weights",) if is_plain else ("weights", "labelled", "index")
    signature = [images, *map(_of_pixels, names)]
    function: Callable[..., dict[str, tf.Tensor]] = tf.function(soft, input_signature=signature)
    return function


def _of_pixels(name: str) -> tf.TensorSpec:
    return tf.TensorSpec((None, None, None), tf.int32, name)


def _cells(best: tf.Tensor, weights: tf.Tensor, index: tf.Tensor, count: int) -> tf.Tensor:
    """Cell of each pixel, by window, zones and label; below 0 where it does not count."""
    windows, zones = tf.range(tf.shape(best)[0])[:, None, None], tf.reduce_max(index) + 1
    return tf.where(weights > 0, (windows * zones + index) * count + best, -1)


def _best_of(probabilities: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Place of the greatest probability in each pixel, the first of equal ones, int32; and it."""
    best, greatest = tf.zeros_like(probabilities[0]), probabilities[0]
    for number, part in enumerate(probabilities[1:], 1):
        best = tf.where(part > greatest, float(number), best)
        greatest = tf.maximum(greatest, part)
    return tf.cast(best, tf.int32), greatest


def _unsound(probabilities: Sequence[tf.Tensor]) -> tf.Tensor:
    """0 where all are at least 0, and those of each pixel sum to 1; else 1."""
    is_whole = tf.reduce_all(tf.abs(tf.add_n(probabilities) - 1) <= _TOLERANCE)
    is_sound = tf.reduce_all([is_whole, *(tf.reduce_min(part) >= 0 for part in probabilities)])
    return 1 - tf.cast(is_sound, tf.int32)


def _binned(
    confidence: tf.Tensor, cell: tf.Tensor, cells: tf.Tensor, labelled: tf.Tensor | None
) -> tf.Tensor:
    """Number of pixels by cell and confidence, `(cells * BINS,)` int32."""
    # Of what is no number the place is 0, as `is_sound` says that it is none.
    level = tf.where(confidence > 0, tf.minimum(confidence * LEVELS + 0.5, LEVELS), 0)
    level = tf.cast(level, tf.int32)
    size = cells * BINS
    # Those that do not count have a place of their own behind the others.
    place = tf.where(cell < 0, size, cell * BINS + level // (256 // BINS))
    weights = None if labelled is None else tf.reshape(labelled, [-1])
    place = tf.reshape(place, [-1])
    return tf.math.bincount(place, weights, minlength=size + 1, maxlength=size + 1)[:-1]


def _summed(
    of_rows: Callable[[slice], tuple[tf.Tensor, ...]],
    pixels: tf.Tensor,
    shape: tuple[tf.Tensor | int, ...],
    cells: tf.Tensor,
) -> Sequence[tf.Tensor]:
    """Sums over rows of all windows of a batch, strip by strip.

    Args:
        of_rows: What rows add to the sums of levels, of levels times weights, of pixels by cell and
            bin, and of what is unsound.
        pixels: `(batch, height, width)` of the batch.
        shape: Shape of the sums of levels.
        cells: Number of cells.
    """
    step = tf.maximum(1, _STRIP_PIXELS // pixels[2])
    levels, bins = tf.zeros(shape, tf.float64), tf.zeros(cells * BINS, tf.int32)
    zeros = levels, levels, bins, tf.constant(0)

    def add(top: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
        found = of_rows(slice(top, top + step))
        return top + step, *(total + part for total, part in zip(sums, found, strict=True))

    shapes = [tf.TensorShape([None] * len(sums.shape)) for sums in zeros]
    sums: Sequence[tf.Tensor] = tf.while_loop(
        lambda top, *_: top < pixels[1],
        add,
        (tf.constant(0), *zeros),
        shape_invariants=(tf.TensorShape(()), *shapes),
    )[1:]
    return sums


# Function of the levels of each class in some rows, and of these, that gives sums of levels, and of
# levels times weights.
_StripSums = Callable[[list[tf.Tensor], slice], tuple[tf.Tensor, tf.Tensor]]


def _by_label(best: tf.Tensor, weights: tf.Tensor, count: int, is_even: bool) -> _StripSums:
    """Sums by window, label and class, `(batch, classes, classes)`.

    Args:
        best: `(batch, height, width)` int32, the place of the label in the class table.
        weights: `(batch, height, width)` int32; see `Weights`.
        count: Number of classes.
        is_even: Whether weights are 0 and 1 only.
    """
    batch = tf.shape(best)[0]

    def of_labels(chosen: tf.Tensor, values: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
        of_label = tf.where(chosen, values, tf.zeros((), values.dtype))
        return tf.cast(tf.matmul(of_label, levels, transpose_b=True), tf.float64)

    def sums_of(parts: list[tf.Tensor], rows: slice) -> tuple[tf.Tensor, tf.Tensor]:
        levels = tf.reshape(tf.stack(parts, 1), (batch, count, -1))
        labels = tf.reshape(best[:, rows], (batch, -1))
        chosen = tf.stack([tf.equal(labels, number) for number in range(count)], 1)
        weight = tf.reshape(weights[:, rows], (batch, 1, -1))
        counted = of_labels(chosen, tf.cast(weight > 0, tf.float32), levels)
        if is_even:
            return counted, counted
        weight, levels = tf.cast(weight, tf.float64), tf.cast(levels, tf.float64)
        return counted, of_labels(chosen, weight, levels)

    return sums_of


def _by_cell(cell: tf.Tensor, cells: tf.Tensor, factors: tuple[tf.Tensor, tf.Tensor]) -> _StripSums:
    """Sums by cell and class, `(cells, classes)`, at a cost that does not grow with the cells.

    Args:
        cell: `(batch, height, width)` int32, the cell of each pixel; below 0 for none.
        cells: Number of cells.
        factors: `(batch, height, width)` int32, what levels are multiplied with in either sum.
    """

    def sums_of(parts: list[tf.Tensor], rows: slice) -> tuple[tf.Tensor, tf.Tensor]:
        levels = [tf.cast(part, tf.float64) for part in parts]
        of_factors = [tf.cast(factor[:, rows], tf.float64) for factor in factors]
        counted, weighted = (
            [tf.math.unsorted_segment_sum(f * part, cell[:, rows], cells) for part in levels]
            for f in of_factors
        )
        return tf.stack(counted, -1), tf.stack(weighted, -1)

    return sums_of
