"""Running a prepared run of `segment`, and printing how it ended."""

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.process import record_result
from pipelines.run import progress
from pipelines.run.directory import RunDirectory
from pipelines.runners.dataflow import is_detached, submission, unit_hints
from pipelines.runners.execute import print_result, run_graph
from pipelines.segment.graph import SegmentImages
from pipelines.segment.launch import PreparedRun
from pipelines.segment.options import SegmentOptions
from segmodel.errors import TransientError


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
        job that goes on without this process.
    """
    run = prepared.work.run
    hints = unit_hints(options.memory, options.accelerator, beam_options)
    graph = "SegmentImages" >> SegmentImages(prepared.work, options.max_failures, hints)
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
        f"{summary['images']} images labelled, {summary['failed_images']} failed; "
        f"{summary['pixels'] / 1e6:.1f} Mpx in {summary['units']} units, "
        f"{attempt['units_skipped']} units were done before; {attempt['seconds']:.0f} s"
    )
    texts = {
        ExitStatus.COMPLETE: f"complete: label maps in {run.root}/labels, totals in "
        f"{run.root}/areas.csv",
        ExitStatus.INTERNAL_ERROR: f"the areas in {run.root}/areas.csv do not add up to the "
        f"footprint: this is an internal error, please report it",
        ExitStatus.INCOMPLETE: f"{summary['unfinished_units']} units could not be finished: run "
        f"the same command again to do the rest",
    }
    return print_result(summary, texts, f"{run.root}/failures.csv", options.max_failures)
