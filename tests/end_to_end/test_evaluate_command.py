"""`beamseg evaluate` as a user meets it: workers, kills, a model, and what is refused."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import forked
from tests.end_to_end.conftest import (
    command,
    encoded_images,
    environment,
    files_of,
    noise,
    write_scene,
)
from tests.end_to_end.containers import write_files
from tests.fakes import brightness_labels

# How long an attempt took differs from run to run.
CLOCKED = "summary.json"
IMAGES = 200


def truth_of(labels: np.ndarray) -> np.ndarray:
    """Labels of which the upper ten rows are of another class, and the next five unknown."""
    truth = labels.copy()
    truth[:10], truth[10:15] = 3, 255
    return truth


@pytest.fixture(scope="module")
def data(tmp_path_factory, brightness_savedmodel) -> Path:
    """A finished run over many images and a scene of several blocks, and their masks."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_files(folder / "in" / "photos", encoded_images(IMAGES))
    write_scene(folder / "in" / "scene.tif", noise(3, 12_300, 16))
    words = ("--input=in", f"--model={brightness_savedmodel}", "--output=run", "--confidence")
    run("segment", *words, cwd=folder)
    for path in (folder / "run" / "labels" / "in" / "photos").iterdir():
        mask = folder / "masks" / "photos" / path.name.removesuffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(truth_of(np.array(Image.open(path)))).save(mask)
    labels = truth_of(brightness_labels(noise(3, 12_300, 16)))
    write_scene(folder / "masks" / "scene.tif", labels[..., None])
    return folder


def run(*words: object, cwd: Path, status: int = 0) -> str:
    """What a command prints on both streams."""
    done = forked.run(
        command(*words), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def words_for(output: str, *more: str) -> list[str]:
    return ["evaluate", "run", "--reference=masks", f"--output={output}", "--boundary_px=2", *more]


def results(data: Path, output: str) -> dict[str, bytes]:
    return {name: c for name, c in files_of(data / output).items() if name != CLOCKED}


@pytest.fixture(scope="module")
def whole(data) -> dict[str, bytes]:
    """Files of an evaluation that nothing has interrupted."""
    printed = run(*words_for("whole"), cwd=data)
    assert "201 images compared, 0 failed; 9 units" in printed
    assert "1 scene against masks of the same grid" in printed
    return results(data, "whole")


def test_scores_are_those_of_the_masks(data, whole):
    found = json.loads(whole["scores.json"])

    # Of each image, the upper ten rows are called middle, and the next five are unknown.
    sizes = [(40, 56), (64, 64), (96, 80)]
    pixels = sum((height - 5) * width for height, width in (sizes[n % 3] for n in range(IMAGES)))
    assert found["all"]["pixels"] == pixels + (12_300 - 5) * 16
    matrix = np.array(found["all"]["matrix"])
    assert matrix.sum() - np.trace(matrix) == matrix[1].sum() - matrix[1, 1]
    assert (matrix[0, 2], matrix[2, 0]) == (0, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_of_workers_do_not_change_a_byte(data, whole, workers):
    output = f"workers-{workers}"
    more = (f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing")

    run(*words_for(output, *more), cwd=data)

    assert results(data, output) == whole


def test_an_evaluation_that_was_killed_goes_on_and_gives_the_same_bytes(data, whole):
    commits = data / "killed" / "commits"
    kills = 0
    for records in (1, 3, 5):
        started = forked.Popen(
            command(*words_for("killed")), cwd=data, env=environment(), start_new_session=True
        )
        while started.poll() is None and len(list(commits.glob("*.json"))) < records:
            time.sleep(0.005)
        started.send_signal(signal.SIGKILL)
        kills += started.wait() == -signal.SIGKILL

    printed = run(*words_for("killed"), cwd=data)

    assert kills > 0
    assert "201 images compared, 0 failed" in printed
    assert results(data, "killed") == whole


def test_a_model_is_evaluated_in_one_command(data, brightness_savedmodel):
    words = ("--input=in/photos", f"--model={brightness_savedmodel}", "--reference=masks/photos")

    printed = run("evaluate", "made", *words, "--output=of-model", cwd=data)

    assert "200 images labelled, 0 failed" in printed
    assert "200 images against masks of the same grid" in printed
    assert (data / "made" / "_SUCCESS").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing", "--reference=masks", "--output=no"], "nothing is no folder: name the folder"),
        (["run", "--output=no"], "--reference is missing, for example --reference masks/"),
        (["run", "--reference=masks"], "--output is missing, for example --output scores"),
        (["run", "--reference=masks", "--output=run/no"], "lies in the run run, whose files stay"),
        (["run", "--reference=masks", "--output=no", "--boundary_px=0"], "must be in 1..512"),
        (["run", "--reference=masks", "--output=no", "--model=x"], "--model and --input go toget"),
        (["run", "--reference=masks", "--output=no", "--zone_field=x"], "a field of --zones"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(data, words, message):
    printed = run("evaluate", *words, cwd=data, status=2)

    assert message in printed.splitlines()[-1]
    assert not (data / "no").exists()
