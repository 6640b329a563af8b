"""A file that cannot be read in the first attempt at a run, and can in the next."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_SECONDS = 0.002


@contextmanager
def unreachable_for_an_attempt(path: Path, run: Path) -> Iterator[None]:
    """A file is away from when the plan is written until the attempt has ended as incomplete.

    Its place is taken by a link to memory that nobody can read: the system gives an I/O error, as a
    mount does that comes and goes, and nothing says that the file is gone for good.

    Args:
        path: An input file of the run.
        run: Run directory.
    """
    over, kept = threading.Event(), run.parent / "kept"

    def work() -> None:
        _wait((run / "plan" / "part-00000.jsonl").exists, over)
        path.rename(kept)
        path.symlink_to("/proc/self/mem")
        _wait(lambda: _has_ended_incomplete(run), over)
        # The same file as before, with its time of modification, in one step.
        kept.rename(path)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _wait(condition: Callable[[], bool], over: threading.Event) -> None:
    while not condition() and not over.is_set():
        time.sleep(LOOK_SECONDS)


def _has_ended_incomplete(run: Path) -> bool:
    try:
        return json.loads((run / "summary.json").read_text())["exit_status"] == 4
    except FileNotFoundError:
        return False
