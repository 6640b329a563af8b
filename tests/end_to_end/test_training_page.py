"""What docs/training.md shows is tried: every command, every configuration, every setting."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.commands import main
from pipelines.datasets.training import read_data
from segmodel.errors import ConfigurationError, InputError
from segmodel.networks.backbones import BACKBONES, scale_width
from segmodel.pairs.stats import collect_stats
from segmodel.savedmodel.folder import read_contract
from segmodel.training.configuration import json_schema, settings_table
from segmodel.training.configuration_file import load_configuration, parse_configuration
from tests import forked
from tests.end_to_end.conftest import ROOT, command, environment
from tests.end_to_end.pages import command_lines

PAGE = (ROOT / "docs" / "training.md").read_text("utf-8")
RECIPE = ROOT / "benchmarks" / "dubai.toml"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


# Key and meaning.
SETTINGS = re.findall(r"^\| `(\w+\.\w+)` \| .+ \| (.+) \|$", settings_table(), re.MULTILINE)
COMMANDS = command_lines(PAGE)
SMALL = (
    *("training.steps=2", "training.batch=1", "training.crop=64", "training.warmup_steps=1"),
    *("model.backbone=vgg16", "model.width=0.05"),
)
# Two regions in place of six.
REGIONS = ("data.group='_part_(\\d+)'",)


def merged(base: dict, more: dict) -> dict:
    return base | {
        key: merged(base.get(key, {}), value) if isinstance(value, dict) else value
        for key, value in more.items()
    }


(WHOLE,) = (tomllib.loads(block) for block in blocks("toml") if "[[classes]]" in block)
PARTS = [tomllib.loads(block) for block in blocks("toml") if "[[classes]]" not in block]


def test_the_configuration_of_the_page_is_the_recipe():
    assert tomllib.loads(RECIPE.read_text("utf-8")) == WHOLE

    config = parse_configuration(WHOLE, Path("dubai"))

    assert config.data.images[0] == "dubai/tile1/images"
    assert config.classes.names == ("land", "water", "building", "vegetation", "road")


def test_parts_of_a_configuration_fit_the_whole():
    shards, stages, bands = (parse_configuration(merged(WHOLE, p), Path("dubai")) for p in PARTS)

    assert shards.data.shards == ("dubai/shards/train",)
    assert stages.training.stages == ("fcn-32s", "fcn-16s", "fcn-8s")
    assert (bands.model.dtype, bands.model.limits) == ("uint16", (0.0, 3000.0))


def test_the_table_of_settings_is_that_of_the_declaration():
    assert f"\n\n{settings_table()}\n\n" in PAGE, (
        "docs/training.md: put what segmodel.training.configuration.settings_table() returns below "
        "'All settings'"
    )


def words_of(schema: dict) -> list[str]:
    """Words that a setting takes, of its JSON Schema."""
    keys = schema.get("propertyNames", {})
    choices = (schema, keys, *schema.get("anyOf", ()), *schema.get("oneOf", ()))
    return [word for choice in choices for word in choice.get("enum", ())]


def test_words_that_settings_take_are_all_named():
    meanings = dict(SETTINGS)
    tables = json_schema()["$defs"]
    words = {
        f"{table.removesuffix('Config').lower()}.{name}": words_of(schema)
        for table, schemas in tables.items()
        for name, schema in schemas["properties"].items()
    }
    words["model.backbone"] = list(BACKBONES)
    # The words of stages are those of the variant.
    assert words.pop("training.stages") == words["model.variant"]
    assert sum(map(bool, words.values())) == 10
    for key, known in words.items():
        assert [word for word in known if f"`{word}`" not in meanings.get(key, "")] == [], key


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images a tile, in the colours of the recipe, and images of a city to be labelled."""
    folder = tmp_path_factory.mktemp("training-page")
    config = parse_configuration(WHOLE)
    colors = np.array([entry.color for entry in config.classes.classes], np.uint8)
    for name in (*config.data.images, *config.data.validation_images):
        for part in (1, 2):
            random = np.random.default_rng(part)
            coarse = random.permutation(np.arange(20) % 5).reshape(4, 5)
            truth = np.kron(coarse, np.ones((24, 24), int))
            noise = random.integers(0, 40, (*truth.shape, 3))
            images = folder / "dubai" / name
            masks = images.with_name("masks")
            for path in (images, masks):
                path.mkdir(parents=True, exist_ok=True)
            pixels = (truth[..., None] * 45 + noise).astype(np.uint8)
            Image.fromarray(pixels).save(images / f"image_part_00{part}.jpg")
            Image.fromarray(colors[truth]).save(masks / f"image_part_00{part}.png")
    shutil.copytree(folder / "dubai/tile8/images", folder / "city")
    shutil.copy(RECIPE, folder / "dubai")
    return folder


def test_faults_of_pairs_read_as_the_page_says(sandbox, tmp_path, monkeypatch):
    shutil.copytree(sandbox / "dubai", tmp_path / "dubai")
    monkeypatch.chdir(tmp_path)
    strange, small = (Path(f"dubai/tile{tile}/masks/image_part_00{tile}.png") for tile in (1, 2))
    pixels = np.array(Image.open(strange))
    pixels[0, 0] = (0, 255, 0)
    Image.fromarray(pixels).save(strange)
    Image.fromarray(pixels[6:, 20:]).save(small)

    with pytest.raises(InputError) as faults:
        survey()

    assert f"```\nbeamseg: {faults.value}\n```" in PAGE


def test_a_class_without_a_pixel_reads_as_the_page_says(sandbox, tmp_path, monkeypatch):
    shutil.copytree(sandbox / "dubai", tmp_path / "dubai")
    monkeypatch.chdir(tmp_path)
    land, road = (0x84, 0x29, 0xF6), (0x6E, 0xC1, 0xE4)
    for path in Path("dubai").glob("*/masks/*.png"):
        pixels = np.array(Image.open(path))
        pixels[(pixels == road).all(axis=-1)] = land
        Image.fromarray(pixels).save(path)

    with pytest.raises(ConfigurationError) as fault:
        survey()

    assert f"```\nbeamseg: {fault.value}\n```" in PAGE


def survey() -> None:
    """What `train` does before its first step."""
    config = load_configuration("dubai/dubai.toml")
    with read_data(config) as data:
        collect_stats(data.training, config.classes, config.data.allow_empty_classes)


@pytest.fixture
def asked_for(monkeypatch) -> list[str]:
    """Weights that Keras was to load, and random ones instead; memory is not measured."""
    asked: list[str] = []

    def build(alpha, **options):
        return scale_width(tf.keras.applications.VGG16(**options), alpha)

    def load(model, name, width, weights, bands):
        asked.append(weights)

    narrow = dataclasses.replace(BACKBONES["vgg16"], build=build, publishes_widths=True)
    monkeypatch.setitem(BACKBONES, "vgg16", narrow)
    monkeypatch.setattr("segmodel.networks.network.load_imagenet", load)
    monkeypatch.setattr("segmodel.savedmodel.export.measure_bytes_per_pixel", lambda folder: 300)
    return asked


def shortened(words: list[str]) -> list[str]:
    """Two steps of a small network, and any IoU is good enough; all else as the page has it."""
    if words[0] != "train":
        return words
    settings = (*SMALL, *REGIONS) if "--folds_by" in words else SMALL
    words = [re.sub(r"^mean=.*$", "mean=0", word) for word in words]
    return [*words, *(f"--set={setting}" for setting in settings)]


def test_commands_of_the_page_work_in_their_order(sandbox, asked_for, monkeypatch, capsys):
    """In one process, as TensorFlow takes seconds to start; those of Beam start processes."""
    monkeypatch.chdir(sandbox)
    for line in COMMANDS:
        program, *words = shlex.split(line)
        assert program == "beamseg"
        if words[0] in ("pack", "segment"):
            done = forked.run(
                command(*words), cwd=sandbox, env=environment(), capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
        else:
            assert main.dispatch(shortened(words)) == 0, line

    assert {shlex.split(line)[1] for line in COMMANDS} == {
        *("train", "compare", "ensemble", "pack", "inspect", "segment"),
    }
    assert asked_for == ["imagenet"]
    assert "weights of dubai; 0 start anew" in capsys.readouterr().out
    assert_a_run_holds_what_the_page_says(sandbox / "runs" / "dubai")
    folds = json.loads((sandbox / "runs/folds/folds.json").read_text("utf-8"))["folds"]
    assert list(folds) == ["001", "002"]
    made = {path.name for path in (sandbox / "compared").iterdir()}
    assert made == {"compare.md", "compare.json", "curves.png", "pictures"}
    steady = read_contract(sandbox / "models" / "steady")
    assert (steady.metrics, steady.calibration) == ({}, None)
    assert len(list((sandbox / "maps/city/labels").rglob("*.png"))) == 2
    packed = parse_configuration(WHOLE | PARTS[0], sandbox / "dubai")
    with read_data(packed) as data:
        assert len(data.training) + len(data.validation) == 4


def assert_a_run_holds_what_the_page_says(run: Path) -> None:
    table = PAGE.partition("| in `runs/dubai` |")[2].partition("\n\n")[0]
    first_cells = [row.split(" | ")[0] for row in table.splitlines()[2:]]
    named = {name for cell in first_cells for name in re.findall(r"`(.+?)`", cell)}

    missing = {name for name in named if not (run / name).exists()}

    assert missing == {"checkpoint/"}
    assert {path.name for path in run.iterdir()} == {name.strip("/") for name in named - missing}
