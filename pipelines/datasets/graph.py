"""The Beam graph of `pack`, one linear chain through which only references and counts pass."""

import argparse
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PCollection

from pipelines.cli.options import add_options, options_of
from pipelines.cli.values import FailureBudget
from pipelines.datasets.launch import PreparedPack
from pipelines.datasets.options import PackOptions
from pipelines.datasets.summary import finish_pack
from pipelines.datasets.work import PackWork, pack_unit
from pipelines.run import progress
from pipelines.run.attempts import UnitReport
from pipelines.runners.execute import DoPlan, DoUnit, attempt_counts, run_graph
from pipelines.segment.graph import SegmentPipelineOptions


class PackPipelineOptions(PipelineOptions):
    """Our options as Beam's, but those that `segment` has too: Beam takes each name once."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        shared = {option.name for option in options_of(SegmentPipelineOptions.declared).values()}
        add_options(parser, PackOptions, without=shared)


class PackImages(beam.PTransform[PCollection[str], PCollection[int]]):
    """Write all shards of a plan, and the end of the pack.

    Args:
        work: Work that all shards share.
        budget: How many images may fail.
    """

    def __init__(self, work: PackWork, budget: FailureBudget) -> None:
        super().__init__()
        self.work, self.budget = work, budget

    def expand(self, parts: PCollection[str]) -> PCollection[int]:
        """Names of plan parts to the exit status."""
        work, budget = self.work, self.budget
        started = time.time()
        status: PCollection[int] = (
            parts
            | "PackShards" >> DoPlan(DoUnit(pack_unit, work, "shards", "packed_pixels"))
            | "FinishPack" >> beam.Map(lambda report: _finish(report, work, budget, started))
        )
        return status


def _finish(report: UnitReport, work: PackWork, budget: FailureBudget, started: float) -> int:
    return finish_pack(work, budget, attempt_counts(report, "shards", "packed_pixels", started))


def run_pack(prepared: PreparedPack, budget: FailureBudget, beam_options: PipelineOptions) -> None:
    """Run the graph to its end; what it found is in the output folder afterwards.

    Args:
        prepared: The pack, with its plan.
        budget: How many images may fail.
        beam_options: Options of Beam.
    """
    commits = prepared.work.run.path("commits")
    with progress.progress_bar(prepared.pixels, prepared.units, commits, "pack"):
        run_graph(prepared.parts, "PackImages" >> PackImages(prepared.work, budget), beam_options)
