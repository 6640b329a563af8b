"""Fully convolutional networks: what they see, what they give, what they refuse."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from segmodel.errors import ConfigurationError

pytest.importorskip("tensorflow")

from segmodel.backbones import BACKBONES
from segmodel.network import (
    VARIANTS,
    BilinearUpsampling,
    NetworkConfig,
    Preprocessing,
    bilinear_kernel,
    build_network,
    preprocessing,
    reach,
)


@functools.cache
def tiny(variant: str):
    import keras

    keras.utils.set_random_seed(1)
    return build_network(NetworkConfig(classes=2, variant=variant, width=0.35))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("axis", [1, 2])
def test_pixels_outside_of_the_claimed_reach_never_change_an_output_pixel(variant, axis):
    model, seen = tiny(variant), reach(tiny(variant))
    shape = [1, 32, 32, 3]
    shape[axis] = 672
    random = np.random.default_rng(0)
    images = random.integers(0, 256, shape).astype(np.float32)
    expected = model(images).numpy()
    for row in (320, 339, 351):
        low, high = row + math.floor(seen.low), row + math.ceil(seen.high)
        outside = np.ones(672, bool)
        outside[low : high + 1] = False
        assert outside.sum() > 50
        other = np.moveaxis(images.copy(), axis, 0)
        other[outside] = 255 - other[outside]
        actual = model(np.moveaxis(other, 0, axis)).numpy()
        np.testing.assert_array_equal(
            np.take(actual, row, axis), np.take(expected, row, axis), err_msg=str(row)
        )
        assert (np.take(actual, row + 300, axis) != np.take(expected, row + 300, axis)).any()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96)])
def test_scores_have_the_size_of_the_image(variant, height, width):
    scores = tiny(variant)(np.zeros((2, height, width, 3), np.float32))
    assert scores.shape == (2, height, width, 2)
    assert scores.dtype == "float32"


@pytest.mark.parametrize(("variant", "strides"), [("fcn-32s", [32]), ("fcn-4s", [4, 8, 16, 32])])
def test_a_variant_scores_the_features_down_to_its_stride(variant, strides):
    names = {layer.name for layer in tiny(variant).layers}
    assert {f"score_{stride}" for stride in strides} == {n for n in names if n.startswith("score")}


# Araujo, Norris and Sim (2019), table of receptive fields of published networks.
@pytest.mark.parametrize(
    ("backbone", "layer", "field"),
    [
        ("vgg16", "block5_pool", 212),
        ("resnet50", "conv5_block3_out", 483),
        ("mobilenet_v2", "out_relu", 491),
    ],
)
def test_backbones_build_without_weights_and_see_what_is_published(backbone, layer, field):
    import keras

    model = build_network(NetworkConfig(classes=2, variant="fcn-32s", backbone=backbone))
    features = reach(keras.Model(model.inputs, model.get_layer(layer).output))
    assert features.high - features.low + 1 == field
    assert features.scale == 32 == BACKBONES[backbone].stride
    assert model.output_shape == (None, None, None, 2)


def test_statistics_follow_the_weights_with_momentum_0_9():
    import keras

    layers = [n for n in tiny("fcn-4s").layers if isinstance(n, keras.layers.BatchNormalization)]
    assert len(layers) == 52
    assert {layer.momentum for layer in layers} == {0.9}


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_other_bands_than_three_are_scaled_to_plus_minus_1(bands):
    config = NetworkConfig(classes=2, bands=bands, width=0.35, value_range=(100.0, 300.0))
    assert preprocessing(config) == ([200.0] * bands, [0.01] * bands)
    assert build_network(config).input_shape == (None, None, None, bands)


def test_three_bands_are_scaled_as_the_backbone_was_trained():
    mean, scale = preprocessing(NetworkConfig(classes=2, backbone="vgg16"))
    assert mean == [123.68, 116.779, 103.939]
    assert scale == [1.0] * 3
    mean, scale = preprocessing(NetworkConfig(classes=2, value_range=(0.0, 510.0)))
    assert mean == [255.0] * 3
    assert scale == pytest.approx([1 / 255] * 3, rel=1e-12)


def test_preprocessing_subtracts_multiplies_and_turns_bands_round():
    layer = Preprocessing([1.0, 2.0, 3.0], [1.0, 10.0, 100.0], reverse=True)
    actual = layer(np.array([[[[2, 4, 6]]]], np.uint8)).numpy()
    assert actual.tolist() == [[[[300.0, 20.0, 1.0]]]]
    again = Preprocessing.from_config(layer.get_config())
    assert again(np.array([[[[2, 4, 6]]]], np.uint8)).numpy().tolist() == actual.tolist()


@pytest.mark.parametrize("factor", [2, 4])
def test_the_bilinear_kernel_interpolates_each_class_by_itself(factor):
    import keras

    kernel = bilinear_kernel(factor, 2)
    assert kernel.shape == (2 * factor, 2 * factor, 2, 2)
    assert not kernel[:, :, 0, 1].any()
    assert not kernel[:, :, 1, 0].any()
    layer = keras.layers.Conv2DTranspose(
        2,
        2 * factor,
        strides=factor,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(kernel),
    )
    scores = np.random.default_rng(0).normal(size=(1, 6, 5, 2)).astype(np.float32)
    actual, expected = layer(scores).numpy(), BilinearUpsampling(factor)(scores).numpy()
    inner = (slice(None), slice(factor, -factor), slice(factor, -factor))
    np.testing.assert_allclose(actual[inner], expected[inner], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "fcn-2s"}, "variant must be one of fcn-32s, .*, got 'fcn-2s'"),
        (
            {"backbone": "vgg19"},
            "backbone must be one of mobilenet_v2, resnet50, vgg16, got 'vgg19'",
        ),
        ({"backbone": "vgg16", "width": 0.5}, "vgg16 has no width, got 0.5"),
        ({"classes": 0}, "classes, bands and value_range must be positive"),
        ({"bands": 0}, "classes, bands and value_range must be positive"),
        ({"value_range": (5.0, 5.0)}, "classes, bands and value_range must be positive"),
        ({"bands": 4, "backbone_weights": "imagenet"}, "backbone_weights need 3 bands, got 4"),
    ],
)
def test_an_impossible_network_is_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        NetworkConfig(**({"classes": 2} | changes))


def test_a_weights_file_that_is_not_there_is_a_configuration_error():
    config = NetworkConfig(classes=2, width=0.35, backbone_weights="/absent/weights.h5")
    with pytest.raises(ConfigurationError, match="backbone_weights"):
        build_network(config)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_a_width_that_is_not_positive_is_refused(width):
    with pytest.raises(ConfigurationError, match="width"):
        NetworkConfig(classes=2, width=width)
