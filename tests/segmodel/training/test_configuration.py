"""The configuration of a training run: data, model, export, and how they go together."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.training.configuration import (
    AugmentationConfig,
    Configuration,
    DataConfig,
    ExportConfig,
    ModelConfig,
    TrainingConfig,
    json_schema,
    settings_table,
)
from tests.end_to_end.conftest import ROOT

CLASSES = ClassTable((LabelClass(4, "land", (1, 2, 3)), LabelClass(0, "water", (4, 5, 6))))
# Where settings are declared, checked and written down; reading them there is no use of them.
DECLARED = {"configuration.py", "configuration_file.py"}


def configuration(**tables) -> Configuration:
    return Configuration(
        **{"data": DataConfig(), "model": ModelConfig("m"), "classes": CLASSES} | tables
    )


@pytest.mark.parametrize(
    "kind", [TrainingConfig, AugmentationConfig, DataConfig, ModelConfig, ExportConfig]
)
def test_somebody_reads_every_setting(kind):
    folders = [ROOT / "segmodel", ROOT / "pipelines"]
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    source = "\n".join(path.read_text("utf-8") for path in paths if path.name not in DECLARED)
    # Two that the configuration itself turns into what is read.
    read_by = {"value_range": "limits"}
    unread = [
        entry.name
        for entry in dataclasses.fields(kind)
        if not re.search(rf"\.{read_by.get(entry.name, entry.name)}\b", source)
    ]
    assert unread == []


@pytest.mark.parametrize("what", ["", "validation_"])
def test_folders_of_images_and_masks_are_equally_many(what):
    with pytest.raises(ConfigurationError, match=rf"data\.{what}images and .* got 1 and 2"):
        DataConfig(**{f"{what}images": ("a",), f"{what}masks": ("b", "c")})


def test_folders_or_shards_are_something_to_train_on():
    assert not DataConfig().has_training
    assert not DataConfig().has_validation
    assert DataConfig(images=("a",), masks=("b",)).has_training
    assert DataConfig(shards=("a",)).has_training
    assert DataConfig(validation_images=("a",), validation_masks=("b",)).has_validation
    assert DataConfig(validation_shards=("a",)).has_validation


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_encoding": "colour"}, r"data\.mask_encoding must be 'color', 'palette' or 'id'"),
        ({"mask_encoding": ""}, r"data\.mask_encoding must be .*, got ''"),
        ({"cache_mb": 0}, r"data\.cache_mb must be at least 1"),
        ({"group": "("}, r"data\.group is no regular expression"),
        ({"group": "tile"}, r"data\.group needs one group in brackets, got 'tile'"),
        ({"group": "(a)(b)"}, r"data\.group needs one group"),
    ],
)
def test_settings_of_data_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        DataConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "fcn-2s"}, r"model\.variant must be 'fcn-32s', .*, got 'fcn-2s'"),
        ({"dtype": "uint32"}, r"model\.dtype must be 'uint8', 'uint16', 'int16' or 'float32', got"),
        ({"dtype": "uint16"}, r"model\.value_range is missing: .* most uint16 pixels"),
        ({"value_range": (1.0,)}, r"model\.value_range must be two rising numbers, got \[1\.0\]"),
        ({"value_range": (2.0, 2.0)}, r"model\.value_range must be two rising"),
        ({"value_range": (0.0, math.nan)}, r"model\.value_range must be two rising"),
        ({"value_range": (0.0, 256.0)}, r"model\.value_range must be in 0\.\.255, as uint8 is"),
        ({"value_range": (-1.0, 255.0)}, r"model\.value_range must be in 0\.\.255, as uint8 is"),
        (
            {"dtype": "float32", "value_range": (0.0, math.inf)},
            r"model\.value_range must be two rising",
        ),
        ({"gsd_range_m": (1.0,)}, r"model\.gsd_range_m must be two rising positive numbers"),
        ({"gsd_range_m": (2.0, 1.0)}, r"model\.gsd_range_m must be two rising"),
        ({"gsd_range_m": (0.0, 1.0)}, r"model\.gsd_range_m must be two rising"),
        ({"gsd_range_m": (1.0, math.inf)}, r"model\.gsd_range_m must be two rising"),
        ({"bands": ()}, r"model\.bands must be different names"),
        ({"bands": ("red", "red")}, r"model\.bands must be different names"),
        ({"fc_channels": 0}, r"model\.fc_channels must be at least 1"),
        ({"batch_norm_momentum": 1.0}, r"model\.batch_norm_momentum must be less than 1, got 1\.0"),
        ({"batch_norm_momentum": -0.1}, r"model\.batch_norm_momentum must be at least 0, got"),
        ({"width": 0.0}, r"model\.width must be greater than 0, got 0\.0"),
        ({"name": ""}, r"model\.name must have at least 1 character"),
    ],
)
def test_settings_of_the_model_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        ModelConfig(**{"name": "m"} | settings)


def test_the_value_range_of_bytes_may_be_left_out():
    assert ModelConfig("m").limits == (0.0, 255.0)
    assert ModelConfig("m", value_range=(10.0, 20.0)).limits == (10.0, 20.0)
    wide = ModelConfig("m", dtype="int16", value_range=(-32768.0, 32767.0))
    assert wide.limits == (-32768.0, 32767.0)


@pytest.mark.parametrize(
    ("least", "limit"),
    [(-0.001, "at least 0"), (1.001, "at most 1"), (math.nan, "a finite number")],
)
def test_floors_of_iou_are_shares(least, limit):
    assert ExportConfig(min_iou={"land": 0.0, "mean": 1.0}).min_iou["mean"] == 1.0
    with pytest.raises(ConfigurationError, match=rf"export\.min_iou\.land must be {limit}, got"):
        ExportConfig(min_iou={"land": least})


@pytest.mark.parametrize("weights", [(), (1.0, 2.5), "median_frequency", "inverse_log"])
def test_class_weights_are_none_a_word_or_one_for_each_class(weights):
    config = configuration(training=TrainingConfig(class_weights=weights))
    assert config.training.class_weights == weights


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 2.0, 3.0)])
def test_class_weights_of_another_number_are_refused(weights):
    with pytest.raises(ConfigurationError, match=rf"each of 2 classes, got {len(weights)}"):
        configuration(training=TrainingConfig(class_weights=weights))


def test_stages_end_with_the_variant_of_the_model_and_have_steps():
    stages = ("fcn-32s", "fcn-8s")
    configuration(training=TrainingConfig(stages=stages, steps=2))
    with pytest.raises(ConfigurationError, match=r"training\.steps must be at least one for each"):
        configuration(training=TrainingConfig(stages=stages, steps=1))
    with pytest.raises(ConfigurationError, match=r"end with model\.variant fcn-8s, got fcn-16s"):
        configuration(training=TrainingConfig(stages=("fcn-32s", "fcn-16s")))


def test_floors_are_of_known_classes():
    configuration(export=ExportConfig(min_iou={"land": 0.5, "mean": 0.5}))
    with pytest.raises(ConfigurationError, match=r"min_iou must be one of land, water, mean, got"):
        configuration(export=ExportConfig(min_iou={"road": 0.5}))


def test_the_schema_says_what_an_editor_has_to_know():
    schema = json_schema()
    assert schema["required"] == ["data", "model", "classes"]
    assert schema["properties"]["classes"]["items"]["required"] == ["id", "name", "color"]
    training = schema["$defs"]["TrainingConfig"]
    assert training["additionalProperties"] is False
    assert training["properties"]["optimizer"]["enum"] == ["adamw", "sgd"]
    assert training["properties"]["steps"] == {
        "default": 2000,
        "description": "Number of optimizer steps, of all stages together.",
        "minimum": 1,
        "title": "Steps",
        "type": "integer",
    }


def test_every_setting_says_what_it_is_for():
    rows = [row.strip("| ").split(" | ") for row in settings_table().splitlines()[2:]]
    assert len(rows) == 61
    assert all(len(row) == 4 and row[3] for row in rows)
    assert rows[13] == ["`model.name`", "string", "", "Name of the model"]
    assert rows[31][:3] == ["`training.loss`", "table of numbers", "`{ cross_entropy = 1.0 }`"]
