"""The configuration of a training run."""

from __future__ import annotations

import pytest

from segmodel.configuration import TrainingConfig, load_configuration
from segmodel.errors import ConfigurationError

TEXT = """
[data]
images = ["train/images"]
masks = ["train/masks"]
validation_images = "val/images"
validation_masks = ["/absolute/masks"]
ignore_colors = ["#000000"]

[model]
name = "coast"
gsd_range_m = [1, 2.5]

[training]
steps = 10
learning_rate = 1

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
    assert [type(v) for v in config.model.gsd_range_m] == [float, float]
    assert config.training == TrainingConfig(steps=10, learning_rate=1.0)
    assert config.data.ignore_colors == ("#000000",)


def test_relative_folders_are_taken_from_the_file_and_absolute_ones_kept(load, tmp_path):
    data = load().data
    assert data.images == (str(tmp_path / "train/images"),)
    assert data.validation_images == (str(tmp_path / "val/images"),)
    assert data.validation_masks == ("/absolute/masks",)


@pytest.mark.parametrize("word", ["none", "imagenet"])
def test_words_for_weights_are_not_taken_for_files(load, word):
    assert load(model__backbone_weights=f'"{word}"').model.backbone_weights == word


def test_a_weights_file_is_relative_to_the_configuration(load, tmp_path):
    actual = load(model__backbone_weights='"weights.h5"').model.backbone_weights
    assert actual == str(tmp_path / "weights.h5")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("training.step", r"unknown key training\.step: did you mean training\.steps\?"),
        ("data.mask", r"unknown key data\.mask: did you mean data\.masks\?"),
        ("modle.name", r"unknown key modle: did you mean model\?"),
        ("training.zzz", r"unknown key training\.zzz: known: \["),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(load, name, hint):
    with pytest.raises(ConfigurationError, match=hint):
        load(**{name: "1"})


def test_an_unknown_key_of_a_class_is_refused_with_a_suggestion(load):
    with pytest.raises(ConfigurationError, match=r"did you mean classes\.color\?"):
        load(TEXT.replace('color = "#102030"', 'colour = "#102030"'))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("training.steps", '"ten"', r"training\.steps must be int, got 'ten'"),
        ("training.steps", "1.5", r"training\.steps must be int, got 1\.5"),
        ("training.steps", "true", r"training\.steps must be int, got True"),
        ("training.flips", "1", r"training\.flips must be bool, got 1"),
        ("training.learning_rate", "true", r"training\.learning_rate must be float"),
        ("model.name", "3", r"model\.name must be str, got 3"),
        ("model.gsd_range_m", '["a", "b"]', r"model\.gsd_range_m must be float, got 'a'"),
        ("data.images", "[1]", r"data\.images must be str, got 1"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_key(load, name, text, message):
    with pytest.raises(ConfigurationError, match=message):
        load(**{name: text})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('name = "coast"', r"model\.name is missing"),
        ('images = ["train/images"]', r"data\.images is missing"),
        ("id = 4", "classes: id is missing in .*land"),
    ],
)
def test_what_is_missing_is_named(load, line, message):
    assert line in TEXT
    with pytest.raises(ConfigurationError, match=message):
        load(TEXT.replace(line, "", 1))


def test_a_file_without_classes_is_refused(load):
    with pytest.raises(ConfigurationError, match=r"run\.toml: classes: at least one"):
        load(TEXT[: TEXT.index("[[classes]]")])


@pytest.mark.parametrize("name", ["steps", "batch", "crop", "learning_rate", "validate_every"])
@pytest.mark.parametrize("value", ["0", "-1"])
def test_numbers_that_must_be_positive_are_refused_otherwise(load, name, value):
    with pytest.raises(ConfigurationError, match=rf"training\.{name} must be positive"):
        load(**{f"training.{name}": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("warmup_steps", "-1"),
        ("weight_decay", "-0.1"),
        ("brightness", "-0.1"),
        ("contrast", "-0.1"),
        ("seed", "-1"),
        ("learning_rate", "nan"),
        ("class_weights", "[-1, 2]"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(load, name, value):
    with pytest.raises(ConfigurationError, match=rf"training\.{name}"):
        load(**{f"training.{name}": value})


def test_folders_of_images_and_masks_must_be_equally_many(load):
    with pytest.raises(ConfigurationError, match=r"validation_masks .* got 1 and 2"):
        load(data__validation_masks='["a", "b"]')
    with pytest.raises(ConfigurationError, match=r"data\.images .* got 0 and 0"):
        load(data__images="[]", data__masks="[]")


@pytest.mark.parametrize("weights", ["[]", "[1, 2.5]"])
def test_class_weights_are_none_or_one_for_each_class(load, weights):
    expected = (1.0, 2.5) if weights != "[]" else ()
    assert load(training__class_weights=weights).training.class_weights == expected


@pytest.mark.parametrize("weights", ["[1]", "[1, 2, 3]", "1"])
def test_class_weights_of_another_number_are_refused(load, weights):
    with pytest.raises(ConfigurationError, match=r"training\.class_weights .* each of 2 classes"):
        load(training__class_weights=weights)


@pytest.mark.parametrize("encoding", ["colour", "ID", ""])
def test_an_unknown_mask_encoding_is_refused(load, encoding):
    with pytest.raises(ConfigurationError, match=r"mask_encoding must be 'color' or 'id'"):
        load(data__mask_encoding=f'"{encoding}"')


@pytest.mark.parametrize("value", ["[1]", "[1, 2, 3]"])
def test_a_ground_sample_distance_range_has_two_ends(load, value):
    with pytest.raises(ConfigurationError, match="gsd_range_m must be two numbers"):
        load(model__gsd_range_m=value)


def test_overrides_replace_values_of_the_file(load):
    config = load(training__steps="77", model__name="other", training__flips="false")
    assert (config.training.steps, config.model.name, config.training.flips) == (77, "other", False)


@pytest.mark.parametrize("name", ["steps", "classes.id", ""])
def test_an_override_that_names_no_key_of_a_section_is_refused(load, name):
    with pytest.raises(ConfigurationError, match=r"--set needs SECTION\.KEY=VALUE"):
        load(**{name: "1"})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"absent\.toml: no such file"):
        load_configuration(tmp_path / "absent.toml")


def test_a_file_that_is_no_toml_is_named(load):
    with pytest.raises(ConfigurationError, match=r"run\.toml: "):
        load("[data\n")


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(b'[model]\nname = "K\xfcste"\n')
    with pytest.raises(ConfigurationError, match=r"run\.toml"):
        load_configuration(path)


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("id = 4", 'id = "4"'),
        ("id = 4", "id = 4.5"),
        ('name = "land"', "name = 3"),
        ('color = "#102030"', "color = 102030"),
    ],
)
def test_a_class_value_of_the_wrong_type_is_refused_by_key(load, line, instead):
    assert line in TEXT
    with pytest.raises(ConfigurationError, match="classes"):
        load(TEXT.replace(line, instead))


@pytest.mark.parametrize("line", ["data = 3", "training = [1]", "classes = 3", "classes = [1]"])
def test_a_section_that_is_no_table_is_refused_by_name(load, line):
    name = line.split()[0]
    kept = [part for part in TEXT.split("\n[") if not part.lstrip("[").startswith(name)]
    text = line + "\n" + "\n[".join(kept)
    with pytest.raises(ConfigurationError, match=name):
        load(text)
