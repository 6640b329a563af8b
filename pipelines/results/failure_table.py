"""`failures.csv`: all rows of a run in one table, and how often each kind of failure occurs."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any, Protocol, TypeVar

from pipelines.run.commits import Commit, CommitLog, Output
from pipelines.run.directory import RunDirectory
from pipelines.run.failures import Failure
from pipelines.storage import filesystem
from segmodel.errors import FailureCode
from segmodel.escaping import inert

T = TypeVar("T")
FIRST = 10
KINDS_NAMED = 50
# Failures of earlier releases have no code: their reasons without numbers are few, but names in
# them may be many.
MAX_KINDS = 1000
OTHER = ("", FailureCode.OTHER.value, "other reasons")
COLUMNS = tuple(field.name for field in fields(Failure))
# The tables of releases in which a failure had no code.
COLUMNS_WITHOUT_CODE = tuple(name for name in COLUMNS if name != "code")


class TextStream(Protocol):
    """A stream that text is written to."""

    def write(self, text: str, /) -> object:
        """Add text."""


class FailureTable:
    """Table of failed images, written row by row and counted by stage and code.

    Args:
        stream: Where the table is written.
        columns: Columns of the table.
        cell: What is written of a value; release 0.1.0 wrote all as it was.
    """

    def __init__(
        self,
        stream: TextStream,
        columns: Sequence[str] = COLUMNS,
        cell: Callable[[object], object] = inert,
    ) -> None:
        self._cell = cell
        self.first: list[dict[str, Any]] = []
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._examples: dict[tuple[str, str, str], Failure] = {}
        self._table = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        self._table.writeheader()

    def add(self, failures: Iterable[Failure]) -> None:
        """Add rows."""
        for failure in failures:
            row = asdict(failure)
            self._table.writerow({name: self._cell(value) for name, value in row.items()})
            if len(self.first) < FIRST:
                self.first.append(row)
            has_code = failure.code != FailureCode.OTHER
            reason = "" if has_code else without_numbers(failure.reason)
            kind = (failure.stage, failure.code, reason)
            if kind not in self._counts and len(self._counts) >= MAX_KINDS:
                kind = OTHER
            self._counts[kind] += 1
            self._examples.setdefault(kind, failure)

    def by_reason(self) -> list[dict[str, Any]]:
        """Number, stage, code and one example of each kind of failure, the most frequent first."""
        kinds = sorted(self._counts, key=lambda kind: (-self._counts[kind], kind))
        found = []
        for kind in kinds[:KINDS_NAMED]:
            example = self._examples[kind]
            named = {"reason": example.reason, "example": example.name}
            found.append({"count": self._counts[kind], "stage": kind[0], "code": kind[1]} | named)
        return found


def write_failures(
    run: RunDirectory, collect: Callable[[FailureTable], T]
) -> tuple[T, FailureTable, filesystem.Written | None]:
    """Write `failures.csv`.

    Args:
        run: Run directory.
        collect: Adds all rows to a table, and returns what else it finds.

    Returns:
        What `collect` returned, the table, and what the file holds.
    """

    def write() -> tuple[T, FailureTable, filesystem.Written | None]:
        with (
            filesystem.write_atomic(run.path("failures.csv"), run.scratch) as draft,
            open(
                draft.path, "w", encoding="utf-8", errors="backslashreplace", newline=""
            ) as stream,
        ):
            table = FailureTable(stream)
            found = collect(table)
        return found, table, draft.written

    return filesystem.retry_if_cleared(write)


def without_numbers(reason: str) -> str:
    """A reason without its numbers, by which failures without a code are counted.

    >>> without_numbers("30000x20000 pixels exceed the limit of 500")
    '#x# pixels exceed the limit of #'
    """
    return re.sub(r"\d+", "#", reason)


def failures_of(commit: Commit, log: CommitLog) -> Iterator[Failure]:
    """Failed images of one unit.

    Args:
        commit: Commit record of the unit.
        log: Commit records of the run.

    Raises:
        DamagedError: If the rows are not the recorded ones.
    """
    for output in _tables_of(commit):
        for line in log.lines(output):
            yield Failure(**json.loads(line))


def has_failure_rows(commit: Commit) -> bool:
    """Whether images of a unit failed, or parts of them."""
    return any(True for _ in _tables_of(commit))


def _tables_of(commit: Commit) -> Iterator[Output]:
    return (output for output in commit.outputs if output.path.endswith(".jsonl"))
