"""Pairs in memory for scores and pictures."""

from __future__ import annotations

import numpy as np

from segmodel.labels.confusion import IGNORED
from tests.fakes import CLASSES, brightness_labels
from tests.segmodel.made_pairs import ArrayPair


def brightness_index(image: np.ndarray) -> np.ndarray:
    """Class indices that `BrightnessModel` gives."""
    index = np.zeros(256, np.int16)
    index[list(CLASSES.ids)] = np.arange(3)
    return index[brightness_labels(image)]


def random_pair(name: str, height: int = 70, width: int = 50, seed: int = 0) -> ArrayPair:
    """Noise in large squares; a tenth of the truth is another class, a tenth counts nowhere."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (-(-height // 10), -(-width // 10), 1))
    image = small.repeat(10, 0).repeat(10, 1)[:height, :width].repeat(3, 2).astype(np.uint8)
    indices = brightness_index(image)
    draw = random.random(indices.shape)
    indices[draw < 0.1] = (indices[draw < 0.1] + 1) % 3
    indices[draw > 0.9] = IGNORED
    return ArrayPair(name, image, indices)
