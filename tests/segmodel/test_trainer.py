"""Training from pairs of image and mask to a SavedModel with its scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from segmodel.classes import ClassTable, LabelClass
from segmodel.configuration import Configuration, DataConfig, ModelConfig, TrainingConfig
from segmodel.dataset import Pair
from segmodel.errors import ConfigurationError
from segmodel.model_folder import read_contract
from segmodel.predictor import Predictor

pytest.importorskip("tensorflow")

from segmodel.trainer import NetworkInMemory, evaluate, train

CLASSES = ClassTable((LabelClass(9, "red", (200, 40, 40)), LabelClass(4, "blue", (40, 40, 200))))


def write_pairs(folder, count: int, seed: int) -> None:
    """Noisy images of two colours, split by a vertical line, and their masks."""
    random = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        left = np.arange(64) < random.integers(16, 48)
        mask = np.where(left[None, :, None], (200, 40, 40), (40, 40, 200)).repeat(64, axis=0)
        noise = random.integers(-30, 31, mask.shape)
        Image.fromarray((mask + noise).astype(np.uint8)).save(folder / f"images/{number}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / f"masks/{number}.png")


def configuration(folder, **training) -> Configuration:
    return Configuration(
        data=DataConfig(
            images=(str(folder / "train/images"),),
            masks=(str(folder / "train/masks"),),
            validation_images=(str(folder / "val/images"),),
            validation_masks=(str(folder / "val/masks"),),
            about="two colours",
        ),
        model=ModelConfig(name="colours", variant="fcn-4s", width=0.35, gsd_range_m=(0.5, 2.0)),
        classes=CLASSES,
        training=TrainingConfig(
            **{
                "steps": 40,
                "batch": 4,
                "crop": 64,
                "learning_rate": 1e-2,
                "warmup_steps": 3,
                "validate_every": 16,
            }
            | training
        ),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    write_pairs(folder / "train", 6, 0)
    write_pairs(folder / "val", 2, 1)
    output = folder / "output"
    (output / "model").mkdir(parents=True)
    (output / "model" / "saved_model.pb").write_text("of an earlier run")
    (output / "history.jsonl").write_text('{"step": 99999}\n')
    told: list[str] = []
    contract = train(configuration(folder), output, told.append)
    return output, contract, told


def test_the_history_has_a_line_at_every_validation_and_none_of_an_earlier_run(trained):
    output, _, told = trained
    lines = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [16, 32, 40]
    assert set(lines[0]) == {"step", "loss", "learning_rate", "scores"}
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["learning_rate"] == pytest.approx(0, abs=1e-9)
    assert 0 < lines[1]["learning_rate"] < lines[0]["learning_rate"] < 1e-2
    assert len(told) == 4
    assert told[0].endswith("6 training and 2 validation images")
    assert told[-1].startswith("step 40  loss ")


def test_the_model_is_better_than_chance(trained):
    _, contract, _ = trained
    assert contract.metrics["mean_iou"] > 0.6
    assert contract.metrics["pixel_accuracy"] > 0.75
    assert set(contract.metrics["iou"]) == {"red", "blue"}


def test_the_scores_are_those_of_the_best_validation(trained):
    output, contract, _ = trained
    lines = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    best = max(line["scores"]["mean_iou"] for line in lines)
    assert contract.metrics["mean_iou"] == best


def test_the_contract_says_what_was_trained(trained):
    output, contract, _ = trained
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


def test_the_savedmodel_replaces_an_earlier_one_and_gives_the_classes(trained):
    output, _, _ = trained
    assert not (output / "model" / "stale").exists()
    predictor = Predictor.load(output / "model")
    assert predictor.classes == CLASSES
    image = np.asarray(Image.open(output.parent / "val/images/0.png"))
    mask = np.asarray(Image.open(output.parent / "val/masks/0.png"))
    labels = predictor.segment(image)
    assert set(np.unique(labels)) <= {4, 9}
    assert (labels == np.where(mask[..., 0] == 200, 9, 4)).mean() > 0.75


@pytest.mark.parametrize("crop", [1, 48, 63, 65])
def test_a_crop_that_is_no_multiple_of_the_stride_is_refused(tmp_path, crop):
    with pytest.raises(ConfigurationError, match=f"training.crop must be .* 32, got {crop}"):
        train(configuration(tmp_path, crop=crop), tmp_path / "output")


def test_folders_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"train/images is not a folder|train/masks is not a folder"
    ):
        train(configuration(tmp_path), tmp_path / "output")


def red_if_bright(images, training):
    """A network of two scores that is always sure."""
    assert not training
    return images[..., :2] * [1.0, 0.0] - [100.0, 0.0]


def test_validation_counts_indices_not_ids_and_leaves_out_what_is_ignored():
    image = np.array([[[200] * 3, [200] * 3, [0] * 3, [0] * 3, [200] * 3]], np.uint8)
    truth = np.array([[0, 1, 1, 1, -1]], np.int16)
    model = NetworkInMemory(red_if_bright, CLASSES, [0, 0, 0], 32)
    scores = evaluate(model, [Pair("a", image, truth)] * 2)
    assert scores.pixel_accuracy == 0.75
    assert scores.iou == (1 / 2, 2 / 3)
