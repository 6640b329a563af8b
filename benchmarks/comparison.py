"""What benchmarks share: a contract of a made-up model, sides measured by turns, processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.savedmodel.contract import Contract, MeasuredHalo

CLASSES = ClassTable(tuple(LabelClass(i, f"class {i}", (40 * i, 99, 200)) for i in range(5)))
CONTRACT = Contract(
    name="benchmark",
    architecture="none",
    bands=("red", "green", "blue"),
    dtype="uint8",
    value_range=(0, 255),
    nodata_fill=(0.0, 0.0, 0.0),
    classes=CLASSES,
    stride=32,
    receptive_field=None,
    halo=MeasuredHalo(0, 512, None),
)


def medians(sides: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median of each side, measured by turns."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, measure in sides.items():
            taken[name].append(measure())
    return {name: statistics.median(values) for name, values in taken.items()}


def in_process(file: str, *words: object) -> Any:
    """What a benchmark prints last, as JSON, in a process of its own with `--peak` and words."""
    command = [sys.executable, file, "--peak", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
