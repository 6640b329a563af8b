"""TOML files of training runs, and the same as JSON."""

from __future__ import annotations

import hashlib
import json

import pytest

from segmodel.errors import ConfigurationError
from segmodel.training.configuration import TrainingConfig
from segmodel.training.configuration_file import load_configuration, to_document
from tests.end_to_end.conftest import ROOT

TEXT = """
[data]
images = ["train/images"]
masks = ["train/masks"]
validation_images = "val/images"
validation_masks = ["/absolute/masks"]
shards = "packed/train-*"
validation_shards = ["packed/val-*", "/absolute/val"]
ignore_colors = ["#000000"]

[model]
name = "coast"
gsd_range_m = [1, 2.5]

[training]
steps = 10
learning_rate = 1

[augmentation]
scale = [1, 2]

[export]
min_iou = { land = 0.5 }

[[classes]]
id = 4
name = "land"
color = "#102030"

[[classes]]
id = 0
name = "water"
color = "#0000FF"
"""


@pytest.fixture
def load(tmp_path):
    def load(text: str = TEXT, **overrides: str):
        path = tmp_path / "run.toml"
        path.write_text(text, "utf-8")
        return load_configuration(path, {k.replace("__", "."): v for k, v in overrides.items()})

    return load


def test_a_whole_file_is_read(load):
    config = load()
    assert config.classes.ids == (4, 0)
    assert config.classes.classes[0].color == (16, 32, 48)
    assert config.model.name == "coast"
    assert config.model.gsd_range_m == (1.0, 2.5)
    assert config.training == TrainingConfig(steps=10, learning_rate=1.0)
    assert config.augmentation.scale == (1.0, 2.0)
    assert config.data.ignore_colors == ("#000000",)
    assert config.export.min_iou == {"land": 0.5}


def test_relative_folders_are_taken_from_the_file_and_absolute_ones_kept(load, tmp_path):
    data = load().data
    assert data.images == (str(tmp_path / "train/images"),)
    assert data.masks == (str(tmp_path / "train/masks"),)
    assert data.validation_images == (str(tmp_path / "val/images"),)
    assert data.validation_masks == ("/absolute/masks",)
    assert data.shards == (str(tmp_path / "packed/train-*"),)
    assert data.validation_shards == (str(tmp_path / "packed/val-*"), "/absolute/val")


@pytest.mark.parametrize("word", ["none", "imagenet"])
def test_words_for_weights_are_not_taken_for_files(load, word):
    assert load(model__backbone_weights=f'"{word}"').model.backbone_weights == word


def test_weights_are_relative_to_the_configuration(load, tmp_path):
    model = load(model__backbone_weights='"weights.h5"', model__init_from='"old/run"').model
    assert model.backbone_weights == str(tmp_path / "weights.h5")
    assert model.init_from == str(tmp_path / "old/run")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("training.step", r"unknown key training\.step: did you mean training\.steps\?"),
        ("data.mask", r"unknown key data\.mask: did you mean data\.masks\?"),
        ("modle.name", r"unknown key modle: did you mean model\?"),
        ("training.flips", r"unknown key training\.flips: known: \["),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(load, name, hint):
    with pytest.raises(ConfigurationError, match=rf"run\.toml: {hint}"):
        load(**{name: "1"})


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ('color = "#102030"', 'colour = "#102030"', r"did you mean classes\[0\]\.color\?"),
        ("id = 4", "", r"classes\[0\]\.id is missing"),
        ("id = 4", 'id = "4"', r"classes\[0\]\.id must be a valid integer, got '4'"),
        ("id = 4", "id = 4.5", r"classes\[0\]\.id must be a valid integer"),
        ("id = 4", "id = 0", "classes: id 0 occurs more than once"),
        ('name = "land"', "name = 3", r"classes\[0\]\.name must be a valid string"),
        ('color = "#102030"', "color = 102030", r"classes\[0\]\.color must be a valid string"),
        ('color = "#102030"', 'color = "blue"', "blue"),
        ('name = "coast"', "", r"model\.name is missing"),
    ],
)
def test_a_wrong_class_or_name_is_refused_with_the_file(load, line, instead, message):
    assert line in TEXT
    with pytest.raises(ConfigurationError, match=rf"run\.toml: .*{message}"):
        load(TEXT.replace(line, instead, 1))


def test_a_file_without_classes_is_refused(load):
    with pytest.raises(ConfigurationError, match=r"run\.toml: classes: at least one"):
        load(TEXT[: TEXT.index("[[classes]]")])


@pytest.mark.parametrize(
    "line", ["data = 3", "training = [1]", "export = []", "classes = 3", "classes = [1]"]
)
def test_a_section_that_is_no_table_is_refused_by_name(load, line):
    name = line.split()[0]
    kept = [part for part in TEXT.split("\n[") if not part.lstrip("[").startswith(name)]
    text = line + "\n" + "\n[".join(kept)
    with pytest.raises(ConfigurationError, match=name):
        load(text)


def test_overrides_replace_values_of_the_file(load):
    changes = {
        "training.steps": "77",
        "model.name": "other",
        "augmentation.flips": "false",
        "export.min_iou.water": "0.25",
        "data.about": "no TOML at all",
    }
    config = load(**changes)
    assert (config.training.steps, config.model.name) == (77, "other")
    assert config.augmentation.flips is False
    assert config.export.min_iou == {"land": 0.5, "water": 0.25}
    assert config.data.about == "no TOML at all"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"absent\.toml: no such file"):
        load_configuration(tmp_path / "absent.toml")


def test_a_file_that_is_no_toml_is_named(load, tmp_path):
    with pytest.raises(ConfigurationError, match=r"run\.toml: "):
        load("[data\n")
    (tmp_path / "run.toml").write_bytes(b'[model]\nname = "K\xfcste"\n')
    with pytest.raises(ConfigurationError, match=r"run\.toml: "):
        load_configuration(tmp_path / "run.toml")
    with pytest.raises(ConfigurationError, match="directory"):
        load_configuration(tmp_path)


def test_the_document_is_json_and_names_no_folder_of_the_machine(load, tmp_path):
    config = load(model__init_from='"old/run"', model__backbone_weights='"weights/a.h5"')
    document = json.loads(json.dumps(to_document(config)))
    assert str(tmp_path.parent) not in json.dumps(document)
    assert document["data"]["images"] == ["train/images"]
    assert document["data"]["validation_shards"] == ["packed/val-*", "absolute/val"]
    assert document["model"]["init_from"] == "old/run"
    assert document["model"]["backbone_weights"] == "weights/a.h5"
    assert document["classes"][0] == {"id": 4, "name": "land", "color": "#102030"}
    assert document["export"] == {"calibrate": True, "min_iou": {"land": 0.5}}


def test_words_stay_words_in_the_document(load):
    model = to_document(load(model__backbone_weights='"imagenet"'))["model"]
    assert (model["backbone_weights"], model["init_from"]) == ("imagenet", "")


def test_a_path_of_one_part_is_shortened_to_it(load):
    assert to_document(load(data__images='"/a"'))["data"]["images"] == ["a"]


@pytest.mark.parametrize(
    ("file", "digest"),
    [
        ("benchmarks/dubai.toml", "4d91b3768c8674a6"),
        ("pipelines/earth/train.toml", "8e0794a334132493"),
    ],
)
def test_stored_documents_keep_their_bytes(file, digest):
    """So that a run is continued that another version of the program began."""
    content = json.dumps(to_document(load_configuration(ROOT / file)))
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == digest
