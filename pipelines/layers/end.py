"""The end of layers: what follows from all units, failures, and the summary of all layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.values import FailureBudget
from pipelines.layers.stages import StageWork
from pipelines.results.failure_table import FailureTable, failures_of, write_failures
from pipelines.run.directory import METADATA_DIR, RunDirectory


@dataclass(frozen=True)
class MadeLayer:
    """A layer whose units are done, or were tried.

    Args:
        name: Its name.
        finish: Writes what follows from all units; see `Layer`.
        works: Work of the units of each stage.
    """

    name: str
    finish: Callable[[StageWork], dict[str, Any]]
    works: tuple[StageWork, ...]


@dataclass
class _LayerTotals:
    """Units of all stages, those without a record, and keys of the scenes that failed."""

    units: int = 0
    missing: int = 0
    failed: set[str] = field(default_factory=set)


def part_path(layer: str) -> str:
    """Where a layer keeps what the summary says of it, below the folder of layers."""
    return f"{METADATA_DIR}/{layer}/summary.json"


def finish_layers(
    made: Sequence[MadeLayer],
    names: Sequence[str],
    folder: RunDirectory,
    maps: int,
    budget: FailureBudget,
    counts: Mapping[str, Any],
) -> int:
    """Write failures, summary and, if all is complete within the budget, `_SUCCESS`.

    Args:
        made: Layers that were asked for.
        names: Names of all kinds of layers; those that were made before stay in the summary.
        folder: Folder of all layers of the run.
        maps: Number of label maps.
        budget: How many of them may fail.
        counts: Counts of this attempt, for the summary.

    Returns:
        The exit status: 0, 3 or 4.
    """
    totals, failures, _ = write_failures(folder, lambda table: _sum(made, table))
    failed = len(totals.failed)
    status = budget.status(failed, maps, totals.missing)
    map_digest = made[0].works[0].map_digest
    for layer in () if totals.missing else made:
        part: dict[str, Any] = {"map": map_digest, "summary": layer.finish(layer.works[-1])}
        folder.write_json(part_path(layer.name), part, is_sealed=True)
    parts = {name: found for name in names if (found := _part(folder, name)) is not None}
    summary = {
        "exit_status": status.value,
        "reason": status.reason,
        "complete": totals.missing == 0,
        "map": map_digest,
        "units": totals.units,
        "unfinished_units": totals.missing,
        "images": maps - failed,
        "failed_images": failed,
        "failure_budget": str(budget),
        "failures_by_reason": failures.by_reason(),
        "first_failures": failures.first,
        "layers": {n: part["summary"] for n, part in parts.items() if part["map"] == map_digest},
        "out_of_date": [name for name, part in parts.items() if part["map"] != map_digest],
        "this_attempt": dict(counts),
    }
    folder.write_json("summary.json", summary, is_sealed=True)
    if status == ExitStatus.COMPLETE:
        folder.write("_SUCCESS", b"")
    if not totals.missing:
        for layer in made:
            for work in layer.works:
                work.run.clear_scratch()
        folder.clear_scratch()
    return status.value


def _part(folder: RunDirectory, name: str) -> dict[str, Any] | None:
    """What the end of a layer wrote; None where it was not made, or the file is damaged."""
    try:
        return folder.read_json(part_path(name), is_sealed=True)
    except ValueError:
        return None


def _sum(made: Sequence[MadeLayer], failures: FailureTable) -> _LayerTotals:
    totals = _LayerTotals()
    for layer in made:
        for work in layer.works:
            for _, commit in work.commits():
                totals.units += 1
                totals.missing += commit is None
                found = [] if commit is None else list(failures_of(commit, work.log))
                failures.add(found)
                totals.failed.update(failure.uri for failure in found)
    return totals
