"""A network in memory as a model of the engine, so that validation runs as production does."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from segmodel.savedmodel.contract import Contract


class KerasModel:
    """A Keras network as a model of the engine, with the labels that its SavedModel will give.

    Args:
        network: Network from `(batch, height, width, bands)` float32 raw values, height and width
            multiples of the contract's stride, to logits.
        contract: Contract of the model to be exported.
    """

    def __init__(self, network: keras.Model, contract: Contract) -> None:
        self.classes, self.fill, self._stride = contract.classes, contract.fill, contract.stride
        self._ids = np.array(contract.classes.ids, contract.classes.label_dtype)
        specification = tf.TensorSpec((None, None, None, self.fill.size), tf.float32)
        self._logits = tf.function(
            lambda images: network(images, training=False), input_signature=[specification]
        )
        self._best = tf.function(
            lambda images: tf.argmax(network(images, training=False), axis=-1),
            input_signature=[specification],
        )

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Labels of a batch: `(batch, height, width, bands)` to `(batch, height, width)`."""
        height, width = images.shape[1:3]
        best: np.ndarray = self._best(self._padded(images)).numpy()
        return np.asarray(self._ids[best[:, :height, :width]])

    def labels_and_confidence(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels of a batch, and the probability of each in [0, 1] as float32."""
        logits = self.logits(images)
        confidence = tf.reduce_max(tf.nn.softmax(logits), axis=-1).numpy()
        return self._ids[logits.argmax(axis=-1)], confidence

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits of a batch: `(batch, height, width, classes)` float32."""
        height, width = images.shape[1:3]
        logits: np.ndarray = self._logits(self._padded(images)).numpy()
        return logits[:, :height, :width]

    def _padded(self, images: np.ndarray) -> np.ndarray:
        """As float32, filled on the right and at the bottom to multiples of the stride."""
        count, height, width, bands = images.shape
        below, right = -height % self._stride, -width % self._stride
        padded = np.full((count, height + below, width + right, bands), self.fill, np.float32)
        padded[:, :height, :width] = images
        return padded
