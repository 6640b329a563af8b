"""Faults that may pass are met with a few attempts; others are raised at once."""

from __future__ import annotations

import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.run.attempts import ATTEMPTS, UnitReport, with_retries
from pipelines.run.commits import CommitLog
from pipelines.storage import filesystem
from pipelines.worker import unit as unit_module
from segmodel.errors import TransientError
from tests.fakes import BrightnessModel
from tests.pipelines.corpus import (
    failure_rows,
    make_work,
    photos,
    pixels,
    record,
    run_unit,
    units_in,
    write_shard,
)


def only_unit(work, folder: Path):
    (unit,) = units_in(work, folder)
    return unit


def is_done(work, unit) -> bool:
    return CommitLog(work.run.root, work.options).is_done(unit)


class BrokenModel(BrightnessModel):
    """Raises what it is given, the first so many times."""

    def __init__(self, error: BaseException, times: int = 10**9) -> None:
        super().__init__()
        self.error, self.left, self.calls = error, times, 0

    def labels(self, images):
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return super().labels(images)


def failing_reads(monkeypatch, error: Exception, times: int) -> list[str]:
    """Reading fails the first so many times."""
    original, calls = filesystem.read_bytes, []

    def read(uri, version=None):
        if not uri.endswith(".png"):
            return original(uri, version)
        calls.append(uri)
        if len(calls) <= times:
            raise error
        return original(uri, version)

    monkeypatch.setattr(filesystem, "read_bytes", read)
    return calls


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), TransientError("busy"), MemoryError()]
)
def test_a_fault_that_passes_costs_an_attempt_and_nothing_else(tmp_path, work, monkeypatch, error):
    unit = only_unit(work, photos(tmp_path, 1))
    calls = failing_reads(monkeypatch, error, ATTEMPTS - 1)
    assert run_unit(unit, work) == UnitReport(done=1, computed_pixels=2000)
    assert len(calls) == ATTEMPTS
    assert failure_rows(work) == []


def test_a_fault_that_stays_leaves_the_unit_without_a_record(tmp_path, work, monkeypatch):
    unit = only_unit(work, photos(tmp_path, 1))
    with monkeypatch.context() as broken:
        calls = failing_reads(broken, OSError(errno.EIO, "Input/output error"), ATTEMPTS)
        assert run_unit(unit, work) == UnitReport(incomplete=1)
        assert len(calls) == ATTEMPTS
    assert not is_done(work, unit)
    assert failure_rows(work) == []
    assert run_unit(unit, work) == UnitReport(done=1, computed_pixels=2000)


def test_memory_that_runs_out_in_the_model_may_pass(tmp_path, work):
    unit = only_unit(work, photos(tmp_path, 1))
    # A batch of two, then one window; then the next attempt.
    model = BrokenModel(MemoryError(), times=2)
    assert run_unit(unit, work, model) == UnitReport(done=1, computed_pixels=2000)
    assert model.calls == 3
    assert run_unit(unit, make_work(tmp_path / "b"), BrokenModel(MemoryError())).incomplete == 1


@pytest.mark.parametrize("error", [TypeError("ours"), KeyError("ours"), ValueError("ours")])
def test_an_error_of_the_model_is_raised_at_once(tmp_path, work, error):
    unit = only_unit(work, photos(tmp_path, 1))
    model = BrokenModel(error)
    with pytest.raises(type(error), match="ours"):
        run_unit(unit, work, model)
    assert model.calls == 1
    assert not is_done(work, unit)


def test_an_error_while_label_maps_are_encoded_is_raised(tmp_path, work, monkeypatch):
    unit = only_unit(work, photos(tmp_path))

    def broken(labelled, work):
        raise TypeError("ours")

    monkeypatch.setattr("pipelines.formats.images.encode_png", broken)
    with pytest.raises(TypeError, match="ours"):
        run_unit(unit, work)
    assert not is_done(work, unit)


def test_attempts_end_at_the_first_that_goes_well(tmp_path, work):
    outcomes = iter([OSError("busy"), "done"])

    def action():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    unit = only_unit(work, photos(tmp_path))
    log = CommitLog(work.run.root, work.options)
    assert with_retries(unit, log, action) == "done"


def test_an_attempt_that_another_one_overtook_ends_in_peace(tmp_path, work):
    unit = only_unit(work, photos(tmp_path))

    class Overtaken(BrightnessModel):
        def labels(self, images):
            run_unit(unit, work)
            raise FileNotFoundError(2, "cleared away")

    assert run_unit(unit, work, Overtaken()) == UnitReport(done=1, skipped=1)
    assert is_done(work, unit)


def test_threads_of_a_process_do_one_unit_at_a_time_and_all_finish(tmp_path, work, monkeypatch):
    for number in range(8):
        write_shard(tmp_path / "in" / f"{number}.tfrecord", [record(pixels(40, 50, number))])
    units = units_in(work, tmp_path / "in")
    together, most, begin = set(), [], threading.Barrier(len(units))
    original = unit_module._attempt

    def attempt(unit, *others):
        together.add(unit.id)
        most.append(len(together))
        time.sleep(0.01)
        try:
            return original(unit, *others)
        finally:
            together.remove(unit.id)

    def run(unit):
        begin.wait(30)
        return run_unit(unit, work)

    monkeypatch.setattr(unit_module, "_attempt", attempt)
    with ThreadPoolExecutor(len(units)) as pool:
        reports = list(pool.map(run, units, timeout=60))

    assert reports == [UnitReport(done=1, computed_pixels=2000)] * 8
    assert most == [1] * 8


def test_a_unit_that_waits_for_its_next_attempt_lets_others_go_on(tmp_path, work, monkeypatch):
    for number in range(2):
        write_shard(tmp_path / "in" / f"{number}.tfrecord", [record(pixels(40, 50, number))])
    first, second = units_in(work, tmp_path / "in")
    reports = []

    def sleep(seconds):
        other = threading.Thread(target=lambda: reports.append(run_unit(second, work)))
        other.start()
        other.join(30)

    monkeypatch.setattr("pipelines.run.attempts.time.sleep", sleep)
    reports.append(run_unit(first, work, BrokenModel(TransientError("busy"), times=1)))

    assert reports == [UnitReport(done=1, computed_pixels=2000)] * 2
