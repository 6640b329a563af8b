"""The calls of a process at which it can be killed: before each, after it, and in its middle.

Runs in the process of a command, as its hook.
"""

from __future__ import annotations

import builtins
import errno
import functools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

# What changes names in a folder, or waits for content to be on disk.
CALLS = ("rename", "replace", "link", "unlink", "rmdir", "mkdir", "fsync")


class Points:
    """Counts the points that a process reaches, and kills it at one.

    Args:
        number: Of the point at which to kill, from 1 on; 0 for never.
        notes: File that gets the kind of each point, or of the last one only.
    """

    def __init__(self, number: int, notes: str) -> None:
        self._left = number
        self._notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._lock = threading.Lock()

    def reach(self, kind: str) -> None:
        """Be at a point."""
        with self._lock:
            self._left -= 1
            if self._left > 0:
                return
            os.write(self._notes, f"{kind}\n".encode())
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call with a point before and one after it."""

        @functools.wraps(call)
        def called(*values: Any, **more: Any) -> Any:
            self.reach(f"before {name}")
            if name == "fsync":
                self._reach_cut(values[0])
            result = call(*values, **more)
            self.reach(f"after {name}")
            return result

        return called

    def _reach_cut(self, stream: int) -> None:
        """Be at a point at which half of a file is on disk."""
        with self._lock:
            if self._left == 1:
                os.truncate(f"/proc/self/fd/{stream}", os.fstat(stream).st_size // 2)
        self.reach("in fsync")

    def open(self, file: Any, mode: str = "r", *values: Any, **more: Any) -> Any:
        """Open a file, with a point after it where it is a new one."""
        stream = _open(file, mode, *values, **more)
        if "w" in mode or "x" in mode:
            self.reach("after open")
        return stream


_open = builtins.open


def watch(number: int, notes: str, links: bool) -> None:
    """Count the points of this process from now on.

    Args:
        number: Of the point at which to kill it, from 1 on; 0 for never.
        notes: File that gets the kinds of points.
        links: Whether the disk knows hard links.
    """
    points = Points(number, notes)
    if not links:
        os.link = _refused
    for name in CALLS:
        setattr(os, name, points.around(name, getattr(os, name)))
    builtins.open = points.open


def _refused(*values: Any, **more: Any) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))
