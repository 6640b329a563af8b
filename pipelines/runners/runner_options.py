"""What runners of Beam need on the command line, and Beam does not check."""

import os
from collections.abc import Iterable, Sequence

from pipelines.cli.parser import last_value
from segmodel.errors import ConfigurationError

# Runners whose workers may be processes or machines with another working directory.
_REMOTE_RUNNERS = ("dask", "dataflow", "flink", "portable", "prism", "spark")
# Beam has it but does not know it by its short name.
_DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"
_DASK_CLUSTERS = {"--dask_client_address", "--dask_scheduler_file"}
_DASK_PARTITIONS = {"--dask_npartitions", "--dask_partition_size"}


def runner_of(words: Sequence[str]) -> str | None:
    """The runner that a command line names last, or None."""
    return last_value(words, "--runner")


def runs_elsewhere(words: Sequence[str]) -> bool:
    """Whether the work is done by other processes, in other folders or on other machines."""
    return (runner_of(words) or "").rpartition(".")[2].lower().startswith(_REMOTE_RUNNERS)


def check_paths(words: Sequence[str], paths: Iterable[str]) -> None:
    """Refuse relative paths if workers may run in another folder or on another machine.

    Args:
        words: Words of the command line.
        paths: Files, folders, patterns and addresses.

    Raises:
        ConfigurationError: If a path is relative.
    """
    if not runs_elsewhere(words):
        return
    runner = runner_of(words)
    for path in paths:
        if not os.path.isabs(path) and "://" not in path:
            raise ConfigurationError(
                f"{path} is a relative path, which workers of {runner} take from a folder of their "
                f"own: give the absolute path of a place that all machines have, or an address"
            )


def with_runner(words: Sequence[str], default: str) -> list[str]:
    """A command line with a runner that Beam finds.

    Args:
        words: Words of the command line.
        default: Runner to name where the command line names none.

    Raises:
        ConfigurationError: If the runner needs an option that is not there.
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
