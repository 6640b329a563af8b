"""A test that is not marked and takes long fails."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from tests import marks


class Item:
    """What `tests.marks` needs of a test of pytest."""

    def __init__(self, *given: str) -> None:
        self.stash, self.given = pytest.Stash(), given
        self.user_properties: list[tuple[str, float]] = []

    def get_closest_marker(self, name: str) -> bool:
        return name in self.given

    @property
    def config(self) -> Item:
        return self

    nodeid = "tests/test_x.py::test_y"

    def getoption(self, name: str) -> bool:
        return name in self.given


def run(item: Item, seconds: float) -> None:
    """A test that takes so many seconds of CPU."""
    times = iter([100.0, 100.0 + seconds])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marks, "cpu_seconds", lambda: next(times))
        for hook in (marks.pytest_runtest_setup, marks.pytest_runtest_call):
            assert list(hook(item)) == [None]


def test_above_the_limit_a_test_fails_and_is_told_what_to_do():
    item = Item()
    told = r"(?s)^9\.0 s of CPU.* has 8\.\n.*`make durations`"
    with pytest.raises(pytest.fail.Exception, match=told):
        run(item, 9)
    assert item.user_properties == [("cpu_seconds", 9.0), ("fixtures", {})]


def test_within_the_limit_or_with_a_mark_it_does_not():
    run(Item(), 7.9)
    for mark in (*marks.UNLIMITED, "--measure"):
        run(Item(mark), 600)


def test_cpu_of_children_counts_and_that_of_all_tests_does_not():
    # What measures this very test must find the counter as it was.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marks, "_shared_seconds", 0.0)
        before = marks.cpu_seconds()
        subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
        used = marks.cpu_seconds() - before
        marks.leave_out(used)
        left = marks.cpu_seconds() - before
    assert used > 0.05
    assert left < used


def test_garbage_of_other_tests_does_not_count():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marks, "_shared_seconds", 0.0)
        times = iter([100.0, 103.0])
        patch.setattr(marks.time, "thread_time", lambda: next(times))
        marks.leave_out_garbage("start", {})
        marks.leave_out_garbage("stop", {})
        assert marks._shared_seconds == 3.0
    assert marks.leave_out_garbage in gc.callbacks


def test_measured_tests_exist():
    """Entries of renamed files would mark nothing."""
    import json

    paths = {name.partition("::")[0] for name in json.loads(marks.DURATIONS.read_text())}
    assert [path for path in sorted(paths) if not (marks.ROOT / path).exists()] == []
