"""Backbones: preprocessing, strides, widths, and weights of others."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from segmodel.errors import ConfigurationError

pytest.importorskip("tensorflow")

import keras

from segmodel.networks.backbones import BACKBONES, Backbone, find_backbone, scaled_channels
from segmodel.networks.network import NetworkConfig, build_network, preprocessing

GOLDEN = np.array([[[[0, 127, 255], [255, 3, 90], [17, 128, 200]]]], np.uint8)


def rescaled_by_efficientnet(images):
    model = keras.applications.EfficientNetV2S(
        include_top=False, weights=None, input_shape=(32, 32, 3), include_preprocessing=True
    )
    kinds = [n for n in model.layers if isinstance(n, keras.layers.Rescaling)]
    assert len(kinds) == 1
    return kinds[0](images).numpy()


apps = keras.applications
PREPROCESS = {
    "vgg16": apps.vgg16.preprocess_input,
    "vgg19": apps.vgg19.preprocess_input,
    **dict.fromkeys(("resnet50", "resnet101", "resnet152"), apps.resnet.preprocess_input),
    **{f"resnet{n}_v2": apps.resnet_v2.preprocess_input for n in (50, 101, 152)},
    "mobilenet_v2": apps.mobilenet_v2.preprocess_input,
    "efficientnet_v2_s": rescaled_by_efficientnet,
}


@pytest.mark.parametrize("name", BACKBONES)
def test_preprocessing_is_that_of_keras(name):
    from segmodel.networks.network import Preprocessing

    mean, scale = preprocessing(NetworkConfig(classes=2, backbone=name))
    actual = Preprocessing(mean, scale, find_backbone(name).reverse)(GOLDEN).numpy()
    expected = PREPROCESS[name](GOLDEN.astype(np.float32))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_skips_have_the_strides_they_claim_and_are_the_last_of_their_stride(name):
    backbone = BACKBONES[name]
    width = {"alpha": 0.35} if backbone.publishes_widths else {}
    images = keras.Input((None, None, 3))
    model = backbone.build(input_tensor=images, include_top=False, weights=None, **width)
    assert [stride for stride, _ in backbone.skips] == [4, 8, 16, 32]
    names = [layer.name for layer in model.layers]
    places = [names.index(layer) for _, layer in backbone.skips]
    assert places == sorted(places)
    outputs = [model.get_layer(layer).output for _, layer in backbone.skips]
    shapes = keras.Model(images, outputs).compute_output_shape((1, 64, 96, 3))
    assert [s[1:3] for s in shapes] == [(64 // s, 96 // s) for s in (4, 8, 16, 32)]
    assert backbone.skips[-1][1] == names[-1]


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "resnet50_v2", "efficientnet_v2_s"])
def test_a_width_scales_every_layer(name):
    model = build_network(NetworkConfig(2, "fcn-4s", name, width=0.125))
    assert model.input_shape == (None, None, None, 3)
    assert model(np.zeros((1, 32, 64, 3), np.float32)).shape == (1, 32, 64, 2)
    whole = BACKBONES[name].build(
        input_tensor=keras.Input((None, None, 3)), include_top=False, weights=None
    )
    expected = {
        n.name: scaled_channels(n.filters, 0.125)
        for n in whole.layers
        if type(n) is keras.layers.Conv2D
    }
    ours = {n.name: n.filters for n in model.layers if n.name in expected}
    assert ours == expected
    carried = {v.path for v in model.weights if not v.path.startswith(("score", "upsample"))}
    assert carried == {v.path for v in whole.weights}


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [(64, 1.0, 64), (64, 0.01, 8), (20, 1.0, 24), (19, 1.0, 16), (64, 2.0, 128)],
)
def test_channels_are_multiples_of_8(channels, width, expected):
    assert scaled_channels(channels, width) == expected


# Weights


def build_tiny(input_tensor=None, input_shape=None, include_top=True, weights=None):
    assert not include_top
    images = keras.Input(input_shape) if input_tensor is None else input_tensor
    tensor = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(images)
    for stride in (4, 8, 16, 32):
        tensor = keras.layers.Conv2D(4, 3, padding="same", name=f"conv_{stride}")(tensor)
        tensor = keras.layers.MaxPooling2D(2, name=f"pool_{stride}")(tensor)
    sources = keras.utils.get_source_inputs(tensor)
    model = keras.Model(sources, tensor)
    if weights == "imagenet":
        raise Exception("URL fetch failure on https://storage: no route")
    if weights:
        model.load_weights(weights)
    return model


@pytest.fixture(params=[True, False], ids=["reversed", "in order"])
def tiny(request, monkeypatch, tmp_path):
    """A backbone, the file of its weights, and the trained network."""
    skips = tuple((stride, f"pool_{stride}") for stride in (4, 8, 16, 32))
    entry = Backbone(build_tiny, skips, (120.0, 110.0, 100.0), 0.01, reverse=request.param)
    monkeypatch.setitem(BACKBONES, "tiny", entry)
    keras.utils.set_random_seed(3)
    trained = build_tiny(input_shape=(None, None, 3), include_top=False)
    path = tmp_path / "tiny.weights.h5"
    trained.save_weights(path)
    return entry, str(path), trained


def features(bands, path, **options):
    config = NetworkConfig(2, "fcn-32s", "tiny", path, bands=bands, **options)
    network = build_network(config)
    return keras.Model(network.inputs[0], network.get_layer("pool_32").output), config


IMAGES = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)


def test_red_green_blue_are_computed_exactly_as_by_the_trained_network(tiny):
    entry, path, trained = tiny
    model, _ = features(("red", "green", "blue"), path)
    prepared = (IMAGES - np.float32(entry.mean)) * np.float32(entry.scale)
    expected = trained(prepared[..., ::-1] if entry.reverse else prepared).numpy()
    np.testing.assert_array_equal(model(IMAGES).numpy(), expected)
    own = {v.path: v.numpy() for v in trained.weights}
    for variable in model.weights:
        np.testing.assert_array_equal(variable.numpy(), own[variable.path])


def test_blue_green_red_give_the_features_of_red_green_blue(tiny):
    _, path, _ = tiny
    expected = features(("red", "green", "blue"), path)[0](IMAGES).numpy()
    actual = features(("blue", "green", "red"), path)[0](IMAGES[..., ::-1]).numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_a_fourth_band_at_the_mean_of_grey_changes_nothing(tiny):
    _, path, _ = tiny
    grey = np.random.default_rng(2).uniform(-100, 100, (1, 64, 64, 1)).astype(np.float32)
    given = grey + np.float32([120, 110, 100])
    expected = features(("red", "green", "blue"), path)[0](given).numpy()
    four = grey + np.float32([110, 100, 110, 120])
    actual = features(("nir", "blue", "green", "red"), path)[0](four).numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_a_wider_value_range_gives_the_same_features(tiny):
    _, path, _ = tiny
    expected = features(("red", "green", "blue"), path)[0](IMAGES).numpy()
    model, _ = features(("red", "green", "blue"), path, value_range=(1000.0, 1000.0 + 255 * 16))
    np.testing.assert_allclose(model(IMAGES * 16 + 1000).numpy(), expected, rtol=0, atol=1e-4)


def test_weights_of_another_network_are_refused_with_file_and_remedy(tiny, tmp_path):
    other = keras.Sequential([keras.Input((None, None, 4)), keras.layers.Conv2D(4, 3)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ConfigurationError, match=r"other\.weights\.h5 cannot be .* without top"):
        features(("red", "green", "blue"), str(tmp_path / "other.weights.h5"))


@pytest.mark.parametrize("name", ["broken.weights.h5", "broken.h5", "broken.txt"])
def test_a_broken_weights_file_is_refused_with_its_name(tiny, tmp_path, name):
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(ConfigurationError, match=f"{name} cannot be loaded into tiny"):
        features(("red",), str(tmp_path / name))


def test_a_weights_file_that_is_not_there_is_refused(tiny):
    with pytest.raises(ConfigurationError, match=r"/absent/weights\.h5: no such file"):
        features(("red",), "/absent/weights.h5")


def test_imagenet_without_a_network_says_how_to_give_a_file(tiny):
    message = "weights imagenet cannot .* give the path of a file .* URL fetch failure"
    with pytest.raises(ConfigurationError, match=message):
        features(("red",), "imagenet")


def test_mobilenet_takes_a_file_of_its_own_width(tmp_path):
    path = tmp_path / "mobilenet.weights.h5"
    make = partial(apps.MobileNetV2, include_top=False, weights=None, alpha=0.35)
    trained = make(input_shape=(96, 96, 3))
    trained.save_weights(path)
    config = NetworkConfig(2, "fcn-32s", "mobilenet_v2", str(path), width=0.35)
    model = build_network(config)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    actual = keras.Model(model.inputs[0], model.get_layer("out_relu").output)(images)
    own = make(input_shape=(None, None, 3))
    own.set_weights(trained.get_weights())
    expected = own(apps.mobilenet_v2.preprocess_input(images.copy()))
    np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=0, atol=1e-5)


def test_a_file_of_another_width_is_refused(tmp_path):
    path = tmp_path / "mobilenet.h5"
    trained = apps.MobileNetV2(include_top=False, weights=None, alpha=0.35)
    trained.save(path)
    build_network(NetworkConfig(2, "fcn-32s", "mobilenet_v2", str(path), width=0.35))
    with pytest.raises(ConfigurationError, match=r"into mobilenet_v2 with width 0\.5"):
        build_network(NetworkConfig(2, "fcn-32s", "mobilenet_v2", str(path), width=0.5))
