"""Running a prepared launch on Beam, and saying how it ended."""

import contextlib
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException
from apache_beam.runners.runner import PipelineResult

from pipelines.cli.process import learn
from pipelines.run import plan, progress
from pipelines.run.directory import RunDirectory
from pipelines.run.failures import on_one_line
from pipelines.runners.dataflow import job_error, leaves, submission, unit_hints
from pipelines.runners.engines import (
    DASK_SHARES,
    be_quiet,
    end_with_workers,
    own_error,
    with_engine,
)
from pipelines.segment.graph import SegmentImages
from pipelines.segment.launch import Launch
from pipelines.segment.options import SegmentOptions
from segmodel.errors import BeamsegError, ConfigurationError, TransientError

# DirectRunner looks for an engine on the internet first; this one is in the process, always.
LOCAL_RUNNER = "FnApiRunner"


def pipeline_options(words: Sequence[str]) -> PipelineOptions:
    """Beam's options, with the in-process runner unless another is named.

    Raises:
        ConfigurationError: If Beam refuses a value or does not know the runner.
    """
    words = with_engine(words, LOCAL_RUNNER)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            options = PipelineOptions(words)
            options.get_all_options()
            beam.Pipeline(options=options)
    except SystemExit:
        # Beam prints all of its usage, then what is wrong.
        reason = printed.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise ConfigurationError(f"Beam refuses an option: {reason}") from None
    except (ValueError, ImportError) as error:
        first, *others = str(error).strip().splitlines()
        reason = " ".join(others) if first.endswith("errors: ") and others else first
        raise ConfigurationError(f"Beam refuses an option: {reason}") from error
    return options


def execute(launch: Launch, options: SegmentOptions, beam_options: PipelineOptions) -> str | None:
    """Run the graph to its end, if it is waited for.

    Args:
        launch: What to run.
        options: Of the user.
        beam_options: For Beam.

    Returns:
        None, and what the graph found is in the run directory; or what became of a job that goes
        on without us.
    """
    run = launch.work.run
    hints = unit_hints(options, beam_options)
    graph = "SegmentImages" >> SegmentImages(launch.work, options.max_failures, hints)
    if leaves(beam_options):
        return submission(run_graph(launch.parts, graph, beam_options), beam_options, run.root)
    with progress.shown(launch.estimate.pixels, launch.units, run.path("commits")):
        run_graph(launch.parts, graph, beam_options)
    return None


def run_graph(
    parts: Iterable[str], graph: beam.PTransform, beam_options: PipelineOptions
) -> PipelineResult:
    """Run a transform of the names of plan parts, to its end if it is waited for.

    Raises:
        BeamsegError: Of a worker.
    """
    be_quiet()
    end_with_workers()
    pipeline = beam.Pipeline(options=beam_options)
    if type(pipeline.runner).__name__ == "DaskRunner":
        parts = plan.shares_of(parts, DASK_SHARES)
    pipeline | "PlanParts" >> beam.Create(list(parts), reshuffle=False) | graph
    try:
        result = pipeline.run()
        if not leaves(beam_options):
            result.wait_until_finish()
    except (BeamsegError, RuntimeError) as error:
        raise own_error(error) from error
    except DataflowRuntimeException as error:
        own = own_error(error)
        raise (job_error(error) if own is error else own) from error
    return result


def tell_result(run: RunDirectory, options: SegmentOptions) -> int:
    """Print how the run ended; returns the exit status."""
    summary = run.read_json("summary.json")
    if summary is None:
        raise TransientError(
            f"{run.root} has no summary.json: the pipeline did not reach its end, or another run "
            f"into the same directory has begun since; run the same command again"
        )
    learn(summary)
    status = summary["exit_status"]
    failed, images = summary["failed_images"], summary["images"]
    attempt = summary["this_attempt"]
    print(
        f"{images} images labelled, {failed} failed; {summary['pixels'] / 1e6:.1f} Mpx in "
        f"{summary['units']} units, {attempt['units_skipped']} units were done before; "
        f"{attempt['seconds']:.0f} s"
    )
    tell_failures(summary["first_failures"])
    if status == 0:
        print(f"complete: label maps in {run.root}/labels, totals in {run.root}/areas.csv")
    elif status == 1:
        print(
            f"the areas in {run.root}/areas.csv do not add up to the footprint: this is a fault of "
            f"beamseg, please report it",
            file=sys.stderr,
        )
    elif status == 3:
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


def tell_failures(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows of a failures file, one a line."""
    for row in rows:
        name = row["uri"] if row["key"] is None else f"{row['uri']} {row['key']}"
        print(f"failed: {on_one_line(name)}: {on_one_line(row['reason'])}", file=sys.stderr)
