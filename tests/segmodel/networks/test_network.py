"""Fully convolutional networks: what they see, what they give, what they refuse."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest

from segmodel.errors import ConfigurationError

pytest.importorskip("tensorflow")

import keras

from segmodel.networks.network import (
    BilinearUpsampling,
    NetworkConfig,
    Preprocessing,
    bilinear_kernel,
    build_network,
    nodata_fill,
    preprocessing,
    receptive_field,
)
from segmodel.networks.variants import VARIANTS


@functools.cache
def tiny(variant: str):
    keras.utils.set_random_seed(1)
    return build_network(NetworkConfig(classes=2, variant=variant, width=0.35))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("axis", [1, 2])
def test_pixels_outside_of_the_claimed_reach_never_change_an_output_pixel(variant, axis):
    model, seen = tiny(variant), receptive_field(tiny(variant))
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


def test_layers_have_the_same_names_in_every_variant():
    paths = {}
    for variant in VARIANTS:
        weights = {v.path: v.shape for v in tiny(variant).weights}
        paths[variant] = {p for p in weights if p.startswith(("score", "upsample"))}
    for coarse, fine in itertools.pairwise(VARIANTS):
        stride = VARIANTS[fine]
        assert paths[fine] - paths[coarse] == {
            f"score_{stride}/kernel",
            f"score_{stride}/bias",
            f"upsample_{2 * stride}/kernel",
        }
        assert paths[coarse] < paths[fine]


# Long, Shelhamer and Darrell (2015), table 1: 134 million parameters, receptive field 404.
def test_fcn_8s_vgg16_with_fc_layers_has_the_size_of_the_paper():
    classes = 21
    network = build_network(NetworkConfig(classes, "fcn-8s", "vgg16", fc_layers=True))
    sizes = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    sizes += [(256, 512)] + [(512, 512)] * 5
    convolutions = sum(3 * 3 * a * b + b for a, b in sizes)
    fc = (7 * 7 * 512 + 1) * 4096 + (4096 + 1) * 4096
    assert convolutions + fc == 134_260_544
    scores = sum((channels + 1) * classes for channels in (4096, 512, 256))
    upsampling = 2 * 4 * 4 * classes * classes
    assert network.count_params() == convolutions + fc + scores + upsampling == 134_376_863
    seen = receptive_field(keras.Model(network.inputs[0], network.get_layer("fc7").output))
    assert seen.high - seen.low + 1 == 404


def test_fc_layers_keep_the_grid_and_drop_half_in_training():
    config = NetworkConfig(2, "fcn-32s", width=0.35, fc_layers=True, fc_channels=24)
    network = build_network(config)
    assert network.get_layer("fc6").kernel.shape == (7, 7, 1280, 24)
    assert network.get_layer("fc7").kernel.shape == (1, 1, 24, 24)
    assert network.get_layer("score_32").kernel.shape == (1, 1, 24, 2)
    assert network.get_layer("fc6").activation is keras.activations.relu
    assert [network.get_layer(f"fc{n}_dropout").rate for n in (6, 7)] == [0.5, 0.5]
    images = np.zeros((1, 64, 96, 3), np.float32)
    assert network(images).shape == (1, 64, 96, 2)
    network.get_layer("score_32").set_weights([np.ones((1, 1, 24, 2)), np.zeros(2)])
    images += np.arange(96)[:, None]
    np.testing.assert_array_equal(network(images), network(images))
    assert (network(images, training=True) != network(images, training=True)).numpy().any()


# Precision


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_a_mixed_network_has_float32_variables_and_logits(precision):
    before = keras.config.dtype_policy().name
    config = NetworkConfig(2, "fcn-4s", width=0.35, precision=precision, fc_layers=True)
    mixed = build_network(dataclasses.replace(config, fc_channels=8))
    assert keras.config.dtype_policy().name == before == "float32"
    assert mixed.get_layer("Conv1").compute_dtype == precision.removeprefix("mixed_")
    assert mixed.get_layer("fc6").compute_dtype == precision.removeprefix("mixed_")
    ours = ("preprocessing", "score_32", "upsample_32", "fuse_16", "logits")
    assert {mixed.get_layer(name).compute_dtype for name in ours} == {"float32"}
    assert {str(v.dtype) for v in mixed.weights} == {"float32"}
    assert mixed.output.dtype == "float32"
    assert [v.path for v in mixed.weights][:-8] == [
        v.path for v in build_network(dataclasses.replace(config, fc_channels=8)).weights
    ][:-8]


def test_the_policy_of_the_process_is_put_back_after_an_error():
    config = NetworkConfig(2, backbone_weights="/absent.h5", precision="mixed_bfloat16")
    with pytest.raises(ConfigurationError):
        build_network(config)
    assert keras.config.dtype_policy().name == "float32"


def test_a_mixed_network_gives_about_the_scores_of_a_plain_one():
    config = NetworkConfig(2, "fcn-8s", width=0.35, precision="mixed_bfloat16")
    mixed = build_network(config)
    mixed.set_weights(tiny("fcn-8s").get_weights())
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    expected = tiny("fcn-8s")(images).numpy()
    np.testing.assert_allclose(mixed(images).numpy(), expected, atol=0.05 * np.ptp(expected))


# Statistics and preprocessing


def test_statistics_follow_the_weights_with_momentum_0_9():
    layers = [n for n in tiny("fcn-4s").layers if isinstance(n, keras.layers.BatchNormalization)]
    assert len(layers) == 52
    assert {layer.momentum for layer in layers} == {0.9}


def test_statistics_follow_with_the_momentum_that_is_given():
    config = NetworkConfig(2, "fcn-32s", width=0.35, batch_norm_momentum=0.99)
    layers = build_network(config).layers
    kinds = [n for n in layers if isinstance(n, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in kinds} == {0.99}


@pytest.mark.parametrize("bands", [("grey",), ("vv", "vh"), tuple("abcde")])
def test_any_bands_are_scaled_to_plus_minus_1_by_mobilenet(bands):
    config = NetworkConfig(classes=2, bands=bands, width=0.35, value_range=(100.0, 300.0))
    mean, scale = preprocessing(config)
    assert mean == pytest.approx([200.0] * len(bands), abs=1e-9)
    assert scale == pytest.approx([0.01] * len(bands), abs=1e-12)
    assert build_network(config).input_shape == (None, None, None, len(bands))


def test_bands_without_a_name_are_centred_at_the_mean_of_the_three():
    config = NetworkConfig(classes=2, backbone="vgg16", bands=("nir", "blue"))
    assert preprocessing(config)[0] == pytest.approx([114.79933333333334, 103.939], rel=1e-12)


def test_nodata_is_filled_with_what_becomes_0():
    config = NetworkConfig(classes=2, backbone="vgg16", value_range=(0.0, 1.0))
    assert nodata_fill(config, "float32") == pytest.approx((0.48502, 0.45796, 0.40760), abs=1e-5)
    plain = NetworkConfig(classes=2, backbone="vgg16")
    assert nodata_fill(plain, "uint8") == (124.0, 117.0, 104.0)
    assert nodata_fill(plain, "float32") == (123.68, 116.779, 103.939)


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
        ({"backbone": "vgg11"}, "backbone must be one of vgg16, vgg19, .*, got 'vgg11'"),
        ({"precision": "float16"}, "precision must be one of float32, .*, got 'float16'"),
        ({"classes": 0}, "model.classes must be at least 1, got 0"),
        ({"fc_channels": 0}, "model.fc_channels must be at least 1, got 0"),
        ({"bands": ()}, "bands must be names"),
        ({"value_range": (5.0, 5.0)}, "value_range must rise"),
        ({"batch_norm_momentum": 1.0}, "batch_norm_momentum must be in 0..1, got 1.0"),
        (
            {"backbone": "vgg16", "width": 0.5, "backbone_weights": "imagenet"},
            "'imagenet' of vgg16 exist for width 1 only, got 0.5: set width = 1.0",
        ),
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
