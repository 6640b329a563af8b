"""The end of layers: what follows from all units, failures, and the summary of all layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.values import FailureBudget
from pipelines.layers.stages import LayerEnd, StageWork
from pipelines.results.failure_table import FailureTable, failures_of, write_failures
from pipelines.run.commits import Output
from pipelines.run.directory import METADATA_DIR, RunDirectory


@dataclass(frozen=True)
class MadeLayer:
    """A layer whose units are done, or were tried.

    Args:
        name: Its name.
        finish: Writes what follows from all units; see `Layer`.
        works: Work of the units of each stage.
        by_scene: Shapes of the stages that wrote a file for each scene, by their names.
    """

    name: str
    finish: Callable[[StageWork], LayerEnd]
    works: tuple[StageWork, ...]
    by_scene: Mapping[str, str]


class LayerPart(NamedTuple):
    """What a layer that was made before says of itself.

    Attributes:
        map: Digest of the map that it was made of.
        summary: Entries of `layers/summary.json`.
        outputs: Files of all scenes together.
        by_scene: Shapes of the stages that wrote a file for each scene, by their names.
    """

    map: str
    summary: dict[str, Any]
    outputs: tuple[Output, ...]
    by_scene: dict[str, str]


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
        _finish_layer(layer, map_digest, folder)
    parts = {name: found for name in names if (found := layer_part(folder, name)) is not None}
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
        "layers": {n: part.summary for n, part in parts.items() if part.map == map_digest},
        "out_of_date": [name for name, part in parts.items() if part.map != map_digest],
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


def _finish_layer(layer: MadeLayer, map_digest: str, folder: RunDirectory) -> None:
    """Write what follows from all units of a layer, and what the summary says of it."""
    end = layer.finish(layer.works[-1])
    names = [*end.folders, *(file.path for file in end.files)]
    part: dict[str, Any] = {
        "map": map_digest,
        "summary": {"files": names, **end.about},
        "outputs": [asdict(file) for file in (*end.files, *end.parts)],
        "by_scene": dict(layer.by_scene),
    }
    folder.write_json(part_path(layer.name), part, is_sealed=True)


def layer_part(folder: RunDirectory, name: str) -> LayerPart | None:
    """What the end of a layer wrote; None where it was not made, or the file is damaged.

    Args:
        folder: Folder of all layers of the run.
        name: Name of the layer.
    """
    try:
        found = folder.read_json(part_path(name), is_sealed=True)
        if found is None:
            return None
        outputs = tuple(map(Output.from_json, found["outputs"]))
        return LayerPart(found["map"], found["summary"], outputs, found["by_scene"])
    except (ValueError, KeyError):
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
