"""Folders that several tests read, made once in a test run, however many processes share it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.marks import cpu_seconds, leave_out


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of the whole test run: that of all its workers."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first of all workers makes, while the others wait for it.

    Args:
        factory: pytest's own.
        name: Of the folder, and of what is in it.
        make: Is called with a path where nothing is, and puts the folder there.
    """
    path = run_folder(factory) / "shared" / name
    path.parent.mkdir(exist_ok=True)
    with path.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished, start = path.with_name(f"{name}.unfinished"), cpu_seconds()
            make(unfinished)
            unfinished.rename(path)
            leave_out(cpu_seconds() - start)
    return path
