"""`beamseg train` killed and run again, on shards, and what other commands do with its model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import forked
from tests.end_to_end.conftest import command, environment
from tests.pipelines.train_corpus import CONFIGURATION, texts_of, write_training

SECONDS = 400
LONGER = CONFIGURATION.replace("steps = 4", "steps = 24").replace(
    "validate_every = 2", "validate_every = 8"
)


def beamseg(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return forked.run(
        command(*words),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def train(folder: Path, output: str, *words: str) -> subprocess.CompletedProcess[str]:
    return beamseg(folder, "train", "--config", "train.toml", "--output", output, *words)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with data and `whole`, a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("train")
    write_training(folder, LONGER)
    done = train(folder, "whole")
    assert done.returncode == 0, done.stderr
    return folder


def killed(folder: Path, output: str, when: Callable[[], bool]) -> None:
    """Start a run and kill it, with all its processes, once something is so."""
    process = forked.Popen(
        command("train", "--config", "train.toml", "--output", output),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + SECONDS
    while not when() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def history(run: Path) -> list[dict]:
    path = run / "history.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [
        {key: value for key, value in json.loads(line).items() if not key.endswith("seconds")}
        for line in lines
    ]


def test_a_run_that_was_killed_twice_ends_as_one_that_was_not(whole):
    from segmodel.networks.pretrained import read_weights

    run = whole / "cut"
    killed(whole, "cut", lambda: (run / "checkpoint/state.npz").exists() and bool(history(run)))
    assert not (run / "model").exists()
    # A folder that begins with a dot is where a model is written before it is checked.
    killed(whole, "cut", lambda: any(run.glob(".model-*/saved_model.pb")))
    assert not (run / "_SUCCESS").exists()

    last = train(whole, "cut")

    assert last.returncode == 0, last.stderr
    assert "resuming after step 24" in last.stdout
    assert history(run) == history(whole / "whole")
    actual, expected = read_weights(run), read_weights(whole / "whole")
    assert sorted(actual) == sorted(expected)
    for path, value in expected.items():
        np.testing.assert_array_equal(actual[path], value, err_msg=path)
    assert {path.name for path in run.iterdir()} == {
        path.name for path in (whole / "whole").iterdir()
    }
    again = train(whole, "cut")
    assert again.returncode == 0
    assert again.stdout.splitlines()[0] == "cut is finished: nothing to do"


def test_shards_as_pack_writes_them_are_trained_on(whole):
    pairs = ["--images=training/images", "--masks=training/masks", "--classes=train.toml"]
    assert beamseg(whole, "pack", *pairs, "--output=packed").returncode == 0
    options = {
        "data.images": "[]",
        "data.masks": "[]",
        "data.shards": '["packed/train"]',
        "data.group": "",
        "training.steps": "2",
    }
    changes = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]

    done = train(whole, "of-shards", *changes)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "4 training and 1 validation images" in done.stdout
    contract = json.loads((whole / "of-shards/model/assets.extra/segmodel.json").read_text())
    assert contract["training_data"] == {"about": "two colours", "images": 4}
    assert not [n for n, text in texts_of(whole / "of-shards").items() if str(whole) in text]

    compared = beamseg(whole, "compare", "whole", "of-shards", "--output", "compared")

    assert compared.returncode == 0, compared.stderr
    assert "training.steps" in compared.stdout
    assert "data.shards" in compared.stdout
    assert {"compare.md", "compare.json", "curves.png"} <= {
        path.name for path in (whole / "compared").iterdir()
    }


def labels(folder: Path, model: str, output: str) -> np.ndarray:
    done = beamseg(
        folder,
        "segment",
        *("--input", "validation/images/*.png", "--model", model, "--output", output),
    )
    assert done.returncode == 0, done.stderr
    (path,) = [path for path in (folder / output / "labels").rglob("*.*") if path.is_file()]
    return np.asarray(Image.open(path))


def test_the_model_and_an_ensemble_of_its_views_segment(whole):
    from segmodel.savedmodel.predictor import Predictor

    image = np.asarray(Image.open(whole / "validation/images/north-9.png"))
    predictor = Predictor.load(whole / "whole/model")
    actual = labels(whole, "whole/model", "labelled")
    np.testing.assert_array_equal(actual, predictor.segment(image))
    mask = np.asarray(Image.open(whole / "validation/masks/north-9.png"))
    scores = json.loads((whole / "whole/scores.json").read_text())
    right = (actual == np.where(mask[..., 0] == 0xC8, 3, 0)).mean()
    assert right == pytest.approx(scores["pixel_accuracy"], abs=2e-3)

    done = beamseg(whole, "ensemble", "whole/model", "--flips", "--output", "flipped")

    assert done.returncode == 0, done.stderr
    assert set(np.unique(labels(whole, "flipped", "flipped-labels"))) <= {0, 3}
