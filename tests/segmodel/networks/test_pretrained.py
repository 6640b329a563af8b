"""Weights read from models and carried into other networks."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from segmodel.errors import ConfigurationError

pytest.importorskip("tensorflow")

import keras
import tensorflow as tf

from segmodel.networks.network import NetworkConfig, build_network
from segmodel.networks.pretrained import read_weights, transfer_weights


def network(variant: str, classes: int = 3, **options) -> keras.Model:
    """Small, with random weights that differ each time."""
    return build_network(NetworkConfig(classes, variant, width=0.1, **options))


@functools.cache
def trained(variant: str, classes: int = 3) -> dict[str, np.ndarray]:
    model = network(variant, classes)
    random = np.random.default_rng(5)
    return {v.path: random.normal(size=v.shape).astype(np.float32) for v in model.weights}


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {v.path: v.numpy() for v in model.weights}


def assert_taken(model: keras.Model, source: dict[str, np.ndarray], anew: list[str]) -> None:
    for path, value in values(model).items():
        if path not in anew:
            np.testing.assert_array_equal(value, source[path], err_msg=path)


# Carrying


def test_the_same_network_takes_everything():
    model = network("fcn-8s")
    assert transfer_weights(trained("fcn-8s"), model, classes_equal=True) == []
    assert_taken(model, trained("fcn-8s"), [])


@pytest.mark.parametrize(
    ("coarse", "fine", "anew"),
    [
        ("fcn-32s", "fcn-16s", [16]),
        ("fcn-32s", "fcn-8s", [16, 8]),
        ("fcn-8s", "fcn-4s", [4]),
    ],
)
def test_skips_that_join_a_trained_stage_start_with_scores_of_0(coarse, fine, anew):
    model = network(fine)
    upsampling = {v.path: v.numpy() for v in network(fine).weights if v.path.startswith("up")}
    actual = transfer_weights(trained(coarse), model, classes_equal=True)
    expected = {f"score_{stride}/{part}" for stride in anew for part in ("kernel", "bias")}
    expected |= {f"upsample_{2 * stride}/kernel" for stride in anew}
    assert set(actual) == expected
    assert_taken(model, trained(coarse), actual)
    for path in actual:
        if path.startswith("score"):
            assert not values(model)[path].any(), path
        else:
            np.testing.assert_array_equal(values(model)[path], upsampling[path])


def test_a_finer_stage_begins_with_the_scores_of_the_coarser_one():
    source = build_network(NetworkConfig(2, "fcn-32s", width=0.1))
    model = build_network(NetworkConfig(2, "fcn-8s", width=0.1))
    transfer_weights(values(source), model, classes_equal=True)
    images = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3)).astype(np.float32)
    scores = [
        keras.Model(m.inputs[0], m.get_layer(n).output)(images).numpy()
        for m, n in (
            (source, "score_32"),
            (model, "fuse_8"),
        )
    ]
    inner = (slice(None), slice(8, -8), slice(8, -8))
    expected = tf.image.resize(tf.image.resize(scores[0], (16, 16)), (32, 32)).numpy()
    np.testing.assert_allclose(scores[1][inner], expected[inner], rtol=0, atol=1e-5)


def test_score_layers_of_other_classes_start_anew_and_not_at_0():
    model = network("fcn-16s", classes=2)
    before = values(model)
    anew = transfer_weights(trained("fcn-16s", 3), model, classes_equal=False)
    kernels = ["score_32/kernel", "score_16/kernel", "upsample_32/kernel"]
    assert set(anew) == {*kernels, "score_32/bias", "score_16/bias"}
    assert_taken(model, trained("fcn-16s", 3), anew)
    for path in anew:
        np.testing.assert_array_equal(values(model)[path], before[path])
    assert all(before[path].any() for path in kernels)


def test_other_classes_of_equal_number_start_anew_too():
    model = network("fcn-32s")
    before = values(model)["score_32/kernel"]
    anew = transfer_weights(trained("fcn-32s"), model, classes_equal=False)
    assert anew == ["score_32/kernel", "score_32/bias"]
    np.testing.assert_array_equal(values(model)["score_32/kernel"], before)


def test_a_coarser_network_takes_what_it_has():
    model = network("fcn-32s")
    assert transfer_weights(trained("fcn-8s"), model, classes_equal=True) == []
    assert_taken(model, trained("fcn-8s"), [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vgg16"}, "lack block1_conv1/kernel, .* and 23 more: model.backbone"),
        ({"fc_layers": True, "fc_channels": 8}, "lack fc6/kernel, fc6/bias, fc7/kernel and 1 more"),
        ({"bands": ("a", "b")}, r"have Conv1/kernel \(3, 3, 3, 8\) for \(3, 3, 2, 8\): model"),
    ],
)
def test_another_architecture_is_refused_and_nothing_is_changed(options, message):
    model = network("fcn-8s", **options)
    before = values(model)
    with pytest.raises(ConfigurationError, match=message):
        transfer_weights(trained("fcn-8s"), model, classes_equal=True)
    for path, value in values(model).items():
        np.testing.assert_array_equal(value, before[path])


def test_weights_without_a_place_are_refused():
    source = trained("fcn-32s") | {"fc6/kernel": np.zeros(3)}
    with pytest.raises(ConfigurationError, match="have no place for fc6/kernel: model"):
        transfer_weights(source, network("fcn-32s"), classes_equal=True)


# Reading


class Saved(tf.Module):
    """As `export_savedmodel` saves a Keras network: variables by path, and functions of them."""

    def __init__(self, model: keras.Model, named: bool = True) -> None:
        super().__init__()
        if named:
            self.weights = {variable.path: variable.value for variable in model.weights}
        self.owned = [variable.value for variable in model.weights]
        spec = tf.TensorSpec((None, None, None, 3))
        self.scores = tf.function(lambda images: model(images), input_signature=[spec])


def small(name: str = "score_32") -> keras.Model:
    images = keras.Input((None, None, 3))
    tensor = keras.layers.Conv2D(2, 3, name=name)(images)
    return keras.Model(images, keras.layers.BatchNormalization(name="a.b_S.S")(tensor))


def save(model: keras.Model, folder, named: bool = True) -> str:
    saved = Saved(model, named)
    tf.saved_model.save(saved, str(folder), signatures={"serving_default": saved.scores})
    return str(folder)


@pytest.mark.parametrize("inside", ["", "model"])
def test_weights_are_read_by_the_path_of_their_variable(tmp_path, inside):
    model = small()
    save(model, tmp_path / inside)
    actual = read_weights(tmp_path)
    assert set(actual) == {
        "score_32/kernel",
        "score_32/bias",
        *(f"a.b_S.S/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")),
    }
    for path, value in values(model).items():
        np.testing.assert_array_equal(actual[path], value)


def test_a_whole_network_comes_back(tmp_path):
    source, model = network("fcn-16s"), network("fcn-16s")
    save(source, tmp_path)
    assert transfer_weights(read_weights(tmp_path), model, classes_equal=True) == []
    assert_taken(model, values(source), [])


def test_a_model_without_names_is_refused(tmp_path):
    save(small(), tmp_path, named=False)
    with pytest.raises(ConfigurationError, match="no weights by name"):
        read_weights(tmp_path)


@pytest.mark.parametrize("path", ["", "absent"])
def test_a_folder_without_a_model_is_refused(tmp_path, path):
    with pytest.raises(ConfigurationError, match=r"found no saved_model\.pb in it, nor in"):
        read_weights(tmp_path / path)


@pytest.mark.parametrize("damage", ["variables.index", "variables.data-00000-of-00001"])
@pytest.mark.parametrize("gone", [True, False])
def test_damaged_weights_are_refused(tmp_path, damage, gone):
    save(small(), tmp_path)
    file = tmp_path / "variables" / damage
    file.unlink() if gone else file.write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="weights cannot be read"):
        read_weights(tmp_path)
