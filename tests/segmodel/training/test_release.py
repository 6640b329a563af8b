"""From the best weights to a model with contract, scores and card."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from segmodel.errors import ConfigurationError, ExportError
from segmodel.evaluation.evaluate import evaluate
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.labels.confusion import Scores
from segmodel.networks.network import build_network
from segmodel.savedmodel.folder import read_contract
from segmodel.savedmodel.predictor import Predictor
from segmodel.training.configuration import ExportConfig
from segmodel.training.history import History, Validation
from segmodel.training.release import check_min_iou, draft_contract, release, validation_layout
from segmodel.training.run_folder import RunFolder
from segmodel.training.trainer import network_configuration
from tests.segmodel.made_pairs import CLASSES, files_of, with_floor
from tests.segmodel.made_runs import DATA, narrow

CONFIG = narrow({"gsd_range_m": (0.5, 2.0), "batch_norm_momentum": 0.5})
MATRIX = np.array([[6, 2], [2, 10]])


@pytest.fixture(scope="module")
def network():
    import keras

    keras.utils.set_random_seed(1)
    return build_network(network_configuration(CONFIG))


@pytest.fixture(scope="module")
def released(network, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("release") / "run")
    folder.begin("identity", {})
    validation = Validation(4, "fcn-32s", 0.5, 1e-3, (1.0, 0.1), Scores.of(MATRIX))
    History(folder.history, CLASSES.names, 0).write(validation)
    contract = draft_contract(CONFIG, network_configuration(CONFIG), network, 7)
    return folder.path, release(CONFIG, network, contract, DATA, folder)


def test_the_draft_says_what_is_known_before_the_export(network):
    draft = draft_contract(CONFIG, network_configuration(CONFIG), network, 7)
    assert draft.name == "colours"
    assert draft.architecture == "fcn-32s vgg16"
    assert (draft.bands, draft.dtype) == (("red", "green", "blue"), "uint8")
    assert (draft.value_range, draft.gsd_range_m) == ((0.0, 255.0), (0.5, 2.0))
    assert draft.classes == CLASSES
    # The receptive field of VGG's last pooling, and the bilinear kernel of stride 32.
    assert (draft.stride, draft.fixed_window) == (32, None)
    assert draft.receptive_field > 200
    assert draft.halo.pixels >= draft.receptive_field // 2
    assert draft.training_data == {"about": "two colours", "images": 7}
    assert (draft.metrics, draft.calibration) == ({}, None)


def test_windows_of_validation_are_those_of_the_model():
    layout = validation_layout_of(8)
    assert (layout.window_px, layout.halo_px) == (1024, 8)
    assert validation_layout_of(4000).halo_px == 128


def validation_layout_of(halo: int):
    from segmodel.savedmodel.contract import MeasuredHalo
    from tests.fakes import contract

    return validation_layout(replace(contract(), halo=MeasuredHalo(halo, 1024, None)))


def test_scores_are_those_of_the_model_that_was_written(released):
    path, contract = released
    predictor = Predictor.load(path / "model")
    evaluation = evaluate(predictor, DATA.validation, contract.layout(1024))
    document = json.loads((path / "scores.json").read_text())
    assert document["confusion"] == evaluation.matrix.tolist()
    assert contract.metrics["mean_iou"] == evaluation.scores.mean_iou
    assert contract.metrics["iou"] == dict(zip(CLASSES.names, evaluation.scores.iou, strict=True))
    assert contract == read_contract(path / "model") == predictor.contract
    rows = list(csv.reader((path / "scores.csv").read_text().splitlines()))
    assert {"red", "blue"} <= {row[0] for row in rows}


def test_what_a_reader_needs_is_there(released):
    path, contract = released
    assert files_of(path) >= {"model", "scores.json", "scores.csv", "card.md", "validation"}
    assert "colours" in (path / "card.md").read_text()
    assert contract.calibration is not None
    assert contract.parameters > 0
    assert set(contract.versions) == {"beamseg", "keras", "numpy", "python", "tensorflow"}


def test_confidence_is_not_calibrated_where_that_is_not_asked_for(network, tmp_path, monkeypatch):
    from segmodel.training import release as module

    written: list = []

    def export(network, contract, path, halo_samples, measuring):
        written.append(contract)
        raise ExportError("far enough")

    monkeypatch.setattr(module, "export_savedmodel", export)
    config = replace(CONFIG, export=ExportConfig(calibrate=False))
    contract = draft_contract(config, network_configuration(config), network, 7)
    for setting, expected in ((False, True), (True, False)):
        config = replace(CONFIG, export=ExportConfig(calibrate=setting))
        with pytest.raises(ExportError, match="far enough"):
            release(config, network, contract, DATA, RunFolder(tmp_path))
        assert (written.pop().calibration is None) is expected


def floors(matrix=MATRIX, config=CONFIG, **least: float) -> None:
    check_min_iou(with_floor(config, **least), Scores.of(matrix), "nothing was exported")


def test_a_floor_may_be_reached_exactly():
    floors()
    floors(red=0.6, blue=10 / 14, mean=(0.6 + 10 / 14) / 2)


def test_all_that_is_below_its_floor_is_named():
    with pytest.raises(ExportError) as error:
        floors(red=0.61, blue=0.5, mean=0.9)
    assert str(error.value) == (
        "IoU on validation is below --min_iou for red 0.600 (asked for 0.61), mean 0.657 (asked "
        "for 0.9): nothing was exported; train longer or on more data, or lower it"
    )


def test_a_class_that_validation_does_not_have_reaches_no_floor():
    with pytest.raises(ExportError, match=r"blue 0\.000 \(asked for 0\.1\)"):
        floors(np.array([[6, 0], [0, 0]]), red=1.0, blue=0.1)
    floors(np.array([[6, 0], [0, 0]]), blue=0.0)


def test_a_floor_of_the_mean_is_not_one_of_a_class_of_that_name():
    classes = ClassTable((LabelClass(1, "mean", (1, 1, 1)), LabelClass(2, "b", (2, 2, 2))))
    replace(CONFIG, classes=classes, export=ExportConfig(min_iou={"b": 0.5}))
    with pytest.raises(
        ConfigurationError, match=r"min_iou\.mean is the mean of all classes, and a"
    ):
        replace(CONFIG, classes=classes, export=ExportConfig(min_iou={"mean": 0.5}))
