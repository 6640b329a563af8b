"""Twelve images with masks in three encodings, and the command that packs them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.datasets.work import shards_of
from pipelines.formats.shards import ShardSample
from pipelines.formats.work import ReadOptions
from pipelines.run.plan import InputFile
from tests import forked
from tests.end_to_end.conftest import command, environment, noise, write_images
from tests.fakes import BRIGHT, DARK, MIDDLE, brightness_labels

COUNT = 12
NODATA = 255
COLORS = {DARK: (10, 10, 80), MIDDLE: (90, 160, 70), BRIGHT: (240, 230, 200), NODATA: (0, 0, 0)}
CLASSES = """\
[data]
ignore_colors = ["#000000"]
ignore_ids = [255]
[[classes]]
id = 0
name = "dark"
color = "#0A0A50"
[[classes]]
id = 3
name = "middle"
color = "#5AA046"
[[classes]]
id = 7
name = "bright"
color = "#F0E6C8"
"""


def truth(number: int) -> np.ndarray:
    """The label map of an image; its first row is not labelled."""
    labels = brightness_labels(noise(number, 40 + number, 56))
    labels[0] = NODATA
    return labels


def write_masks(folder: Path, names: list[str], encoding: str) -> None:
    folder.mkdir(parents=True)
    table = np.zeros((256, 3), np.uint8)
    for value, color in COLORS.items():
        table[value] = color
    for number, name in enumerate(names):
        labels = truth(number)
        image = Image.fromarray(table[labels] if encoding == "color" else labels)
        if encoding == "palette":
            image.putpalette(table.tobytes())
        image.save(folder / f"{name}.png")


def write_data(folder: Path) -> None:
    paths = write_images(folder / "images", COUNT)
    for encoding in ("color", "palette", "id"):
        write_masks(folder / encoding, [path.stem for path in paths], encoding)
    (folder / "classes.toml").write_text(CLASSES)


def words(output: str, *more: object, encoding: str = "color") -> list[str]:
    data = ["--images=images", f"--masks={encoding}", "--classes=classes.toml"]
    return command("pack", *data, f"--mask_encoding={encoding}", f"--output={output}", *more)


def run(folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return forked.run(
        arguments, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300
    )


def samples(path: Path, container: str, field: str | None) -> dict[str, bytes]:
    """Images or masks of a shard by name, in order, as our own reader has them."""
    shards, _ = shards_of(container)
    file = InputFile(str(path), "x", path.name, path.stat().st_size, "")
    found = list(shards.samples(file, ReadOptions(field)))
    assert all(isinstance(sample, ShardSample) for sample in found)
    assert [sample.number for sample in found] == list(range(len(found)))
    return {Path(sample.name).stem.split(".")[0]: sample.encoded for sample in found}
