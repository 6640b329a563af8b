"""Made-up training runs on disk: what the trainer would have written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segmodel.labels.classes import ClassTable, format_color
from segmodel.reports.card import write_scores
from segmodel.reports.kept_images import keep_validation
from segmodel.tiling.windows import Layout
from tests.fakes import CLASSES, BrightnessModel, contract
from tests.segmodel.made_pairs import ArrayPair
from tests.segmodel.scored_pairs import random_pair

LAYOUT = Layout(window_px=32, halo_px=0, stride_px=32)
CONTRACT = contract()


class ShiftedModel(BrightnessModel):
    """Labels by brightness after so much was added."""

    def __init__(self, more: int, classes: ClassTable = CLASSES) -> None:
        super().__init__()
        self.more, self.classes = more, classes

    def labels(self, images: np.ndarray) -> np.ndarray:
        return super().labels(np.minimum(images.astype(np.int64) + self.more, 255))


def history_lines(scores: dict, steps: Sequence[int] = (10, 20)) -> list[dict]:
    return [{"step": step, "stage": "fcn-8s", "loss": 1 / step, "scores": scores} for step in steps]


def made_run(
    path: Path,
    more: int = 0,
    pairs: Sequence[ArrayPair] | None = None,
    classes: ClassTable = CLASSES,
    **settings,
) -> Path:
    """A finished run of a model that adds `more` to the brightness."""
    pairs = [random_pair(f"tile/{n}.png", 40, 50, n) for n in range(4)] if pairs is None else pairs
    path.mkdir(parents=True)
    model = ShiftedModel(more, classes)
    evaluation = keep_validation(
        path / "validation", model, pairs, LAYOUT, contract(classes=classes)
    )
    write_scores(path, evaluation, classes)
    document = {
        "run": path.name,
        "data": {"images": ["training/images"], "validation_images": ["tile/images"]},
        "training": {"steps": 20, "loss": {"cross_entropy": 1.0}, **settings},
        "classes": [
            {"id": entry.id, "name": entry.name, "color": format_color(entry.color)}
            for entry in classes.classes
        ],
    }
    (path / "configuration.json").write_text(json.dumps(document))
    lines = history_lines(evaluation.scores.to_json(classes.names))
    (path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
