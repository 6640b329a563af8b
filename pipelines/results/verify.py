"""Whether a run directory holds what its commit records say, and nothing else.

The numbers of each record are compared with the rows in the table of its unit, and `areas.csv` with
the sum of the records, so that totals are those of the rows.
"""

import hashlib
import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from functools import partial
from itertools import chain

import numpy as np

from pipelines.cli.exit_status import ExitStatus
from pipelines.formats.work import Work
from pipelines.results.failure_table import (
    COLUMNS,
    COLUMNS_WITHOUT_CODE,
    FailureTable,
    failures_of,
)
from pipelines.results.totals import FILES
from pipelines.results.value_range import RangeCheck
from pipelines.results.verify_inputs import CheckedInputs, check_inputs
from pipelines.results.verify_units import (
    AGAIN,
    MALFORMED,
    CheckedUnit,
    Finding,
    check_unit,
    path_key,
)
from pipelines.run import plan
from pipelines.run.area_tables import totals_csv
from pipelines.run.areas import Tally
from pipelines.run.attempts import THREADS
from pipelines.run.directory import COPY, OUTPUTS, RUN_JSON, DamagedRunError, RunDirectory
from pipelines.run.plan import SCENE, AssemblyUnit, CountUnit, Unit, WorkUnit
from pipelines.run.polygons import AOI, SOFT_ZONES, ZONES, is_stored, stored
from pipelines.run.soft_areas import soft_csv
from pipelines.scenes.files import scene_paths
from pipelines.scenes.results import overlaps_csv, soft_zones_csv, zone_totals, zones_csv
from pipelines.storage import filesystem, locations
from pipelines.storage.threads import in_order
from segmodel.errors import BeamsegError, ConfigurationError

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
        inputs: Number of inputs that were read again.
        without_inputs: Number of finished units whose inputs were not, as their commit records have
            no checksums of them, or as they are gone from the run.
    """

    units: int
    files: int
    size: int
    unfinished: int
    faults: int
    inputs: int = 0
    without_inputs: int = 0

    def __add__(self, other: "Verdict") -> "Verdict":
        """The sum of both, field by field."""
        return Verdict(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def is_good(self) -> bool:
        """Whether the run is complete and all is as recorded."""
        return not self.unfinished and not self.faults


@dataclass
class _Ledger:
    """Findings and counts so far.

    Args:
        on_finding: Called with every finding.
        names: Keys of the paths that are right to find.
        assembled: Keys of the ids of scenes that have a record.
        scene_maps: Number of label maps of scenes that records name.
        last_input: Key of the input that was read last.
        last_finding: What was found of inputs last.
        invalidated: Units whose record was removed.
        plan_is_whole: Whether the plan could be read.
        damaged_parts: Names of files of the plan that could not, as a whole.
        sum_is_whole: Whether all records that are there could be read.
        end_is_listed: Whether `summary.json` says what each file of the end of the run holds.
    """

    on_finding: Callable[[Finding], None]
    names: "array[int]" = field(default_factory=lambda: array("Q"))
    assembled: set[int] = field(default_factory=set)
    scene_maps: int = 0
    units: int = 0
    files: int = 0
    size: int = 0
    unfinished: int = 0
    faults: int = 0
    inputs: int = 0
    without_inputs: int = 0
    last_input: str = ""
    last_finding: Finding | None = None
    invalidated: int = 0
    plan_is_whole: bool = True
    damaged_parts: set[str] = field(default_factory=set)
    sum_is_whole: bool = True
    end_is_listed: bool = False

    def is_recorded(self, path: str) -> bool:
        """Whether a commit record names a path; once the names are sorted."""
        key = path_key(path)
        place = bisect_left(self.names, key)
        return place < len(self.names) and self.names[place] == key

    def fault(self, path: str, wrong: str, remedy: str) -> None:
        self.faults += 1
        self.on_finding(Finding(path, wrong, remedy))

    def add(self, checked: CheckedUnit) -> None:
        if isinstance(checked.unit, WorkUnit):
            self.units += 1
        elif isinstance(checked.unit, AssemblyUnit) and not checked.unfinished:
            self.assembled.add(path_key(checked.unit.id))
        if checked.unit.format == SCENE and not isinstance(checked.unit, CountUnit):
            path = scene_paths(checked.unit.files[0]).labels
            self.scene_maps += sum(output.path == path for output in checked.outputs)
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

    def add_inputs(self, checked: CheckedInputs) -> None:
        """Add inputs; a scene, whose blocks follow each other, counts once."""
        if not checked.is_known:
            self.without_inputs += 1
            return
        self.inputs += sum(file.key != self.last_input for file in checked.unit.files)
        self.last_input = checked.unit.files[-1].key
        for finding in checked.findings:
            if finding != self.last_finding:
                self.fault(finding.path, finding.wrong, finding.remedy)
            self.last_finding = finding


def verify(
    root: str,
    on_finding: Callable[[Finding], None],
    invalidate: bool = False,
    inputs: bool = False,
) -> Verdict:
    """Check size and SHA-256 of all that a run wrote, and that it wrote all.

    Of the names of files, 8 bytes of a digest each are kept in memory. That two share theirs, so
    that a file that no record names goes unnoticed, has a probability of 1e-7 with a million files
    of either kind.

    Args:
        root: The run directory.
        on_finding: Called with every finding, as soon as there is one.
        invalidate: Whether the record of a unit is removed if one of its files is missing or
            damaged, or one of its inputs has changed, so that `segment` does the unit again.
            `_SUCCESS` is removed before.
        inputs: Whether the inputs of finished units are read again, and compared with what their
            label maps were made from.

    Returns:
        Counts of units, files, bytes, inputs and findings.

    Raises:
        ConfigurationError: If the folder is no run.
        ContractError: If the model contract in `run.json` is malformed.
    """
    work, ledger = open_run(root), _Ledger(on_finding)
    _check_begin(work, ledger)
    total = Tally.sum(
        tally for kind in KINDS for tally in _check_units(kind, work, ledger, invalidate)
    )
    if ledger.plan_is_whole and not ledger.units:
        ledger.plan_is_whole = False
        ledger.fault("plan", "has no work units", AGAIN)
    if ledger.plan_is_whole:
        _check_tables(work, total, ledger)
        _check_end(work, ledger)
        _check_names(work, ledger)
        if inputs:
            _check_inputs(work, ledger, invalidate)
    found = ledger.units, ledger.files, ledger.size, ledger.unfinished, ledger.faults
    return Verdict(*found, ledger.inputs, ledger.without_inputs)


def open_run(root: str) -> Work:
    """What units of the run in a folder have in common.

    Args:
        root: The run directory.

    Raises:
        ConfigurationError: If there is none.
        ContractError: If the model contract in `run.json` is malformed.
    """
    root = locations.checked(root)
    folder = RunDirectory(root)
    remedy = "name the folder that `beamseg segment` was given as --output"
    if not locations.is_remote(root) and not os.path.isdir(root):
        raise ConfigurationError(f"{root} is no folder: {remedy}")
    try:
        document = folder.read_run()
    except DamagedRunError:
        raise
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{root}/run.json was not written by this beamseg: {remedy}"
        ) from error
    if document is None:
        raise ConfigurationError(f"{root} holds no run.json: {remedy}")
    return Work.of_run(folder, document)


def _check_begin(work: Work, ledger: _Ledger) -> None:
    """Check what the begin of a run writes, beside the plan; `segment` writes it anew."""
    folder, documents = work.run, []
    for name in (RUN_JSON, COPY) if work.log.is_sealed else ():
        try:
            documents.append(folder.sound_run(name))
        except FileNotFoundError:
            ledger.fault(name, "is not there", AGAIN)
        except ValueError:
            ledger.fault(name, "is damaged", AGAIN)
    if len(documents) == 2 and documents[0] != documents[1]:
        ledger.fault(COPY, f"is no copy of {RUN_JSON}", AGAIN)
    zones = None if work.counting is None else work.counting.zones
    polygons = {AOI: work.reading.aoi, ZONES: zones, SOFT_ZONES: work.soft_zones}
    for name, digest_of_run in polygons.items():
        with suppress(FileNotFoundError):
            if digest_of_run and not is_stored(folder.read(name), digest_of_run):
                ledger.fault(name, "is not what the run was begun with", AGAIN)


def _check_units(
    kind: type[Unit], work: Work, ledger: _Ledger, invalidate: bool
) -> Iterator[Tally]:
    """Check all units of a kind; yields the tallies that count in totals."""

    def check(unit: Unit) -> CheckedUnit:
        scene = unit.scene if isinstance(unit, WorkUnit) else None
        return check_unit(unit, work.log, scene is not None and path_key(scene) in ledger.assembled)

    for checked in in_order(check, _planned(kind, work, ledger)):
        ledger.add(_invalidated(checked, work, ledger) if invalidate else checked)
        if checked.commit is not None and checked.unit.is_in_totals(work.counts_once):
            yield checked.commit.tally


def _planned(kind: type[Unit], work: Work, ledger: _Ledger) -> Iterator[Unit]:

    def report(name: str) -> None:
        ledger.plan_is_whole = False
        if name not in ledger.damaged_parts:
            ledger.damaged_parts.add(name)
            ledger.fault(f"plan/{name}", "is damaged", AGAIN)

    return plan.read_units(work.run.plan, kind, report)


def _invalidated(checked: CheckedUnit, work: Work, ledger: _Ledger) -> CheckedUnit:
    """Remove the record of a unit if it must be done again, and say so in the remedies."""
    if not checked.must_be_invalidated:
        return checked
    if not ledger.invalidated:
        work.run.remove("_SUCCESS")
    work.log.invalidate(checked.unit)
    ledger.invalidated += 1
    return checked.invalidated(INVALIDATED)


def _check_inputs(work: Work, ledger: _Ledger, invalidate: bool) -> None:
    """Read inputs again; records of units whose inputs have changed are removed at the end."""
    changed: set[int] = set()
    units = (unit for unit in _planned(WorkUnit, work, ledger) if isinstance(unit, WorkUnit))
    for checked in in_order(lambda unit: check_inputs(unit, work), units, THREADS):
        if checked is None:
            continue
        if checked.is_changed and invalidate:
            ids = (checked.unit.id, checked.unit.scene)
            changed.update(path_key(name) for name in ids if name is not None)
            checked = checked.invalidated(INVALIDATED)
        ledger.add_inputs(checked)
    if changed:
        work.run.remove("_SUCCESS")
    # A scene before its blocks, which stay as they are while it is finished.
    for kind in (AssemblyUnit, WorkUnit) if changed else ():
        for unit in plan.read_units(work.run.plan, kind):
            if path_key(unit.id) in changed:
                work.log.invalidate(unit)


def _check_tables(work: Work, total: Tally, ledger: _Ledger) -> None:
    """Report tables that are not what the commit records add up to."""
    if not ledger.sum_is_whole:
        return
    classes = work.contract.classes
    tables = {"areas.csv": lambda: _sha256(totals_csv(total, classes))}
    if work.soft_areas:
        tables["soft_areas.csv"] = lambda: _sha256(soft_csv(total, classes))
    if not ledger.faults:
        tables |= {"failures.csv": lambda: _failures_digest(work)} | _counted_digests(work)
    for name, expected_digest in tables.items():
        path = work.run.path(name)
        if filesystem.exists(path) and filesystem.sha256(path) != expected_digest():
            ledger.fault(name, "is not what the commit records add up to", AGAIN)


def _check_end(work: Work, ledger: _Ledger) -> None:
    """Check what the end of a run writes; nothing is missing while units are unfinished."""
    try:
        summary = work.run.read_json("summary.json", work.log.is_sealed)
        status = summary["exit_status"] if summary is not None else None
        written = dict((summary or {}).get(FILES, {}))
    except MALFORMED:
        ledger.fault("summary.json", "is not what the end of a run writes", AGAIN)
        status, written = None, {}
    has_mark = filesystem.exists(work.run.path("_SUCCESS"))
    if ledger.unfinished:
        if has_mark:
            ledger.fault("_SUCCESS", "is there although units are not finished", AGAIN)
        return
    soft = ["soft_areas.csv"] if work.soft_areas else []
    tables = ("areas.csv", "failures.csv", *soft, *_counted_digests(work))
    for name in (*tables, "summary.json", "preview.png"):
        if not filesystem.exists(work.run.path(name)):
            ledger.fault(name, "is not there", AGAIN)
    if ledger.invalidated:
        return
    ledger.end_is_listed = bool(written)
    for name, sha256 in written.items() if not ledger.faults else ():
        if not filesystem.exists(work.run.path(name)):
            ledger.fault(name, "is not there", AGAIN)
        elif filesystem.sha256(work.run.path(name)) != sha256:
            ledger.fault(name, "is not what the end of the run wrote", AGAIN)
    if has_mark and filesystem.size_of(work.run.path("_SUCCESS")):
        ledger.fault("_SUCCESS", "is not empty", AGAIN)
    if status == ExitStatus.INCOMPLETE:
        ledger.fault("summary.json", "says that units are unfinished, and all are finished", AGAIN)
    if status == ExitStatus.COMPLETE and not has_mark:
        ledger.fault("_SUCCESS", "is not there although the run is complete", AGAIN)
    if status not in (ExitStatus.COMPLETE, None) and has_mark:
        ledger.fault("_SUCCESS", f"is there although the run ended with {status}", AGAIN)


def _counted_digests(work: Work) -> dict[str, Callable[[], str]]:
    """Tables of counts, and how their digests are found."""
    counting = work.counting
    found: dict[str, Callable[[], str]] = {}
    if counting is not None and counting.zones is not None:
        found["zones.csv"] = lambda: _one_of(work, "zones.csv", *_zone_tables(work))
        if work.soft_areas:
            found["soft_zones.csv"] = lambda: _sha256(_soft_zone_table(work))
    if counting is not None and counting.overlap is not None:
        tables = [partial(overlaps_csv, work.run, work.log, shares) for shares in (True, False)]
        found["overlaps.csv"] = lambda: _one_of(work, "overlaps.csv", *tables)
    return found


def _zone_tables(work: Work) -> list[Callable[[], bytes]]:
    """The table of zones, and as 0.1.0 wrote it, without zones that have no pixel."""
    names = _zone_names(work)
    totals = zone_totals(work.run, work.log, names)
    return [partial(zones_csv, some, totals, work.contract.classes) for some in (names, ())]


def _soft_zone_table(work: Work) -> bytes:
    """The table of probabilities by zone."""
    names = _zone_names(work)
    return soft_zones_csv(names, zone_totals(work.run, work.log, names), work.contract.classes)


def _zone_names(work: Work) -> tuple[str, ...]:
    """Names of the zones of a run; none where the file is damaged."""
    assert work.counting is not None
    assert work.counting.zones is not None
    with suppress(BeamsegError, OSError):
        return stored(work.run, ZONES, work.counting.zones).names
    return ()


def _one_of(work: Work, name: str, *tables: Callable[[], bytes]) -> str:
    """Digest of the table at hand if it is one of these, else of the first."""
    content = work.run.read(name)
    return _sha256(next((content for table in tables if table() == content), tables[0]()))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _failures_digest(work: Work) -> str:
    """Digest of the table of failures, in columns and cells as the table at hand has them."""
    path = work.run.path("failures.csv")
    with filesystem.open_stream(path) as content:
        heading = content.read(1 << 10).partition(b"\n")[0].decode("utf-8", "replace")
    columns = COLUMNS_WITHOUT_CODE if heading == ",".join(COLUMNS_WITHOUT_CODE) else COLUMNS
    streams = _Digest(), _Digest()
    tables = FailureTable(streams[0], columns), FailureTable(streams[1], columns, lambda cell: cell)
    ranges = RangeCheck(work.run.root, work.contract, work.max_out_of_range)
    for kind in plan.KINDS:
        for unit in plan.read_units(work.run.plan, kind):
            commit = work.log.read(unit)
            if commit is not None:
                beyond = list(ranges.failures_of(unit, commit))
                for failure in chain(failures_of(commit, work.log), beyond):
                    for table in tables:
                        table.add([failure])
    digests = [stream.sha256.hexdigest() for stream in streams]
    found = filesystem.sha256(path)
    return found if found in digests else digests[0]


class _Digest:
    """A file that keeps nothing but the digest of what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, text: str) -> None:
        self.sha256.update(text.encode("utf-8", "backslashreplace"))


def _check_names(work: Work, ledger: _Ledger) -> None:
    """Report files that no commit record of the plan names."""
    names = ledger.names
    np.frombuffer(names, np.uint64).sort()
    may_be_written = ledger.unfinished or not ledger.sum_is_whole
    remedy = f"{AGAIN}, then verify again" if may_be_written else REMOVE
    if not (may_be_written or ledger.invalidated or ledger.end_is_listed):
        _check_label_list(work, ledger)
    for folder in (*OUTPUTS, "commits"):
        for name in filesystem.names_below(work.run.path(folder)):
            path = f"{folder}/{name}"
            if ledger.is_recorded(path):
                continue
            if folder == "commits":
                _report_record(path, work, ledger)
            else:
                ledger.fault(path, "is an unknown file: no commit record names it", remedy)


def _check_label_list(work: Work, ledger: _Ledger) -> None:
    """Report a `labels.json` that is not of this run, or not whole; runs of 0.1.0 have none."""
    try:
        document = work.run.read_json("labels.json")
        systems = [] if document is None else document["systems"]
        maps = [entry["path"] for system in systems for entry in system["maps"]]
        vrts = [system["vrt"] for system in systems if system["vrt"] is not None]
    except MALFORMED:
        ledger.fault("labels.json", "is not what the end of a run writes", AGAIN)
        return
    unknown = [path for path in maps if not ledger.is_recorded(path)]
    if unknown:
        ledger.fault("labels.json", f"lists {unknown[0]}, which no commit record names", AGAIN)
    elif document is not None and ledger.sum_is_whole and len(set(maps)) < ledger.scene_maps:
        missing = ledger.scene_maps - len(set(maps))
        ledger.fault("labels.json", f"lacks {missing} of {ledger.scene_maps} label maps", AGAIN)
    for name in vrts:
        if not filesystem.exists(work.run.path(name)):
            ledger.fault(name, "is not there", AGAIN)


def _report_record(path: str, work: Work, ledger: _Ledger) -> None:
    """Report a record that the plan does not have; `segment` removes it if it can read it."""
    try:
        work.log.load(path.removeprefix("commits/"))
        remedy = f"{AGAIN}, which removes it and its outputs"
    except (OSError, ValueError):
        remedy = f"{AGAIN}, which removes it"
    ledger.fault(path, "is an unknown file: the plan has no such unit", remedy)
