"""Whether a run directory holds what its commit records say, and nothing else.

Commit records carry no digest of their own: one in which a number was changed shows in `areas.csv`,
which is not the sum of the records then.
"""

import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from pipelines.formats.work import Counting
from pipelines.results.verify_tables import ExpectedResults, check_results
from pipelines.results.verify_units import (
    AGAIN,
    MALFORMED,
    CheckedUnit,
    Finding,
    check_unit,
    path_key,
)
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.commits import Commit, CommitLog
from pipelines.run.directory import OUTPUTS, RunDirectory, is_run
from pipelines.run.plan import AssemblyUnit, CountUnit, Unit, WorkUnit
from pipelines.storage import filesystem, locations
from pipelines.storage.digests import digest
from pipelines.storage.threads import in_order
from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable
from segmodel.savedmodel.contract import Contract

# Scenes before parts, so that it is known of which blocks the scene is finished.
KINDS: tuple[type[Unit], ...] = (AssemblyUnit, WorkUnit, CountUnit)

INVALIDATED = f"its commit record was removed: {AGAIN}"
REMOVE = "remove it"


@dataclass(frozen=True)
class Verdict:
    """Result of a verification.

    Args:
        units: Number of work units of the plan.
        files: Number of files with a recorded size and SHA-256 that should be there.
        size: Bytes of these files, by the records.
        unfinished: Number of units and scenes without a commit record.
        faults: Number of all other findings.
    """

    units: int
    files: int
    size: int
    unfinished: int
    faults: int

    @property
    def is_good(self) -> bool:
        """Whether the run is complete and all is as recorded."""
        return not self.unfinished and not self.faults


@dataclass(frozen=True)
class _Run:
    """A run directory, and what its records and their sum are found with."""

    folder: RunDirectory
    log: CommitLog
    classes: ClassTable
    counting: Counting | None


@dataclass
class _Ledger:
    """Findings and counts so far.

    Args:
        on_finding: Called with every finding.
        names: Keys of the paths that are right to find.
        assembled: Keys of the ids of scenes that have a record.
        invalidated: Units whose record was removed.
        plan_is_whole: Whether the plan could be read.
        sum_is_whole: Whether all records that are there could be read.
    """

    on_finding: Callable[[Finding], None]
    names: "array[int]" = field(default_factory=lambda: array("Q"))
    assembled: set[int] = field(default_factory=set)
    units: int = 0
    files: int = 0
    size: int = 0
    unfinished: int = 0
    faults: int = 0
    invalidated: int = 0
    plan_is_whole: bool = True
    sum_is_whole: bool = True

    def fault(self, path: str, wrong: str, remedy: str) -> None:
        self.faults += 1
        self.on_finding(Finding(path, wrong, remedy))

    def add(self, checked: CheckedUnit) -> None:
        if isinstance(checked.unit, WorkUnit):
            self.units += 1
        elif isinstance(checked.unit, AssemblyUnit) and not checked.unfinished:
            self.assembled.add(path_key(checked.unit.id))
        self.files += len(checked.outputs)
        self.size += sum(output.size for output in checked.outputs)
        self.names.extend(checked.names)
        if checked.unfinished:
            self.unfinished += 1
        else:
            self.faults += len(checked.findings)
            self.sum_is_whole &= checked.commit is not None
        for finding in checked.findings:
            self.on_finding(finding)


def verify(root: str, on_finding: Callable[[Finding], None], invalidate: bool = False) -> Verdict:
    """Check size and SHA-256 of all that a run wrote, and that it wrote all.

    Of the names of files, 8 bytes of a digest each are kept in memory. That two share theirs, so
    that a file that no record names goes unnoticed, has a probability of 1e-7 with a million files
    of either kind.

    Args:
        root: The run directory.
        on_finding: Called with every finding, as soon as there is one.
        invalidate: Whether the record of a unit is removed if one of its files is missing or
            damaged, so that `segment` does the unit again. `_SUCCESS` is removed before.

    Returns:
        Counts of units, files, bytes and findings.

    Raises:
        ConfigurationError: If the folder is no run.
        ContractError: If the model contract in `run.json` is malformed.
    """
    run, ledger = _open(root), _Ledger(on_finding)
    total = Tally.sum(
        tally for kind in KINDS for tally in _check_units(kind, run, ledger, invalidate)
    )
    if ledger.plan_is_whole and not ledger.units:
        ledger.plan_is_whole = False
        ledger.fault("plan", "has no work units", AGAIN)
    if ledger.plan_is_whole:
        expected = ExpectedResults(
            run=run.folder,
            log=run.log,
            classes=run.classes,
            counting=run.counting,
            total=total,
            is_whole=ledger.sum_is_whole,
            files_are_whole=not ledger.faults,
            unfinished=ledger.unfinished,
            invalidated=ledger.invalidated,
        )
        check_results(expected, ledger.fault)
        _check_names(run, ledger)
    return Verdict(ledger.units, ledger.files, ledger.size, ledger.unfinished, ledger.faults)


def _open(root: str) -> _Run:
    """The run in a folder.

    Raises:
        ConfigurationError: If there is none.
    """
    root = locations.checked(root)
    folder = RunDirectory(root)
    remedy = "name the folder that `beamseg segment` was given as --output"
    if not locations.is_remote(root) and not os.path.isdir(root):
        raise ConfigurationError(f"{root} is no folder: {remedy}")
    try:
        document = folder.read_json("run.json")
    except ValueError:
        document = {}
    if document is None:
        raise ConfigurationError(f"{root} holds no run.json: {remedy}")
    if not is_run(document):
        raise ConfigurationError(f"{root}/run.json was not written by this beamseg: {remedy}")
    shaping = {name: document.get(name) for name in ("labels", "statistics")}
    for name, values in shaping.items():
        if not values or document.get("digests", {}).get(name) != digest(values):
            raise ConfigurationError(
                f"{root}/run.json: {name} are not those that the run was begun with: put them "
                f"back, or begin again with `beamseg segment --overwrite`"
            )
    classes = Contract.from_json(document.get("model", {})).classes
    counting = None if document.get("counting") is None else Counting(**document["counting"])
    of_counts = "" if counting is None else counting.digest
    log = CommitLog(root, digest(shaping), counting=of_counts)
    return _Run(folder, log, classes, counting)


def _check_units(kind: type[Unit], run: _Run, ledger: _Ledger, invalidate: bool) -> Iterator[Tally]:
    """Check all units of a kind; yields the tallies that count in totals."""
    once = run.counting is not None and run.counting.overlap is not None

    def check(unit: Unit) -> CheckedUnit:
        scene = unit.scene if isinstance(unit, WorkUnit) else None
        return check_unit(unit, run.log, scene is not None and path_key(scene) in ledger.assembled)

    for checked in in_order(check, _planned(kind, run, ledger)):
        ledger.add(_invalidated(checked, run, ledger) if invalidate else checked)
        if checked.commit is not None and checked.unit.is_in_totals(once):
            yield checked.commit.tally


def _planned(kind: type[Unit], run: _Run, ledger: _Ledger) -> Iterator[Unit]:
    try:
        yield from plan.read_units(run.folder.plan, kind)
    except MALFORMED:
        ledger.plan_is_whole = False
        ledger.fault("plan", f"has a line in {kind.kind}-*.jsonl that is no work unit", AGAIN)


def _invalidated(checked: CheckedUnit, run: _Run, ledger: _Ledger) -> CheckedUnit:
    """Remove the record of a unit if it must be done again, and say so in the remedies."""
    if not checked.must_be_invalidated:
        return checked
    if not ledger.invalidated:
        filesystem.remove(run.folder.path("_SUCCESS"))
    run.log.invalidate(checked.unit)
    ledger.invalidated += 1
    return replace(
        checked, findings=tuple(replace(entry, remedy=INVALIDATED) for entry in checked.findings)
    )


def _check_names(run: _Run, ledger: _Ledger) -> None:
    """Report files that no commit record of the plan names."""
    names = ledger.names
    np.frombuffer(names, np.uint64).sort()
    may_be_written = ledger.unfinished or not ledger.sum_is_whole
    remedy = f"{AGAIN}, then verify again" if may_be_written else REMOVE
    for folder in (*OUTPUTS, "commits"):
        for path in _files_below(run.folder, folder):
            key = path_key(path)
            place = bisect_left(names, key)
            if place < len(names) and names[place] == key:
                continue
            if folder == "commits":
                _report_record(path, run, ledger)
            else:
                ledger.fault(path, "is an unknown file: no commit record names it", remedy)


def _report_record(path: str, run: _Run, ledger: _Ledger) -> None:
    """Report a record that the plan does not have; `segment` removes it if it can read it."""
    try:
        Commit.from_bytes(filesystem.read_bytes(run.folder.path(path)))
        remedy = f"{AGAIN}, which removes it and its outputs"
    except (OSError, *MALFORMED):
        remedy = REMOVE
    ledger.fault(path, "is an unknown file: the plan has no such unit", remedy)


def _files_below(run: RunDirectory, folder: str) -> Iterator[str]:
    """Paths within the run of all files below a folder; links are files."""
    for name in filesystem.names_below(run.path(folder)):
        yield f"{folder}/{name}"
