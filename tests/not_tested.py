"""Says at the end of a run what was not tested, so that nobody believes it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

LOUD = ("stores", "flink", "prism", "dask", "airflow", "gpu")


def not_tested(reports: Iterable[Any]) -> list[str]:
    """One line per marker and reason of the skipped tests that have a marker of `LOUD`.

    Modules that were skipped as a whole have no markers; each gives a line with its path.
    """
    reasons: Counter[tuple[str, str]] = Counter()
    for report in reports:
        longrepr = report.longrepr
        reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
        keywords = getattr(report, "keywords", None)
        if keywords is None:
            reasons[report.nodeid, reason.removeprefix("Skipped: ")] += 1
            continue
        for marker in LOUD:
            if marker in keywords:
                reasons[marker, reason.removeprefix("Skipped: ")] += 1
    return [
        f"NOT TESTED HERE: {what}: {reason} ({count} skipped)"
        for (what, reason), count in sorted(reasons.items())
    ]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in not_tested(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(line, yellow=True, bold=True)
