"""One small corpus, run on the in-process engine, that every other engine is compared with."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.conftest import (
    command,
    encoded_images,
    environment,
    files_of,
    noise,
    write_images,
    write_scene,
)
from tests.end_to_end.containers import write_shards
from tests.end_to_end.watched import command_line, descendants, is_alive, wait_until

# The local run takes 10 s, one on Flink 40 s.
RUN_SECONDS = 150
# How long an attempt took differs from run to run.
CLOCKED = "summary.json"
SHARDS = 8
# Shards, one group of images, and a scene of four blocks.
UNITS = SHARDS + 1 + 4


@dataclass(frozen=True)
class Corpus:
    """Inputs of every kind, and runs over them.

    Args:
        folder: With the inputs and the run directories.
        model: SavedModel folder.
    """

    folder: Path
    model: Path

    def words(self, name: str, *more: str) -> list[str]:
        """The command of a run; workers elsewhere need absolute paths."""
        inputs = [f"--input={self.folder / kind}" for kind in ("photos", "shards", "scenes")]
        to = [f"--model={self.model}", f"--output={self.folder / name}", "--confidence"]
        return command("segment", *inputs, *to, *more)

    def start(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        with self.log(name).open("wb") as log:
            return subprocess.Popen(
                self.words(name, *more),
                cwd=self.folder,
                env=environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def run(self, name: str, *more: str, seconds: float = RUN_SECONDS) -> int:
        """Run to the end; gives the exit status.

        Raises:
            TimeoutExpired: If it has not ended by then; it is killed.
        """
        return ended(self.start(name, *more), seconds)

    def differences(self, name: str, other: str = "local") -> list[str]:
        """Files that are not equal byte for byte, and what else a finished run must not leave."""
        actual, expected = files_of(self.folder / name), files_of(self.folder / other)
        return [
            path
            for path in sorted({*actual, *expected})
            if path != CLOCKED and actual.get(path) != expected.get(path)
        ]


def ended(process: subprocess.Popen[bytes], seconds: float) -> int:
    try:
        return process.wait(seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def kill_with_children(process: subprocess.Popen[bytes], program: str) -> None:
    """Kill a launcher once it has started a program, and wait until all that it started has ended.

    Args:
        process: Launcher.
        program: What a command line of a process holds that it, or one of its children, starts.
    """
    started: set[int] = set()

    def has_started() -> bool:
        started.update(descendants(process.pid))
        return any(program in command_line(pid) for pid in started)

    wait_until(has_started, process)
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(is_alive, started)))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, brightness_savedmodel: Path) -> Corpus:
    """The corpus after its run on the in-process engine, which is called `local`."""
    folder = tmp_path_factory.mktemp("engines")
    write_images(folder / "photos", 8)
    write_shards(folder / "shards", "tfrecord", encoded_images(24), SHARDS)
    write_scene(folder / "scenes" / "scene.tif", noise(3, 9_000, 16))
    corpus = Corpus(folder, brightness_savedmodel)
    status = corpus.run("local")
    assert status == 0, corpus.log("local").read_text()
    return corpus


def pytest_terminal_summary(terminalreporter) -> None:
    """Say why an engine was not tested: a letter `s` is overlooked."""
    reasons = {
        report.longrepr[2]
        for report in terminalreporter.stats.get("skipped", [])
        if "tests/engines/" in report.nodeid and isinstance(report.longrepr, tuple)
    }
    for reason in sorted(reasons):
        terminalreporter.write_line(f"ENGINE NOT TESTED. {reason}", red=True, bold=True)


@pytest.fixture(scope="session")
def broken_model(tmp_path_factory: pytest.TempPathFactory, brightness_savedmodel: Path) -> Path:
    """A SavedModel that only a worker finds to be broken: its contract is right."""
    path = tmp_path_factory.mktemp("models") / "broken"
    shutil.copytree(brightness_savedmodel, path)
    (path / "saved_model.pb").write_bytes(b"garbage")
    return path
