"""The Beam graph of `evaluate`, one linear chain through which only references and counts pass."""

from functools import partial

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.accuracy.evaluation.options import EvaluateOptions
from pipelines.accuracy.evaluation.results import finish_evaluation
from pipelines.accuracy.evaluation.work import EvaluateWork, evaluate_unit
from pipelines.run.plan import Prepared
from pipelines.runners.units import DoUnit, DoUnits, run_units


def run_evaluation(
    prepared: Prepared[EvaluateWork], options: EvaluateOptions, beam_options: PipelineOptions
) -> None:
    """Compare all units of a plan, and write the scores.

    Args:
        prepared: The evaluation, with its plan.
        options: What the user asked for.
        beam_options: Options of Beam.
    """
    work = prepared.work
    step = DoUnit(evaluate_unit, work, "units", "compared_pixels")
    end = partial(finish_evaluation, work, options.max_failures, options.group_by)
    run_units(prepared, "EvaluateMaps" >> DoUnits(step, end), beam_options, "evaluate")
