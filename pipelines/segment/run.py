"""Running a prepared run of `segment`, and printing how it ended."""

import sys

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.process import record_result
from pipelines.run import progress
from pipelines.run.directory import RunDirectory
from pipelines.runners.dataflow import is_detached, submission, unit_hints
from pipelines.runners.execute import print_failures, run_graph
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
    status = summary["exit_status"]
    failed, images = summary["failed_images"], summary["images"]
    attempt = summary["this_attempt"]
    print(
        f"{images} images labelled, {failed} failed; {summary['pixels'] / 1e6:.1f} Mpx in "
        f"{summary['units']} units, {attempt['units_skipped']} units were done before; "
        f"{attempt['seconds']:.0f} s"
    )
    print_failures(summary["first_failures"])
    if status == ExitStatus.COMPLETE:
        print(f"complete: label maps in {run.root}/labels, totals in {run.root}/areas.csv")
    elif status == ExitStatus.INTERNAL_ERROR:
        print(
            f"the areas in {run.root}/areas.csv do not add up to the footprint: this is an "
            f"internal error, please report it",
            file=sys.stderr,
        )
    elif status == ExitStatus.OVER_BUDGET:
        print(
            f"{failed} of {images + failed} images failed, more than --max_failures "
            f"{options.max_failures} allows: see {run.root}/failures.csv, then raise "
            f"--max_failures or mend them and run again (a mended file is done again by itself)",
            file=sys.stderr,
        )
    else:
        print(
            f"{summary['unfinished_units']} units could not be finished: run the same command "
            f"again to do the rest",
            file=sys.stderr,
        )
    return status
