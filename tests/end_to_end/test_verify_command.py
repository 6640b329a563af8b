"""`beamseg verify` as a user meets it: a byte is lost, found, and made again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import environment, files_of, noise, write_corpus, write_scene

# How long a run took differs from run to run.
CLOCKED = "summary.json"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Images, shards, a scene, and a scene of two blocks."""
    write_corpus(tmp_path)
    write_scene(tmp_path / "scenes" / "tall.tif", noise(5, 4100, 8))
    return tmp_path


@pytest.fixture
def segment(corpus, beamseg, brightness_savedmodel):
    """Run `beamseg segment` to its end; gives the files of the run."""

    def run() -> dict[str, bytes]:
        inputs = ["--input", "photos", "--input", "shards", "--input", "scenes"]
        done = beamseg("segment", *inputs, "--model", brightness_savedmodel, "--output", "run")
        assert done.returncode == 0, done.stderr
        return {name: c for name, c in files_of(corpus / "run").items() if name != CLOCKED}

    return run


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_byte_is_found_and_its_unit_made_again(corpus, beamseg, segment):
    before = segment()
    paths = ("labels/scenes/tall.tif", "labels/photos/image-004.png.png")
    good = beamseg("verify", "run")
    assert good.returncode == 0, good.stderr
    outputs = [n for n in before if n.startswith(("labels/", "areas/"))]
    assert good.stdout.startswith(f"6 units, {len(outputs)} files, ")
    assert good.stdout.endswith(" kB: all as recorded\n")

    for path in paths:
        flip(corpus / "run" / path)
    segment()
    found = beamseg("verify", "run")

    assert found.returncode == 4
    assert found.stderr == (
        "run is not as recorded: give the same `beamseg segment` again, after `beamseg verify "
        "--invalidate` if files are damaged\n"
    )
    *lines, summary = found.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(paths)
    assert all("--invalidate, then the same `beamseg segment` again" in line for line in lines)
    assert summary.endswith(": 0 not finished, 2 not as recorded")
    assert str(corpus) not in found.stdout

    forgotten = beamseg("verify", "run", "--invalidate")

    assert forgotten.returncode == 4
    *lines, summary = forgotten.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(paths)
    remedy = "its commit record was removed: run the same `beamseg segment` again"
    assert all(remedy in line for line in lines)
    assert not (corpus / "run" / "_SUCCESS").exists()
    assert segment() == before
    assert beamseg("verify", "run").stdout == good.stdout


def test_what_is_no_run_is_refused_with_the_remedy(corpus, beamseg):
    for folder in ("photos", "nowhere"):
        done = beamseg("verify", folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"beamseg: {folder} ")
        assert "name the folder that `beamseg segment` was given as --output" in done.stderr


def test_verification_imports_neither_tensorflow_nor_beam(corpus, segment):
    segment()
    program = (
        "import sys; from pipelines.commands import verify; status = verify.run(sys.argv[1:]); "
        "print(status, sorted({'apache_beam', 'keras', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "--invalidate", "--inputs"],
        cwd=corpus,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
