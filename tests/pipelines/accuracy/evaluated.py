"""Evaluations of runs without an engine, and what they found."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipelines.accuracy.evaluation.launch import check_evaluation, prepare_evaluation
from pipelines.accuracy.evaluation.options import EvaluateOptions
from pipelines.accuracy.evaluation.results import finish_evaluation
from pipelines.accuracy.evaluation.work import EvaluateWork, evaluate_unit
from pipelines.cli.values import FailureBudget
from pipelines.run import plan
from tests.fakes import CLASSES
from tests.pipelines.corpus import png, write

SECONDS = {"units_skipped": 0, "seconds": 0.0}


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that came to its end.

    Args:
        root: Folder of the evaluation.
        status: Exit status.
        done: Ids of the units that were done now.
    """

    root: Path
    status: int
    done: tuple[str, ...]

    @property
    def scores(self) -> dict:
        return json.loads((self.root / "scores.json").read_bytes())

    @property
    def matrix(self) -> list[list[int]]:
        """Of all, rows are the reference."""
        return self.scores["all"]["matrix"]

    def rows(self, name: str) -> list[dict[str, str]]:
        """Rows of a table."""
        with (self.root / name).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    def cells(self, scope: str) -> list[tuple]:
        """Name, reference, label and pixels of the matrices of a scope."""
        rows = pq.read_table(self.root / "matrices.parquet").to_pylist()
        names = ("name", "reference", "label", "pixels")
        return [tuple(row[name] for name in names) for row in rows if row["scope"] == scope]


def prepare(
    run: Path | str, reference: Path | str, **options
) -> tuple[EvaluateWork, EvaluateOptions]:
    """An evaluation that is begun, in a folder `scores` beside the run unless options say else."""
    fields = {
        "reference": str(reference),
        "output": f"{str(run).rpartition('/')[0]}/scores",
        "max_failures": FailureBudget(0, None),
    }
    asked = EvaluateOptions(**(_DEFAULTS | fields | options))
    return prepare_evaluation(check_evaluation(str(run), asked)).work, asked


_DEFAULTS = dict.fromkeys(
    ("classes", "mask_encoding", "class_field", "zones", "zone_field", "group_by", "boundary_px")
)
_DEFAULTS |= {"model": None, "inputs": (), "confidence": False}
_DEFAULTS |= {"retry_failures": False, "overwrite": False}


def evaluated(
    run: Path | str, reference: Path | str, units: int | None = None, **options
) -> Evaluated:
    """Do what `beamseg evaluate` does, or only the first units of it."""
    work, asked = prepare(run, reference, **options)
    done = []
    for number, unit in enumerate(plan.read_units(work.run.plan, plan.WorkUnit)):
        if units is None or number < units:
            report = evaluate_unit(unit, work)
            done += [unit.id] * (report.done - report.skipped)
    status = finish_evaluation(work, asked.max_failures, asked.group_by, SECONDS)
    return Evaluated(Path(asked.output), status, tuple(done))


def counted_by_hand(truth: np.ndarray, labels: np.ndarray) -> list[list[int]]:
    """A confusion matrix in the order of the classes, pixel by pixel."""
    ids = CLASSES.ids
    return [
        [int(np.count_nonzero((truth == true) & (labels == given))) for given in ids]
        for true in ids
    ]


def random_ids(height: int, width: int, seed: int, *others: int) -> np.ndarray:
    """`(height, width)` uint8 ids of all classes, and of others."""
    choices = np.array([*CLASSES.ids, *others], np.uint8)
    return np.random.default_rng(seed).choice(choices, (height, width))


def write_masks(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    """PNG files of ids by name."""
    for name, ids in masks.items():
        write(folder / name, png(ids))
    return folder
