"""Which tests take long: marks by folder, by fixture and by measured time, and a limit.

A test that took more than `SLOW_SECONDS` of CPU when it was last measured is `slow`;
`make durations` measures all and writes `durations.json`. One that has no mark of `UNLIMITED` fails
above `LIMIT_SECONDS`: processes that it starts are counted, what all tests share is not, nor is the
collection of garbage, of which most is of earlier tests.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DURATIONS = Path(__file__).with_name("durations.json")
# Measured durations below this are not kept, those above the next make a test slow.
# A test may take four times what makes it slow: machines of CI are shared, and caches cold.
KEPT_SECONDS, SLOW_SECONDS, LIMIT_SECONDS = 1.0, 2.0, 8.0
# A measured duration is written anew when it has changed by more than this.
CHANGE = 0.5
# The first folder or file that fits names the marks of a test.
FOLDERS = {
    "tests/end_to_end/test_smoke.py": ("smoke",),
    "tests/end_to_end": ("end_to_end",),
    "tests/engines/test_dask.py": ("engine", "dask"),
    "tests/engines/test_flink.py": ("engine", "flink"),
    "tests/engines/test_prism.py": ("engine", "prism"),
    "tests/engines": ("engine",),
    "tests/orchestrators": ("airflow",),
    "tests/services": ("stores",),
}
# Tests with one of these fixtures talk to object stores.
STORES = {"gcs_service", "s3_service", "storage_service", "million", "service_account"}
UNLIMITED = ("slow", "smoke", "end_to_end", "engine", "airflow")
IMPORTS = ("tensorflow", "apache_beam", "keras")
TOO_LONG = """{seconds:.1f} s of CPU, and a test without the mark `slow` has {limit:g}.
Make it faster: smaller inputs, a run that is made once and shared (`made_once`, a fixture of the
module), `tests.forked` instead of `subprocess`. If it has to take as long, `make durations`
measures all tests and marks it slow, so that `make test` leaves it out."""

# CPU seconds for what all tests share, such as SavedModels; not of the test that needs them first.
_shared_seconds = 0.0
_collection_start = 0.0
# CPU seconds of fixtures that several tests of a module share.
_fixture_seconds: dict[str, float] = {}


def cpu_seconds() -> float:
    """CPU time of this process and of all that it has started and waited for."""
    own, others = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime - _shared_seconds


def leave_out(seconds: float) -> None:
    """Do not count CPU time that was used for all tests."""
    global _shared_seconds
    _shared_seconds += seconds


def leave_out_garbage(phase: str, _: object) -> None:
    """Do not count a collection of garbage: with the objects of all tests it takes up to 1 s."""
    global _collection_start
    if phase == "start":
        _collection_start = time.thread_time()
    else:
        leave_out(time.thread_time() - _collection_start)


def marks_of(nodeid: str) -> tuple[str, ...]:
    """Marks that a test has because of its file or folder.

    >>> marks_of("tests/engines/test_dask.py::test_files"), marks_of("tests/test_a.py::test_b")
    (('engine', 'dask'), ())
    """
    for path, marks in FOLDERS.items():
        if nodeid.startswith((f"{path}/", f"{path}::")):
            return marks
    return ()


def add_options(parser: pytest.Parser) -> None:
    gc.callbacks.append(leave_out_garbage)
    parser.addoption("--measure", action="store_true", help=f"write {DURATIONS.name} anew")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests before `-m` chooses among them."""
    measured = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
    for item in items:
        for mark in marks_of(item.nodeid):
            item.add_marker(mark)
        if STORES & {*getattr(item, "fixturenames", ())}:
            item.add_marker("stores")
        parts = [item.nodeid, *shared_fixtures(item)]
        if sum(measured.get(part, 0.0) for part in parts) > SLOW_SECONDS:
            item.add_marker("slow")


def shared_fixtures(item: pytest.Item) -> list[str]:
    """Names in the file of durations of what a test shares with others of its module."""
    found = getattr(item, "_fixtureinfo", None)
    return [
        _fixture_name(definitions[-1])
        for definitions in (found.name2fixturedefs.values() if found else ())
        if definitions[-1].scope == "module"
    ]


def _fixture_name(fixture: pytest.FixtureDef[Any]) -> str:
    return f"{fixture.baseid}::{fixture.argname}"


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Charge what tests share to each of them: any may be the one that is run first, or alone."""
    if fixturedef.scope == "function":
        return (yield)
    start = cpu_seconds()
    try:
        return (yield)
    finally:
        seconds = cpu_seconds() - start
        leave_out(seconds)
        _fixture_seconds[_fixture_name(fixturedef)] = seconds


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    item.stash[_START] = cpu_seconds(), _imported()
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    yield
    start, imported = item.stash[_START]
    seconds = cpu_seconds() - start
    if _imported() != imported:
        # An import is nothing that a test could save: TensorFlow and Beam take about 4 s.
        return
    item.user_properties.append(("cpu_seconds", round(seconds, 2)))
    shared = {name: _fixture_seconds.get(name, 0.0) for name in shared_fixtures(item)}
    item.user_properties.append(("fixtures", {name: round(s, 2) for name, s in shared.items()}))
    seconds += sum(shared.values())
    is_limited = not any(item.get_closest_marker(mark) for mark in UNLIMITED)
    if seconds > LIMIT_SECONDS and is_limited and not item.config.getoption("--measure"):
        pytest.fail(TOO_LONG.format(seconds=seconds, limit=LIMIT_SECONDS), pytrace=False)


_START = pytest.StashKey[tuple[float, list[str]]]()


def _imported() -> list[str]:
    return [name for name in IMPORTS if name in sys.modules]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the file of durations: tests that ran are measured anew, those that are gone leave."""
    if not config.getoption("--measure"):
        return
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])]
    measured: dict[str, float] = {}
    for properties, name in ((dict(report.user_properties), report.nodeid) for report in reports):
        if "cpu_seconds" in properties:
            measured |= {name: properties["cpu_seconds"], **properties["fixtures"]}
    before = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
    DURATIONS.write_text(json.dumps(merged(before, measured), indent=0, sort_keys=True) + "\n")
    terminalreporter.write_line(f"written anew: {DURATIONS}")


def merged(before: dict[str, float], measured: dict[str, float]) -> dict[str, float]:
    """Durations to keep: small changes leave a line as it is, so that differences can be read.

    >>> merged({"a": 2.0, "b": 2.0, "c": 2.0, "d": 9.0}, {"a": 2.5, "b": 6.0, "c": 0.1, "e": 1.5})
    {'a': 2.0, 'b': 6.0, 'd': 9.0, 'e': 1.5}
    """
    kept = {}
    for name in sorted({*before, *measured}):
        old, new = before.get(name, 0.0), measured.get(name)
        if new is None or abs(new - old) <= CHANGE * old:
            kept[name] = old
        else:
            kept[name] = round(new, 1)
    return {name: seconds for name, seconds in kept.items() if seconds >= KEPT_SECONDS}
