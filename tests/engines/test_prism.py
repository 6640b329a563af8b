"""The real command on a real Prism, built from its Go module."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT
from tests.engines.conftest import UNITS, Corpus, kill_with_children
from tests.engines.flink_cluster import write_worker

BUILD_SECONDS = 500
MODULE = "github.com/apache/beam/sdks/v2/go/cmd/prism"


@pytest.fixture(scope="module")
def prism() -> Path:
    """The program: what PRISM names, or one of the installed Beam's version, built once."""
    named = os.environ.get("PRISM")
    if named:
        return Path(named).resolve(strict=True)
    release = f"v{version('apache-beam')}"
    program = ROOT / "build" / f"prism-{release}" / "prism"
    if program.exists():
        return program
    if not shutil.which("go"):
        pytest.skip("Prism is built with Go, and there is no go on the path")
    try:
        done = subprocess.run(
            ["go", "install", f"{MODULE}@{release}"],
            env=os.environ | {"GOBIN": str(program.parent)},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"Prism was not built within {BUILD_SECONDS} s")
    if done.returncode:
        pytest.skip(f"Prism cannot be built: {done.stderr.strip().splitlines()[-1]}")
    return program


@pytest.fixture
def options(prism: Path, tmp_path: Path) -> list[str]:
    """What `beamseg segment` is told: a Prism, and workers in processes of their own."""
    write_worker(tmp_path / "beamseg-worker", tmp_path / "worker.log")
    return [
        "--runner=PrismRunner",
        f"--prism_location={prism}",
        "--environment_type=PROCESS",
        f"--environment_option=process_command={tmp_path / 'beamseg-worker'}",
    ]


def test_files_on_prism_are_those_of_the_local_run(corpus: Corpus, options: list[str]):
    assert corpus.run("prism", *options) == 0, corpus.log("prism").read_text()
    assert corpus.differences("prism") == []
    summary = json.loads((corpus.folder / "prism" / "summary.json").read_text())
    assert summary["complete"]
    assert summary["this_attempt"]["units_done"] == UNITS


def test_prism_and_its_workers_end_with_a_launcher_that_is_killed(
    corpus: Corpus, options: list[str], hanging_savedmodel: Path
):
    words = [*options, f"--model={hanging_savedmodel}"]
    kill_with_children(corpus.start("prism-left", *words), "pipelines.runners.worker")


def test_an_error_of_a_worker_on_prism_is_one_line(
    corpus: Corpus, options: list[str], broken_model: Path
):
    status = corpus.run("prism-broken", *options, f"--model={broken_model}")
    told = corpus.log("prism-broken").read_text()
    assert status == 2, told
    assert re.search(r"^beamseg: .*is not a SavedModel: saved_model.pb is damaged", told, re.M), (
        told
    )
    assert "Traceback (most" not in told
    assert not (corpus.folder / "prism-broken" / "_SUCCESS").exists()
