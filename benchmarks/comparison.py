"""What benchmarks share: a made-up model's contract, sides measured by turns, processes, scenes."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.savedmodel.contract import Contract, MeasuredHalo
from segmodel.savedmodel.folder import CONTRACT_FILE

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


def write_model(folder: Path, contract: Contract) -> None:
    """Write the folder of a model that a benchmark has in memory: a contract, and no graph."""
    (folder / CONTRACT_FILE).parent.mkdir(parents=True)
    (folder / CONTRACT_FILE).write_text(json.dumps(contract.to_json()))
    (folder / "saved_model.pb").write_bytes(b"")


def use_model(work: Any, model: Any) -> None:
    """Have the units of a run labelled by a model that is in memory."""
    from pipelines.worker.model import MODELS

    MODELS.loaded[work.fingerprint, work.compute] = model


def medians(sides: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median of each side, measured by turns."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, measure in sides.items():
            taken[name].append(measure())
    return {name: statistics.median(values) for name, values in taken.items()}


def timed(call: Callable[[], object], clock: Callable[[], float]) -> Callable[[], float]:
    """A function that says how long a call takes by a clock."""

    def measure() -> float:
        start = clock()
        call()
        return clock() - start

    return measure


def plain_function(network: Any) -> Callable[[np.ndarray], np.ndarray]:
    """What Keras makes of a batch of raw uint8 images: labels of uint8."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    def plain(raw: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.argmax(network(raw, training=False), -1), tf.uint8)

    return lambda images: plain(images).numpy()


def in_process(file: str, *words: object) -> Any:
    """What a benchmark prints last, as JSON, in a process of its own with `--peak` and words."""
    command = [sys.executable, file, "--peak", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_report(lines: Callable[[Path], Iterable[str]]) -> None:
    """Print the machine, and lines as they are found, given a folder that is removed then."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for line in lines(Path(folder)):
            print(line, flush=True)


def pictures(folder: str | None, side: int) -> np.ndarray:
    """`(side, side, 3)` of the images in a folder side by side, or of smooth noise."""
    paths = sorted(Path(folder).rglob("*.jpg")) if folder else []
    random = np.random.default_rng(0)
    canvas = np.zeros((side, side, 3), np.uint8)
    cell, number = 512, 0
    for row in range(0, side, cell):
        for column in range(0, side, cell):
            if paths:
                picture = Image.open(paths[number % len(paths)]).convert("RGB")
                values = np.asarray(picture.resize((cell, cell), Image.Resampling.BOX))
            else:
                coarse = Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                values = np.asarray(coarse.resize((cell, cell), Image.Resampling.BICUBIC))
            part = canvas[row : row + cell, column : column + cell]
            part[...] = values[: part.shape[0], : part.shape[1]]
            number += 1
    return canvas
