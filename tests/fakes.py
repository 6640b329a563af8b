"""Models whose labels are arithmetic, so that tests know what to expect."""

from __future__ import annotations

import itertools

import numpy as np

from segmodel.engine.soft import BINS, BatchWeights, SoftBatch
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.savedmodel.contract import Contract, MeasuredHalo

DARK, MIDDLE, BRIGHT = 0, 3, 7

CLASSES = ClassTable(
    (
        LabelClass(DARK, "dark", (10, 10, 80)),
        LabelClass(MIDDLE, "middle", (90, 160, 70)),
        LabelClass(BRIGHT, "bright", (240, 230, 200)),
    )
)


def contract(**changes) -> Contract:
    """The contract of a model that labels by brightness: below 85, below 170, above."""
    fields = {
        "name": "brightness",
        "architecture": "threshold",
        "bands": ("red", "green", "blue"),
        "dtype": "uint8",
        "value_range": (0.0, 255.0),
        "nodata_fill": (0.0, 0.0, 0.0),
        "classes": CLASSES,
        "stride": 32,
        "receptive_field": 1,
        "halo": MeasuredHalo(0, 512, 1.0),
    }
    return Contract(**(fields | changes))


def brightness_labels(images: np.ndarray) -> np.ndarray:
    """Expected labels of `(..., bands)` values."""
    brightness = images.astype(np.int64).sum(axis=-1) // images.shape[-1]
    return np.array([DARK, MIDDLE, BRIGHT], np.uint8)[np.digitize(brightness, [85, 170])]


class BrightnessModel:
    """A model of the engine without TensorFlow; remembers the shapes of its batches."""

    def __init__(self, bands: int = 3) -> None:
        self.classes = CLASSES
        self.fill = np.zeros(bands, np.uint8)
        self.batches: list[tuple[int, ...]] = []

    def labels(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(images.shape)
        return brightness_labels(images)

    def labels_and_confidence(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = self.labels(images)
        return labels, (images.astype(np.float32).mean(axis=-1) / 255).astype(np.float32)

    def soft_sums(
        self, images: np.ndarray, weights: BatchWeights, has_maps: bool = False
    ) -> SoftBatch:
        """As if a label had a probability of 0.8, and the next class in the table one of 0.2."""
        labels, count = self.labels(images), len(self.classes.ids)
        index = np.zeros(labels.shape, int) if weights.index is None else weights.index
        labelled = np.ones(labels.shape, int) if weights.labelled is None else weights.labelled
        levels = np.zeros((len(images), index.max() + 1, count, count), np.int64)
        weighted, bins = np.zeros(levels.shape), np.zeros((*levels.shape[:3], BINS), np.int64)
        for zone, (row, label) in itertools.product(
            range(levels.shape[1]), enumerate(self.classes.ids)
        ):
            here = (labels == label) & (index == zone) & (weights.values > 0)
            pixels, weight = ((v * here).sum(axis=(1, 2)) for v in (labelled, weights.values))
            for column, level in ((row, 204), ((row + 1) % count, 51)):
                levels[:, zone, row, column] = level * pixels
                weighted[:, zone, row, column] = level * weight
            bins[:, zone, row, 204 // 16] = pixels
        confidence = np.full(labels.shape, 0.8, np.float32)
        maps = None
        if has_maps:
            row = np.searchsorted(self.classes.ids, labels)
            maps = 204 * np.eye(count, dtype=np.uint8)[row]
            maps += 51 * np.eye(count, dtype=np.uint8)[(row + 1) % count]
        return SoftBatch(labels, confidence, levels, weighted, bins, maps)


WIDE_CLASSES = ClassTable((LabelClass(300, "a", (1, 2, 3)), LabelClass(5, "b", (4, 5, 6))))


class WideModel(BrightnessModel):
    """A model whose ids need 16 bits: 300 where the first band is above 99, else 5."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = WIDE_CLASSES

    def labels(self, images: np.ndarray) -> np.ndarray:
        return np.where(images[..., 0] > 99, 300, 5).astype(np.uint16)
