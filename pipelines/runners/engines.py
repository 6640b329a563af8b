"""What engines need that Beam does not ask for, and how their failures are told."""

import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Sequence

from pipelines.cli.process import result_json, wants_json
from segmodel.errors import BeamsegError, ConfigurationError, TransientError

# Of those that may work in processes or on machines with another working directory.
_ELSEWHERE = ("dask", "dataflow", "flink", "portable", "prism", "spark")
# Beam has it but does not know it by its short name.
_DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"
_DASK_CLUSTERS = {"--dask_client_address", "--dask_scheduler_file"}
_DASK_PARTITIONS = {"--dask_npartitions", "--dask_partition_size"}

# It takes Reshuffle for nothing: a task keeps what it has read, so that it had better read little.
DASK_SHARES = 100


def runner_of(words: Sequence[str]) -> str | None:
    """The engine that a command line names last, or None.

    >>> runner_of(["--runner=FlinkRunner"]), runner_of(["--runner", "PrismRunner"]), runner_of([])
    ('FlinkRunner', 'PrismRunner', None)
    """
    found = None
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, equals, value = word.partition("=")
        if name == "--runner":
            found = value if equals else following
    return found


def check_paths(words: Sequence[str], paths: Iterable[str]) -> None:
    """Refuse what only this process would find, if workers are elsewhere.

    Args:
        words: Command line.
        paths: Files, folders, patterns and addresses.

    Raises:
        ConfigurationError: If a path is relative.
    """
    runner = runner_of(words) or ""
    if not runner.rpartition(".")[2].lower().startswith(_ELSEWHERE):
        return
    for path in paths:
        if not os.path.isabs(path) and "://" not in path:
            raise ConfigurationError(
                f"{path} is a relative path, which workers of {runner} take from a folder of their "
                f"own: give the absolute path of a place that all machines have, or an address"
            )


def with_engine(words: Sequence[str], default: str) -> list[str]:
    """A command line with an engine that Beam finds.

    Args:
        words: Command line.
        default: Engine where none is named.

    Raises:
        ConfigurationError: If the engine needs an option that is not there.
    """
    runner = runner_of(words)
    if runner is None:
        return [*words, f"--runner={default}"]
    if runner.rpartition(".")[2].lower() != "daskrunner":
        return [*words]
    given = {word.partition("=")[0] for word in words}
    for needed, why in (
        (_DASK_CLUSTERS, "beamseg is tested with a cluster that is there before it"),
        (_DASK_PARTITIONS, "by itself Dask puts up to 128 plan parts into one task"),
    ):
        if not needed & given:
            raise ConfigurationError(f"DaskRunner needs {' or '.join(sorted(needed))}: {why}")
    return [*words, f"--runner={_DASK}"]


def own_error(error: Exception) -> Exception:
    """The error of ours that a worker raised, if it is one; some runners pass on its text only.

    A job that an engine gave up without an error of a worker is worth another attempt.
    """
    if isinstance(error, BeamsegError):
        return type(error)(str(error).partition(" [while running ")[0])
    text = str(error)
    found = re.findall(r"segmodel\.errors\.(\w+): (.+?)(?: \[while running .*)?$", text, re.M)
    if found:
        name, reason = found[-1]
        kinds = {kind.__name__: kind for kind in BeamsegError.__subclasses__()}
        return kinds.get(name, BeamsegError)(reason)
    lost = re.search(r"failed in state (\w+): *(.*)", text)
    if lost and "Traceback" not in text:
        reason = lost[2].rpartition("Exception: ")[2]
        return TransientError(
            f"the engine ended the job as {lost[1]}: {reason or 'no reason given'}; run the same "
            f"command again to do the rest"
        )
    return error


def be_quiet() -> None:
    """Keep Beam's own messages off the terminal: its errors are raised too, and said once by us."""
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    # Prism's output, in which those of the workers are again; it sets a level of its own.
    logging.getLogger("PrismJobServer").disabled = True
    # What an engine tells of a job, Java's stack traces with it, Beam says in nobody's name.
    logging.getLogger().addFilter(_is_not_of_beam)


def _is_not_of_beam(record: logging.LogRecord) -> bool:
    return "apache_beam" not in record.pathname


def end_with_workers() -> None:
    """End this process if a worker process of the in-process engine does.

    With `--direct_running_mode=multi_processing` that engine would wait for it for ever.
    """
    usual = threading.excepthook

    def told(failure: threading.ExceptHookArgs) -> None:
        if failure.thread is None or failure.thread.name != "run_worker":
            usual(failure)
            return
        reason = (
            f"{failure.exc_value}: killed, or out of memory? Run the same command again to do the "
            f"rest"
        )
        print(f"beamseg: {reason}", file=sys.stderr, flush=True)
        if wants_json():
            print(result_json(4, reason), flush=True)
        os._exit(4)

    threading.excepthook = told
