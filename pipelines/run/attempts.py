"""Actions on units, retried after transient errors, and what became of them."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from pipelines.run.commits import CommitLog
from pipelines.run.dask_tasks import end_with_client
from pipelines.run.failures import reason_of
from pipelines.run.plan import Unit
from segmodel.errors import CallTimeoutError, TransientError, is_worth_waiting

ATTEMPTS = 3
RETRY_SECONDS = 1.0
THREADS = min(8, max(2, os.cpu_count() or 1))

# Held while a unit is done: one at a time uses all threads of a process, in the memory of one.
PROCESS_LOCK = threading.RLock()
_log = logging.getLogger("beamseg")

T = TypeVar("T")


class UnitReport(NamedTuple):
    """What became of a unit; counts only, as it crosses a shuffle.

    Args:
        done: 1 if the unit has a commit record now.
        skipped: 1 if it had one before.
        incomplete: 1 if a transient error kept it from being finished.
        computed_pixels: Number of pixels labelled now, each counted once, without halos.
    """

    done: int = 0
    skipped: int = 0
    incomplete: int = 0
    computed_pixels: int = 0


def _is_done(unit: Unit, log: CommitLog) -> bool:
    """Whether a unit is known to be finished; not where a store that is down does not tell."""
    try:
        return log.is_done(unit)
    except TransientError:
        return False


def with_retries(unit: Unit, log: CommitLog, action: Callable[[], T]) -> T | None:
    """What an action on a unit returns, retried after transient errors, but those of a time limit.

    None if an error stays, or if another attempt has finished the unit meanwhile: it may have
    removed what this one was working with.
    """
    end_with_client()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with PROCESS_LOCK:
                return action()
        except Exception as error:
            if _is_done(unit, log):
                return None
            if not is_worth_waiting(error):
                raise
            attempts = 1 if isinstance(error, CallTimeoutError) else ATTEMPTS
            _log.warning("%s: attempt %d of %d: %s", unit.id, attempt, attempts, reason_of(error))
            if attempt >= attempts:
                break
            time.sleep(RETRY_SECONDS * 2**attempt)
    return None


def report_of(unit: Unit, log: CommitLog, action: Callable[[], UnitReport]) -> UnitReport:
    """The report of an action on a unit, retried after transient errors."""
    report = with_retries(unit, log, action)
    if report is None:
        return UnitReport(done=1, skipped=1) if _is_done(unit, log) else UnitReport(incomplete=1)
    return report


def sum_reports(reports: Iterable[UnitReport]) -> UnitReport:
    """The sum, field by field."""
    total = UnitReport()
    for report in reports:
        total = UnitReport(*(a + b for a, b in zip(total, report, strict=True)))
    return total
