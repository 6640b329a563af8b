"""The Beam graph of `pack`, one linear chain through which only references and counts pass."""

import argparse
from functools import partial

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.cli.options import add_options, options_of
from pipelines.cli.values import FailureBudget
from pipelines.datasets.options import PackOptions
from pipelines.datasets.summary import finish_pack
from pipelines.datasets.work import PackWork, pack_unit
from pipelines.run.plan import Prepared
from pipelines.runners.units import DoUnit, DoUnits, run_units
from pipelines.segment.graph import SegmentPipelineOptions


class PackPipelineOptions(PipelineOptions):
    """Our options as Beam's, but those that `segment` has too: Beam takes each name once."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        shared = {option.name for option in options_of(SegmentPipelineOptions.declared).values()}
        add_options(parser, PackOptions, without=shared)


def run_pack(
    prepared: Prepared[PackWork], budget: FailureBudget, beam_options: PipelineOptions
) -> None:
    """Write all shards of a plan, and the end of the pack.

    Args:
        prepared: The pack, with its plan.
        budget: How many images may fail.
        beam_options: Options of Beam.
    """
    step = DoUnit(pack_unit, prepared.work, "shards", "packed_pixels")
    graph = "PackImages" >> DoUnits(step, partial(finish_pack, prepared.work, budget))
    run_units(prepared, graph, beam_options, "pack")
