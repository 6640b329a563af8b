"""Made-up training pairs in memory, and runs on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window
from segmodel.training.configuration import (
    AugmentationConfig,
    Configuration,
    DataConfig,
    ExportConfig,
    ModelConfig,
    TrainingConfig,
)

CLASSES = ClassTable((LabelClass(9, "red", (200, 40, 40)), LabelClass(4, "blue", (40, 40, 200))))


@dataclass(frozen=True)
class ArrayPair:
    """A pair in memory, with nodata where it is told, and a fault when it is read."""

    name: str
    image: np.ndarray
    indices: np.ndarray
    valid: np.ndarray | None = None
    fault: Exception | None = None
    group: str = ""

    @property
    def height(self) -> int:
        return self.image.shape[0]

    @property
    def width(self) -> int:
        return self.image.shape[1]

    def pixels(self, window: Window) -> Pixels:
        if self.fault is not None:
            raise self.fault
        valid = None if self.valid is None else self.valid[window.slices]
        return Pixels(self.image[window.slices], valid)

    def truth(self, window: Window) -> np.ndarray:
        return self.indices[window.slices]


def halves(count: int, seed: int, side: int = 64) -> tuple[ArrayPair, ...]:
    """Noisy images, red on the left and blue on the right."""
    random = np.random.default_rng(seed)
    pairs = []
    for number in range(count):
        left = np.arange(side) < random.integers(side // 4, 3 * side // 4)
        color = np.where(left[None, :, None], (200, 40, 40), (40, 40, 200)).repeat(side, axis=0)
        image = (color + random.integers(-30, 31, color.shape)).astype(np.uint8)
        indices = np.where(left, 0, 1).astype(np.int16)[None].repeat(side, axis=0)
        pairs.append(ArrayPair(f"{seed}/{number}.png", image, indices, group=f"region {seed}"))
    return tuple(pairs)


def blocks(
    count: int, classes: int, bands: int, dtype: str, seed: int = 0, side: int = 64
) -> tuple[ArrayPair, ...]:
    """Images whose 32-pixel blocks each have a class, and values that tell it in every band."""
    random = np.random.default_rng(seed)
    top = 1.0 if dtype == "float32" else 250.0 if dtype == "uint8" else 10_000.0
    tones = random.uniform(0.1, 0.9, (classes, bands)) * top
    pairs = []
    for number in range(count):
        ids = random.integers(0, classes, (side // 32, side // 32))
        if number == 0:
            ids.flat[: min(classes, ids.size)] = np.arange(min(classes, ids.size))
        indices = ids.repeat(32, axis=0).repeat(32, axis=1).astype(np.int16)
        noise = random.uniform(-0.02, 0.02, (side, side, bands)) * top
        pairs.append(ArrayPair(f"{number}.tif", (tones[indices] + noise).astype(dtype), indices))
    return tuple(pairs)


def table(count: int) -> ClassTable:
    """So many classes with ids 0, 1, 2 ..."""
    return ClassTable(
        tuple(LabelClass(n, f"class {n}", (n % 256, n // 256, 80)) for n in range(count))
    )


def configuration(model: dict | None = None, data: dict | None = None, **training) -> Configuration:
    """A small run on two colours."""
    small = {"steps": 40, "batch": 4, "crop": 64, "learning_rate": 1e-2, "warmup_steps": 3}
    return Configuration(
        data=DataConfig(about="two colours", **(data or {})),
        model=ModelConfig(
            **{"name": "colours", "variant": "fcn-4s", "width": 0.35} | (model or {})
        ),
        classes=CLASSES,
        training=TrainingConfig(**(small | {"validate_every": 16} | training)),
        augmentation=AugmentationConfig(scale=(0.8, 1.25), color=0.05),
        export=ExportConfig(),
    )


def with_floor(config: Configuration, **floors: float) -> Configuration:
    """The same run with floors of IoU."""
    return replace(config, export=ExportConfig(min_iou=floors))


def files_of(folder: Path) -> set[str]:
    """Names of the files and folders in a folder."""
    return {path.name for path in folder.iterdir()}
