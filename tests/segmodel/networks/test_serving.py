"""Models run frozen where labels stay what they are, and else as loaded."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from segmodel.networks import serving
from segmodel.networks.serving import serve
from segmodel.savedmodel.export import ServedModel
from segmodel.savedmodel.predictor import Predictor
from tests.fakes import contract

PICTURES = contract(stride=4).sample()[None]
IMAGES = np.random.default_rng(1).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8)


class Scores(tf.Module):
    """Scores of each class by weights that are computed of two variables."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(np.eye(3, dtype=np.float32)[None, None])
        self.factor = tf.Variable([0.5, 1.0, 0.25])

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(values, self.kernel * self.factor, 1, "SAME")


@pytest.fixture
def served() -> ServedModel:
    return ServedModel(Scores(), contract(stride=4))


def predictor(served: ServedModel) -> Predictor:
    return Predictor(contract(stride=4), served.signatures(), served, "0" * 64)


def test_every_signature_runs_frozen_and_gives_what_it_gave(served):
    model = predictor(served)
    loaded = {
        name: {key: value.numpy() for key, value in function(images=tf.constant(IMAGES)).items()}
        for name, function in model.signatures.items()
    }
    np.testing.assert_array_equal(model.labels(IMAGES), loaded["labels"]["labels"])
    labels, confidence = model.labels_and_confidence(IMAGES)
    np.testing.assert_array_equal(labels, loaded["serving_default"]["labels"])
    np.testing.assert_allclose(confidence, loaded["serving_default"]["confidence"], atol=1e-6)
    expected = loaded["probabilities"]["probabilities"]
    np.testing.assert_allclose(model.probabilities(IMAGES), expected, atol=1e-6)
    assert {model.served(name).why_loaded for name in loaded} == {None}


def test_only_a_signature_that_is_used_is_frozen(served):
    model = predictor(served)
    before = model.labels(IMAGES)
    served._owned.factor.assign([2.0, 0.0, 0.0])
    np.testing.assert_array_equal(model.labels(IMAGES), before)
    assert set(np.unique(model.probabilities(IMAGES).argmax(-1))) == {0}


def test_a_function_that_would_give_other_labels_runs_as_loaded(served, monkeypatch):
    signatures = served.signatures()

    def wrong(function):
        changed = {name: values + 1 for name, values in function(images=IMAGES[:, :1]).items()}
        return lambda images: changed

    monkeypatch.setattr(serving, "freeze", wrong)
    found = serve(signatures["labels"], PICTURES)
    assert found.function is signatures["labels"]
    assert found.why_loaded == "it gives other labels with weights computed once"


def test_probabilities_may_differ_by_rounding_and_not_by_more(served, monkeypatch):
    signature = served.signatures()["probabilities"]
    for error, is_frozen in ((5e-5, True), (5e-4, False)):
        monkeypatch.setattr(
            serving,
            "freeze",
            lambda function, error=error: (
                lambda images: {
                    name: values + error for name, values in function(images=images).items()
                }
            ),
        )
        assert (serve(signature, PICTURES).why_loaded is None) is is_frozen


def test_what_tensorflow_cannot_freeze_runs_as_loaded(served, monkeypatch):
    def fail(function):
        raise ValueError("no such function")

    monkeypatch.setattr(serving, "freeze", fail)
    signature = served.signatures()["labels"]
    found = serve(signature, PICTURES)
    assert found.function is signature
    assert found.why_loaded == "TensorFlow cannot freeze it (ValueError)"


def test_a_graph_without_variables_is_not_called_before_it_is_needed():
    labels = tf.function(
        lambda images: {"labels": images[..., 0]},
        input_signature=[tf.TensorSpec((1, 1, 1, 3), tf.uint8, "images")],
    ).get_concrete_function()
    assert serve(labels, PICTURES).why_loaded == "its weights are constants already"
