"""Says at the end of a run what was not tested, so that nobody believes it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

LOUD = ("stores", "flink", "prism", "dask", "airflow", "gpu", "browser")

# Modules that were skipped as a whole, in this process and in workers that have ended.
_skipped_modules: dict[str, str] = {}


@dataclass(frozen=True)
class SkippedModule:
    """A module that was skipped as a whole, as pytest reports it.

    Args:
        nodeid: Path of the module.
        longrepr: Reason.
    """

    nodeid: str
    longrepr: str


def not_tested(reports: Iterable[Any]) -> list[str]:
    """One line per marker and reason of the skipped tests that have a marker of `LOUD`.

    Modules that were skipped as a whole have no markers; each gives a line with its path.
    """
    reasons: Counter[tuple[str, str]] = Counter()
    for report in reports:
        reason = _reason(report)
        keywords = getattr(report, "keywords", None)
        if keywords is None:
            reasons[report.nodeid, reason] += 1
            continue
        for marker in LOUD:
            if marker in keywords:
                reasons[marker, reason] += 1
    return [
        f"NOT TESTED HERE: {what}: {reason} ({count} skipped)"
        for (what, reason), count in sorted(reasons.items())
    ]


def _reason(report: Any) -> str:
    longrepr = report.longrepr
    reason = longrepr[2] if isinstance(longrepr, tuple | list) else str(longrepr)
    return reason.removeprefix("Skipped: ")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a module that is skipped: workers of pytest-xdist do not report it by themselves."""
    if report.skipped:
        _skipped_modules[report.nodeid] = _reason(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker: hand what was noted to the process that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["skipped_modules"] = _skipped_modules


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the process that prints: take up what a worker has noted."""
    _skipped_modules.update(getattr(node, "workeroutput", {}).get("skipped_modules", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tests = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if getattr(report, "keywords", None) is not None
    ]
    modules = [SkippedModule(path, reason) for path, reason in _skipped_modules.items()]
    for line in not_tested([*tests, *modules]):
        terminalreporter.write_line(line, yellow=True, bold=True)
