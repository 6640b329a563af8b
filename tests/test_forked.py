"""A forked process is like one that was started: its streams, its status, its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked

PYTHON = [sys.executable, "-c"]


def test_what_it_prints_and_its_status_come_back(tmp_path: Path):
    program = "import os, sys; print(os.getcwd(), sys.argv); sys.exit('no')"
    done = forked.run([*PYTHON, program, "a", "b"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path.resolve()} ['-c', 'a', 'b']\n"
    assert (done.returncode, done.stderr) == (1, "no\n")


def test_a_file_takes_what_it_prints(tmp_path: Path):
    with (tmp_path / "printed").open("wb") as stream:
        done = forked.run([*PYTHON, "print(1)"], stdout=stream, stderr=subprocess.DEVNULL)
    assert (done.returncode, (tmp_path / "printed").read_text()) == (0, "1\n")


def test_it_reads_its_standard_input():
    with forked.Popen(
        [*PYTHON, "print(input())"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.communicate("hello\n", timeout=60) == ("hello\n", None)


def test_an_error_ends_it_with_1_and_a_traceback():
    done = forked.run([*PYTHON, "raise ValueError(7)"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ValueError: 7\n")
    with pytest.raises(subprocess.CalledProcessError):
        forked.run([*PYTHON, "raise SystemExit(3)"], check=True)


def test_it_is_a_child_of_who_asks_and_leads_a_group_if_asked():
    program = "import os; print(os.getppid(), os.getpgrp(), os.getpid())"
    for leads in (True, False):
        done = forked.run(
            [*PYTHON, program], start_new_session=leads, capture_output=True, text=True
        )
        parent, group, own = map(int, done.stdout.split())
        assert parent == os.getpid()
        assert group == (own if leads else os.getpgrp())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(number: signal.Signals):
    program = "import time; print(1, flush=True); time.sleep(60)"
    process = forked.Popen(
        [*PYTHON, program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process:
        assert process.stdout.readline() == "1\n"
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == -number


def test_too_long_a_run_is_killed():
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run([*PYTHON, "import time; time.sleep(60)"], timeout=0.1)


def test_its_variables_are_those_that_it_is_given():
    program = "import os, tempfile; print(os.environ.get('A'), os.environ.get('B'))"
    given = {name: os.environ[name] for name in os.environ if name.startswith(forked.AT_IMPORT)}
    done = forked.run([*PYTHON, program], env=given | {"A": "1"}, capture_output=True, text=True)
    assert done.stdout == "1 None\n"


def test_imports_are_there_and_no_thread_and_no_random_number_of_another():
    program = (
        "import sys, threading, random, numpy as np\n"
        "print({'tensorflow', 'apache_beam'} <= {*sys.modules}, threading.active_count())\n"
        "print(random.random(), np.random.random())\n"
    )
    first, second = (
        forked.run([*PYTHON, program], capture_output=True, text=True).stdout.splitlines()
        for _ in range(2)
    )
    assert first[0] == second[0] == "True 1"
    assert not {*first[1].split()} & {*second[1].split()}


def test_what_is_read_at_import_has_a_process_started_anew():
    done = forked.run(
        [*PYTHON, "import sys; print('tensorflow' in sys.modules)"],
        env=os.environ | {"PYTHONHASHSEED": "3"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "False\n"


def test_a_module_is_run_as_a_program():
    words = [sys.executable, "-m", "pipelines.segment", "--help"]
    done = forked.run(words, cwd=forked.ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
