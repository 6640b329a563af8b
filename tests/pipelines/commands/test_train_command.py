"""`beamseg train` as a user runs it: options, what is wrong with them and with the data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.cli.options import parse_options
from pipelines.commands import train
from pipelines.commands.main import guarded
from segmodel.errors import ConfigurationError
from tests import forked
from tests.end_to_end.conftest import ROOT, command, environment
from tests.pipelines.train_corpus import (
    CONFIGURATION,
    steps_of,
    texts_of,
    write_pair,
    write_training,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run in a process of its own, with what it printed."""
    folder = tmp_path_factory.mktemp("hidden-place")
    write_training(folder)
    words = command("train", "--config", "train.toml", "--output", "out/run")
    done = forked.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=280
    )
    return folder, done


def fails(capsys, *words: object) -> str:
    """What a call that ends with status 2 says."""
    status = guarded(train.run, [str(word) for word in words])
    said = capsys.readouterr()
    assert status == 2, said
    assert "Traceback" not in said.err
    return said.err


def overrides(*words: str) -> dict[str, str]:
    return train.overrides(parse_options(train.TrainOptions, train.parser().parse_args(words)))


def test_the_schema_of_configuration_files_is_printed(capsys):
    assert guarded(train.run, ["--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert "steps" in schema["$defs"]["TrainingConfig"]["properties"]


def test_help_needs_no_tensorflow(capsys):
    script = (
        "import sys\nfrom pipelines.commands import train\n"
        "train.parser().format_help()\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'apache_beam', 'tqdm', 'pydantic'}\n"
        "loaded = heavy & set(sys.modules)\n"
        "sys.exit(f'imported {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert guarded(train.run, ["--help"]) == 0
    text = capsys.readouterr().out
    for name in ("--config", "--output", "--set", "--init_from", "--min_iou", "--folds_by"):
        assert name in text


def test_a_run_trains_and_tells_where_its_model_is(finished):
    folder, done = finished
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("model with mean IoU 0.")
    assert lines[-1].endswith(" in out/run/model, described in card.md there")
    assert sum(line.startswith("step ") for line in lines) == 2
    assert steps_of(folder / "out" / "run") == [2, 4]
    assert (folder / "out" / "run" / "model" / "saved_model.pb").is_file()


def test_nothing_but_the_run_itself_is_printed(finished):
    _, done = finished
    assert done.stderr == ""


def test_no_file_of_a_run_names_folders_of_the_machine(finished):
    folder, _ = finished
    texts = texts_of(folder / "out" / "run")
    assert {"configuration.json", "card.md", "history.jsonl", "scores.json"} <= set(texts)
    assert "model/assets.extra/segmodel.json" in texts
    named = [name for name, text in texts.items() if "hidden-place" in text or "/tmp" in text]
    assert named == []


def test_a_run_leaves_no_drafts(finished):
    folder, _ = finished
    names = {path.name for path in (folder / "out" / "run").rglob("*")}
    assert not [n for n in names if n.endswith(".part") or n.startswith((".", "draft."))]
    assert {path.name for path in (folder / "out").iterdir()} == {"run"}


def test_a_finished_run_is_said_to_be_and_other_settings_are_refused(finished, monkeypatch, capsys):
    folder, _ = finished
    monkeypatch.chdir(folder)
    words = ["--config", "train.toml", "--output", "out/run"]
    assert guarded(train.run, words) == 0
    assert "run is finished: nothing to do" in capsys.readouterr().out
    said = fails(capsys, *words, "--set", "training.seed=5")
    assert "out/run holds a run with other settings or data: --overwrite" in said
    # A floor holds for what is there, too.
    said = fails(capsys, *words, "--min_iou", "mean=0.999", "--min_iou", "blue=0")
    assert "below --min_iou for mean 0." in said
    assert "(asked for 0.999): the model there stays as it is" in said


def test_a_model_below_its_floor_is_not_exported(finished, monkeypatch, capsys):
    folder, _ = finished
    monkeypatch.chdir(folder)
    said = fails(
        capsys,
        *("--config", "train.toml", "--output", "out2", "--set", "training.steps=1"),
        *("--min_iou", "red=0.99", "--min_iou", "blue=0.98", "--init_from", "out/run"),
    )
    assert "IoU on validation is below --min_iou for red 0." in said
    assert "(asked for 0.98): nothing was exported" in said
    assert not (folder / "out2" / "model").exists()
    assert not (folder / "out2" / "_SUCCESS").exists()


@pytest.mark.parametrize("missing", ["config", "output"])
def test_options_that_are_needed_are_named(capsys, missing):
    words = [f"--{name}=x" for name in ("config", "output") if name != missing]
    assert f"--{missing} is missing: see beamseg train --help" in fails(capsys, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps=3"], "unknown option --steps"),
        (["--folds_by=tile"], "--folds_by"),
        (["--set", "training.steps"], "--set needs SECTION.KEY=VALUE, got 'training.steps'"),
        (["--set", "training.step=1"], "did you mean training.steps?"),
        (["--set", "training.steps=many"], "training.steps must be a valid integer, got 'many'"),
        (["--min_iou", "red"], "--min_iou needs CLASS=VALUE, got 'red'"),
        (["--min_iou", "red=high"], "--min_iou red must be a number, got 'high'"),
        (["--min_iou", "red=nan"], "export.min_iou.red must be a finite number, got nan"),
        (["--min_iou", "red=2"], "export.min_iou.red must be at most 1, got 2.0"),
        (["--min_iou", "road=0.5"], "export.min_iou must be one of red, blue, mean, got 'road'"),
        (["--set", "training.crop=48"], "training.crop must be a multiple of 32, got 48"),
        (["--set", "training.devices=GPU:7"], "training.devices: GPU:7 is not there: CPU:0"),
        (["--config=absent.toml"], "absent.toml: no such file"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, capsys, words, message):
    path = write_training(tmp_path)
    said = fails(capsys, f"--config={path}", f"--output={tmp_path / 'run'}", *words)
    assert message in said
    assert not (tmp_path / "run").exists()


def test_options_become_values_of_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert overrides() == {}
    assert overrides("--set", "a.b=c=d", "--set", "data.about=a b") == {
        "a.b": "c=d",
        "data.about": "a b",
    }
    assert overrides("--backbone_weights", "imagenet")["model.backbone_weights"] == '"imagenet"'
    found = overrides("--backbone_weights", "w.h5", "--init_from", "../old run")
    assert found["model.backbone_weights"] == f'"{tmp_path}/w.h5"'
    assert found["model.init_from"] == f'"{tmp_path.parent}/old run"'
    floors = ('a "b"=0.5', "c=d=0.1", "mean=1", "mean=0.25")
    found = overrides(*(word for floor in floors for word in ("--min_iou", floor)))
    assert found == {
        'export.min_iou."a \\"b\\""': "0.5",
        'export.min_iou."c=d"': "0.1",
        'export.min_iou."mean"': "0.25",
    }


def test_weights_to_start_from_are_relative_to_the_current_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "elsewhere").mkdir()
    path = write_training(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "elsewhere")
    words = [f"--config={path}", f"--output={tmp_path / 'run'}"]
    said = fails(capsys, *words, "--init_from", "old")
    assert f"{tmp_path}/elsewhere/old must be a model that beamseg exported" in said
    said = fails(capsys, *words, "--backbone_weights", "w.h5", "--set", "model.width=1.0")
    assert f"{tmp_path}/elsewhere/w.h5" in said


def save(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def other_size(folder: Path) -> None:
    save(folder / "training/masks/east-0.png", np.zeros((9, 64, 3), np.uint8))


def other_color(folder: Path) -> None:
    mask = np.asarray(Image.open(folder / "validation/masks/north-9.png")).copy()
    mask[5, 7] = (1, 2, 3)
    save(folder / "validation/masks/north-9.png", mask)


def deep_mask(folder: Path) -> None:
    save(folder / "training/masks/west-1.png", np.zeros((64, 64), np.uint16))


def no_mask(folder: Path) -> None:
    (folder / "training/masks/east-2.png").unlink()


def no_red(folder: Path) -> None:
    for path in (folder / "training/masks").iterdir():
        save(path, np.full((64, 64, 3), (0x28, 0x28, 0xC8), np.uint8))


def broken(folder: Path) -> None:
    (folder / "training/images/west-3.png").write_bytes(b"\x89PNG\r\n")


def label_out_of_range(folder: Path) -> None:
    for path in folder.rglob("masks/*.png"):
        ids = np.where(np.asarray(Image.open(path))[..., 0] == 0xC8, 3, 0).astype(np.uint8)
        if path.stem == "west-3":
            ids[2, 4] = 77
        save(path, ids)
    text = CONFIGURATION.replace("[data]", '[data]\nmask_encoding = "id"')
    (folder / "train.toml").write_text(text, "utf-8")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_size, ["east-0.png", "64", "9"]),
        (other_color, ["north-9.png", "#010203"]),
        (deep_mask, ["west-1.png", "16"]),
        (no_mask, ["no mask", "east-2.png"]),
        (no_red, ["no training mask has a pixel of 'red' (id 3)"]),
        (broken, ["west-3.png"]),
        (label_out_of_range, ["west-3.png", "77"]),
    ],
)
def test_wrong_data_are_named_before_anything_is_trained(tmp_path, capsys, spoil, words):
    path = write_training(tmp_path)
    spoil(tmp_path)
    said = fails(capsys, f"--config={path}", f"--output={tmp_path / 'run'}")
    for word in words:
        assert word in said
    assert not (tmp_path / "run").exists()


def test_an_image_for_training_and_validation_is_refused(tmp_path, capsys):
    path = write_training(tmp_path)
    words = ['data.validation_images=["training/images"]', 'data.validation_masks="training/masks"']
    options = [word for value in words for word in ("--set", value)]
    said = fails(capsys, f"--config={path}", f"--output={tmp_path / 'run'}", *options)
    assert "is for training and for validation" in said


def test_a_name_without_a_value_is_an_error_of_ours():
    with pytest.raises(ConfigurationError, match="--set needs"):
        overrides("--set", "x")


def test_folds_are_printed_and_written(tmp_path, monkeypatch, capsys):
    write_training(tmp_path)
    write_pair(tmp_path / "validation", "east-7", 7)
    monkeypatch.chdir(tmp_path)
    words = ["--config=train.toml", "--output=folds", "--folds_by=group", "--set=training.steps=1"]

    assert guarded(train.run, words) == 0

    said = capsys.readouterr().out
    folders = {path.name for path in (tmp_path / "folds").iterdir() if path.is_dir()}
    assert folders == {"east", "north", "west"}
    table = (tmp_path / "folds" / "folds.txt").read_text()
    assert said.endswith(table)
    for name in ("east", "north", "west", "all"):
        assert any(line.startswith(name) for line in table.splitlines())
    assert not [n for n, text in texts_of(tmp_path / "folds").items() if str(tmp_path) in text]
    assert "fold 3 of 3: west left out" in said
    # Again: all three are finished.
    assert guarded(train.run, words) == 0
    assert capsys.readouterr().out.count("is finished: nothing to do") == 3
