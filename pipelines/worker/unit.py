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
from pipelines.run.area_tables import AreaTable, area_table, rows_of, schema_for
from pipelines.run.areas import Tally, TallySum, Unlabelled
from pipelines.run.attempts import THREADS, UnitReport, report_of
from pipelines.run.commits import Output
from pipelines.run.failures import (
    Failure,
    UnitFailures,
    reason_of,
    reraise_transient,
    unit_failures,
    write_unit_failures,
)
from pipelines.run.plan import WorkUnit
from pipelines.storage import filesystem
from pipelines.worker import formats
from pipelines.worker.calls import timed
from pipelines.worker.model import MODELS
from segmodel.devices.startup import reuse_memory
from segmodel.engine.engine import Engine, Model
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Failed, Labelled
from segmodel.errors import FailureCode, InputError, TransientError
from segmodel.tiling.raster import Raster
from segmodel.tiling.windows import Window

_log = logging.getLogger("beamseg")


def segment_unit(
    unit: WorkUnit,
    work: Work,
    model: Callable[[Work], Model] = MODELS.load,
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

    table: AreaTable
    failures: UnitFailures
    tally: TallySum = field(default_factory=TallySum)
    pixels: int = 0
    lost: list[Window] = field(default_factory=list)


def _attempt(
    unit: WorkUnit, work: Work, model: Callable[[Work], Model], on_pixels: Callable[[int], None]
) -> UnitReport:
    schema, opened = schema_for(work.contract), formats.find_format(unit.format).open
    with filesystem.temporary(work.run.scratch) as rows, unit_failures(work.run) as failures:
        with (
            unchanged(unit.files),
            area_table(rows, schema) as table,
            opened(unit, work) as task,
        ):
            results = _Results(table, failures)
            loaded = model(work)
            sizes = MODELS.batch_sizes(work, loaded)
            limits = replace(work.limits, batch_sizes=sizes)
            called = timed(loaded, work.call_timeout)
            sized = called, work.layout, THREADS, work.confidence, on_pixels, limits
            engine = Engine(*sized, work.contract.limits)
            for outcome in engine.run_and_finish(_jobs(task), lambda m: _done(m, task, work)):
                if isinstance(outcome, Failed):
                    _record_failure(outcome, unit, task, results)
                    continue
                task.write(outcome.key, outcome.encoded)
                table.add(outcome.rows)
                results.tally.add(outcome.tally)
                for part, failure in outcome.lost:
                    results.failures.add(failure)
                    results.lost += [part.to_outer(unit.window)] if unit.window else []
                results.pixels += outcome.pixels
            inputs = tuple(map(task.checksum, unit.files))
            seams = task.seams(engine)
            if seams is not None:
                results.tally.add(Tally(seam_pixels=seams[0], seam_differences=seams[1]))
            outputs = task.finish()
        outputs += _write_tables(unit, work, results, rows)
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
    encoded: Any
    tally: Tally
    rows: list[dict[str, object]]
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
    file, key = task.source(labelled.key)
    rows = rows_of(file.key, key, tally, classes)
    return _Done(labelled.key, task.encode(labelled), tally, rows, labelled.labels.size, lost)


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


def _write_tables(unit: WorkUnit, work: Work, results: _Results, rows: str) -> list[Output]:
    """Rows of images and of failures, in place of earlier ones; returns what was written.

    Args:
        unit: Unit that was labelled.
        work: What all units have in common.
        results: What became of the images of the unit.
        rows: Path of the finished table of rows, under a temporary name.
    """
    table = f"areas/{unit.id}.parquet"
    outputs = []
    if results.pixels:
        outputs.append(Output.of(table, filesystem.publish(rows, work.run.path(table))))
    else:
        work.run.remove(table)
    return outputs + results.failures.publish(unit.id)
