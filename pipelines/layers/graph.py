"""The Beam graph of `layers`: stage after stage, one linear chain of references and counts."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PCollection

from pipelines.cli.values import FailureBudget
from pipelines.layers.end import finish_layers
from pipelines.layers.kinds import LAYER_KINDS
from pipelines.layers.launch import PreparedLayers, ResolvedLayers
from pipelines.layers.stages import DoStageUnit, Stage, StageWork
from pipelines.run import progress
from pipelines.run.plan import Prepared
from pipelines.runners.units import DoNext, DoPlan, DoUnit, attempt_counts, run_units


class MakeLayers(beam.PTransform[PCollection[str], PCollection[int]]):
    """Do the units of all stages, each stage once those before it are done, and then the end.

    Args:
        stages: Stages in their order, with the work of their units.
        end: Writes the results, given what this attempt did; returns the exit status.
    """

    def __init__(
        self, stages: Sequence[tuple[Stage, StageWork]], end: Callable[[dict[str, Any]], int]
    ) -> None:
        super().__init__()
        self.stages, self.end = stages, end

    def expand(self, parts: PCollection[str]) -> PCollection[int]:
        """Names of the plan parts of the first stage to the exit status."""
        started = time.time()
        (stage, work), *others = self.stages
        step = DoUnit(DoStageUnit(stage.action), work, "units", "computed_pixels")
        reports = parts | f"Do {stage.name}" >> DoPlan(step)
        for stage, work in others:
            action = partial(DoStageUnit(stage.action), work=work, on_pixels=progress.add_pixels)
            reports = reports | f"Do {stage.name}" >> DoNext(work.run.plan, action)
        end = self.end
        status: PCollection[int] = reports | "FinishLayers" >> beam.Map(
            lambda report: end(attempt_counts(report, step, started))
        )
        return status


def run_layers(
    resolved: ResolvedLayers,
    prepared: PreparedLayers,
    budget: FailureBudget,
    beam_options: PipelineOptions,
) -> None:
    """Make layers, and their summary.

    Args:
        resolved: The layers.
        prepared: Their stages, with plans.
        budget: How many label maps may fail.
        beam_options: Options of Beam.
    """
    end = partial(
        finish_layers,
        prepared.made,
        [kind.name for kind in LAYER_KINDS],
        resolved.folder,
        len(resolved.maps),
        budget,
    )
    stages = prepared.stages
    first = stages[0][1]
    graph = "MakeLayers" >> MakeLayers([(stage, found.work) for stage, found in stages], end)
    units, pixels = (sum(getattr(p, name) for _, p in stages) for name in ("units", "pixels"))
    run_units(Prepared(first.work, first.parts, units, pixels), graph, beam_options, "layers")
