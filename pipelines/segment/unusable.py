"""Inputs that are found, and whose label maps of an earlier attempt could not be made again."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from pipelines.formats.interface import Format, UnitTask
from pipelines.formats.shards import FIRST_SAMPLES, ShardFormat
from pipelines.formats.work import Work
from pipelines.inputs.catalogue import NameSet
from pipelines.run.attempts import THREADS
from pipelines.run.directory import RunDirectory
from pipelines.run.failures import Failure
from pipelines.run.plan import IMAGES_PER_GROUP, InputFile, Unit, WorkUnit
from pipelines.segment.inputs import Inputs
from pipelines.storage import filesystem
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
    """Inputs with a label map that are something else by now, or that no worker could label.

    Something else is a TIFF that is none any more, and an image that got or lost a world file. Only
    files that have changed are read, as workers read them: their label maps would be replaced by
    failures.

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
    for unit, is_labelled in in_order(lambda unit: (unit, _has_labels(unit, work.run)), changed()):
        if is_labelled:
            labelled.update(file.key for file in unit.files)
            planned_as.update(f"{unit.format}:{file.key}" for file in unit.files)
    if not labelled:
        return {}
    faults: dict[str, str] = {}
    for entry, files in inputs.files:
        for records, chosen in files.by_records():
            found = (file for file in chosen if file.key in labelled)
            while page := list(islice(found, IMAGES_PER_GROUP)):
                same = [file for file in page if f"{entry.name}:{file.key}" in planned_as]
                other = {file.key for file in page} - {file.key for file in same}
                faults |= dict.fromkeys(other, f"it is of another format now: {entry.name}")
                for unit in entry.trials(same, work, records):
                    faults |= _faults(entry, unit, work)
    return faults


def _identity(format_name: str, file: InputFile) -> str:
    """What is the same for a file that has not changed."""
    return f"{format_name}:{file.size}:{file.version}:{file.key}"


def _has_labels(unit: Unit, run: RunDirectory) -> bool:
    paths = formats.find_format(unit.format).outputs(unit)
    return any(filesystem.exists(run.path(path)) for path in paths)


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
