"""Running a graph of work units on Beam, and turning its errors into ours."""

import contextlib
import io
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException
from apache_beam.runners.runner import PipelineResult

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.process import result_json, wants_json
from pipelines.run import plan
from pipelines.runners.dataflow import is_detached, job_error
from pipelines.runners.runner_options import with_runner
from pipelines.runners.watchdog import marked_children
from segmodel.errors import BeamsegError, ConfigurationError, TransientError, counted
from segmodel.escaping import on_one_line

# DirectRunner first looks for another runner on the internet; this one is always in the process.
LOCAL_RUNNER = "FnApiRunner"
# Parts of a plan part for Dask, which ignores Reshuffle: a task keeps all that it has read.
DASK_SHARDS = 100


def pipeline_options(words: Sequence[str]) -> PipelineOptions:
    """Beam's options, with the in-process runner unless another is named.

    Raises:
        ConfigurationError: If Beam refuses a value or does not know the runner.
    """
    words = with_runner(words, LOCAL_RUNNER)
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


def waiting_options(words: Sequence[str], command: str) -> PipelineOptions:
    """Beam's options of a command that looks at the results of its pipeline.

    Args:
        words: Options of Beam.
        command: Name of the command.

    Raises:
        ConfigurationError: As `pipeline_options`, or if the options detach the pipeline.
    """
    options = pipeline_options(words)
    if is_detached(options):
        raise ConfigurationError(
            f"{command} waits for its end: leave --no_wait_until_finish, --template_location and "
            f"--dry_run out"
        )
    return options


def run_graph(
    parts: Iterable[str], graph: beam.PTransform[Any, Any], beam_options: PipelineOptions
) -> PipelineResult:
    """Run a transform of the names of plan parts, to its end if it is waited for.

    Args:
        parts: Names of plan parts.
        graph: Transform of these names.
        beam_options: Options of Beam, with the runner.

    Returns:
        What the runner returns.

    Raises:
        BeamsegError: If a worker raised it.
    """
    _silence_beam()
    _end_with_workers()
    pipeline = beam.Pipeline(options=beam_options)
    if type(pipeline.runner).__name__ == "DaskRunner":
        parts = plan.shard_parts(parts, DASK_SHARDS)
    pipeline | "PlanParts" >> beam.Create(list(parts), reshuffle=False) | graph
    try:
        with marked_children():
            result = pipeline.run()
            if not is_detached(beam_options):
                result.wait_until_finish()
    except (BeamsegError, OSError, RuntimeError) as error:
        raise error_of_worker(error) from error
    except DataflowRuntimeException as error:
        raised = error_of_worker(error)
        raise (job_error(error) if raised is error else raised) from error
    return result


def print_result(
    summary: Mapping[str, Any], texts: Mapping[ExitStatus, str], failures: str, budget: object
) -> int:
    """Print the first failed images, and how a run or a pack ended.

    Args:
        summary: Content of `summary.json`.
        texts: Sentences to print, by exit status.
        failures: The table of failed images.
        budget: Value of `--max_failures`.

    Returns:
        The exit status.
    """
    for row in summary["first_failures"]:
        name = row["uri"] if row["key"] is None else f"{row['uri']} {row['key']}"
        print(f"failed: {on_one_line(name)}: {on_one_line(row['reason'])}", file=sys.stderr)
    status = ExitStatus(summary["exit_status"])
    failed = summary["failed_images"]
    has_range_failures = bool((summary.get("out_of_range") or {}).get("failed_images"))
    limits = "--max_failures" + " or --max_out_of_range" * has_range_failures
    over_budget = (
        f"{failed:,} of {counted(summary['images'] + failed, 'image')} failed, more than "
        f"--max_failures {budget} allows: see {failures}, then raise {limits}, or correct the "
        f"images and run the same command again (corrected images are read again without an option)"
    )
    is_complete = status == ExitStatus.COMPLETE
    text = {ExitStatus.OVER_BUDGET: over_budget, **texts}[status]
    print(on_one_line(text), file=sys.stdout if is_complete else sys.stderr)
    return status.value


# Lines that say which error of ours was raised; some are not in `segmodel.errors`.
_OURS = re.compile(
    r"\b(?:segmodel|pipelines)(?:\.\w+)*\.(\w+Error): (.+?)(?: \[while running .*)?$", re.M
)
# Lines that say which error was raised, and what one of the operating system says.
_RAISED = re.compile(r"^(?:RuntimeError: )?(\w[\w.]*(?:Error|Exception)\b.*)$", re.M)
_SYSTEM = re.compile(
    r"\w+Error: \[Errno (?P<number>\d+)\] (?P<reason>.+?)(?:: '(?P<name>[^']*)')?"
    r"(?: \[while running .*)?"
)


def error_of_worker(error: Exception) -> Exception:
    """The error that a worker raised, if it is one of ours, or of a file or a store.

    Some runners pass on its text only.

    A job that the runner ended without an error of a worker is worth another attempt.

    Args:
        error: Error that the runner raised.

    Returns:
        An error of `segmodel.errors`, an `OSError` with its number, or else `error` itself.
    """
    if isinstance(error, BeamsegError):
        return type(error)(str(error).partition(" [while running ")[0])
    text = str(error)
    found = _OURS.findall(text)
    if found:
        name, reason = found[-1]
        return _kinds(BeamsegError).get(name, BeamsegError)(reason)
    raised = _RAISED.findall(text)
    if raised and (system := _SYSTEM.fullmatch(raised[-1])):
        return OSError(int(system["number"]), system["reason"], system["name"])
    lost = re.search(r"failed in state (\w+): *(.*)", text)
    if lost and "Traceback" not in text:
        reason = lost[2].rpartition("Exception: ")[2]
        return TransientError(
            f"the runner ended the job as {lost[1]}: {reason or 'no reason given'}; run the same "
            f"command again to do the rest"
        )
    return error


def _kinds(root: type[BeamsegError]) -> dict[str, type[BeamsegError]]:
    """A class of errors and those below it, by name."""
    below = {name: kind for sub in root.__subclasses__() for name, kind in _kinds(sub).items()}
    return {root.__name__: root, **below}


def _silence_beam() -> None:
    """Keep Beam's own messages off the terminal: its errors are raised too, and we print them."""
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    # Prism's output, in which those of the workers are again; it sets a level of its own.
    logging.getLogger("PrismJobServer").disabled = True


def _end_with_workers() -> None:
    """End this process if a worker process of the in-process runner ends.

    With `--direct_running_mode=multi_processing` that runner would wait for it for ever.
    """
    default = threading.excepthook

    def on_error(failure: threading.ExceptHookArgs) -> None:
        if failure.thread is None or failure.thread.name != "run_worker":
            default(failure)
            return
        reason = (
            f"{failure.exc_value}: killed, or out of memory? Run the same command again to do the "
            f"rest"
        )
        print(f"beamseg: {reason}", file=sys.stderr, flush=True)
        if wants_json():
            print(result_json(ExitStatus.INCOMPLETE, reason), flush=True)
        os._exit(ExitStatus.INCOMPLETE)

    threading.excepthook = on_error
