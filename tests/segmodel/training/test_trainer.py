"""Training from pairs of image and mask to a SavedModel with its scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from segmodel.errors import ConfigurationError, ExportError, TrainingError
from segmodel.pairs.pairs import TrainingData
from segmodel.savedmodel.folder import read_contract
from segmodel.savedmodel.predictor import Predictor
from segmodel.training.trainer import Hooks, train
from tests.segmodel.made_pairs import CLASSES, configuration, files_of, halves, with_floor

DATA = TrainingData(halves(6, 0), halves(2, 1))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    output = tmp_path_factory.mktemp("training") / "run"
    logged: list[str] = []
    config = configuration(model={"gsd_range_m": (0.5, 2.0)}, ema=0.5)
    contract = train(config, DATA, output, Hooks(log=logged.append))
    return output, contract, logged, config


def history(output) -> list[dict]:
    return [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]


def test_the_history_has_a_line_at_every_validation(trained):
    output, _, logged, _ = trained
    lines = history(output)
    assert [line["step"] for line in lines] == [16, 32, 40]
    assert {line["stage"] for line in lines} == {"fcn-4s"}
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert 0 < lines[-1]["learning_rate"] < lines[1]["learning_rate"] < 1e-2
    assert all(0 <= line["waited_seconds"] <= line["seconds"] for line in lines)
    assert logged[0].endswith("6 training and 2 validation images")
    assert sum(line.startswith("step ") for line in logged) == 3
    assert any("waiting for data" in line for line in logged)
    assert logged[-1].startswith("the halo is not measured, as validation images are too small")


def test_the_model_is_better_than_chance(trained):
    _, contract, _, _ = trained
    assert contract.metrics["mean_iou"] > 0.6
    assert set(contract.metrics["iou"]) == {"red", "blue"}


def test_the_exported_model_has_the_scores_of_the_best_validation(trained):
    output, contract, _, _ = trained
    best = max(line["scores"]["mean_iou"] for line in history(output))
    assert contract.metrics["mean_iou"] == pytest.approx(best, abs=2e-3)


def test_the_contract_says_what_was_trained(trained):
    output, contract, _, _ = trained
    assert read_contract(output / "model") == contract
    assert contract.name == "colours"
    assert contract.architecture == "fcn-4s mobilenet_v2"
    assert (contract.dtype, contract.bands) == ("uint8", ("red", "green", "blue"))
    assert (contract.stride, contract.receptive_field) == (32, 613)
    assert contract.gsd_range_m == (0.5, 2.0)
    assert contract.training_data == {"about": "two colours", "images": 6}
    assert contract.nodata_fill == (128.0, 128.0, 128.0)
    assert contract.fixed_window is None
    assert contract.bytes_per_pixel > 0
    assert contract.parameters > 400_000
    assert contract.calibration.temperature > 0
    assert contract.calibration.pixels == 2 * 64 * 64


def test_the_savedmodel_gives_the_classes(trained):
    output, _, _, _ = trained
    predictor = Predictor.load(output / "model")
    assert predictor.classes == CLASSES
    (pair, _) = DATA.validation
    labels = predictor.segment(pair.image)
    assert set(np.unique(labels)) <= {4, 9}
    assert (labels == np.where(pair.indices == 0, 9, 4)).mean() > 0.75


def test_the_folder_has_all_that_a_reader_needs_and_no_checkpoint(trained):
    output, _, _, _ = trained
    assert files_of(output) == {
        "_SUCCESS",
        "best.weights.h5",
        "card.md",
        "configuration.json",
        "confusion.png",
        "curves.png",
        "history.jsonl",
        "model",
        "pictures",
        "scores.csv",
        "scores.json",
        "tensorboard",
        "validation",
    }


def test_a_finished_run_is_left_as_it_is(trained):
    output, contract, _, config = trained
    logged: list[str] = []
    before = (output / "history.jsonl").stat().st_mtime_ns
    assert train(config, DATA, output, Hooks(log=logged.append)) == contract
    assert logged == ["run is finished: nothing to do"]
    assert (output / "history.jsonl").stat().st_mtime_ns == before


def test_other_settings_or_data_are_not_put_over_a_run(trained):
    output, _, _, _ = trained
    with pytest.raises(ConfigurationError, match="run with other settings or data: --overwrite"):
        train(configuration(ema=0.9), DATA, output)
    with pytest.raises(ConfigurationError, match="run with other settings or data: --overwrite"):
        train(trained[3], TrainingData(halves(5, 0), halves(2, 1)), output)


@pytest.mark.parametrize("crop", [1, 48, 63, 65])
def test_a_crop_that_is_no_multiple_of_the_stride_is_refused(tmp_path, crop):
    with pytest.raises(ConfigurationError, match=f"training.crop must be .* 32, got {crop}"):
        train(configuration(crop=crop), DATA, tmp_path / "output")


def test_a_model_below_its_floor_is_not_exported_and_a_lower_floor_needs_no_training(tmp_path):
    config = configuration(steps=2, validate_every=2)
    with pytest.raises(ExportError, match=r"below --min_iou for mean 0\.\d+ \(asked for 0.999\)"):
        train(with_floor(config, mean=0.999), DATA, tmp_path / "run")
    assert "model" not in files_of(tmp_path / "run")

    steps: list[int] = []
    hooks = Hooks(on_step=lambda step, loss: steps.append(step))
    contract = train(with_floor(config, mean=0.0), DATA, tmp_path / "run", hooks)

    assert steps == []
    assert contract == read_contract(tmp_path / "run" / "model")


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_its_batch(tmp_path):
    config = configuration(learning_rate=1e30, clip_norm=0.0, warmup_steps=0)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+.*failed_step.npz"):
        train(config, DATA, tmp_path / "run")
    with np.load(tmp_path / "run" / "failed_step.npz") as kept:
        assert kept["images"].shape == (4, 64, 64, 3)
        assert kept["truth"].shape == (4, 64, 64)
