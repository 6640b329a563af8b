"""Whether tables, summary and mark of a run are what its commit records come to."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.cli.exit_status import ExitStatus
from pipelines.formats.work import Counting
from pipelines.results.failure_table import FailureTable, failures_of
from pipelines.results.verify_units import AGAIN, MALFORMED
from pipelines.run import plan
from pipelines.run.area_tables import totals_csv
from pipelines.run.areas import Tally
from pipelines.run.commits import CommitLog
from pipelines.run.directory import RunDirectory
from pipelines.scenes.tables import overlaps_csv, zones_csv
from pipelines.storage import filesystem
from segmodel.labels.classes import ClassTable


@dataclass(frozen=True)
class ExpectedResults:
    """What the commit records of a run say about its tables, summary and mark.

    Args:
        run: The run directory.
        log: Commit records of the run.
        classes: Classes of the model.
        counting: Zones and overlap rule by which scenes are counted again, or None.
        total: Sum of the commit records.
        is_whole: Whether all records that are there could be read.
        files_are_whole: Whether all files that they name are as they say.
        unfinished: Number of units without a record.
        invalidated: Number of units whose record was removed just now.
    """

    run: RunDirectory
    log: CommitLog
    classes: ClassTable
    counting: Counting | None
    total: Tally
    is_whole: bool
    files_are_whole: bool
    unfinished: int
    invalidated: int


def check_results(expected: ExpectedResults, fault: Callable[[str, str, str], None]) -> None:
    """Check what the end of a run writes; nothing is missing while units are unfinished.

    Args:
        expected: What the commit records say.
        fault: Called with the path, what is wrong, and the remedy.
    """
    run = expected.run
    if expected.is_whole:
        _check_digest("areas.csv", _areas_digest, expected, fault)
        if expected.files_are_whole:
            _check_digest("failures.csv", _failures_digest, expected, fault)
            for name, digest in _counted_digests(expected).items():
                _check_digest(name, digest, expected, fault)
    try:
        summary = run.read_json("summary.json")
        status = summary["exit_status"] if summary is not None else None
    except MALFORMED:
        fault("summary.json", "is not what the end of a run writes", AGAIN)
        status = None
    has_mark = filesystem.exists(run.path("_SUCCESS"))
    if expected.unfinished:
        if has_mark:
            fault("_SUCCESS", "is there although units are not finished", AGAIN)
        return
    counted = _counted_digests(expected)
    for name in ("areas.csv", "failures.csv", *counted, "summary.json", "preview.png"):
        if not filesystem.exists(run.path(name)):
            fault(name, "is not there", AGAIN)
    if expected.invalidated:
        return
    if status == ExitStatus.INCOMPLETE:
        fault("summary.json", "says that units are unfinished, and all are finished", AGAIN)
    if status == ExitStatus.COMPLETE and not has_mark:
        fault("_SUCCESS", "is not there although the run is complete", AGAIN)
    if status not in (ExitStatus.COMPLETE, None) and has_mark:
        fault("_SUCCESS", f"is there although the run ended with {status}", AGAIN)


def _check_digest(
    name: str,
    digest: Callable[[ExpectedResults], str],
    expected: ExpectedResults,
    fault: Callable[[str, str, str], None],
) -> None:
    path = expected.run.path(name)
    if filesystem.exists(path) and filesystem.sha256(path) != digest(expected):
        fault(name, "is not what the commit records add up to", AGAIN)


def _counted_digests(expected: ExpectedResults) -> dict[str, Callable[[ExpectedResults], str]]:
    """Tables of counts, and how their digests are found."""
    counting = expected.counting
    found: dict[str, Callable[[ExpectedResults], str]] = {}
    if counting is not None and counting.zones is not None:
        found["zones.csv"] = lambda e: _sha256(zones_csv(e.run, e.log, e.classes))
    if counting is not None and counting.overlap is not None:
        found["overlaps.csv"] = lambda e: _sha256(overlaps_csv(e.run, e.log))
    return found


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _areas_digest(expected: ExpectedResults) -> str:
    return _sha256(totals_csv(expected.total, expected.classes))


def _failures_digest(expected: ExpectedResults) -> str:
    stream = _Digest()
    table = FailureTable(stream)
    for kind in plan.KINDS:
        for unit in plan.read_units(expected.run.plan, kind):
            commit = expected.log.read(unit)
            if commit is not None:
                table.add(failures_of(commit, expected.run.root))
    return stream.sha256.hexdigest()


class _Digest:
    """A file that keeps nothing but the digest of what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, text: str) -> object:
        self.sha256.update(text.encode("utf-8", "backslashreplace"))
        return None
