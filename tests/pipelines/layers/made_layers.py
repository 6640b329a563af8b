"""A layer of two stages: counts of each block, and their sum in a file a scene."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipelines.cli.values import FailureBudget
from pipelines.layers.graph import run_layers
from pipelines.layers.launch import check_layers, prepare_layers
from pipelines.layers.maps import LabelMaps, map_of
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import Layer, LayerEnd, Stage, StageResult, StageWork
from pipelines.rasters.cog import read_block
from pipelines.run.areas import Tally
from pipelines.run.commits import Output
from pipelines.run.plan import WorkUnit
from pipelines.runners.execute import waiting_options
from segmodel.errors import InputError
from tests.fakes import BRIGHT

COUNT, SUM = "bright/count", "bright/sum"
# Ids of units that this process did, in order.
DONE: list[str] = []


@dataclass(frozen=True)
class Settings:
    """What the options of the layer say."""

    side: int = 64
    factor: int = 1


def count_stages(settings: Settings, maps: LabelMaps) -> list[Stage]:
    """A stage of blocks, and one of scenes that reads it."""
    first = {"side": settings.side}
    return [
        Stage(
            COUNT,
            first,
            lambda: (one.unit("count", w) for one in maps for w in one.blocks(settings.side)),
            count_action,
        ),
        Stage(
            SUM,
            {"count": first, "factor": settings.factor},
            lambda: (one.unit("sum") for one in maps),
            sum_action,
        ),
    ]


def count_action(unit: WorkUnit, work: StageWork) -> StageResult:
    DONE.append(unit.id)
    labels = read_block(map_of(unit, work.labelled.contract.classes).uri, unit.window)
    count = int(np.count_nonzero(labels == BRIGHT))
    path = work.own_path(f"{unit.id}.txt")
    with work.written(path) as draft:
        Path(draft.path).write_text(str(count))
    tally = Tally(images=1, sums={"bright": {"pixels": count}})
    return StageResult([Output.of(path, draft.written)], tally, labels.size)


def sum_action(unit: WorkUnit, work: StageWork) -> StageResult:
    DONE.append(unit.id)
    found, counted = map_of(unit, work.labelled.contract.classes), work.stage(COUNT)
    total = 0
    for window in found.blocks(work.settings.side):
        commit = counted.log.read(found.unit("count", window))
        if commit is None or commit.tally.failed_images:
            raise InputError(f"{window} of it could not be counted")
        total += sum(commit.tally.sums.get("bright", {}).values())
    path = f"bright/{found.key}.txt"
    with work.written(path) as draft:
        Path(draft.path).write_text(str(total * work.settings.factor))
    return StageResult([Output.of(path, draft.written)], Tally(images=1), 0)


def finish_counts(work: StageWork) -> LayerEnd:
    files = [output for _, commit in work.commits() for output in commit.outputs]
    return LayerEnd(files, {"factor": work.settings.factor})


def layer(name: str = "bright", **settings) -> Layer:
    return Layer(name, partial(_settings, Settings(**settings)), count_stages, finish_counts)


def _settings(settings: Settings, options: LayersOptions) -> Settings:
    return settings


def make(
    run: Path | str,
    *kinds: Layer,
    words: Sequence[str] = (),
    budget: int = 0,
    options: LayersOptions | None = None,
) -> dict:
    """Make layers as the command does; their summary."""
    resolved = check_layers(str(run), options or LayersOptions(), kinds)
    beam_options = waiting_options(words, "layers")
    run_layers(resolved, prepare_layers(resolved), FailureBudget(budget, None), beam_options)
    return json.loads(resolved.folder.read("summary.json"))
