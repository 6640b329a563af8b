"""Any bands, sample types and numbers of classes, from training to the exported model."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.labels.confusion import IGNORED
from segmodel.networks.network import build_network
from segmodel.pairs.pairs import TrainingData
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.keras_model import KerasModel
from segmodel.savedmodel.predictor import Predictor
from segmodel.training.configuration import Configuration, DataConfig, ModelConfig, TrainingConfig
from segmodel.training.trainer import network_configuration, train
from tests.segmodel.made_pairs import ArrayPair, blocks, table


@dataclass(frozen=True)
class Trained:
    """A finished run, what it learned from, and its network in memory."""

    output: Path
    config: Configuration
    contract: Contract
    data: TrainingData
    keras_model: KerasModel
    predictor: Predictor

    @property
    def odd_image(self) -> np.ndarray:
        """Of a size that no stride divides, with every value of the range."""
        low, high = self.config.model.limits
        shape = (70, 101, len(self.config.model.bands))
        # Coarse noise, as the labels of fine noise are all alike.
        values = np.random.default_rng(5).uniform(low, high, (3, 4, shape[2]))
        return values.repeat(32, 0).repeat(32, 1)[:70, :101].astype(self.config.model.dtype)


def with_holes(pair: ArrayPair) -> ArrayPair:
    """The pair with pixels that are NaN in one band or in all."""
    image, indices = pair.image.copy(), pair.indices.copy()
    image[3:9, 5:20, 1] = np.nan
    image[40:44, 40:60] = np.nan
    indices[np.isnan(image).any(axis=-1)] = IGNORED
    return replace(pair, image=image, indices=indices)


def run(folder: Path, config: Configuration, data: TrainingData) -> Trained:
    with pytest.MonkeyPatch.context() as patch:
        # It starts a process, and its result depends on no input.
        patch.setattr("segmodel.savedmodel.export.measure_bytes_per_pixel", lambda model: None)
        contract = train(config, data, folder)
    network = build_network(network_configuration(config))
    network.load_weights(folder / "best.weights.h5")
    keras_model = KerasModel(network, contract)
    return Trained(folder, config, contract, data, keras_model, Predictor.load(folder / "model"))


def configuration(model: dict, classes: ClassTable, **training) -> Configuration:
    small = {"steps": 12, "batch": 4, "crop": 64, "learning_rate": 1e-2, "warmup_steps": 1}
    return Configuration(
        DataConfig(),
        ModelConfig(
            **{"name": "inputs", "variant": "fcn-8s", "width": 0.1, "batch_norm_momentum": 0.5}
            | model
        ),
        classes,
        TrainingConfig(**small | {"optimizer": "sgd", "validate_every": 20} | training),
    )


BANDS = {1: ("grey",), 4: ("red", "green", "blue", "nir"), 10: tuple(f"B{n}" for n in range(10))}


@pytest.fixture(
    scope="module",
    params=[(1, "uint8", "vgg16"), (4, "uint16", "vgg16"), (10, "float32", "mobilenet_v2")],
    ids=lambda given: f"{given[0]} bands {given[1]}",
)
def trained(request, tmp_path_factory) -> Trained:
    bands, dtype, backbone = request.param
    limits = {"uint8": (), "uint16": (0.0, 10_000.0), "float32": (0.0, 1.0)}[dtype]
    model = {"bands": BANDS[bands], "dtype": dtype, "value_range": limits, "backbone": backbone}
    pairs = blocks(4, classes=3, bands=bands, dtype=dtype)
    if dtype == "float32":
        pairs = tuple(with_holes(pair) for pair in pairs)
    # Batch normalization needs more than plain steps to tell classes apart so soon.
    training = {"steps": 20, "optimizer": "adamw"} if backbone == "mobilenet_v2" else {}
    config = configuration(model, table(3), **training)
    folder = tmp_path_factory.mktemp("inputs") / "run"
    return run(folder, config, TrainingData(pairs, pairs[:2]))


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Trained:
    """300 classes whose ids have gaps, the greatest 1204."""
    classes = ClassTable(
        tuple(LabelClass(8 + 4 * n, f"class {n}", (n % 256, n // 256, 80)) for n in range(300))
    )
    training = blocks(1, classes=300, bands=3, dtype="uint8", side=576)
    # What is drawn first are the colours of the classes.
    validation = blocks(2, classes=300, bands=3, dtype="uint8", side=96)
    np.testing.assert_allclose(colours(training)[:9], colours(validation)[:9], atol=2)
    config = configuration({"backbone": "vgg16"}, classes)
    folder = tmp_path_factory.mktemp("classes") / "run"
    return run(folder, config, TrainingData(training, validation))


def colours(pairs: tuple[ArrayPair, ...]) -> np.ndarray:
    """Mean colour of each class in the first image, in the order of their indices."""
    image, indices = pairs[0].image, pairs[0].indices
    return np.array([image[indices == index].mean(axis=0) for index in np.unique(indices)])


def assert_labels_equal(actual: np.ndarray, expected: np.ndarray) -> None:
    """But for near-ties, which arithmetic in another order may decide otherwise."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert (actual != expected).sum() <= 1e-5 * expected.size
    assert np.unique(expected).size > 1


def test_the_contract_says_what_goes_in(trained):
    model, contract = trained.config.model, trained.contract
    assert (contract.bands, contract.dtype) == (model.bands, model.dtype)
    assert contract.value_range == model.limits
    assert len(contract.nodata_fill) == len(model.bands)
    assert trained.predictor.contract == contract


def test_exported_labels_are_those_of_the_network_in_memory(trained):
    image = trained.odd_image
    expected = trained.keras_model.labels(image[None])
    assert expected.dtype == np.uint8
    assert_labels_equal(trained.predictor.labels(image[None]), expected)
    assert_labels_equal(trained.predictor.segment(image), expected[0])


def test_what_was_trained_on_is_labelled_alike(trained):
    for pair in trained.data.validation:
        image = pair.image
        filled = np.where(np.isnan(image), trained.contract.fill, image).astype(image.dtype)
        expected = trained.keras_model.labels(filled[None])
        assert_labels_equal(trained.predictor.labels(image[None]), expected)


def test_nodata_has_no_class_and_is_filled_for_its_neighbours(trained):
    image = trained.odd_image
    valid = np.ones(image.shape[:2], bool)
    valid[10:30, 40:70] = False
    filled = np.where(valid[..., None], image, trained.contract.fill).astype(image.dtype)
    broken = image.copy()
    # What stands in nodata is never seen.
    broken[~valid] = np.nan if image.dtype.kind == "f" else np.iinfo(image.dtype).max
    labels = trained.predictor.segment(broken, valid)
    expected = np.where(valid, trained.keras_model.labels(filled[None])[0], 255)
    assert_labels_equal(labels, expected.astype(np.uint8))
    if image.dtype.kind == "f":
        np.testing.assert_array_equal(trained.predictor.segment(broken), labels)


def test_300_classes_have_labels_of_16_bits(wide):
    image = wide.odd_image
    expected = wide.keras_model.labels(image[None])
    assert expected.dtype == np.uint16
    assert set(np.unique(expected)) <= set(wide.config.classes.ids)
    assert_labels_equal(wide.predictor.labels(image[None]), expected)
    assert_labels_equal(wide.predictor.segment(image), expected[0])
    valid = np.zeros(image.shape[:2], bool)
    assert (wide.predictor.segment(image, valid) == 65535).all()


def test_300_classes_have_scores_a_card_and_a_confusion_picture(wide):
    names = wide.config.classes.names
    scores = json.loads((wide.output / "scores.json").read_text())
    assert tuple(scores["iou"]) == names
    assert np.array(scores["confusion"]).shape == (300, 300)
    assert np.sum(scores["confusion"]) == 2 * 96 * 96
    with (wide.output / "scores.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows if row[0] in names] == list(names)
    card = (wide.output / "card.md").read_text()
    assert "class 299" in card
    assert "1204" in card
    with Image.open(wide.output / "confusion.png") as picture:
        assert min(picture.size) > 200


def test_validation_pictures_of_300_classes_hold_their_ids(wide):
    ids = np.array(wide.config.classes.ids)
    pair = wide.data.validation[0]
    with Image.open(wide.output / "validation" / "0000-0.tif" / "truth.png") as picture:
        assert picture.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(picture), ids[pair.indices])
    with Image.open(wide.output / "validation" / "0000-0.tif" / "labels.png") as picture:
        expected = wide.keras_model.labels(pair.image[None])[0]
        assert (np.asarray(picture) != expected).sum() <= 1e-5 * expected.size
