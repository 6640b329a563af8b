"""What does the trainer cost beside the network, and what are pretrained weights worth?

python benchmarks/train.py throughput --steps 40
python benchmarks/train.py recipe --data FOLDER --weights FILE --output RUNS
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np
from comparison import CLASSES, medians

from segmodel.devices.startup import import_quietly
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window
from segmodel.training.configuration import (
    AugmentationConfig,
    Configuration,
    DataConfig,
    ModelConfig,
    TrainingConfig,
)
from segmodel.training.configuration_file import parse_configuration

CROP, BATCH = 320, 8


@dataclasses.dataclass(frozen=True)
class NoisePair:
    """An image of noise in memory, as a training pair."""

    name: str
    values: np.ndarray
    classes: np.ndarray
    group: str = "noise"

    @property
    def height(self) -> int:
        return self.values.shape[0]

    @property
    def width(self) -> int:
        return self.values.shape[1]

    def pixels(self, window: Window) -> Pixels:
        return Pixels(self.values[window.slices])

    def truth(self, window: Window) -> np.ndarray:
        return self.classes[window.slices]


def throughput(steps: int, repeats: int) -> None:
    """Steps a second: Keras's own `fit` on arrays in memory, and the trainer with augmentation."""
    with import_quietly():
        import keras

        from segmodel.networks.network import build_network
        from segmodel.pairs.crops import CropSampler
        from segmodel.pairs.stats import collect_stats
        from segmodel.training.augment import training_batches
        from segmodel.training.loop import Learner, StepTimer, check_loss, device_strategy
        from segmodel.training.trainer import network_configuration

    config = Configuration(
        data=DataConfig(),
        model=ModelConfig(name="benchmark"),
        classes=CLASSES,
        training=TrainingConfig(steps=10**6, batch=BATCH, crop=CROP, ema=0.99),
        augmentation=AugmentationConfig(quarter_turns=True, scale=(0.5, 2.0), color=0.1),
    )
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2 * BATCH, CROP, CROP, 3), np.uint8)
    truth = random.integers(0, len(CLASSES.ids), images.shape[:3]).astype(np.int16)
    network_config = network_configuration(config)

    network = build_network(network_config)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.AdamW(1e-3, global_clipnorm=1.0), loss)
    floats = images.astype(np.float32)

    def bare() -> float:
        start = time.perf_counter()
        network.fit(floats, truth, BATCH, epochs=steps // 2, verbose=0)
        return steps / (time.perf_counter() - start)

    large = random.integers(0, 256, (1000, 1000, 3), np.uint8)
    known = random.integers(0, len(CLASSES.ids), large.shape[:2]).astype(np.int16)
    pairs = [NoisePair(str(number), large, known) for number in range(4)]
    stats = collect_stats(pairs, CLASSES, allow_empty=False)
    sampler = CropSampler(pairs, stats, CROP, (0.5, 2.0), 0.0, np.zeros(3, np.uint8), seed=0)
    learner = Learner(
        lambda: build_network(network_config), config, (), 10**6, device_strategy(config.training)
    )
    clock = StepTimer()
    batches = clock.timed(training_batches(sampler, config, 0, 10**6))
    waited = []

    def ours() -> float:
        start = time.perf_counter()
        for number in range(steps):
            inputs, labels = next(batches)
            with clock.measured():
                check_loss(learner.step(inputs, labels), number, str)
                learner.update_average(number)
        waited.append(clock.read())
        return steps / (time.perf_counter() - start)

    bare(), ours()  # Both are traced and warm.
    waited.clear()
    found = medians({"keras fit": bare, "trainer": ours}, repeats)
    seconds, waiting = (sum(times) for times in zip(*waited, strict=True))
    print(f"keras fit {found['keras fit']:.3f} steps/s, trainer {found['trainer']:.3f} steps/s")
    print(f"ratio {found['trainer'] / found['keras fit']:.3f}; waited {waiting / seconds:.2%}")


def recipe(data: Path, weights: Path, output: Path) -> None:
    """Train by `dubai.toml`, from pretrained and from random weights, and compare."""
    from pipelines.datasets.training import read_data

    with import_quietly():
        from segmodel.training.trainer import Hooks, train

    document = tomllib.loads(Path(__file__).with_name("dubai.toml").read_text("utf-8"))
    found = {}
    for name, source in (("pretrained", str(weights.resolve())), ("random", "none")):
        document["model"]["backbone_weights"] = source
        config = parse_configuration(document, data.resolve())
        start = time.perf_counter()
        with read_data(config) as pairs:
            contract = train(config, pairs, output / name, Hooks(log=print))
        found[name] = contract.metrics | {"minutes": (time.perf_counter() - start) / 60}
    print(json.dumps(found, indent=2))
    difference = found["pretrained"]["mean_iou"] - found["random"]["mean_iou"]
    print(f"pretrained weights are worth {difference:+.3f} mean IoU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", choices=["throughput", "recipe"])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--output", type=Path, default=Path(tempfile.gettempdir()) / "runs")
    given = parser.parse_args()
    if given.question == "throughput":
        throughput(given.steps, given.repeats)
    elif given.data and given.weights:
        recipe(given.data, given.weights, given.output)
    else:
        parser.error("recipe needs --data and --weights")


if __name__ == "__main__":
    main()
