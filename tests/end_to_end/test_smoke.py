"""Ten commands of the real program, at every change: does each of them do its work?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from segmodel.errors import counted
from tests import forked
from tests.end_to_end.conftest import command, environment, noise, write_corpus
from tests.fakes import brightness_labels
from tests.pipelines.train_corpus import CONFIGURATION, write_training

# Inputs and what they count: image files, images in shards, a scene.
INPUTS = {"photos": 8, "shards": 6, "scenes": 1}


class Program:
    """The program in a folder with a corpus, a model and training data."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        write_corpus(folder)
        write_training(folder, CONFIGURATION.replace("steps = 4", "steps = 2"))
        (folder / "model").symlink_to(model)

    def __call__(self, line: str) -> str:
        """Run a command, which must end with 0; returns what it prints."""
        done = forked.run(
            command(*line.split()),
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def beamseg(
    tmp_path_factory: pytest.TempPathFactory, brightness_savedmodel: Path
) -> Iterator[Program]:
    return Program(tmp_path_factory.mktemp("smoke"), brightness_savedmodel)


@pytest.fixture(scope="module")
def runs(beamseg: Program) -> dict[str, str]:
    """What the program prints of a run over each kind of input."""
    return {
        kind: beamseg(f"segment --input={kind} --model=model --output=run-of-{kind}")
        for kind in INPUTS
    }


@pytest.fixture(scope="module")
def trained(beamseg: Program) -> str:
    """What the program prints of two steps of training."""
    return beamseg("train --config train.toml --output trained")


def test_help_names_the_commands(beamseg):
    printed = beamseg("--help")
    for name in ("segment", "pack", "plan", "train", "compare", "ensemble", "wrap", "inspect"):
        assert f"\n  {name} " in printed


def test_inspect_prints_a_contract(beamseg):
    assert "brightness" in beamseg("inspect model")


def test_inspect_tells_the_speed_of_a_model_by_window(beamseg):
    printed = beamseg("inspect model --speed --memory=2G").splitlines()
    title = printed.index("megapixels a second on this machine, of windows with their halo")
    head, *rows = (line.split() for line in printed[title + 1 :])
    assert head[:3] == ["window", "px", "float32"]
    assert rows[0][0] == "512"
    assert all(float(rate) > 0 for row in rows for rate in row[1:])


def test_plan_counts_the_work(beamseg):
    printed = beamseg("plan --input=photos --input=shards --model=model --output=planned")
    assert "units" in printed
    assert not (beamseg.folder / "planned").exists()


@pytest.mark.parametrize("kind", INPUTS)
def test_segment_labels_each_kind_of_input(beamseg, runs, kind):
    assert f"{counted(INPUTS[kind], 'image')} labelled, 0 failed" in runs[kind]
    run = beamseg.folder / f"run-of-{kind}"
    assert (run / "_SUCCESS").exists()
    if kind == "photos":
        labels = np.asarray(Image.open(run / "labels/photos/image-000.png.png"))
        np.testing.assert_array_equal(labels, brightness_labels(noise(0, 40, 56)))
    if kind == "scenes":
        with rasterio.open(run / "labels/scenes/scene.tif") as source:
            np.testing.assert_array_equal(source.read(1), brightness_labels(noise(99, 150, 200)))


def test_segment_resumes_a_run(beamseg, runs):
    run = beamseg.folder / "run-of-shards"
    record = next((run / "commits").iterdir())
    record.unlink()
    beamseg("segment --input=shards --model=model --output=run-of-shards")
    attempt = json.loads((run / "summary.json").read_text())["this_attempt"]
    assert (attempt["units_done"], attempt["units_skipped"]) == (1, 1)


def test_verify_finds_all_as_recorded(beamseg, runs):
    assert beamseg("verify run-of-photos").endswith("all as recorded\n")


def test_pack_writes_shards_that_segment_reads(beamseg):
    beamseg("pack --images=photos --output=packed")
    beamseg("segment --input=packed/train --model=model --output=run-of-packed")
    summary = json.loads((beamseg.folder / "run-of-packed/summary.json").read_text())
    assert summary["images"] == INPUTS["photos"]


def test_train_leaves_a_model(beamseg, trained):
    assert "model with mean IoU" in trained.splitlines()[-1]
    assert (beamseg.folder / "trained/model/saved_model.pb").exists()


def test_compare_lays_runs_side_by_side(beamseg, trained):
    shutil.copytree(beamseg.folder / "trained", beamseg.folder / "second")
    beamseg("compare trained second --output compared")
    assert (beamseg.folder / "compared/compare.md").exists()


def test_ensemble_is_a_model(beamseg):
    beamseg("ensemble model --flips --output flipped")
    assert (beamseg.folder / "flipped/saved_model.pb").exists()
