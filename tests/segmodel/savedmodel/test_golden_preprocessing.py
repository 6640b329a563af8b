"""Preprocessing is the same layer by itself, in a data pipeline and in a SavedModel."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tensorflow as tf

from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.networks.network import NetworkConfig, build_network
from segmodel.savedmodel.contract import MeasuredHalo
from segmodel.savedmodel.export import export_savedmodel
from segmodel.savedmodel.predictor import Predictor
from tests.fakes import contract

RGB = np.array([[[0, 127, 255], [255, 3, 90]]], np.uint8)
# The last pixel is beyond the range on both sides.
DEEP = np.array([[[1000, 6000, 11000, 2000], [0, 65535, 1000, 999]]], np.uint16)
FLOAT = np.array([[[0.0, 0.5], [-1.0, 2.0]]], np.float32)
BGRN = ("blue", "green", "red", "nir")

CASES = {
    # Blue, green, red minus 103.939, 116.779, 123.68.
    "vgg16": (
        NetworkConfig(2, "fcn-32s", "vgg16", width=0.1),
        RGB,
        [[151.061, 10.221, -123.68], [-13.939, -113.779, 131.32]],
    ),
    # Over 127.5, minus 1.
    "mobilenet_v2": (
        NetworkConfig(2, "fcn-32s", width=0.1),
        RGB,
        [[-1.0, -0.0039215686, 1.0], [1.0, -0.9764705882, -0.2941176471]],
    ),
    # Minus 128, over 128.
    "efficientnet_v2_s": (
        NetworkConfig(2, "fcn-32s", "efficientnet_v2_s", width=0.1),
        RGB,
        [[-1.0, -0.0078125, 0.9921875], [0.9921875, -0.9765625, -0.296875]],
    ),
    # 1000..11000 become 0..255; near infrared has the mean of the three means, 114.79933.
    "vgg16, 16 bits": (
        NetworkConfig(2, "fcn-32s", "vgg16", width=0.1, bands=BGRN, value_range=(1000, 11000)),
        DEEP,
        [[-89.299333, 131.32, 10.721, -103.939], [-114.799333, -123.68, 138.221, -103.939]],
    ),
    "mobilenet_v2, float32": (
        NetworkConfig(2, "fcn-32s", width=0.1, bands=("vv", "vh"), value_range=(0.0, 1.0)),
        FLOAT,
        [[-1.0, 0.0], [-1.0, 1.0]],
    ),
}
# Logits are so much smaller, as probabilities of great ones are 0 and 1.
SHRUNK = 128.0


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    """Image, what becomes of it, and the layer of the network that does it."""
    config, image, expected = CASES[request.param]
    layer = build_network(config).get_layer("preprocessing")
    return image, np.array(expected, np.float32)[None], layer, config


def test_the_layer_gives_the_golden_values(golden):
    image, expected, layer, _ = golden
    np.testing.assert_allclose(layer(image).numpy(), expected, rtol=0, atol=5e-5)


def test_a_data_pipeline_gives_the_values_of_the_layer(golden):
    image, _, layer, _ = golden
    (actual,) = tf.data.Dataset.from_tensors(image).map(layer)
    np.testing.assert_array_equal(actual.numpy(), layer(image).numpy())


def test_a_savedmodel_gives_the_values_of_the_layer(golden, tmp_path):
    image, expected, layer, config = golden
    bands = len(config.bands)

    def shown(images: tf.Tensor) -> tf.Tensor:
        # A score of 0 first, so that the others can be read from probabilities.
        values = layer(images) / SHRUNK
        return tf.concat([tf.zeros_like(values[..., :1]), values], axis=-1)

    classes = tuple(LabelClass(n, f"band {n}", (n, n, n)) for n in range(bands + 1))
    fields = {
        "bands": config.bands,
        "dtype": image.dtype.name,
        "value_range": config.value_range,
        "nodata_fill": (1.0,) * bands,
        "classes": ClassTable(classes),
        "stride": 1,
        "halo": MeasuredHalo(0, 512, 1.0),
    }
    export_savedmodel(shown, contract(**fields), tmp_path / "model", measure_memory=False)
    shares = Predictor.load(tmp_path / "model").probabilities(image[None])[0]
    actual = SHRUNK * np.log(shares[..., 1:] / shares[..., :1])
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)
