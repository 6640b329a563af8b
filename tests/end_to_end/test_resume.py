"""A run that is killed and started again ends as one that was not."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import (
    command,
    environment,
    files_of,
    noise,
    write_images,
    write_scene,
    write_shard,
)

SHARDS = 60
# How long each run took differs from run to run.
CLOCKED = {"summary.json"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    paths = write_images(folder / "photos", 8)
    encoded = {path.name: path.read_bytes() for path in paths}
    for number in range(SHARDS):
        write_shard(folder / "shards" / f"part-{number:05d}.tfrecord", encoded)
    write_scene(folder / "scenes" / "scene.tif", noise(3, 300, 200))
    return folder


def words(model: Path, run: str) -> list[str]:
    inputs = ["--input=shards", "--input=photos", "--input=scenes"]
    return command("segment", *inputs, f"--model={model}", f"--output={run}", "--confidence")


def run_to_the_end(corpus: Path, model: Path, run: str) -> None:
    done = subprocess.run(
        words(model, run), cwd=corpus, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def run_until(corpus: Path, model: Path, run: str, commits: int, number: signal.Signals) -> int:
    """Start a run and send it a signal once so many units are done; gives its exit status."""
    process = subprocess.Popen(
        words(model, run), cwd=corpus, env=environment(), stderr=subprocess.DEVNULL
    )
    folder = corpus / run / "commits"
    while process.poll() is None and len(list(folder.glob("*.json"))) < commits:
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait(timeout=60)


def test_a_killed_run_goes_on_and_ends_byte_for_byte_as_an_uninterrupted_one(
    corpus, brightness_savedmodel
):
    run_to_the_end(corpus, brightness_savedmodel, "whole")
    expected = files_of(corpus / "whole")

    for commits in (5, 25):
        run_until(corpus, brightness_savedmodel, "killed", commits, signal.SIGKILL)
        finished = {p.name: p.stat().st_mtime_ns for p in (corpus / "killed/commits").iterdir()}
        assert commits <= len(finished) < SHARDS
    run_to_the_end(corpus, brightness_savedmodel, "killed")

    actual = files_of(corpus / "killed")
    assert set(actual) == set(expected)
    assert [n for n in actual if actual[n] != expected[n] and n not in CLOCKED] == []
    summary = json.loads(actual["summary.json"])
    assert summary["this_attempt"]["units_skipped"] == len(finished)
    assert summary["this_attempt"]["units_done"] == SHARDS + 2 - len(finished)
    for name, modified in finished.items():
        assert (corpus / "killed/commits" / name).stat().st_mtime_ns == modified


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_so_in_its_exit_status(
    corpus, brightness_savedmodel, number, status
):
    run = f"interrupted-{status}"

    actual = run_until(corpus, brightness_savedmodel, run, 2, number)

    assert actual == status
    assert not (corpus / run / "_SUCCESS").exists()


def test_a_finished_run_is_left_as_it_is_and_never_imports_tensorflow(
    corpus, brightness_savedmodel
):
    run_to_the_end(corpus, brightness_savedmodel, "again")
    before = files_of(corpus / "again")
    program = (
        "import sys; from pipelines import segment; status = segment.run(sys.argv[1:]); "
        "print(status, 'tensorflow' in sys.modules)"
    )
    arguments = words(brightness_savedmodel, "again")
    arguments[2] = program
    arguments.remove("segment")

    done = subprocess.run(arguments, cwd=corpus, env=environment(), capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
    after = files_of(corpus / "again")
    assert {n: c for n, c in after.items() if n not in CLOCKED} == {
        n: c for n, c in before.items() if n not in CLOCKED
    }
