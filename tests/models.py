"""SavedModels that many tests share."""

from __future__ import annotations

from pathlib import Path

from tests.fakes import contract


def export_brightness(path: Path) -> None:
    """A SavedModel that labels as `tests.fakes.brightness_labels`."""
    import tensorflow as tf

    from segmodel.savedmodel.export import export_savedmodel

    def logits(values: tf.Tensor) -> tf.Tensor:
        brightness = tf.math.floordiv(tf.reduce_sum(values, -1, keepdims=True), 3.0)
        return -tf.abs(brightness - tf.constant([42.0, 127.0, 212.0]) + 0.5)

    export_savedmodel(logits, contract(), path, measure_memory=False)


def export_neighbourhood(path: Path) -> None:
    """A SavedModel with stride 4 and a receptive field above 1, exact in float32.

    Its weights are small integers, so every sum is exact in any order and labels of windows can
    be compared bit for bit.
    """
    import keras
    import numpy as np

    from segmodel.networks.network import BilinearUpsampling, receptive_field
    from segmodel.savedmodel.export import export_savedmodel

    images = keras.Input((None, None, 3))
    features = keras.layers.Conv2D(4, 3, padding="same")(images)
    features = keras.layers.MaxPooling2D(2)(features)
    features = keras.layers.Conv2D(4, 3, strides=2, padding="same")(features)
    scores = keras.layers.Conv2D(3, 1)(features)
    network = keras.Model(images, BilinearUpsampling(4)(scores))
    random = np.random.default_rng(7)
    network.set_weights([random.integers(-3, 4, w.shape) for w in network.get_weights()])
    fields = {"stride": 4, "receptive_field": receptive_field(network).size_px}
    export_savedmodel(network, contract(**fields), path, measure_memory=False)


def export_hanging(path: Path) -> None:
    """A SavedModel that never returns: its loop ends for images of zeros only, as none has."""
    import tensorflow as tf

    from segmodel.savedmodel.folder import write_contract

    spec = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")

    @tf.function(input_signature=[spec])
    def hang(images):
        total = tf.reduce_sum(tf.cast(images, tf.int32))
        total = tf.while_loop(lambda x: x != 0, lambda x: (tf.identity(x),), (total,))[0]
        labels = images[..., 0] * tf.cast(total, tf.uint8)
        return {"labels": labels, "confidence": tf.cast(labels, tf.float32)}

    @tf.function(input_signature=[spec])
    def probabilities(images):
        return {"probabilities": tf.cast(images, tf.float32)}

    module = tf.Module()
    signatures = {"labels": hang, "serving_default": hang, "probabilities": probabilities}
    tf.saved_model.save(module, str(path), signatures=signatures)
    write_contract(contract(), path)


def export_greedy(path: Path) -> None:
    """Labels by brightness; asks for 256 TiB where a batch has more than two windows."""
    import tensorflow as tf

    from segmodel.savedmodel.export import export_savedmodel

    def logits(values: tf.Tensor) -> tf.Tensor:
        brightness = tf.math.floordiv(tf.reduce_sum(values, -1, keepdims=True), 3.0)
        scores = -tf.abs(brightness - tf.constant([42.0, 127.0, 212.0]) + 0.5)
        batch = tf.shape(values, tf.int64)[0]
        wanted = tf.where(batch > 2, tf.constant(2**46, tf.int64), tf.constant(1, tf.int64))
        return scores + tf.reduce_max(tf.random.uniform([wanted])) * 0

    export_savedmodel(logits, contract(), path, measure_memory=False)
