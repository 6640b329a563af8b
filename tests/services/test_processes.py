"""No server outlives the tests."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services.processes import listens, server_process

HOLDER = """
import os, signal
from tests.services.processes import server_process
with server_process("tests.services.tokens", lambda port: [str(port)]) as port:
    print(port, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def ends(port: int) -> bool:
    deadline = time.monotonic() + 10
    while listens(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not listens(port)


def test_a_server_ends_with_its_block_when_a_test_fails():
    ports = []

    def failing_test() -> None:
        with server_process("tests.services.tokens", lambda port: [str(port)]) as port:
            ports.extend([port] * listens(port))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_test()
    assert len(ports) == 1
    assert ends(ports[0])


def test_a_server_ends_when_the_process_of_the_tests_is_killed():
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", HOLDER]
    killed = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert killed.returncode == -9
    assert ends(int(killed.stdout))


def test_a_server_that_does_not_start_says_why():
    with (
        pytest.raises(RuntimeError, match="No module named"),
        server_process("tests.services.nothing", lambda port: [str(port)]),
    ):
        raise AssertionError("it must not start")
