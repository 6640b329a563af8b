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

from pipelines.run import plan
from pipelines.run.failures import on_one_line
from pipelines.runners.dataflow import is_detached, job_error
from pipelines.runners.engines import (
    DASK_SHARES,
    be_quiet,
    end_with_workers,
    own_error,
    with_engine,
)
from segmodel.errors import BeamsegError, ConfigurationError

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
        parts = plan.shard_parts(parts, DASK_SHARES)
    pipeline | "PlanParts" >> beam.Create(list(parts), reshuffle=False) | graph
    try:
        result = pipeline.run()
        if not is_detached(beam_options):
            result.wait_until_finish()
    except (BeamsegError, RuntimeError) as error:
        raise own_error(error) from error
    except DataflowRuntimeException as error:
        own = own_error(error)
        raise (job_error(error) if own is error else own) from error
    return result


def tell_failures(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows of a failures file, one a line."""
    for row in rows:
        name = row["uri"] if row["key"] is None else f"{row['uri']} {row['key']}"
        print(f"failed: {on_one_line(name)}: {on_one_line(row['reason'])}", file=sys.stderr)
