"""Whatever ends a run from outside, no process of it stays, and it can be resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forked
from tests.end_to_end.conftest import Run, command, environment
from tests.end_to_end.runs import records
from tests.end_to_end.watched import descendants, is_alive, wait_until, write_shards

SHARDS = 60
# A process that starts another one, and does nothing more.
PARENT = """
import subprocess, sys, time
subprocess.Popen(sys.argv[1:])
time.sleep(600)
"""


def last_line(printed: str) -> dict:
    return json.loads(printed.splitlines()[-1])


def started(
    folder: Path, words: list[str], popen: type[subprocess.Popen] = forked.Popen
) -> subprocess.Popen[str]:
    """A process that is running, after the first units are done."""
    process = popen(
        words,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: len(records(folder / "run")) >= 2, process)
    return process


@pytest.fixture
def words(tmp_path: Path, brightness_savedmodel: Path) -> list[str]:
    write_shards(tmp_path / "shards", SHARDS)
    asked = ["--input=shards", f"--model={brightness_savedmodel}", "--output=run", "--json"]
    return ["segment", *asked]


def finish(beamseg: Run, folder: Path, words: list[str]) -> None:
    """Resume a run that was ended in the middle."""
    units = len(records(folder / "run"))
    assert 2 <= units < SHARDS
    done = last_line(beamseg(*words).stdout)
    assert (done["reason"], done["this_attempt"]["units_skipped"]) == ("complete", units)


def test_an_interrupted_run_says_so_last(tmp_path, beamseg, words):
    process = started(tmp_path, command(*words))

    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)

    said = last_line(printed)
    assert (process.returncode, said["exit_status"]) == (143, 143)
    assert said["reason"] == "interrupted"
    assert (said["run"], said["images"], said["this_attempt"]) == ("run", None, None)
    finish(beamseg, tmp_path, words)


# A command whose main thread is in a call that no signal interrupts, as a model's may be.
HANGING = """
import ctypes, sys
from pipelines.commands.main import guarded

def hang(words):
    lock = ctypes.CDLL(None).pthread_mutex_lock
    mutex = ctypes.create_string_buffer(64)
    lock(mutex)
    print("hanging", flush=True)
    lock(mutex)

sys.exit(guarded(hang, ["--json"]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_run_whose_model_hangs(number):
    words = [sys.executable, "-c", HANGING]
    process = forked.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "hanging\n"
    # Until the call in which it hangs has begun.
    time.sleep(0.5)

    process.send_signal(number)
    printed, told = process.communicate(timeout=60)

    assert (process.returncode, last_line(printed)["exit_status"]) == (128 + number, 128 + number)
    assert told == "\nbeamseg: interrupted; run the same command again to continue\n"


def test_a_run_under_nohup_goes_on_when_its_terminal_is_closed():
    program = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{HANGING}"
    process = forked.Popen(
        [sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "hanging\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        # Longer than it takes where the signal is heeded.
        process.wait(3)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_call_that_does_not_return_ends_in_time_and_the_process_too(
    tmp_path, beamseg, hanging_savedmodel
):
    write_shards(tmp_path / "shards", 1)
    asked = ["segment", "--input=shards", f"--model={hanging_savedmodel}", "--output=run"]
    done = beamseg(*asked, "--call_timeout=1", "--json")
    said = last_line(done.stdout)
    assert done.returncode == 4
    assert (said["reason"], said["unfinished_units"], said["failed_images"]) == ("incomplete", 1, 0)
    assert "did not return within 1 s" in done.stderr
    assert not (tmp_path / "run" / "_SUCCESS").exists()


def test_a_run_ends_when_the_process_is_killed_that_started_it(tmp_path, beamseg, words):
    asked = command(*words, "--stop_with_parent")
    process = started(tmp_path, [sys.executable, "-c", PARENT, *asked], subprocess.Popen)

    process.kill()
    # The pipe closes when the last process that has it is gone.
    printed, _ = process.communicate(timeout=60)

    assert "beamseg: interrupted" in printed
    assert last_line(printed)["reason"] == "interrupted"
    finish(beamseg, tmp_path, words)


def test_workers_in_processes_of_their_own_end_with_a_run_that_is_killed(tmp_path, beamseg, words):
    workers = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    process = started(tmp_path, command(*words, *workers), subprocess.Popen)
    children = descendants(process.pid)
    assert len(children) >= 2

    process.kill()
    process.communicate(timeout=60)

    wait_until(lambda: not any(map(is_alive, children)))
    finish(beamseg, tmp_path, words)
