"""One work unit from input to commit record, as a plain function."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from pipelines.formats.interface import UnitTask
from pipelines.formats.work import Work
from pipelines.inputs.unchanged import unchanged
from pipelines.run import areas
from pipelines.run.areas import Tally, TallySum, Unlabelled
from pipelines.run.attempts import THREADS, UnitReport, report_of
from pipelines.run.failures import (
    Failure,
    UnitFailures,
    reason_of,
    reraise_transient,
    unit_failures,
    write_unit_failures,
)
from pipelines.run.plan import WorkUnit
from pipelines.run.soft_areas import soft_sums
from pipelines.run.unit_tables import UnitTables, unit_tables
from pipelines.worker import formats
from pipelines.worker.calls import timed
from pipelines.worker.model import MODELS
from segmodel.devices.startup import reuse_memory
from segmodel.engine.calls import SoftModel
from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Failed, Labelled
from segmodel.errors import FailureCode, InputError, TransientError
from segmodel.tiling.raster import Raster
from segmodel.tiling.windows import Window

_log = logging.getLogger("beamseg")


def segment_unit(
    unit: WorkUnit,
    work: Work,
    model: Callable[[Work], SoftModel] = MODELS.load,
    on_pixels: Callable[[int], None] = lambda pixels: None,
) -> UnitReport:
    """Do a unit unless it is done: label, write, commit.

    Transient errors are retried; if they stay, the unit has no commit record and the next run does
    it again.

    Args:
        unit: Unit to label.
        work: What all units have in common.
        model: Returns the model that labels batches.
        on_pixels: Called with the number of pixels that each batch has finished.
    """
    reuse_memory()
    log = work.log
    try:
        done = log.read(unit)
    except TransientError as error:
        _log.warning("%s: %s", unit.id, reason_of(error))
        return UnitReport(incomplete=1)
    if done is not None:
        on_pixels(sum(done.tally.pixels.values()))
        return UnitReport(done=1, skipped=1)
    if unit.gone:
        return report_of(unit, log, lambda: _fail(unit, work))
    return report_of(unit, log, lambda: _attempt(unit, work, model, on_pixels))


def _fail(unit: WorkUnit, work: Work) -> UnitReport:
    """Record that the inputs of an unfinished unit are gone."""
    error = InputError(
        "the file is not found any more and has no result: put it back, or give --gone prune",
        code=FailureCode.NOT_FOUND,
    )
    failures = [Failure.of(file.key, None, "open", error) for file in unit.files]
    outputs = write_unit_failures(work.run, unit.id, failures)
    work.log.write(unit, outputs, Tally(failed_images=len(failures)))
    return UnitReport(done=1)


@dataclass
class _Results:
    """What a unit has come to so far; rows of images and of failures go to tables on disk."""

    tables: UnitTables
    failures: UnitFailures
    tally: TallySum = field(default_factory=TallySum)
    pixels: int = 0
    lost: list[Window] = field(default_factory=list)

    def add(self, done: "_Done", unit: WorkUnit) -> None:
        """Add a label map that was written."""
        self.tables.add(*done.source, done.tally)
        self.tally.add(done.tally)
        for part, failure in done.lost:
            self.failures.add(failure)
            self.lost += [part.to_outer(unit.window)] if unit.window else []
        self.pixels += done.pixels


def _attempt(
    unit: WorkUnit, work: Work, model: Callable[[Work], SoftModel], on_pixels: Callable[[int], None]
) -> UnitReport:
    opened, has_soft = formats.find_format(unit.format).open, work.soft_areas
    with (
        unit_tables(work.run, work.contract, has_soft) as tables,
        unit_failures(work.run) as failures,
    ):
        with unchanged(unit.files), opened(unit, work) as task:
            results = _Results(tables, failures)
            loaded = model(work)
            sizes = MODELS.batch_sizes(work, loaded)
            limits = replace(work.limits, batch_sizes=sizes)
            called = timed(loaded, work.call_timeout)
            sized = called, work.layout, THREADS, work.confidence, on_pixels, limits
            soft = called if has_soft or work.probabilities else None
            engine = Engine(*sized, work.contract.limits, soft, work.probabilities)
            for outcome in engine.run_and_finish(_jobs(task), lambda m: _done(m, task, work)):
                if isinstance(outcome, Failed):
                    _record_failure(outcome, unit, task, results)
                    continue
                task.write(outcome.key, outcome.encoded, outcome.tally)
                results.add(outcome, unit)
            inputs = tuple(map(task.checksum, unit.files))
            seams = task.seams(engine)
            if seams is not None:
                results.tally.add(Tally(seam_pixels=seams[0], seam_differences=seams[1]))
            outputs = task.finish()
        outputs += tables.publish(unit.id) + failures.publish(unit.id)
    tally = results.tally.exact()
    work.log.write(unit, outputs, tally, results.lost, sizes.reduced, inputs)
    return UnitReport(done=1, computed_pixels=results.pixels)


class _KnownFailureError(InputError):
    """What could not even become a job."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason, code=FailureCode(failure.code))
        self.failure = failure


def _jobs(task: UnitTask[Any]) -> Iterator[Job]:
    """Jobs of a unit; what could not become one takes its place in the order and fails at once."""

    def fail(failure: Failure) -> Raster:
        raise _KnownFailureError(failure)

    for entry in task.jobs():
        if isinstance(entry, Failure):
            yield Job("", partial(fail, entry), open_inline=True)
        else:
            yield entry


class _Done(NamedTuple):
    """A label map, encoded and counted."""

    key: str
    source: tuple[str, str | None]
    encoded: Any
    tally: Tally
    pixels: int
    lost: list[tuple[Window, Failure]]


def _done(labelled: Labelled, task: UnitTask[Any], work: Work) -> _Done:
    """Count and encode a label map; runs in a thread."""
    classes = work.contract.classes
    ground = task.ground(labelled)
    for part in labelled.lost:
        reraise_transient(part.error)
    lost = task.lost(labelled)
    unlabelled = Unlabelled([window for window, _ in lost], task.inside(labelled))
    of_pixels, footprint = (ground.pixel_areas_m2, ground.footprint_m2) if ground else (None, 0.0)
    tally = areas.measure(
        labelled.labels, classes, of_pixels, footprint, labelled.confidence, unlabelled
    )
    if work.contract.limits is not None:
        tally = areas.compared(tally, labelled.labels, classes, labelled.out_of_range)
    if labelled.soft is not None and work.soft_areas:
        tally = replace(tally, sums=soft_sums(labelled.soft, tally, classes))
    file, key = task.source(labelled.key)
    encoded, pixels = task.encode(labelled), labelled.labels.size
    return _Done(labelled.key, (file.key, key), encoded, tally, pixels, lost)


def _record_failure(failed: Failed, unit: WorkUnit, task: UnitTask[Any], results: _Results) -> None:
    reraise_transient(failed.error)
    results.tally.add(Tally(failed_images=1))
    if isinstance(failed.error, _KnownFailureError):
        results.failures.add(failed.error.failure)
        return
    task.discard(failed.key)
    file, key = task.source(failed.key)
    results.failures.add(Failure.of(file.key, key, failed.stage, failed.error))
    lost = task.failed_tally()
    if lost is not None:
        results.tally.add(lost)
        results.lost += [unit.window] if unit.window else []
