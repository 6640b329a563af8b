"""Losses of per-pixel classification.

Truth is `(batch, height, width)` class indices of any integer dtype, in which `IGNORED` counts
nowhere; logits are `(batch, height, width, classes)`, and are taken as float32. Every loss is a
scalar float32, and 0 with gradients of 0 where no pixel counts.

No loss builds one-hot truth: with 300 classes it would take as much memory as the logits.

Under `tf.distribute` each replica takes the mean over the pixels of its own share of the batch.
Their mean is that of the whole batch only if all shares weigh alike; with ignored pixels or class
weights a pixel counts a little more in the share that has less of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from segmodel.errors import ConfigurationError
from segmodel.labels.confusion import IGNORED
from segmodel.training.configuration import TrainingConfig

# Keeps the slope of the focal factor finite where the truth is certain and gamma less than 1.
_MIN_DOUBT = 1e-6

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def build_loss(config: TrainingConfig, class_weights: Sequence[float] = ()) -> Loss:
    """The sum of losses that a configuration asks for, as a function of truth and logits.

    Args:
        config: Losses and their weights.
        class_weights: Weight of each class, from `loss_weights`; all alike if empty.

    Returns:
        A function of truth and logits, which returns a scalar float32.
    """
    smoothing, gamma = config.label_smoothing, config.focal_gamma
    known: dict[str, Loss] = {
        "cross_entropy": lambda t, z: cross_entropy(t, z, class_weights, smoothing),
        "focal": lambda t, z: focal(t, z, class_weights, gamma),
        "dice": dice,
    }
    terms = [(weight, known[name]) for name, weight in config.loss.items() if weight > 0]

    def loss(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        logits = tf.cast(logits, tf.float32)
        return tf.add_n([weight * term(truth, logits) for weight, term in terms])

    return loss


def cross_entropy(
    truth: tf.Tensor,
    logits: tf.Tensor,
    class_weights: Sequence[float] = (),
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Weighted mean of the cross-entropy of the pixels that count, in nats.

    Args:
        truth: `(batch, height, width)` class indices, or `IGNORED`.
        logits: `(batch, height, width, classes)` scores.
        class_weights: How much a pixel of each true class counts; all alike if empty.
        label_smoothing: Share of the truth that is spread evenly over all classes.

    Source: label smoothing, Szegedy et al., Rethinking the Inception Architecture (2016).
    """
    logits = tf.cast(logits, tf.float32)
    loss, index, counts = _pixel_losses(truth, logits)
    if label_smoothing:
        # The cross-entropy to even shares is logsumexp(z) - mean(z).
        even = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
        loss = (1 - label_smoothing) * loss + label_smoothing * even
    return _weighted_mean(loss, index, counts, class_weights)


def focal(
    truth: tf.Tensor, logits: tf.Tensor, class_weights: Sequence[float] = (), gamma: float = 2.0
) -> tf.Tensor:
    """Weighted mean of the cross-entropy times `(1 - p)^gamma`, `p` the probability of the truth.

    Args:
        truth: `(batch, height, width)` class indices, or `IGNORED`.
        logits: `(batch, height, width, classes)` scores.
        class_weights: How much a pixel of each true class counts; all alike if empty.
        gamma: How much less pixels count that are right already; 0 is cross-entropy.

    Source: Lin et al., Focal Loss for Dense Object Detection (2017), eq. 5; the mean is over
    pixels, where they divide by the number of objects.
    """
    loss, index, counts = _pixel_losses(truth, logits)
    doubt = tf.maximum(-tf.math.expm1(-loss), _MIN_DOUBT)
    return _weighted_mean(tf.pow(doubt, gamma) * loss, index, counts, class_weights)


def dice(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean of `1 - 2 sum(p y) / (sum(p) + sum(y))` over the classes in the truth of the batch.

    The sums are over all pixels of the batch that count, with probabilities `p` and truth `y`. A
    class that is in the truth has a pixel, so the denominator is at least 1.

    Source: Milletari et al., V-Net (2016), with plain sums in the denominator as in Sudre et al.,
    Generalised Dice overlap (2017).
    """
    logits = tf.cast(logits, tf.float32)
    classes = logits.shape[-1]
    loss, index, counts = _pixel_losses(truth, logits)
    counted, index = tf.reshape(counts, [-1]), tf.reshape(index, [-1])
    of_truth = tf.reshape(tf.exp(-loss), [-1]) * counted
    both = tf.math.unsorted_segment_sum(of_truth, index, classes)
    pixels = tf.math.unsorted_segment_sum(counted, index, classes)
    probabilities = tf.reshape(tf.nn.softmax(logits), (-1, classes))
    expected = tf.linalg.matvec(probabilities, counted, transpose_a=True)
    overlap = tf.math.divide_no_nan(2 * both, expected + pixels)
    present = tf.cast(pixels > 0, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum((1 - overlap) * present), tf.reduce_sum(present))


def _pixel_losses(truth: tf.Tensor, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`-log p` of the true class, its index (0 where ignored), and 1.0 where the pixel counts."""
    counts = tf.not_equal(truth, IGNORED)
    index = tf.where(counts, tf.cast(truth, tf.int32), 0)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=index, logits=tf.cast(logits, tf.float32)
    )
    return loss, index, tf.cast(counts, tf.float32)


def _weighted_mean(
    loss: tf.Tensor, index: tf.Tensor, counts: tf.Tensor, class_weights: Sequence[float]
) -> tf.Tensor:
    weight = counts
    if class_weights:
        weight *= tf.gather(tf.constant(class_weights, tf.float32), index)
    return tf.math.divide_no_nan(tf.reduce_sum(loss * weight), tf.reduce_sum(weight))


# Bounds the weight of the rarest class to 1 / ln(1.02), about 50; of ENet.
_LOG_OFFSET = 1.02


def loss_weights(
    setting: str | Sequence[float], counts: np.ndarray, around: np.ndarray | None = None
) -> tuple[float, ...]:
    """Weights of the classes by `training.class_weights` and the training data.

    Args:
        setting: `median_frequency`, `inverse_log`, the weights themselves, or nothing.
        counts: Pixels of each class in the training data, `(classes,)`; or `(images, classes)`.
        around: `(classes,)` pixels of any class in the images that have the class; without it they
            follow from `counts`, as if all were one image where those are not by image.

    Returns:
        A weight for each class; empty where all count alike. A class without a pixel has 0,
        because no pixel asks for its weight.

    Raises:
        ConfigurationError: If weights are asked for by frequency and no pixel counts.

    >>> loss_weights((), np.array([3, 1]))
    ()
    >>> loss_weights("median_frequency", np.array([50, 25, 25, 0]))
    (0.5, 1.0, 1.0, 0.0)
    >>> [round(weight, 3) for weight in loss_weights("inverse_log", np.array([75, 25, 0]))]
    [1.751, 4.184, 0.0]
    """
    if not isinstance(setting, str):
        return tuple(float(weight) for weight in setting)
    by_image = np.atleast_2d(np.asarray(counts, np.float64))
    if not by_image.sum():
        raise ConfigurationError(
            f"training.class_weights is {setting}, which needs pixels that count; the training "
            f"masks have none: check data.ignore_colors and data.ignore_ids, or name the weights"
        )
    pixels = by_image.sum(axis=0)
    if setting == "inverse_log":
        return tuple(_inverse_log(pixels).tolist())
    if around is None:
        around = (by_image > 0).T @ by_image.sum(axis=1)
    return tuple(_median_frequency(pixels, around).tolist())


def _median_frequency(pixels: np.ndarray, around: np.ndarray) -> np.ndarray:
    """The median of all frequencies over that of the class, its share in images that have it.

    Source: Eigen and Fergus, Predicting Depth, Surface Normals and Semantic Labels with a Common
    Multi-Scale Convolutional Architecture (2015), section 6.3.2.
    """
    present = pixels > 0
    frequency = np.divide(pixels, around, out=np.zeros_like(pixels), where=present)
    median = np.median(frequency[present])
    weights: np.ndarray = np.divide(median, frequency, out=np.zeros_like(pixels), where=present)
    return weights


def _inverse_log(pixels: np.ndarray) -> np.ndarray:
    """Source: Paszke et al., ENet (2016), section 5.2."""
    weights = 1 / np.log(_LOG_OFFSET + pixels / pixels.sum())
    return np.where(pixels > 0, weights, 0.0)
