"""Ends all that a launcher has started once the launcher itself has ended, even if it was killed.

Runners start processes: workers, Prism, the job server of Flink, and these start others. Nobody
tells them that the launcher is gone, and a worker in the middle of a unit would go on. So the
launcher starts this file as a program of its own. It waits for the end of the launcher, and then
ends all processes with the launcher's mark: a variable of the environment, which a process passes
on to what it starts.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

MARK = "BEAMSEG_LAUNCHER"
# Looks at all processes, and how many of them pass before SIGTERM has had its turn.
LOOKS, GRACEFUL, POLL_SECONDS = 20, 6, 0.5


@contextmanager
def marked_children() -> Iterator[None]:
    """Have all that is started during the block, also by others, end with this process."""
    before = os.environ.get(MARK)
    os.environ[MARK] = _watchdog(os.getpid())[0]
    try:
        yield
    finally:
        del os.environ[MARK]
        if before is not None:
            os.environ[MARK] = before


@cache
def _watchdog(process: int) -> tuple[str, subprocess.Popen[bytes]]:
    """The mark of this process, and the watchdog, which ends when its standard input is closed."""
    mark = f"{process}-{uuid4().hex}"
    return mark, subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={name: value for name, value in os.environ.items() if name != MARK},
        # Signals of the terminal are for the launcher.
        start_new_session=True,
    )


def end_marked(mark: str) -> None:
    """End all processes with a mark; one that does not heed SIGTERM is killed."""
    for look in range(LOOKS):
        found = list(_marked(f"{MARK}={mark}".encode()))
        # What was about to start a program at the first look has its mark at the next one.
        if look and not found:
            return
        for process in found:
            with suppress(OSError):
                os.kill(process, signal.SIGTERM if look < GRACEFUL else signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def _marked(variable: bytes) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_marked(sys.argv[1])
