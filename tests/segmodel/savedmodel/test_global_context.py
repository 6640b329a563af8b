"""A network that sees its whole window, from training to labels."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.pairs.pairs import TrainingData
from segmodel.savedmodel.predictor import Predictor
from segmodel.training.trainer import train
from tests.segmodel.made_pairs import CLASSES, configuration, halves


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    model = {"backbone": "efficientnet_v2_s", "variant": "fcn-32s", "width": 0.1}
    config = configuration(model, steps=2, batch=2, optimizer="sgd", validate_every=2)
    output = tmp_path_factory.mktemp("global") / "run"
    with pytest.MonkeyPatch.context() as patch:
        # It starts a process, which takes long for so many layers.
        patch.setattr("segmodel.savedmodel.export.measure_bytes_per_pixel", lambda model: None)
        return output, train(config, TrainingData(halves(2, 0), halves(1, 1)), output)


def test_global_context_fixes_the_window(trained):
    _, contract = trained
    assert contract.fixed_window == 1024
    assert contract.receptive_field is None
    assert contract.layout(512).read_px == 1024


def test_an_image_smaller_and_one_larger_than_the_window_are_labelled(trained):
    output, contract = trained
    predictor = Predictor.load(output / "model")
    assert predictor.contract == contract
    random = np.random.default_rng(0)
    for shape in [(50, 70, 3), (96, 1100, 3)]:
        image = random.integers(0, 256, shape, np.uint8)
        labels = predictor.segment(image)
        assert labels.shape == shape[:2]
        assert labels.dtype == np.uint8
        assert set(np.unique(labels)) <= set(CLASSES.ids)
