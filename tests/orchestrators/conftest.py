"""Orchestrators in environments of their own, which `make test-airflow` makes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT, encoded_images, environment, write_shard

EXAMPLES = ROOT / "examples"
SECONDS = 540


def pytest_terminal_summary(terminalreporter) -> None:
    """Say what was not tested and why, also where nobody asks for the reasons of skipped tests."""
    reasons = {
        report.longrepr[2]
        for report in terminalreporter.stats.get("skipped", [])
        if "tests/orchestrators" in report.nodeid and isinstance(report.longrepr, tuple)
    }
    for reason in sorted(reasons):
        terminalreporter.write_line(f"NOT TESTED: {reason.removeprefix('Skipped: ')}", red=True)


def program(name: str) -> Path:
    """The command of an orchestrator; skips the test where it is not installed."""
    path = ROOT / "build" / name / "bin" / name
    if not (ROOT / "build" / name / "done").exists():
        pytest.skip(f"{name} is not in build/{name}: run make test-airflow")
    return path


def outside() -> dict[str, str]:
    """Variables for an orchestrator, which finds beamseg by the interpreter that runs the tests."""
    return environment() | {"BEAMSEG_PYTHON": sys.executable}


def write_shards(folder: Path, count: int) -> None:
    """Shards of four images, each of them a work unit."""
    for number in range(count):
        write_shard(folder / f"part-{number:05d}.tfrecord", encoded_images(4, 4 * number))


def pipelines_of(run: Path) -> list[int]:
    """Processes of beamseg that write to a run directory, and workers that they have started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"pipelines.segment" in words and f"--output={run}".encode() in words:
            found.append(int(folder.name))
    return found


def wait_until(condition: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
    """Wait for something that has to happen, while a process is running if one is given.

    Raises:
        AssertionError: If it does not.
    """
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited too long"
        assert process is None or process.poll() is None, "the process has ended"
        time.sleep(0.005)


def run_outside(command: list[object], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of an orchestrator to its end."""
    return subprocess.run(
        [str(word) for word in command],
        env=outside() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
