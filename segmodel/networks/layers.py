"""Layers of our networks that Keras does not have."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("beamseg")
class Preprocessing(keras.layers.Layer):
    """Raw pixel values to what the backbone was trained on.

    Args:
        mean: Mean of each band in raw units, which is subtracted.
        scale: Factor of the difference, for each band.
        reverse: Whether to reverse the order of bands afterwards.
        limits: Least and greatest raw value, to which values are clipped: training never shows any
            beyond, so outliers of 16 bits or of float images would be far from all it knows.
    """

    def __init__(
        self,
        mean: list[float],
        scale: list[float],
        reverse: bool,
        limits: tuple[float, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mean, self.scale, self.reverse = list(mean), list(scale), bool(reverse)
        self.limits = tuple(limits) if limits else None

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """`(batch, height, width, bands)` of any dtype to float32 of the same shape."""
        values = tf.cast(images, tf.float32)
        if self.limits:
            values = tf.clip_by_value(values, *self.limits)
        scaled = (values - self.mean) * self.scale
        return tf.reverse(scaled, axis=[-1]) if self.reverse else scaled

    def get_config(self) -> dict[str, Any]:
        """Arguments of the layer, with which Keras makes it again."""
        names = ("mean", "scale", "reverse", "limits")
        config: dict[str, Any] = super().get_config()
        return config | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("beamseg")
class BilinearUpsampling(keras.layers.Layer):
    """The last upsampling of the paper, fixed to bilinear interpolation.

    Args:
        factor: Factor of height and width.
        **kwargs: Arguments of every Keras layer.
    """

    def __init__(self, factor: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, scores: tf.Tensor) -> tf.Tensor:
        """`(batch, height, width, classes)` to `factor` times the height and width."""
        shape = tf.shape(scores)
        size = shape[1:3] * self.factor
        return tf.image.resize(scores, size, method="bilinear")

    def get_config(self) -> dict[str, Any]:
        """Arguments of the layer, with which Keras makes it again."""
        config: dict[str, Any] = super().get_config()
        return config | {"factor": self.factor}


def bilinear_kernel(factor: int, classes: int) -> np.ndarray:
    """Weights of a transposed convolution that interpolates each class by itself.

    Args:
        factor: Factor of height and width; even.
        classes: Number of classes.

    Returns:
        `(2 * factor, 2 * factor, classes, classes)` float32.

    >>> bilinear_kernel(2, 1)[0, :, 0, 0].tolist()
    [0.0625, 0.1875, 0.1875, 0.0625]
    """
    size = 2 * factor
    line = 1 - np.abs(np.arange(size) - (size - 1) / 2) / factor
    kernel = np.zeros((size, size, classes, classes), np.float32)
    kernel[:, :, range(classes), range(classes)] = np.outer(line, line)[..., None]
    return kernel
