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
class Ending:
    """What the records of a run say about its end.

    Args:
        run: The run directory.
        log: Its commit records.
        classes: Of the model.
        counting: What scenes are counted for, or None.
        total: Sum of the records.
        is_whole: Whether all records that are there could be read.
        files_are_whole: Whether all files that they name are as they say.
        unfinished: Number of units without a record.
        forgotten: Number of units whose record was removed just now.
    """

    run: RunDirectory
    log: CommitLog
    classes: ClassTable
    counting: Counting | None
    total: Tally
    is_whole: bool
    files_are_whole: bool
    unfinished: int
    forgotten: int


def check_results(ending: Ending, fault: Callable[[str, str, str], None]) -> None:
    """Check what the end of a run writes; while units are unfinished, none of it is missed.

    Args:
        ending: What it must agree with.
        fault: Told path, what is wrong, and the remedy.
    """
    run = ending.run
    if ending.is_whole:
        _check_digest("areas.csv", _areas_digest, ending, fault)
        if ending.files_are_whole:
            _check_digest("failures.csv", _failures_digest, ending, fault)
            for name, digest in _counted_digests(ending).items():
                _check_digest(name, digest, ending, fault)
    try:
        summary = run.read_json("summary.json")
        status = summary["exit_status"] if summary is not None else None
    except MALFORMED:
        fault("summary.json", "is not what the end of a run writes", AGAIN)
        status = None
    has_mark = filesystem.exists(run.path("_SUCCESS"))
    if ending.unfinished:
        if has_mark:
            fault("_SUCCESS", "is there although units are not finished", AGAIN)
        return
    counted = _counted_digests(ending)
    for name in ("areas.csv", "failures.csv", *counted, "summary.json", "preview.png"):
        if not filesystem.exists(run.path(name)):
            fault(name, "is not there", AGAIN)
    if ending.forgotten:
        return
    if status == ExitStatus.INCOMPLETE:
        fault("summary.json", "says that units are unfinished, and all are finished", AGAIN)
    if status == ExitStatus.COMPLETE and not has_mark:
        fault("_SUCCESS", "is not there although the run is complete", AGAIN)
    if status not in (ExitStatus.COMPLETE, None) and has_mark:
        fault("_SUCCESS", f"is there although the run ended with {status}", AGAIN)


def _check_digest(
    name: str,
    digest: Callable[[Ending], str],
    ending: Ending,
    fault: Callable[[str, str, str], None],
) -> None:
    path = ending.run.path(name)
    if filesystem.exists(path) and filesystem.sha256(path) != digest(ending):
        fault(name, "is not what the commit records add up to", AGAIN)


def _counted_digests(ending: Ending) -> dict[str, Callable[[Ending], str]]:
    """Tables of counts, and how their digests are found."""
    counting = ending.counting
    found: dict[str, Callable[[Ending], str]] = {}
    if counting is not None and counting.zones is not None:
        found["zones.csv"] = lambda e: _sha256(zones_csv(e.run, e.log, e.classes))
    if counting is not None and counting.overlap is not None:
        found["overlaps.csv"] = lambda e: _sha256(overlaps_csv(e.run, e.log))
    return found


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _areas_digest(ending: Ending) -> str:
    return _sha256(totals_csv(ending.total, ending.classes))


def _failures_digest(ending: Ending) -> str:
    stream = _Digest()
    table = FailureTable(stream)
    for kind in plan.KINDS:
        for unit in plan.read_units(ending.run.plan, kind):
            commit = ending.log.read(unit)
            if commit is not None:
                table.add(failures_of(commit, ending.run.root))
    return stream.sha256.hexdigest()


class _Digest:
    """A file that keeps nothing but the digest of what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, text: str) -> object:
        self.sha256.update(text.encode("utf-8", "backslashreplace"))
        return None
