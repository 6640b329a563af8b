"""Folded networks give what they gave before, with fewer operations."""

from __future__ import annotations

import numpy as np
import pytest

keras = pytest.importorskip("keras")
import tensorflow as tf  # noqa: E402

from segmodel.networks.folding import folded_layers, served_function  # noqa: E402
from segmodel.networks.network import (  # noqa: E402
    NetworkConfig,
    Preprocessing,
    build_network,
)

K = keras.layers


def with_random_weights(network):
    """Weights as a trained network has them: no factor is 1, and no shift is 0."""
    random = np.random.default_rng(0)
    for weight in network.weights:
        is_positive = weight.path.endswith(("variance", "gamma"))
        low, high = (0.5, 2.0) if is_positive else (-0.5, 0.5)
        weight.assign(random.uniform(low, high, weight.shape))
    return network


def folds(network, stride: int) -> dict[str, list[str]]:
    """Names of what each convolution takes over, by its name."""
    found = {}
    for one in folded_layers(network, stride):
        parts = (one.preprocessing, one.padding, one.normalization)
        found[one.layer.name] = [part.name for part in parts if part is not None]
    return found


def check_equal(network, stride: int, dtype: str = "uint8", sizes=((1, 1), (2, 3))) -> None:
    served, random = served_function(network, dtype, stride), np.random.default_rng(1)
    for rows, columns in sizes:
        shape = (2, rows * stride, columns * stride, network.inputs[0].shape[-1])
        images = random.uniform(-50, 300, shape)
        if dtype == "uint8":
            images = np.clip(images, 0, 255).astype(np.uint8)
        images = tf.constant(images, tf.float32)
        expected, actual = network(images).numpy(), served(images).numpy()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.ptp(expected))


def every_kind():
    """Preprocessing of each band, and every layer that takes over its neighbours."""
    images = keras.Input((None, None, 3))
    prepare = Preprocessing([10.0, 20.0, 60.0], [0.1, 0.2, 0.4], True, (0.0, 255.0), name="prepare")
    tensor = K.ZeroPadding2D(2, name="pad_2")(prepare(images))
    tensor = K.Conv2D(4, 5, strides=2, name="conv")(tensor)
    tensor = K.ReLU(6.0)(K.BatchNormalization(name="bn_conv")(tensor))
    tensor = K.ZeroPadding2D(((0, 1), (0, 1)), name="pad_1")(tensor)
    tensor = K.DepthwiseConv2D(3, 2, depth_multiplier=2, use_bias=False, name="depth")(tensor)
    tensor = K.ReLU()(K.BatchNormalization(name="bn_depth")(tensor))
    tensor = K.Conv2DTranspose(5, 4, strides=2, padding="same", name="up")(tensor)
    tensor = K.BatchNormalization(name="bn_up", scale=False, center=False)(tensor)
    return with_random_weights(keras.Model(images, K.Conv2D(3, 1, name="score")(tensor)))


def test_each_kind_of_convolution_takes_over_what_it_can():
    assert folds(every_kind(), 4) == {
        "conv": ["prepare", "bn_conv"],
        "depth": ["pad_1", "bn_depth"],
        "up": ["bn_up"],
    }


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_outputs_of_each_kind_are_those_of_the_network(dtype):
    check_equal(every_kind(), 4, dtype)


def test_zeros_are_not_taken_over_where_a_side_may_be_odd():
    images = keras.Input((None, None, 3))
    tensor = K.ZeroPadding2D(((0, 1), (0, 1)))(K.Conv2D(4, 2)(images))
    network = with_random_weights(keras.Model(images, K.DepthwiseConv2D(3, 2)(tensor)))
    assert folds(network, 4) == {}
    check_equal(network, 4)


def test_zeros_are_not_taken_over_where_they_are_others_than_those_of_same():
    images = keras.Input((None, None, 3))
    tensor = K.Conv2D(4, 3, strides=2, name="conv")(K.ZeroPadding2D(((1, 0), (1, 0)))(images))
    assert folds(keras.Model(images, tensor), 4) == {}


def test_what_others_take_too_stays():
    images = keras.Input((None, None, 3))
    tensor = K.Conv2D(3, 3, padding="same", name="taken_twice")(images)
    normalized = K.BatchNormalization()(tensor)
    shared = K.Conv2D(3, 3, padding="same", name="called_twice")
    shared_normalization = K.BatchNormalization()
    tensor = K.Add()([tensor, normalized])
    tensor = shared_normalization(shared(shared_normalization(shared(tensor))))
    curved = K.Conv2D(3, 1, activation="relu", name="activated")(tensor)
    network = with_random_weights(keras.Model(images, K.BatchNormalization()(curved)))
    assert folds(network, 1) == {}
    check_equal(network, 4)


def test_an_output_of_the_network_stays():
    images = keras.Input((None, None, 3))
    scores = K.Conv2D(3, 1)(images)
    network = keras.Model(images, [scores, K.BatchNormalization()(scores)])
    assert folds(network, 1) == {}


def test_half_precision_is_not_folded():
    network = build_network(NetworkConfig(2, width=0.25, precision="mixed_bfloat16"))
    assert folds(network, 32) == {}


@pytest.mark.parametrize(
    ("backbone", "count"), [("mobilenet_v2", 52), ("resnet50", 53), ("vgg16", 1)]
)
def test_networks_fold_and_give_equal_scores(backbone, count):
    network = build_network(NetworkConfig(3, backbone=backbone, width=0.25))
    random = np.random.default_rng(2)
    for layer in network.layers:
        if isinstance(layer, K.BatchNormalization):
            shape = layer.gamma.shape
            one, zero = random.uniform(0.8, 1.2, (2, *shape)), random.normal(0, 0.1, (2, *shape))
            layer.set_weights([one[0], *zero, one[1]])
    assert len(folds(network, 32)) == count
    check_equal(network, 32, sizes=[(1, 2)])


def test_no_normalization_is_left_in_the_graph_of_mobilenet():
    network = build_network(NetworkConfig(3, width=0.25))
    spec = [tf.TensorSpec((None, None, None, 3))]
    served = tf.function(served_function(network, "uint8", 32), spec, autograph=False)
    operations = {one.type for one in served.get_concrete_function().graph.get_operations()}
    assert operations.isdisjoint({"FusedBatchNormV3", "Pad", "ReverseV2", "Maximum", "Minimum"})
