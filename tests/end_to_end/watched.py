"""Runs that are watched while they work, so that something can be done to them in the middle."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.conftest import encoded_images, write_shard

SECONDS = 540


def write_shards(folder: Path, count: int) -> None:
    """Shards of four images, each of them a work unit."""
    for number in range(count):
        write_shard(folder / f"part-{number:05d}.tfrecord", encoded_images(4, 4 * number))


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


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that these have."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name of a command may hold anything, and ends with the last parenthesis.
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == pid:
            found += [int(folder.name), *descendants(int(folder.name))]
    return found


def command_line(pid: int) -> str:
    """Words of a process; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def has_open_file(pid: int, folder: Path) -> bool:
    """Whether a process has a file below a folder open; meanwhile it closes some, or ends."""
    try:
        links = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for link in links:
        try:
            path = os.readlink(f"/proc/{pid}/fd/{link}")
        except OSError:
            continue
        if path.startswith(f"{folder}/"):
            return True
    return False
