"""The Beam graph of `evaluate`, one linear chain through which only references and counts pass."""

import time

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PCollection

from pipelines.accuracy.evaluation.launch import PreparedEvaluation
from pipelines.accuracy.evaluation.options import EvaluateOptions
from pipelines.accuracy.evaluation.results import finish_evaluation
from pipelines.accuracy.evaluation.work import EvaluateWork, evaluate_unit
from pipelines.run import progress
from pipelines.run.attempts import UnitReport
from pipelines.runners.execute import DoPlan, DoUnit, attempt_counts, run_graph


class EvaluateMaps(beam.PTransform[PCollection[str], PCollection[int]]):
    """Compare all units of a plan, and write the scores.

    Args:
        work: Work that all units share.
        options: What the user asked for.
    """

    def __init__(self, work: EvaluateWork, options: EvaluateOptions) -> None:
        super().__init__()
        self.work, self.options = work, options

    def expand(self, parts: PCollection[str]) -> PCollection[int]:
        """Names of plan parts to the exit status."""
        work, options = self.work, self.options
        started = time.time()
        status: PCollection[int] = (
            parts
            | "CompareMaps" >> DoPlan(DoUnit(evaluate_unit, work, "units", "compared_pixels"))
            | "FinishEvaluation" >> beam.Map(lambda report: _finish(report, work, options, started))
        )
        return status


def _finish(
    report: UnitReport, work: EvaluateWork, options: EvaluateOptions, started: float
) -> int:
    counts = attempt_counts(report, "units", "compared_pixels", started)
    return finish_evaluation(work, options.max_failures, options.group_by, counts)


def run_evaluation(
    prepared: PreparedEvaluation, options: EvaluateOptions, beam_options: PipelineOptions
) -> None:
    """Run the graph to its end; what it found is in the output folder afterwards.

    Args:
        prepared: The evaluation, with its plan.
        options: What the user asked for.
        beam_options: Options of Beam.
    """
    commits = prepared.work.run.path("commits")
    with progress.progress_bar(prepared.pixels, prepared.units, commits, "evaluate"):
        graph = "EvaluateMaps" >> EvaluateMaps(prepared.work, options)
        run_graph(prepared.parts, graph, beam_options)
