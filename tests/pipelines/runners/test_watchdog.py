"""What a launcher has started ends with it, however it ends, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.runners.watchdog import MARK, marked_children

ROOT = Path(__file__).parents[3]
# Starts a worker, which starts another one, during the block; and one after it.
LAUNCHER = """
import subprocess, sys, time
from pipelines.runners.watchdog import marked_children
with marked_children():
    subprocess.Popen([sys.executable, "-c", sys.argv[1]])
if len(sys.argv) > 2:
    subprocess.Popen([sys.executable, "-c", sys.argv[2]], stdout=subprocess.DEVNULL)
time.sleep(600)
"""
WORKER = """
import subprocess, sys, time
other = "print('working', flush=True); import time; time.sleep(600)"
subprocess.Popen([sys.executable, "-c", other], start_new_session=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("working", flush=True)
time.sleep(600)
"""


def launched(*programs: str) -> subprocess.Popen[str]:
    """A launcher whose workers work."""
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *programs], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert launcher.stdout.readline() == "working\n"
    return launcher


def wait_for_all(launcher: subprocess.Popen[str]) -> None:
    """Wait until the last process has ended that has the standard output of the launcher."""
    assert launcher.communicate(timeout=60) == ("", None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_what_workers_have_started_in_a_session_of_its_own_ends_with_the_launcher(number):
    launcher = launched(WORKER)
    launcher.send_signal(number)
    wait_for_all(launcher)


def test_a_worker_that_does_not_heed_sigterm_is_killed():
    launcher = launched(STUBBORN)
    launcher.kill()
    wait_for_all(launcher)


def test_workers_of_another_launcher_go_on():
    killed, other = launched(WORKER), launched(WORKER)
    killed.kill()
    wait_for_all(killed)
    workers = marked(f"{MARK}={other.pid}-")
    other.kill()
    wait_for_all(other)
    assert len(workers) == 2


def test_what_is_started_after_the_run_goes_on():
    token = os.urandom(8).hex()
    launcher = launched(WORKER, f"import time; time.sleep(600); '{token}'")
    launcher.kill()
    wait_for_all(launcher)
    later = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if token.encode() in read(folder / "cmdline")
    ]
    for process in later:
        os.kill(process, signal.SIGKILL)
    assert len(later) == 1


def test_the_mark_of_a_launcher_around_this_one_comes_back(monkeypatch):
    monkeypatch.setenv(MARK, "1-outer")
    with marked_children():
        inner = os.environ[MARK]
    assert inner.startswith(f"{os.getpid()}-")
    assert os.environ[MARK] == "1-outer"
    monkeypatch.delenv(MARK)
    with marked_children():
        assert os.environ[MARK] == inner
    assert MARK not in os.environ


def marked(start: str) -> list[int]:
    """Processes with a variable that begins so."""
    return [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if any(entry.startswith(start.encode()) for entry in read(folder / "environ").split(b"\0"))
    ]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
