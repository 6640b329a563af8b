"""Orchestrators in environments of their own, which `make test-airflow` makes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT, environment
from tests.end_to_end.watched import SECONDS

EXAMPLES = ROOT / "examples"


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


def shown(name: str) -> list[str]:
    """The words of the command that the page of an example shows."""
    page = (EXAMPLES / name / "README.md").read_text("utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return shlex.split(block)


def outside() -> dict[str, str]:
    """Variables for an orchestrator, which finds beamseg by the interpreter that runs the tests."""
    return environment() | {"BEAMSEG_PYTHON": sys.executable}


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


def run_outside(
    command: list[object], cwd: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of an orchestrator to its end."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=outside() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
