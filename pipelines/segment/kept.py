"""Units of the plan on disk that stay in the plan of a run although their inputs are gone.

What is finished stays as it is. What is not finished cannot be done any more: its inputs become
failures, which a run that finds them again replaces. A group of image files of which some are gone
is taken apart, so that rows and label maps of the others do not depend on those.
"""

import hashlib
import io
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import pyarrow.parquet as pq

from pipelines.formats.work import Work
from pipelines.inputs.catalogue import NameSet
from pipelines.results.failure_table import failures_of
from pipelines.run import plan
from pipelines.run.area_tables import GROUP_ROWS
from pipelines.run.areas import CONFIDENCE_BINS, Sums, Tally, TallySum, with_range
from pipelines.run.commits import Commit, CommitLog
from pipelines.run.failures import unit_failures
from pipelines.run.plan import GONE, SCENE, AssemblyUnit, CountUnit, InputFile, Unit, WorkUnit
from pipelines.run.soft_areas import sums_of_soft_rows
from pipelines.run.unit_tables import AREAS, SOFT, unit_tables
from pipelines.scenes.files import scene_paths
from pipelines.scenes.overlaps import in_input_order
from pipelines.storage.threads import in_order
from pipelines.worker import formats
from segmodel.devices.disks import Spool
from segmodel.errors import DamagedError

_MARK = "-gone-"


@dataclass
class KeptUnits:
    """Units whose inputs are gone, in a temporary file, and what else stays of the plan on disk.

    Args:
        gone: Keys of the inputs that are gone.
        scenes: Scenes among them by key, as they stand in the plan from now on.
        held: Units by key of scenes that cannot be opened now, and have not changed since they were
            planned.
    """

    gone: NameSet
    scenes: dict[str, InputFile] = field(default_factory=dict)
    held: dict[str, list[Unit]] = field(default_factory=dict)
    _lines: Spool = field(default_factory=Spool, repr=False)

    def __post_init__(self) -> None:
        weakref.finalize(self, self._lines.close)

    def add(self, unit: Unit) -> None:
        """Keep a unit."""
        self._lines.add(unit.to_json().encode() + b"\n")

    def __iter__(self) -> Iterator[Unit]:
        """The units whose inputs are gone, in the order of the plan on disk."""
        for line in self._lines.lines():
            yield plan.unit_from_json(line)

    @property
    def finished(self) -> Iterator[Unit]:
        """Those of the units that have results."""
        return (unit for unit in self if unit.files[0].version != GONE)

    def among(self, files: Iterable[InputFile]) -> list[InputFile]:
        """Scenes of a listing with those that stay, each behind the scene that it followed."""
        chosen = (self._as_held(file) for file in files if file.key not in self.gone)
        return in_input_order(chain(chosen, self.scenes.values()))

    def _as_held(self, file: InputFile) -> InputFile:
        return self.held[file.key][0].files[0] if file.key in self.held else file

    def planned(self, units: Iterable[Unit]) -> Iterator[Unit]:
        """Units of a listing, without what is gone, and as planned before where they are held."""
        passed: set[str] = set()
        for unit in units:
            key = unit.files[0].key
            if key in self.held:
                if key not in passed:
                    yield from self.held[key]
                passed.add(key)
                continue
            files = tuple(file for file in unit.files if file.key not in self.gone)
            if files:
                yield unit if len(files) == len(unit.files) else replace(unit, files=files)


def kept_units(work: Work, gone: NameSet, unopened: Sequence[InputFile]) -> KeptUnits:
    """What stays of the plan on disk; nothing is written.

    Args:
        work: Work that all units of the run share.
        gone: Keys of inputs whose results are kept.
        unopened: Scenes of the new listing that cannot be opened now.
    """
    kept = KeptUnits(gone)
    recorded, seen = NameSet(work.log.names()), NameSet()
    waiting = {file.key: file for file in unopened if file.key not in gone}
    facts = _SceneFacts.of(work, gone)

    def candidates() -> Iterator[tuple[Unit, Unit, bool]]:
        """What is gone of each unit, the unit, and whether it has a record."""
        for kind in (WorkUnit, AssemblyUnit):
            for unit in plan.read_units(work.run.plan, kind, plan.pass_over):
                first = unit.files[0]
                if unit.format == SCENE and first.key in waiting:
                    if was_opened(unit) and is_as_planned(waiting[first.key], first):
                        kept.held.setdefault(first.key, []).append(unit)
                    continue
                for part in _parts(unit, gone)[:1]:
                    if part.id not in seen:
                        seen.update([part.id])
                        yield part, unit, work.log.name(unit) in recorded

    def checked(candidate: tuple[Unit, Unit, bool]) -> tuple[Unit, bool]:
        part, unit, is_done = candidate
        # Outputs of a block are gone once its scene is finished; a group is looked at as it is
        # taken apart.
        is_whole = part.id == unit.id and not unit.is_block
        log = work.log
        return part, is_done and (log.is_valid(unit, False) if is_whole else log.is_done(unit))

    for part, is_done in in_order(checked, candidates()):
        _keep(part, kept, work, is_done, facts)
    return kept


@dataclass(frozen=True)
class _SceneFacts:
    """What the plan on disk says of scenes that are gone, and their label maps do not."""

    acquired: dict[str, str | None]
    behind: dict[str, str | None]

    @classmethod
    def of(cls, work: Work, gone: NameSet) -> "_SceneFacts":
        counts = plan.read_units(work.run.plan, CountUnit, plan.pass_over)
        acquired = {unit.file.key: unit.acquired for unit in counts if unit.file.key in gone}
        behind: dict[str, str | None] = {}
        last = None
        for unit in plan.read_units(work.run.plan, WorkUnit, plan.pass_over):
            file = unit.files[0]
            if unit.format != SCENE or file.key in behind:
                continue
            if file.key in gone:
                before = file.behind if file.gone else last
                behind[file.key] = behind.get(before, before) if before else None
            else:
                last = file.key
        return cls(acquired, behind)


def was_opened(unit: Unit) -> bool:
    """Whether the scene of a unit could be opened when it was planned; other units always were."""
    if unit.format != SCENE:
        return True
    return not isinstance(unit, WorkUnit) or unit.window is not None


def is_as_planned(found: InputFile, planned: InputFile) -> bool:
    """Whether a scene that cannot be opened now is the file that was planned.

    Its sidecars, on which its version depends too, are not known without opening it.
    """
    is_same = f"{planned.version}-".startswith(f"{found.version}-")
    return found.size == planned.size and is_same


def _parts(unit: Unit, gone: NameSet) -> list[Unit]:
    """What is gone of a unit, and the rest of a group of image files; empty if nothing is gone."""
    lost = tuple(replace(file, gone=True) for file in unit.files if file.key in gone)
    if not lost:
        return []
    if not formats.find_format(unit.format).grouped:
        return [replace(unit, files=lost)]
    rest = tuple(file for file in unit.files if file.key not in gone)
    if _MARK in unit.id:
        if not rest:
            return [replace(unit, files=lost)]
        # What has come back belongs to its group again.
        rest = ()
    digest = hashlib.sha256("\0".join(file.key for file in lost).encode("utf-8", "surrogatepass"))
    name = unit.id.partition(_MARK)[0]
    part: Unit = replace(unit, id=f"{name}{_MARK}{digest.hexdigest()[:16]}", files=lost)
    return [part, replace(unit, id=name, files=rest)] if rest else [part]


def _keep(part: Unit, kept: KeptUnits, work: Work, is_done: bool, facts: _SceneFacts) -> None:
    """Keep what is gone of a unit, if it is finished; else a unit that fails in its place."""
    is_block = part.is_block
    if is_block and not is_done:
        return
    if not is_done:
        files = tuple(replace(file, version=GONE) for file in part.files)
        part = WorkUnit(part.id, part.format, files)
    if part.format == SCENE:
        file = part.files[0]
        labels = work.run.path(scene_paths(file).labels)
        # Where it lies is read from its label map from now on.
        taken = facts.acquired.get(file.key, file.acquired)
        behind = facts.behind.get(file.key)
        file = replace(file, uri=labels, acquired=taken, behind=behind)
        part = replace(part, files=(file,))
        if not is_block:
            kept.scenes[file.key] = part.files[0]
    kept.add(part)


def take_apart(work: Work, kept: KeptUnits) -> None:
    """Write tables and records of both parts of finished groups of which some files are gone.

    What is gone comes first: the table of the rest replaces that of the whole.
    """
    for unit in plan.read_units(work.run.plan, WorkUnit, plan.pass_over):
        parts = _parts(unit, kept.gone)
        if not parts or parts[0].id == unit.id:
            continue
        # What is damaged is as if it were not finished.
        with suppress(FileNotFoundError, DamagedError):
            commit = work.log.read(unit)
            if commit is None:
                continue
            for part in parts:
                if not work.log.is_done(part):
                    _write_part(part, unit, commit, work)


def _write_part(part: Unit, unit: Unit, commit: Commit, work: Work) -> None:
    """Write tables and record of some of the files of a finished group of image files.

    Args:
        part: Unit of these files.
        unit: The group.
        commit: Record of the group.
        work: Work that all units of the run share.
    """
    keys = {file.key for file in part.files}
    paths = set(formats.find_format(part.format).outputs(part, work))
    outputs = [output for output in commit.outputs if output.path in paths]
    if not work.log.is_intact(replace(commit, outputs=tuple(outputs))):
        return
    total, log = TallySum(), work.log
    soft = defaultdict[str, list[dict[str, Any]]](list)
    for row in _rows_of(commit, log, SOFT):
        if row["source"] in keys:
            soft[row["source"]].append(row)
    with (
        unit_tables(work.run, work.contract, work.soft_areas) as tables,
        unit_failures(work.run) as failures,
    ):
        for key, image in groupby(_rows_of(commit, log, AREAS), itemgetter("source")):
            if key in keys:
                of_image = list(image)
                tables.add_rows(of_image, soft[key])
                sums = _sums(of_image, soft[key])
                total.add(replace(_tally(of_image, work), sums=sums))
        for failure in failures_of(commit, log):
            if failure.uri in keys:
                failures.add(failure)
                total.add(Tally(failed_images=1))
        outputs += tables.publish(part.id) + failures.publish(part.id)
    smaller = {
        (int(height), int(width)): size
        for name, size in commit.smaller_batches.items()
        for height, width in [name.split("x")]
    }
    known = {file.key: crc for file, crc in zip(unit.files, commit.inputs, strict=False)}
    inputs = [known[file.key] for file in part.files] if known else ()
    log.write(part, outputs, total.exact(), (), smaller, inputs)


def _rows_of(commit: Commit, log: CommitLog, folder: str) -> Iterator[dict[str, Any]]:
    """Rows of the images of a unit, image by image; some of them are in memory at a time."""
    for output in commit.outputs:
        if output.path.startswith(f"{folder}/"):
            with pq.ParquetFile(io.BytesIO(log.content(output))) as table:
                for batch in table.iter_batches(GROUP_ROWS):
                    yield from batch.to_pylist()


def _sums(rows: Sequence[dict[str, Any]], soft: Sequence[dict[str, Any]]) -> Sums:
    """The exact sums of one image by its rows in both tables."""
    bins = {
        f"{row['class_id']}:{number}": count
        for row in rows
        for number, count in enumerate(row.get(CONFIDENCE_BINS) or ())
        if count
    }
    return {**sums_of_soft_rows(soft), **({CONFIDENCE_BINS: bins} if bins else {})}


def _tally(rows: Sequence[dict[str, Any]], work: Work) -> Tally:
    """The tally of one image by its rows."""
    by_line = {
        row["class"]
        if row["class_id"] in (None, work.contract.classes.nodata)
        else str(row["class_id"]): row
        for row in rows
    }
    pixels = {name: int(row["pixels"]) for name, row in by_line.items()}
    areas = {n: row["area_m2"] for n, row in by_line.items() if row["area_m2"] is not None}
    confidence = {
        name: Fraction(row["mean_confidence"] or 0) * row["pixels"]
        for name, row in by_line.items()
        if name.isdigit() and work.confidence
    }
    size = work.pixel_size_m
    tally = Tally(
        images=1,
        pixels=pixels,
        ground_pixels=pixels if areas else {},
        area_m2=areas,
        confidence_sum=confidence,
        footprint_m2=0.0 if size is None or not areas else size**2 * sum(pixels.values()),
    )
    if work.contract.limits is None:
        return tally
    beyond = {name: int(row.get("out_of_range") or 0) for name, row in by_line.items()}
    labelled = sum(count for name, count in pixels.items() if name.isdigit())
    return with_range(tally, labelled, {name: count for name, count in beyond.items() if count})
