"""Training runs that take a second or two: a narrow VGG on crops of 32 pixels, without export."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from segmodel.pairs.pairs import TrainingData
from segmodel.pairs.stats import collect_stats
from segmodel.training.configuration import Configuration
from segmodel.training.run_folder import RunFolder
from segmodel.training.trainer import Hooks, TrainingRun, network_configuration
from tests.segmodel.made_pairs import configuration, halves

DATA = TrainingData(halves(4, 0), halves(1, 1))
NARROW = {"backbone": "vgg16", "width": 0.05, "variant": "fcn-32s"}


@dataclass
class Told:
    """What a run told its hooks.

    Args:
        folder: Of the run.
        copies: Where to copy it to after some steps: what a kill at that moment would leave.
    """

    folder: Path
    copies: dict[int, Path]
    lines: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def on_step(self, step: int, loss: float) -> None:
        self.steps.append(step)
        self.losses.append(loss)
        if step in self.copies:
            shutil.copytree(self.folder, self.copies[step])

    @property
    def hooks(self) -> Hooks:
        return Hooks(self.lines.append, self.on_step)


def narrow(model: dict | None = None, **training) -> Configuration:
    """A run of four steps with two validations."""
    small = {"steps": 4, "batch": 2, "crop": 32, "validate_every": 2, "warmup_steps": 1}
    return configuration(NARROW | (model or {}), **(small | training))


def fit_run(
    config: Configuration,
    folder: Path,
    copies: dict[int, Path] | None = None,
    identity: str = "identity",
    data: TrainingData = DATA,
) -> tuple[keras.Model, Told]:
    """Train, without export; gives the network with the best weights, and what was told."""
    logged = Told(folder, copies or {})
    output = RunFolder(folder)
    output.begin(identity, {})
    stats = collect_stats(data.training, config.classes, False)
    run = TrainingRun(config, network_configuration(config), data, stats, output, logged.hooks)
    return run.fit(identity), logged


def history(folder: Path, clock: bool = False) -> list[dict]:
    """Lines of the history, without what a clock gave."""
    found = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in one.items() if clock or not k.endswith("seconds")} for one in found]


def values(network: keras.Model) -> dict[str, np.ndarray]:
    """Weights by the path of their variable."""
    return {weight.path: np.asarray(weight) for weight in network.weights}


def assert_equal_weights(actual: keras.Model, expected: keras.Model) -> None:
    """Bit by bit."""
    assert list(values(actual)) == list(values(expected))
    for path, value in values(expected).items():
        np.testing.assert_array_equal(values(actual)[path], value, err_msg=path)
