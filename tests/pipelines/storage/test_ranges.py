"""Ranges of a store: each asked for once, some at once; a failure counts where it is read."""

from __future__ import annotations

import threading
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.storage.ranges import MAX_RANGES, RANGE_BYTES, Ranges
from tests.examples import examples

MIB = RANGE_BYTES
KEY = ("gs://b/a", "v1")


class Object:
    """An object whose bytes are their number of MiB, and that notes what is asked of it."""

    def __init__(self, mib: int = 64) -> None:
        self.asked: list[int] = []
        self._content = b"".join(bytes([number]) * MIB for number in range(mib))

    def ask(self, start: int) -> bytes:
        self.asked.append(start)
        return self._content[start : start + MIB]


def test_what_is_expected_is_asked_for_from_where_it_is_read_on():
    ranges, stored = Ranges(), Object()
    ranges.expect(KEY, [(5 * MIB, 7 * MIB), (100, 200), (9 * MIB, 9 * MIB + 1)])
    found = ranges.read(KEY, 5 * MIB + 7, stored.ask)
    assert (len(found), found[0], found[-1]) == (MIB, 5, 6)
    assert sorted(stored.asked) == [5 * MIB + 7, 6 * MIB + 7, 9 * MIB]
    assert ranges.read(KEY, 9 * MIB, stored.ask)[0] == 9
    assert len(stored.asked) == 3


def test_what_is_read_and_not_expected_is_asked_for_alone():
    ranges, stored = Ranges(), Object()
    ranges.expect(KEY, [(5 * MIB, 7 * MIB)])
    assert len(ranges.read(KEY, 4 * MIB + 10, stored.ask)) == MIB
    assert stored.asked == [4 * MIB + 10]


def test_eight_ranges_are_asked_for_at_once():
    ranges, stored, together = Ranges(), Object(), threading.Barrier(8, timeout=30)

    def ask(start: int) -> bytes:
        together.wait()
        return stored.ask(start)

    ranges.expect(KEY, [(0, 64 * MIB)])
    ranges.read(KEY, 0, ask)
    assert sorted(stored.asked) == [number * MIB for number in range(8)]
    assert [thread.name for thread in threading.enumerate() if "beamseg-io" in thread.name] == []


def test_the_last_32_ranges_are_kept():
    ranges, stored = Ranges(), Object()
    for number in [*range(MAX_RANGES), 0, MAX_RANGES]:
        ranges.read(KEY, number * MIB, stored.ask)
    assert len(stored.asked) == MAX_RANGES + 1
    stored.asked.clear()
    for number in (0, 2, 1):
        ranges.read(KEY, number * MIB, stored.ask)
    assert stored.asked == [MIB]


def test_bytes_of_another_version_are_not_taken():
    ranges, old, new = Ranges(), Object(), Object()
    ranges.read(KEY, 0, old.ask)
    ranges.read((KEY[0], "v2"), 0, new.ask)
    assert (old.asked, new.asked) == ([0], [0])


def test_a_failure_ahead_does_not_count_and_one_of_what_is_read_does():
    ranges, stored, fails = Ranges(), Object(), {MIB}

    def ask(start: int) -> bytes:
        if start in fails:
            raise ConnectionError(str(start))
        return stored.ask(start)

    ranges.expect(KEY, [(0, 4 * MIB)])
    assert ranges.read(KEY, 0, ask)[0] == 0
    with pytest.raises(ConnectionError, match=str(MIB)):
        ranges.read(KEY, MIB, ask)
    fails.clear()
    assert [ranges.read(KEY, number * MIB, ask)[0] for number in range(4)] == [0, 1, 2, 3]
    assert sorted(stored.asked) == [number * MIB for number in range(4)]


def test_after_a_failure_nothing_is_asked_for_ahead():
    ranges, asked = Ranges(), []

    def ask(start: int) -> bytes:
        asked.append(start)
        raise ConnectionError

    ranges.expect(KEY, [(0, 64 * MIB)])
    for _ in range(2):
        asked.clear()
        with pytest.raises(ConnectionError):
            ranges.read(KEY, 0, ask)
    assert asked == [0]


def one_after_another(extents: list[tuple[int, int]]) -> int:
    """Requests of a reader with one buffer."""
    requests = end = 0
    for begin, stop in extents:
        at = max(begin, min(end, stop) if begin >= end - MIB else begin)
        while at < stop:
            requests, at = requests + 1, at + MIB
            end = at
    return requests


@settings(deadline=None, max_examples=examples(100))
@given(
    st.lists(st.tuples(st.integers(0, 3 * MIB), st.integers(1, 2 * MIB)), min_size=1, max_size=9)
)
def test_there_are_no_more_requests_than_one_after_another(gaps_and_sizes):
    bounds = list(accumulate(length for pair in gaps_and_sizes for length in pair))
    extents = list(zip(bounds[::2], bounds[1::2], strict=True))
    ranges, asked = Ranges(), []

    def ask(start: int) -> bytes:
        asked.append(start)
        return bytes(MIB)

    ranges.expect(KEY, extents)
    for begin, stop in extents:
        while begin < stop:
            begin += len(ranges.read(KEY, begin, ask))
    assert len(asked) <= one_after_another(extents)
    assert len(set(asked)) == len(asked)
