"""The Beam graph of `segment`: one linear chain, through which only references and counts pass."""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PCollection

from pipelines.cli.options import add_options
from pipelines.cli.values import FailureBudget
from pipelines.formats.work import Work
from pipelines.results.totals import finish_run
from pipelines.run import plan
from pipelines.run.attempts import UnitReport, sum_reports
from pipelines.run.plan import AssemblyUnit, CountUnit, U, Unit, UnitReference
from pipelines.runners.units import DoUnit, attempt_counts
from pipelines.scenes.assembly import finish_scene
from pipelines.scenes.counts import count_scene
from pipelines.segment.options import SegmentOptions
from pipelines.worker.unit import segment_unit


class SegmentPipelineOptions(PipelineOptions):
    """Our options as Beam's, so that services show them and templates can pass them."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add_options(parser, SegmentOptions)


class SegmentImages(beam.PTransform[PCollection[str], PCollection[int]]):
    """Label all units of a plan and write the totals.

    Args:
        work: Work that all units share.
        budget: How many images may fail.
        hints: Resource hints of the step that runs the model.
    """

    def __init__(
        self, work: Work, budget: FailureBudget, hints: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.work, self.budget, self.hints = work, budget, hints or {}

    def expand(self, parts: PCollection[str]) -> PCollection[int]:
        """Names of plan parts to the exit status."""
        work, budget, folder = self.work, self.budget, self.work.run.plan
        started = time.time()
        read = beam.FlatMap(lambda part: plan.references(folder, part))
        unit = DoUnit(segment_unit, work, "units", "computed_pixels")
        label = beam.ParDo(unit).with_resource_hints(**self.hints)
        status: PCollection[int] = (
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
        return status


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
    counts = attempt_counts(report, "units", "computed_pixels", started)
    seconds, pixels = counts["seconds"], report.computed_pixels
    return finish_run(
        work, budget, counts | {"pixels_per_second": round(pixels / seconds) if seconds else None}
    )
