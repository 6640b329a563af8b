"""Inputs that are found, and whose label maps of an earlier attempt could not be made again."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.formats.interface import Format, UnitTask
from pipelines.formats.shards import FIRST_SAMPLES, ShardFormat
from pipelines.formats.work import Work
from pipelines.inputs.catalogue import NameSet
from pipelines.run.attempts import THREADS
from pipelines.run.failures import Failure, reason_of
from pipelines.run.plan import IMAGES_PER_GROUP, InputFile, Unit, WorkUnit
from pipelines.segment.inputs import Inputs
from pipelines.storage import filesystem, locations
from pipelines.storage.threads import in_order
from pipelines.worker import formats
from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Labelled
from segmodel.errors import BeamsegError, FailureCode, is_transient
from segmodel.savedmodel.contract import Contract


def unusable(
    units: Callable[[], Iterator[Unit]], inputs: Inputs, passed: Iterable[str], work: Work
) -> dict[str, str]:
    """Changed inputs with a label map that are something else by now, or that cannot be labelled.

    Something else is a TIFF that is none any more, an image that got or lost a world file, and a
    scene of other band files. The rest is read as workers read it: label maps of what they cannot
    read would be replaced by failures.

    Args:
        units: Returns the units of the plan on disk.
        inputs: Input files that were found.
        passed: Keys of inputs that are not looked at.
        work: Work that all units of the run share.

    Returns:
        What is wrong, by the key of each input.
    """
    left = NameSet(_identity(unit.format, file) for unit in units() for file in unit.files)
    left.difference_update(
        _identity(entry.name, file) for entry, files in inputs.files for file in files
    )
    if not left:
        return {}
    skipped = NameSet(passed)

    def changed() -> Iterator[Unit]:
        for unit in units():
            for file in unit.files:
                if _identity(unit.format, file) in left and file.key not in skipped:
                    yield replace(unit, files=(file,))

    # As units were planned; a database is asked in this thread only.
    labelled, planned_as = NameSet(), NameSet()
    bands: dict[str, tuple[str, ...]] = {}
    for unit, is_labelled in in_order(lambda unit: (unit, _has_labels(unit, work)), changed()):
        if is_labelled:
            labelled.update(file.key for file in unit.files)
            planned_as.update(f"{unit.format}:{file.key}" for file in unit.files)
            stacks = ((f.key, locations.stack_sources(f.uri)) for f in unit.files)
            bands |= {key: sources for key, sources in stacks if sources}
    if not labelled:
        return {}

    def is_kind(entry: Format, file: InputFile) -> bool:
        sources = locations.stack_sources(file.uri)
        is_same = _are_same(bands.get(file.key, sources), sources)
        return is_same and f"{entry.name}:{file.key}" in planned_as

    faults: dict[str, str] = {}
    for entry, files in inputs.files:
        for records, chosen in files.by_records():
            found = (file for file in chosen if file.key in labelled)
            while page := list(islice(found, IMAGES_PER_GROUP)):
                same = [file for file in page if is_kind(entry, file)]
                other = {file.key for file in page} - {file.key for file in same}
                faults |= dict.fromkeys(other, "it is of another format or of other files now")
                for unit in entry.trials(same, work, records):
                    faults |= _faults(entry, unit, work)
    return faults


def _identity(format_name: str, file: InputFile) -> str:
    """What is the same for a file that has not changed."""
    return f"{format_name}:{file.size}:{file.version}:{file.key}"


def _are_same(before: Sequence[str], now: Sequence[str]) -> bool:
    """Whether paths name the same files, where each may be told from another folder.

    >>> _are_same(["in/10m/red.tif"], ["/data/in/10m/red.tif"]), _are_same(["a/r.tif"], ["b/r.tif"])
    (True, False)
    """
    paired = zip(before, now, strict=False)
    parts = [sorted((Path(a).parts, Path(b).parts), key=len) for a, b in paired]
    return len(before) == len(now) and all(
        longer[len(longer) - len(shorter) :] == shorter for shorter, longer in parts
    )


def forbidden(
    inputs: Inputs, recorded: NameSet, retry_failures: bool, work: Work
) -> dict[str, str]:
    """Inputs with a label map that have not changed, are to be labelled again, and may not be read.

    A whole group of image files is labelled again where one was added, and all units are with other
    statistics. Scenes are opened when they are planned, and stores ask for rights as they list.

    Args:
        inputs: Input files that were found.
        recorded: Names of the commit records that are there.
        retry_failures: Whether units in which an image failed are labelled again.
        work: Work that all units of the run share.

    Returns:
        What is wrong, by the key of each input.
    """
    log = work.log
    known = NameSet(name.rpartition("-")[0] for name in recorded)

    def redone() -> Iterator[tuple[Unit, bool]]:
        """Units with a record, and whether it is of these files and options."""
        for entry, files in inputs.files:
            for records, chosen in files.by_records() if entry.decodes else ():
                for unit in entry.units(chosen, work, records):
                    is_done = unit.id in known and log.name(unit) in recorded
                    if unit.id in known and (retry_failures or not is_done):
                        yield unit, is_done

    def refused(found: tuple[Unit, bool]) -> dict[str, str]:
        unit, is_done = found
        if is_done and log.is_valid(unit, retry_failures):
            return {}
        return {file.key: why for file in unit.files if (why := _refusal(unit, file, work))}

    faults: dict[str, str] = {}
    for some in in_order(refused, redone()):
        faults |= some
    return faults


def _refusal(unit: Unit, file: InputFile, work: Work) -> str | None:
    """Why a file with a label map may not be read; None if it may, or if another attempt might."""
    if not locations.is_local(file.uri) or not _has_labels(replace(unit, files=(file,)), work):
        return None
    try:
        filesystem.read_range(file.uri, 0, 1)
    except OSError as error:
        return None if is_transient(error) else reason_of(error)
    return None


def _has_labels(unit: Unit, work: Work) -> bool:
    paths = formats.find_format(unit.format).outputs(unit, work)
    return any(filesystem.exists(work.run.path(path)) for path in paths)


class _NoModel:
    """Stands for the model where images are only read: all pixels are class 0."""

    def __init__(self, contract: Contract) -> None:
        self.classes = contract.classes
        self.fill = np.zeros(len(contract.bands), contract.dtype)

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Zero for each pixel."""
        return np.zeros(images.shape[:3], self.classes.label_dtype)

    def labels_and_confidence(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Zero for each pixel, without confidence."""
        return self.labels(images), np.zeros(images.shape[:3], np.float32)


def _faults(entry: Format, unit: WorkUnit, work: Work) -> dict[str, str]:
    """Reasons, by file, for which a worker could not label files of a unit, also later.

    Of a shard, single images may fail: it counts if its rest is lost, or all of its first images.
    """
    failed: list[Failure] = []
    labelled = NameSet()
    with entry.open(unit, work) as task:
        engine = Engine(_NoModel(work.contract), work.layout, THREADS, limits=work.limits)
        try:
            for outcome in engine.run(_jobs(entry, task, failed)):
                file, key = task.source(outcome.key)
                if isinstance(outcome, Labelled):
                    labelled.update([file.key])
                    errors = [part.error for part in outcome.lost]
                else:
                    errors = [outcome.error]
                lasting = (e for e in errors if isinstance(e, BeamsegError | OSError))
                failed += [
                    Failure.of(file.key, key, "read", e) for e in lasting if not is_transient(e)
                ]
        except (BeamsegError, OSError) as error:
            if not is_transient(error):
                raise
    if isinstance(entry, ShardFormat):
        failed = [f for f in failed if f.code == FailureCode.CORRUPT_SHARD or f.uri not in labelled]
    return {failure.uri: failure.reason for failure in failed}


def _jobs(entry: Format, task: UnitTask[Any], failed: list[Failure]) -> Iterator[Job]:
    """Jobs of a unit, of a shard the first ones; what cannot become a job is added to `failed`."""
    for number, job in enumerate(task.jobs()):
        if isinstance(job, Failure):
            failed.append(job)
        elif number < FIRST_SAMPLES or not isinstance(entry, ShardFormat):
            yield job
