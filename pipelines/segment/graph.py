"""The Beam graph of `segment`, and running it.

The graph is one linear chain, through which only references and counts pass.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

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
from pipelines.results.totals import finish_run
from pipelines.results.value_range import range_line
from pipelines.run import plan, progress
from pipelines.run.attempts import UnitReport, sum_reports
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import AssemblyUnit, CountUnit, U, Unit, UnitReference
from pipelines.runners.dataflow import is_detached, submission, unit_hints
from pipelines.runners.execute import print_result, run_graph
from pipelines.runners.units import DoUnit, attempt_counts
from pipelines.scenes.assembly import finish_scene
from pipelines.scenes.counts import count_scene
from pipelines.scenes.results import result_lines
from pipelines.segment.launch import PreparedRun
from pipelines.segment.options import SegmentOptions
from pipelines.segment.unfinished import forget_counts, unfinished_units
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
        self._to_do = partial(_to_do, work, is_resumed, retry_failures)

    def expand(self, parts: PCollection[str]) -> PCollection[int]:
        """Names of plan parts to the exit status."""
        work, budget, folder = self.work, self.budget, self.work.run.plan
        started = time.time()
        unit = DoUnit(segment_unit, work, "units", "computed_pixels")
        status: PCollection[int] = (
            parts
            | "ReadPlan" >> beam.FlatMap(self._to_do).with_output_types(UnitReference | UnitReport)
            | "SpreadUnits" >> beam.Reshuffle()
            | "SegmentUnit" >> beam.ParDo(unit).with_resource_hints(**self.hints)
            | "SumUnits" >> beam.CombineGlobally(sum_reports).without_defaults()
            | "ListScenes" >> beam.FlatMap(lambda report: _list_units(AssemblyUnit, folder, report))
            | "SpreadScenes" >> beam.Reshuffle()
            | "FinishScene"
            >> beam.Map(lambda entry: _finish_unit(entry, work, AssemblyUnit, finish_scene))
            | "SumScenes" >> beam.CombineGlobally(sum_reports).without_defaults()
            | "ListCounts" >> beam.FlatMap(lambda report: _list_counts(work, report))
            | "SpreadCounts" >> beam.Reshuffle()
            | "CountScene"
            >> beam.Map(lambda entry: _finish_unit(entry, work, CountUnit, count_scene))
            | "SumCounts" >> beam.CombineGlobally(sum_reports).without_defaults()
            | "ListParts" >> beam.FlatMap(lambda report: _list_parts(folder, report))
            | "SpreadParts" >> beam.Reshuffle()
            | "SumPart" >> beam.MapTuple(lambda part, report: _sum_part(part, report, work))
            | "SumParts" >> beam.CombineGlobally(_add_sums).without_defaults()
            | "FinishRun" >> beam.Map(lambda sums: _finish_run(sums, unit, budget, started))
        )
        return status


def _to_do(
    work: Work, is_resumed: bool, retry_failures: bool, part: str
) -> Iterator[UnitReference | UnitReport]:
    """The units of a part that are to be done, and the report of those that are done."""
    if is_resumed:
        return unfinished_units(part, work, retry_failures)
    return plan.references(work.run.plan, part)


def _list_counts(
    work: Work, report: UnitReport
) -> Iterator[tuple[UnitReference | None, UnitReport]]:
    """The report once, and every count, once those of other label maps are gone."""
    forget_counts(work)
    yield from _list_units(CountUnit, work.run.plan, report)


def _list_units(
    kind: type[Unit], folder: str, report: UnitReport
) -> Iterator[tuple[UnitReference | None, UnitReport]]:
    """The report once, and every unit of a kind that follows from finished ones."""
    yield None, report
    for part in plan.part_names(folder, kind):
        for reference in plan.references(folder, part):
            yield reference, UnitReport()


def _finish_unit(
    entry: tuple[UnitReference | None, UnitReport],
    work: Work,
    kind: type[U],
    action: Callable[[U, Work], bool],
) -> UnitReport:
    """The report of an action that finishes a unit, if it can be finished."""
    reference, report = entry
    if reference is None or action(plan.read_unit(work.run.plan, reference, kind), work):
        return report
    return UnitReport(incomplete=1)


def _list_parts(folder: str, report: UnitReport) -> Iterator[tuple[str | None, UnitReport]]:
    """The report once, and every part of the plan."""
    yield None, report
    for kind in plan.KINDS:
        for part in plan.part_names(folder, kind):
            yield part, UnitReport()


def _sum_part(part: str | None, report: UnitReport, work: Work) -> tuple[UnitReport, PartSum]:
    return report, PartSum() if part is None else sum_part(part, work)


def _add_sums(entries: Iterable[tuple[UnitReport, PartSum]]) -> tuple[UnitReport, PartSum]:
    reports, sums = zip(*entries, strict=True)
    return sum_reports(reports), add_parts(sums)


def _finish_run(
    sums: tuple[UnitReport, PartSum], step: DoUnit, budget: FailureBudget, started: float
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
