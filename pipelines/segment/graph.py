"""The Beam graph of `segment`: one linear chain, through which only references and counts pass."""

import time
from collections.abc import Callable, Iterator, Mapping

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.cli.options import add_options
from pipelines.cli.values import FailureBudget
from pipelines.formats.work import Work
from pipelines.results.totals import finish_run
from pipelines.run import plan, progress
from pipelines.run.attempts import UnitReport, sum_reports
from pipelines.run.plan import AssemblyUnit, CountUnit, U, Unit, UnitReference, WorkUnit
from pipelines.scenes.assembly import finish_scene
from pipelines.scenes.counts import count_scene
from pipelines.segment.options import SegmentOptions
from pipelines.worker.unit import segment_unit


class SegmentPipelineOptions(PipelineOptions):
    """Our options as Beam's, so that services show them and templates can pass them."""

    @classmethod
    def _add_argparse_args(cls, parser) -> None:
        add_options(parser, SegmentOptions)


class SegmentImages(beam.PTransform):
    """Label all units of a plan and write the totals.

    Args:
        work: What all units have in common.
        budget: How many images may fail.
        hints: Resource hints of the step that runs the model.
    """

    def __init__(
        self, work: Work, budget: FailureBudget, hints: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.work, self.budget, self.hints = work, budget, hints or {}

    def expand(self, parts: beam.PCollection[str]) -> beam.PCollection[int]:
        """Names of plan parts to the exit status."""
        work, budget, folder = self.work, self.budget, self.work.run.plan
        started = time.time()
        read = beam.FlatMap(lambda part: plan.references(folder, part))
        label = beam.ParDo(_SegmentUnit(work)).with_resource_hints(**self.hints)
        return (
            parts
            | "ReadPlan" >> read.with_output_types(UnitReference)
            | "SpreadUnits" >> beam.Reshuffle()
            | "SegmentUnit" >> label
            | "SumUnits" >> beam.CombineGlobally(sum_reports).without_defaults()
            | "ListScenes" >> beam.FlatMap(lambda report: _list_units(AssemblyUnit, folder, report))
            | "SpreadScenes" >> beam.Reshuffle()
            | "FinishScene"
            >> beam.Map(lambda entry: _finish_unit(entry, work, AssemblyUnit, finish_scene))
            | "SumScenes" >> beam.CombineGlobally(sum_reports).without_defaults()
            | "ListCounts" >> beam.FlatMap(lambda report: _list_units(CountUnit, folder, report))
            | "SpreadCounts" >> beam.Reshuffle()
            | "CountScene"
            >> beam.Map(lambda entry: _finish_unit(entry, work, CountUnit, count_scene))
            | "SumCounts" >> beam.CombineGlobally(sum_reports).without_defaults()
            | "FinishRun" >> beam.Map(lambda report: _finish_run(report, work, budget, started))
        )


class _SegmentUnit(beam.DoFn):
    """Reads, labels, writes and commits one unit: pixels stay inside."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.units = Metrics.counter("beamseg", "units")
        self.pixels = Metrics.counter("beamseg", "computed_pixels")

    def process(self, reference: UnitReference) -> Iterator[UnitReport]:
        unit = plan.read_unit(self.work.run.plan, reference, WorkUnit)
        report = segment_unit(unit, self.work, on_pixels=progress.add_pixels)
        self.units.inc(report.done)
        self.pixels.inc(report.computed_pixels)
        yield report


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


def _finish_run(report: UnitReport, work: Work, budget: FailureBudget, started: float) -> int:
    seconds = time.time() - started
    counts = {
        "units_done": report.done - report.skipped,
        "units_skipped": report.skipped,
        "units_unfinished": report.incomplete,
        "computed_pixels": report.computed_pixels,
        "seconds": round(seconds, 3),
        "pixels_per_second": round(report.computed_pixels / seconds) if seconds else None,
    }
    return finish_run(work, budget, counts)
