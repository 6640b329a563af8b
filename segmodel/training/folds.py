"""Leave one region out: a run for each region, trained on the others and scored on it.

The region left out chooses nothing of what is scored on it: neither weights nor number of steps nor
temperature.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segmodel.errors import ConfigurationError
from segmodel.labels.confusion import Scores
from segmodel.pairs.pairs import Pair, TrainingData
from segmodel.pairs.stats import DatasetStats, check_classes, collect_stats
from segmodel.reports.documents import decimal, text_table
from segmodel.training.configuration import Configuration
from segmodel.training.run_folder import RunFolder
from segmodel.training.trainer import Hooks, train

FILES = ("folds.json", "folds.txt")
# A character takes up to four bytes, and names of files 255.
_NAME_LENGTH = 60


@dataclass(frozen=True)
class Folds:
    """Scores of all folds.

    Args:
        by_group: Scores on each region, of a model that has not seen it.
        pooled: Scores of all regions together, from the sum of their confusion matrices.
    """

    by_group: dict[str, Scores]
    pooled: Scores


def cross_validate(
    config: Configuration,
    data: TrainingData,
    output: str | Path,
    hooks: Hooks | None = None,
    overwrite: bool = False,
) -> Folds:
    """Train once for each region, without it, and score it; see `DataConfig.group`.

    Each fold is a run of its own in `output/<region>`, so that an interrupted evaluation resumes
    where it stopped. All folds can be trained, or none is begun.

    Args:
        config: The run that each fold is, but for what `fold_configuration` changes.
        data: Pairs for training and validation, which are dealt anew.
        output: Folder for the folds, `folds.json` and `folds.txt`.
        hooks: Functions that are called meanwhile.
        overwrite: Whether folds with other settings or data are replaced.

    Raises:
        ConfigurationError: If there is one region only, or a class is in one region only and no
            class may be empty.
        BeamsegError: As for `segmodel.training.trainer.train`.
    """
    hooks = hooks or Hooks()
    pairs = tuple({pair.name: pair for pair in (*data.training, *data.validation)}.values())
    groups = sorted({pair.group for pair in pairs})
    if len(groups) < 2:
        raise ConfigurationError(
            f"--folds_by group needs two regions, found {', '.join(groups)}: data.group is the "
            f"regular expression that finds the region in the path of an image"
        )
    folder, config = Path(output), fold_configuration(config)
    whole = collect_stats(pairs, config.classes, True, hooks.log)
    folds_of = {group: _fold(group, pairs, whole) for group in groups}
    for group, (_, stats) in folds_of.items():
        _check_fold(group, stats, config)
    matrices = {}
    for number, (group, name) in enumerate(zip(groups, region_folders(groups), strict=True), 1):
        hooks.log(f"fold {number} of {len(groups)}: {group} left out")
        fold, stats = folds_of[group]
        train(config, fold, folder / name, hooks, overwrite, stats)
        matrices[group] = RunFolder(folder / name).confusion()
    folds = Folds(
        {group: Scores.of(matrix) for group, matrix in matrices.items()},
        Scores.of(np.sum(list(matrices.values()), axis=0)),
    )
    _write(folds, folder, config)
    return folds


def fold_configuration(config: Configuration) -> Configuration:
    """A run whose validation pairs choose nothing: its scores are those of unseen data."""
    return replace(
        config,
        training=replace(config.training, keep="last", patience=0),
        export=replace(config.export, calibrate=False, min_iou={}),
    )


def folds_table(folds: Folds, names: tuple[str, ...]) -> str:
    """Mean IoU and IoU of each class by region, and of all together, as lines of text."""
    rows = [["", "mean IoU", *names]]
    for name, scores in {**folds.by_group, "all": folds.pooled}.items():
        rows.append([name, *map(decimal, (scores.mean_iou, *scores.iou))])
    return text_table(rows)


def region_folders(groups: list[str]) -> list[str]:
    """Names of folders for regions, whatever characters those have.

    >>> region_folders(["tile 1", "tile/1", ".."])
    ['tile-1', 'tile-1-2', 'region']
    """
    found: list[str] = []
    taken = set(FILES)
    for group in groups:
        plain = re.sub(r"[^\w.]+", "-", group).strip("-.")[:_NAME_LENGTH] or "region"
        # File systems that ignore case would put two regions into one folder.
        names = (plain if n == 1 else f"{plain}-{n}" for n in itertools.count(1))
        found.append(next(name for name in names if name.casefold() not in taken))
        taken.add(found[-1].casefold())
    return found


def _fold(
    group: str, pairs: Sequence[Pair], stats: DatasetStats
) -> tuple[TrainingData, tuple[DatasetStats, DatasetStats]]:
    """The pairs of one fold, and their statistics."""
    others = [n for n, pair in enumerate(pairs) if pair.group != group]
    own = [n for n, pair in enumerate(pairs) if pair.group == group]
    data = TrainingData(tuple(pairs[n] for n in others), tuple(pairs[n] for n in own))
    return data, (stats.subset(others), stats.subset(own))


def _check_fold(
    group: str, stats: tuple[DatasetStats, DatasetStats], config: Configuration
) -> None:
    allow_empty = config.data.allow_empty_classes
    where = (f"with {group} left out", f"in {group} alone")
    for side, may_be_empty, place in zip(stats, (allow_empty, True), where, strict=True):
        try:
            check_classes(side.counts, config.classes, may_be_empty)
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}, {error}") from None


def _write(folds: Folds, folder: Path, config: Configuration) -> None:
    names = config.classes.names
    document = {
        "scored": "weights after the last step; the region left out chose nothing",
        "folds": {group: scores.to_json(names) for group, scores in folds.by_group.items()},
        "pooled": folds.pooled.to_json(names),
    }
    contents = (json.dumps(document, indent=2), folds_table(folds, names))
    for name, content in zip(FILES, contents, strict=True):
        (folder / name).write_text(content + "\n", "utf-8")
