"""The Beam graph of `segment`, and running it.

The graph is one linear chain, through which only references and counts pass.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PCollection

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.options import add_options
from pipelines.cli.process import record_result
from pipelines.cli.values import FailureBudget
from pipelines.formats.work import Work
from pipelines.inputs.find import location_given
from pipelines.results.part_sums import PartSum, add_parts, sum_part
from pipelines.results.part_tables import store_rows
from pipelines.results.totals import finish_run
from pipelines.results.value_range import range_line
from pipelines.run import plan, progress
from pipelines.run.attempts import UnitReport, sum_reports
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import AssemblyUnit, CountUnit, U, Unit, UnitReference
from pipelines.runners.dataflow import is_detached, submission, unit_hints
from pipelines.runners.execute import print_result, run_graph
from pipelines.runners.units import DoUnit, attempt_counts
from pipelines.scenes.assembly import finish_scene, is_put_together
from pipelines.scenes.counts import count_scene, is_counted
from pipelines.scenes.results import result_lines
from pipelines.segment.launch import PreparedRun
from pipelines.segment.options import SegmentOptions
from pipelines.segment.unfinished import forget_counts, unfinished_among, unfinished_units
from pipelines.worker.unit import segment_unit
from segmodel.errors import TransientError, counted
from segmodel.escaping import on_one_line
from segmodel.rasters.header import at_location


class SegmentPipelineOptions(PipelineOptions):
    """Our options as Beam's, so that services show them and templates can pass them."""

    declared = SegmentOptions

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add_options(parser, cls.declared)


class SegmentImages(beam.PTransform[PCollection[str], PCollection[int]]):
    """Label all units of a plan and write the totals.

    Args:
        work: Work that all units share.
        budget: How many images may fail.
        is_resumed: Whether earlier attempts have finished units.
        retry_failures: Whether finished units in which an image failed are done again.
        hints: Resource hints of the step that runs the model.
    """

    def __init__(
        self,
        work: Work,
        budget: FailureBudget,
        is_resumed: bool = False,
        retry_failures: bool = False,
        hints: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.work, self.budget, self.hints = work, budget, hints or {}
        self._is_resumed = is_resumed
        self._to_do = partial(_to_do, work, is_resumed, retry_failures)

    def expand(self, parts: PCollection[str]) -> PCollection[int]:
        """Names of plan parts to the exit status."""
        work, started = self.work, time.time()
        unit = DoUnit(segment_unit, work, "units", "computed_pixels")
        scenes = finish_scene, is_put_together if self._is_resumed else None
        counts = count_scene, is_counted if self._is_resumed else None
        status: PCollection[int] = (
            parts
            | "ReadPlan" >> beam.FlatMap(self._to_do).with_output_types(UnitReference | UnitReport)
            | "SpreadUnits" >> beam.Reshuffle()
            | "SegmentUnit" >> beam.ParDo(unit).with_resource_hints(**self.hints)
            | "SumUnits" >> beam.CombineGlobally(sum_reports).without_defaults()
            | "FinishScenes" >> FinishUnits(work, AssemblyUnit, *scenes)
            | "CountScenes" >> FinishUnits(work, CountUnit, *counts, begin=forget_counts)
            | "FinishRun" >> FinishRun(unit, self.budget, started)
        )
        return status


def _to_do(
    work: Work, is_resumed: bool, retry_failures: bool, part: str
) -> Iterator[UnitReference | UnitReport]:
    """The units of a part that are to be done, and the report of those that are done."""
    if is_resumed:
        return unfinished_units(part, work, retry_failures)
    return plan.references(work.run.plan, part)


class FinishUnits(beam.PTransform[PCollection[UnitReport], PCollection[UnitReport]]):
    """Do all units of a kind that follow from finished ones.

    Args:
        work: Work that all units share.
        kind: Kind of the units.
        action: Finishes a unit if that is possible; says whether it is finished now.
        is_finished: Whether nothing is left to do of a unit, by what earlier attempts have done;
            None where there are none.
        begin: Called before the plan is read.
    """

    def __init__(
        self,
        work: Work,
        kind: type[U],
        action: Callable[[U, Work], bool],
        is_finished: Callable[[U, Work], bool] | None = None,
        begin: Callable[[Work], object] = lambda work: None,
    ) -> None:
        super().__init__()
        self._list = partial(_list_parts, work, (kind,), begin)
        self._read = partial(_unfinished, work, is_finished)
        self._finish = partial(_finish_unit, work, kind, action)

    def expand(self, reports: PCollection[UnitReport]) -> PCollection[UnitReport]:
        """The sum of all reports before to the sum with those of these units."""
        total: PCollection[UnitReport] = (
            reports
            | "ListParts" >> beam.FlatMap(self._list).with_output_types(str | UnitReport)
            | "SpreadParts" >> beam.Reshuffle()
            | "ReadPart" >> beam.FlatMap(self._read).with_output_types(UnitReference | UnitReport)
            | "SpreadUnits" >> beam.Reshuffle()
            | "FinishUnit" >> beam.Map(self._finish)
            | "SumReports" >> beam.CombineGlobally(sum_reports).without_defaults()
        )
        return total


def _list_parts(
    work: Work, kinds: Iterable[type[Unit]], begin: Callable[[Work], object], report: UnitReport
) -> Iterator[str | UnitReport]:
    """The report, and all parts of the plan with units of some kinds."""
    begin(work)
    yield report
    for kind in kinds:
        yield from plan.part_names(work.run.plan, kind)


def _unfinished(
    work: Work, is_finished: Callable[[Any, Work], bool] | None, entry: str | UnitReport
) -> Iterator[UnitReference | UnitReport]:
    """The units of a part that are to be done; a report of others is passed on."""
    if isinstance(entry, UnitReport):
        yield entry
    elif is_finished is None:
        yield from plan.references(work.run.plan, entry)
    else:
        yield from unfinished_among(entry, work, lambda unit: is_finished(unit, work))


def _finish_unit(
    work: Work,
    kind: type[U],
    action: Callable[[U, Work], bool],
    entry: UnitReference | UnitReport,
) -> UnitReport:
    """The report of an action that finishes a unit; a report of others is passed on."""
    if isinstance(entry, UnitReport):
        return entry
    is_finished = action(plan.read_unit(work.run.plan, entry, kind), work)
    return UnitReport() if is_finished else UnitReport(incomplete=1)


class FinishRun(beam.PTransform[PCollection[UnitReport], PCollection[int]]):
    """Add up the commit records of all parts of a plan, and write the results.

    Args:
        step: Did the units.
        budget: How many images may fail.
        started: Time at which the graph was built, in seconds.
    """

    def __init__(self, step: DoUnit, budget: FailureBudget, started: float) -> None:
        super().__init__()
        self._list = partial(_list_parts, step.work, plan.KINDS, lambda work: None)
        self._sum = partial(_sum_part, step.work)
        self._write = partial(_write_results, step, budget, started)

    def expand(self, reports: PCollection[UnitReport]) -> PCollection[int]:
        """The sum of all reports to the exit status."""
        status: PCollection[int] = (
            reports
            | "ListParts" >> beam.FlatMap(self._list).with_output_types(str | UnitReport)
            | "SpreadParts" >> beam.Reshuffle()
            | "SumPart" >> beam.Map(self._sum)
            | "SumParts" >> beam.CombineGlobally(_add_sums).without_defaults()
            | "WriteResults" >> beam.Map(self._write)
        )
        return status


def _sum_part(work: Work, entry: str | UnitReport) -> tuple[UnitReport, PartSum]:
    if isinstance(entry, UnitReport):
        return entry, PartSum()
    found = sum_part(entry, work)
    store_rows(found.with_rows, work)
    return UnitReport(), found


def _add_sums(entries: Iterable[tuple[UnitReport, PartSum]]) -> tuple[UnitReport, PartSum]:
    reports, sums = zip(*entries, strict=True)
    return sum_reports(reports), add_parts(sums)


def _write_results(
    step: DoUnit, budget: FailureBudget, started: float, sums: tuple[UnitReport, PartSum]
) -> int:
    report, found = sums
    counts = attempt_counts(report, step, started)
    seconds = counts["seconds"]
    counts["pixels_per_second"] = round(report.computed_pixels / seconds) if seconds else None
    return finish_run(step.work, budget, counts, found)


def run_segment(
    prepared: PreparedRun, options: SegmentOptions, beam_options: PipelineOptions
) -> str | None:
    """Run the graph, to its end unless Beam's options detach it.

    Args:
        prepared: The run, with its plan.
        options: What the user asked for.
        beam_options: Options of Beam.

    Returns:
        None once the run has ended and its result is in the run directory; or a sentence about a
        job that continues without this process.
    """
    run = prepared.work.run
    hints = unit_hints(options.memory, options.accelerator, beam_options)
    asked = options.max_failures, prepared.is_resumed, options.retry_failures
    graph = "SegmentImages" >> SegmentImages(prepared.work, *asked, hints)
    if is_detached(beam_options):
        return submission(run_graph(prepared.parts, graph, beam_options), beam_options, run.root)
    with progress.progress_bar(prepared.estimate.pixels, prepared.units, run.path("commits")):
        run_graph(prepared.parts, graph, beam_options)
    return None


def print_run_result(run: RunDirectory, options: SegmentOptions) -> int:
    """Print how a run ended.

    Args:
        run: The run directory.
        options: What the user asked for.

    Returns:
        The exit status.

    Raises:
        TransientError: If the run did not reach its end.
    """
    summary = run.read_json("summary.json")
    if summary is None:
        raise TransientError(
            f"{run.root} has no summary.json: the pipeline did not reach its end, or another run "
            f"into the same directory has begun since; run the same command again"
        )
    record_result(summary)
    attempt = summary["this_attempt"]
    print(
        f"{counted(summary['images'], 'image')} labelled, {summary['failed_images']:,} failed; "
        f"{progress.amount_of_pixels(summary['pixels'])} in {counted(summary['units'], 'unit')}, "
        f"{attempt['units_skipped']:,} done before; {attempt['seconds']:.0f} s"
    )
    if (line := range_line(summary.get("out_of_range"))) is not None:
        print(line)
    for line in result_lines(summary):
        print(on_one_line(line))
    for row in summary["first_failures"]:
        given = location_given(row["uri"], options.inputs)
        row["reason"] = at_location(row["reason"], row["uri"], given)
    texts = {
        ExitStatus.COMPLETE: f"complete: label maps in {run.root}/labels, totals in "
        f"{run.root}/areas.csv",
        ExitStatus.INTERNAL_ERROR: f"the areas in {run.root}/areas.csv do not add up to the "
        f"footprint: this is an internal error, please report it",
        ExitStatus.INCOMPLETE: f"{counted(summary['unfinished_units'], 'unit')} could not be "
        f"finished: run the same command again to do the rest",
    }
    return print_result(summary, texts, f"{run.root}/failures.csv", options.max_failures)
