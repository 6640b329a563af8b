"""Pairs of image and mask on disk, and a configuration that trains on them in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

CONFIGURATION = """\
[data]
images = "training/images"
masks = "training/masks"
validation_images = "validation/images"
validation_masks = "validation/masks"
about = "two colours"
group = '(\\w+)-\\d+\\.png$'

[model]
name = "colours"
variant = "fcn-16s"
backbone = "vgg16"
width = 0.05

[training]
steps = 4
batch = 2
crop = 32
learning_rate = 0.003
warmup_steps = 1
validate_every = 2
checkpoint_every = 1

[[classes]]
id = 3
name = "red"
color = "#C82828"

[[classes]]
id = 0
name = "blue"
color = "#2828C8"
"""
COLORS = np.array([(0xC8, 0x28, 0x28), (0x28, 0x28, 0xC8)], np.uint8)
SIDE = 64


def write_pair(folder: Path, name: str, seed: int) -> None:
    """A noisy image, red on the left and blue on the right, and its mask of colours."""
    random = np.random.default_rng(seed)
    left = np.arange(SIDE) < random.integers(16, 48)
    mask = COLORS[np.where(left, 0, 1)][None].repeat(SIDE, axis=0)
    image = np.clip(mask + random.integers(-30, 31, mask.shape), 0, 255).astype(np.uint8)
    for kind, pixels in (("images", image), ("masks", mask)):
        path = folder / kind / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def write_training(folder: Path, configuration: str = CONFIGURATION) -> Path:
    """Four pairs for training, one for validation, and the configuration, whose path it gives."""
    for number in range(4):
        write_pair(folder / "training", f"{('east', 'west')[number % 2]}-{number}", number)
    write_pair(folder / "validation", "north-9", 9)
    path = folder / "train.toml"
    path.write_text(configuration, "utf-8")
    return path


def texts_of(folder: Path) -> dict[str, str]:
    """Content of all text files of a run."""
    kinds = {".json", ".jsonl", ".csv", ".md", ".txt"}
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*")
        if path.suffix in kinds
    }


def steps_of(run: Path) -> list[int]:
    lines = (run / "history.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["step"] for line in lines]
