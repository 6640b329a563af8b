"""Reading ahead: in order, within a limit of bytes, whatever fails on the way."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmodel.engine.engine import Engine, MemoryLimits
from segmodel.engine.read_ahead import MAX_PLANNED, Job, PendingWindow, ReadAhead
from segmodel.engine.stitching import Failed, Labelled
from segmodel.errors import InputError
from segmodel.tiling.raster import Pixels, Raster
from segmodel.tiling.windows import Layout, Window
from tests.fakes import CLASSES, BrightnessModel, brightness_labels

LAYOUT = Layout(window_px=8, halo_px=0, stride_px=8, batch=1)
FILL = np.zeros(3, np.uint8)
WINDOW_BYTES = 8 * 8 * 3


class Inline:
    """A pool that does at once what it is given, so that a test sees all that is held."""

    def submit(self, action, *arguments) -> Future:
        future: Future = Future()
        try:
            future.set_result(action(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass
class Meter:
    """Bytes that rasters, files and windows take now, and the most that they ever took."""

    held: dict[object, int] = field(default_factory=dict)
    most: int = 0

    def take(self, what: object, amount: int) -> None:
        self.held[what] = amount
        self.most = max(self.most, sum(self.held.values()))

    def give(self, what: object) -> None:
        self.held.pop(what, None)


class Metered(Raster):
    """A raster of 8 rows that takes bytes from its first read on; `broken` names what fails."""

    def __init__(
        self, key: str, width: int, takes: int, meter: Meter, broken: str | None = None
    ) -> None:
        self.key, self.height, self.width = key, 8, width
        self.held_bytes, self.meter, self.broken = takes, meter, broken

    def read(self, window: Window) -> Pixels:
        self.meter.give((self.key, "file"))
        self.meter.take((self.key, "raster"), self.held_bytes)
        if self.broken == f"read {window.column}":
            raise InputError("truncated")
        self.meter.take((self.key, window), WINDOW_BYTES)
        return Pixels(np.full((window.height, window.width, 3), window.column, np.uint8))


@dataclass(frozen=True)
class Plan:
    """A raster to be: windows, bytes that it takes, bytes of its file, and what fails."""

    windows: int = 1
    takes: int = 0
    file: int = 0
    broken: str | None = None


def jobs_of(plans: Iterable[Plan], meter: Meter) -> Iterator[Job]:
    for number, plan in enumerate(plans):
        key = str(number)
        meter.take((key, "file"), plan.file)

        def opened(key=key, plan=plan):
            if plan.broken == "open":
                meter.give((key, "file"))
                raise InputError("no image")
            return Metered(key, 8 * plan.windows, plan.takes, meter, plan.broken)

        yield Job(key, opened, held_bytes=plan.file)


def consumed(plans: list[Plan], most: int, threads: int = 2, meter: Meter | None = None):
    """Readings as a consumer sees them, which gives back what it was handed."""
    meter = meter or Meter()
    ahead = ReadAhead(Inline(), threads, LAYOUT, CLASSES, False, FILL, None, most)
    for pending in ahead.run(jobs_of(plans, meter)):
        key = pending.slot.key
        if pending.tile is None:
            meter.give((key, "raster"))
            meter.give((key, "file"))
        elif pending.pixels.exception() is not None:
            pending.slot.failure = Failed(key, "read", pending.pixels.exception())
        else:
            meter.give((key, pending.tile.read))
        yield pending


def seen(pending: PendingWindow) -> tuple[str, int | None]:
    return pending.slot.key, None if pending.tile is None else pending.tile.read.column


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("most", [0, 1000, 1 << 30])
def test_windows_come_in_the_order_of_jobs_and_each_raster_has_an_end(threads, most):
    plans = [Plan(3, 100, 50), Plan(1), Plan(2, broken="open"), Plan(2, 5000, 900)]
    actual = [seen(pending) for pending in consumed(plans, most, threads)]
    expected = [("0", 0), ("0", 8), ("0", 16), ("0", None), ("1", 0), ("1", None), ("2", None)]
    assert actual == [*expected, ("3", 0), ("3", 8), ("3", None)]


plans_within = st.builds(
    Plan,
    windows=st.integers(1, 4),
    takes=st.integers(0, 3000 - WINDOW_BYTES),
    file=st.integers(0, 600),
    broken=st.sampled_from([None, None, None, "open", "read 0", "read 8"]),
)


@settings(deadline=None)
@given(st.lists(plans_within, max_size=20), st.integers(1, 4))
def test_the_limit_is_never_exceeded_but_by_the_file_at_hand(plans, threads):
    most, meter = 4000, Meter()
    list(consumed(plans, most, threads, meter))
    assert meter.most <= most + max((plan.file for plan in plans), default=0)
    assert sum(meter.held.values()) == 0


def test_a_raster_above_the_limit_is_read_while_no_other_is():
    meter = Meter()
    plans = [Plan(2, 500), Plan(3, 9000), Plan(2, 500), Plan(1, 9000)]
    actual = [seen(pending) for pending in consumed(plans, 4000, 4, meter)]
    assert len(actual) == 8 + 4
    assert meter.most == 9000 + WINDOW_BYTES


def test_no_more_is_read_ahead_than_twice_the_threads():
    meter, counts = Meter(), []
    for _ in consumed([Plan(30)], 1 << 30, 3, meter):
        counts.append(sum(1 for what in meter.held if isinstance(what[1], Window)))
    assert max(counts) == 2 * 3


def test_bytes_of_files_limit_how_many_are_opened():
    meter, counts = Meter(), []
    for _ in consumed([Plan(1, 10, 300)] * 20, 4000, 50, meter):
        counts.append(sum(1 for what in meter.held if what[1] == "file"))
    # A quarter of the limit has room for three; a fourth is at hand.
    assert max(counts) == 4


def test_a_file_above_the_limit_is_opened_alone():
    meter = Meter()
    list(consumed([Plan(1, 10, 90_000)] * 5, 4000, 8, meter))
    assert meter.most < 2 * 90_000 + 4000
    assert sum(meter.held.values()) == 0


@pytest.mark.parametrize("broken", ["open", "read 0", "read 8", "read 24"])
def test_a_long_run_of_failures_neither_stalls_nor_leaks(broken):
    meter = Meter()
    plans = [*[Plan(4, 2000, 500, broken)] * 500, Plan(2, 2000)]
    actual = [seen(pending) for pending in consumed(plans, 4000, 3, meter)]
    assert actual[-3:] == [("500", 0), ("500", 8), ("500", None)]
    assert [key for key, column in actual if column is None] == [str(n) for n in range(501)]
    assert meter.most <= 4000 + 500
    assert sum(meter.held.values()) == 0


def test_of_any_number_of_failures_few_wait():
    opened = 0

    def jobs() -> Iterator[Job]:
        nonlocal opened
        for job in jobs_of([Plan(broken="open")] * (3 * MAX_PLANNED), Meter()):
            opened += 1
            yield job

    ahead = ReadAhead(Inline(), 2, LAYOUT, CLASSES, False, FILL, None, 1 << 30)
    waiting = [opened - number for number, _ in enumerate(ahead.run(jobs()))]
    assert len(waiting) == 3 * MAX_PLANNED
    assert MAX_PLANNED < max(waiting) < MAX_PLANNED + 10


def test_failures_that_wait_hold_nothing_of_what_was_decoded():
    held = []

    class Content:
        pass

    def refuse() -> Raster:
        content = Content()
        held.append(weakref.ref(content))
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise InputError("no image") from error

    found = [Failed(str(number), "open", _caught(refuse)) for number in range(3)]
    gc.collect()
    assert [str(one.error) for one in found] == ["no image"] * 3
    assert [content() for content in held] == [None] * 3


def _caught(action) -> Exception:
    try:
        action()
    except InputError as error:
        return error
    raise AssertionError


def test_a_raster_that_failed_is_not_read_on():
    plans = [Plan(100, 10, broken="read 0")]
    actual = [seen(pending) for pending in consumed(plans, 1 << 30, 2)]
    assert len(actual) <= 2 * 2 + 3
    assert actual[-1] == ("0", None)


class Shrinking(Metered):
    """A raster that says less once it has been read."""

    def __init__(self, key: str, meter: Meter) -> None:
        super().__init__(key, 8, 0, meter)
        self.said = [0, 500]

    @property
    def held_bytes(self) -> int:
        return self.said.pop() if len(self.said) > 1 else self.said[0]

    @held_bytes.setter
    def held_bytes(self, value: int) -> None:
        pass


def test_the_bytes_that_a_raster_gives_back_are_those_that_it_took():
    meter, ahead_of = Meter(), []
    jobs = (Job(str(number), lambda n=number: Shrinking(str(n), meter)) for number in range(50))
    for pending in ReadAhead(Inline(), 4, LAYOUT, CLASSES, False, FILL, None, 4000).run(jobs):
        ahead_of.append(sum(1 for what in meter.held if isinstance(what[1], Window)))
        meter.give((pending.slot.key, pending.tile and pending.tile.read))
    assert ahead_of[10] == ahead_of[80] == 4


def test_rasters_are_opened_ahead_in_threads_unless_that_costs_nothing():
    def opening(names, name):
        def opened():
            names.append((name, threading.current_thread().name.startswith("pool")))
            return Metered(name, 8, 0, Meter())

        return opened

    names: list[tuple[str, bool]] = []
    jobs = [Job("a", opening(names, "a")), Job("b", opening(names, "b"), open_inline=True)]
    with ThreadPoolExecutor(2, "pool") as pool:
        list(ReadAhead(pool, 2, LAYOUT, CLASSES, False, FILL, None, 1000).run(jobs))
    assert names == [("a", True), ("b", False)]


@pytest.mark.parametrize("most", [0, 3000, 1 << 30])
def test_an_engine_within_any_limit_labels_the_same(most):
    meter = Meter()
    plans = [Plan(n % 5 + 1, 700 * n % 2900, 100 * n % 700) for n in range(40)]
    plans[7] = Plan(3, 2000, 10, "read 8")
    plans[8] = Plan(3, 2000, 10, "open")
    engine = Engine(BrightnessModel(), LAYOUT, 3, limits=MemoryLimits(most, most))
    outcomes = list(engine.run(jobs_of(plans, meter)))
    assert [outcome.key for outcome in outcomes] == [str(n) for n in range(40)]
    for number, outcome in enumerate(outcomes):
        if number in (7, 8):
            assert isinstance(outcome, Failed)
            continue
        assert isinstance(outcome, Labelled)
        columns = np.repeat(np.arange(plans[number].windows) * 8, 8)
        values = np.broadcast_to(columns[None, :, None], (8, len(columns), 3))
        np.testing.assert_array_equal(outcome.labels, brightness_labels(values))
