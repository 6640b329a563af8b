"""Work units on Beam: workers do a plan, and its end follows from what they committed."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PCollection

from pipelines.run import plan, progress
from pipelines.run.attempts import UnitReport, sum_reports
from pipelines.run.plan import Prepared, UnitReference, WorkUnit
from pipelines.runners.execute import run_graph


class DoUnit(beam.DoFn):
    """Does one work unit of a plan: references come in, counts go out, and pixels stay inside.

    Args:
        action: Does a unit, given the unit, `work` and, as `on_pixels`, a function to call with
            the pixels that are done.
        work: Work that all units share.
        units: What units are called in counts, such as `shards`.
        pixels: What pixels that are done are called in counts.
    """

    def __init__(
        self, action: Callable[..., UnitReport], work: Any, units: str, pixels: str
    ) -> None:
        self.action, self.work = action, work
        self.units, self.pixels = units, pixels
        self._units = Metrics.counter("beamseg", units)
        self._pixels = Metrics.counter("beamseg", pixels)

    def process(self, entry: UnitReference | UnitReport) -> Iterator[UnitReport]:
        """Do the unit that a reference names; a report of others is passed on."""
        report = entry if isinstance(entry, UnitReport) else self._report_of(entry)
        self._units.inc(report.done)
        self._pixels.inc(report.computed_pixels)
        yield report

    def _report_of(self, reference: UnitReference) -> UnitReport:
        unit = plan.read_unit(self.work.run.plan, reference, WorkUnit)
        return self.action(unit, self.work, on_pixels=progress.add_pixels)


class DoPlan(beam.PTransform[PCollection[str], PCollection[UnitReport]]):
    """Do all work units of a plan, spread over workers.

    Args:
        step: Does one of them.
    """

    def __init__(self, step: DoUnit) -> None:
        super().__init__()
        self.step = step

    def expand(self, parts: PCollection[str]) -> PCollection[UnitReport]:
        """Names of plan parts to the sum of all reports."""
        folder = self.step.work.run.plan
        total: PCollection[UnitReport] = (
            parts
            | "ReadPlan" >> beam.FlatMap(lambda part: plan.references(folder, part))
            | "SpreadUnits" >> beam.Reshuffle()
            | "DoUnit" >> beam.ParDo(self.step)
            | "SumReports" >> beam.CombineGlobally(sum_reports).without_defaults()
        )
        return total


class DoNext(beam.PTransform[PCollection[UnitReport], PCollection[UnitReport]]):
    """Do all work units of a plan once those before it are done, and none while some are not.

    Args:
        folder: Folder of the plan.
        action: Does one of them.
    """

    def __init__(self, folder: str, action: Callable[[WorkUnit], UnitReport]) -> None:
        super().__init__()
        self.folder, self.action = folder, action

    def expand(self, reports: PCollection[UnitReport]) -> PCollection[UnitReport]:
        """The sum of all reports before to the sum with those of these units."""
        folder, action = self.folder, self.action
        total: PCollection[UnitReport] = (
            reports
            | "ListUnits" >> beam.FlatMap(lambda report: _following(folder, report))
            | "SpreadUnits" >> beam.Reshuffle()
            | "DoUnit" >> beam.Map(lambda entry: _report_of(entry, folder, action))
            | "SumReports" >> beam.CombineGlobally(sum_reports).without_defaults()
        )
        return total


def _following(
    folder: str, report: UnitReport
) -> Iterator[tuple[UnitReference | None, UnitReport]]:
    """The report once, and every unit of a plan unless one before it is incomplete."""
    yield None, report
    for part in () if report.incomplete else plan.part_names(folder, WorkUnit):
        for reference in plan.references(folder, part):
            yield reference, UnitReport()


def _report_of(
    entry: tuple[UnitReference | None, UnitReport],
    folder: str,
    action: Callable[[WorkUnit], UnitReport],
) -> UnitReport:
    reference, report = entry
    if reference is None:
        return report
    return action(plan.read_unit(folder, reference, WorkUnit))


class DoUnits(beam.PTransform[PCollection[str], PCollection[int]]):
    """Do all work units of a plan, and then the end, one linear chain.

    Args:
        step: Does a unit.
        end: Writes the results, given what this attempt did; returns the exit status.
    """

    def __init__(self, step: DoUnit, end: Callable[[dict[str, Any]], int]) -> None:
        super().__init__()
        self.step, self.end = step, end

    def expand(self, parts: PCollection[str]) -> PCollection[int]:
        """Names of plan parts to the exit status."""
        step, end, started = self.step, self.end, time.time()
        status: PCollection[int] = (
            parts
            | "DoPlan" >> DoPlan(step)
            | "Finish" >> beam.Map(lambda report: end(attempt_counts(report, step, started)))
        )
        return status


def attempt_counts(report: UnitReport, step: DoUnit, started: float) -> dict[str, Any]:
    """What one attempt did, for `summary.json`.

    Args:
        report: Sum of the reports of all units.
        step: What did them.
        started: Time at which the graph was built, in seconds.

    Returns:
        Counts by key, as in `this_attempt`.
    """
    return {
        f"{step.units}_done": report.done - report.skipped,
        f"{step.units}_skipped": report.skipped,
        f"{step.units}_unfinished": report.incomplete,
        step.pixels: report.computed_pixels,
        "seconds": round(time.time() - started, 3),
    }


def run_units(
    prepared: Prepared[Any],
    graph: beam.PTransform[PCollection[str], Any],
    beam_options: PipelineOptions,
    command: str,
) -> None:
    """Do all units, with a bar or lines of progress; commit records say what was found.

    Args:
        prepared: The units, with their plan.
        graph: Does them.
        beam_options: Options of Beam, which do not detach the pipeline.
        command: Name of the command.
    """
    commits = prepared.work.run.path("commits")
    with progress.progress_bar(prepared.pixels, prepared.units, commits, command):
        run_graph(prepared.parts, graph, beam_options)
