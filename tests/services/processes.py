"""Servers in processes of their own, which end with the test run however that ends."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS, STOP_SECONDS, ATTEMPTS = 30.0, 5.0, 3


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def server_process(module: str, arguments: Callable[[int], list[str]]) -> Iterator[int]:
    """Run `python -m module arguments(port)` until the block ends; gives its port.

    The child ends itself when its standard input closes, so it does not outlive a test process
    that was killed. A port that somebody else took meanwhile is tried again with another one.

    Raises:
        RuntimeError: If it does not listen within 30 seconds, with the end of what it said.
    """
    said = ""
    for _ in range(ATTEMPTS):
        port = free_port()
        child = subprocess.Popen(
            [sys.executable, "-m", __name__, module, *arguments(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "MOTO_PORT": str(port)},
        )
        heard: list[bytes] = []
        listener = threading.Thread(target=_drain, args=(child, heard), daemon=True)
        listener.start()
        try:
            if _wait(child, port):
                yield port
                return
        finally:
            _stop(child)
            listener.join(STOP_SECONDS)
            assert child.stdin is not None
            child.stdin.close()
        said = b"".join(heard)[-2000:].decode("utf-8", "replace")
    raise RuntimeError(f"{module} does not start: {said}")


def _drain(child: subprocess.Popen[bytes], heard: list[bytes]) -> None:
    # A full pipe would stop the server; the last hundred lines are enough to see why it failed.
    assert child.stderr is not None
    with child.stderr as stream:
        for line in stream:
            heard.append(line)
            del heard[:-100]


def _wait(child: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        if listens(port):
            return True
        time.sleep(0.05)
    return False


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(STOP_SECONDS)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
