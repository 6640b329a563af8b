"""The program as a user starts it, and a corpus of every kind of input."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from pipelines.formats import example
from pipelines.formats.tfrecord import frame
from tests import forked

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys; sys.argv[0] = 'beamseg'; from pipelines.commands.main import main; main()"
# Height and width of images.
SIZES = ((40, 56), (64, 64), (96, 80))

Run = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def command(*words: object) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *map(str, words)]


@pytest.fixture
def beamseg(tmp_path: Path) -> Run:
    """Run a command of beamseg in `tmp_path`; gives its exit status and what it printed."""

    def run(*words: object, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return forked.run(
            command(*words), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300
        )

    return run


def noise(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth noise, so that every class of the brightness model occurs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return np.kron(coarse, np.ones((8, 8, 1), int))[:height, :width].astype(np.uint8)


def write_scene(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=pixels.shape[2],
        dtype=pixels.dtype,
        crs="EPSG:32633",
        transform=from_origin(500_000, 6_000_000, 10, 10),
    ) as target:
        target.write(np.moveaxis(pixels, -1, 0))


def write_shard(path: Path, images: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [
        example.serialize_example({"image/encoded": encoded, "image/filename": name.encode()})
        for name, encoded in images.items()
    ]
    path.write_bytes(b"".join(frame(record) for record in records))


def write_images(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    suffixes = (".png", ".webp", ".tif", ".jpg")
    paths = []
    for number in range(count):
        path = folder / f"image-{number:03d}{suffixes[number % 4]}"
        Image.fromarray(noise(number, 40 + number, 56)).save(path)
        paths.append(path)
    return paths


def encoded_images(count: int, first: int = 0) -> dict[str, bytes]:
    """PNG images of three sizes by name."""
    found = {}
    for number in range(first, first + count):
        buffer = io.BytesIO()
        Image.fromarray(noise(number, *SIZES[number % 3])).save(buffer, "PNG")
        found[f"image-{number:03d}.png"] = buffer.getvalue()
    return found


def write_corpus(folder: Path) -> None:
    """Eight images, two shards of three, one scene of 150 x 200 pixels of 10 m."""
    paths = write_images(folder / "photos", 8)
    for number in range(2):
        chosen = paths[3 * number : 3 * number + 3]
        shard = folder / "shards" / f"part-{number:05d}-of-00002.tfrecord"
        write_shard(shard, {path.name: path.read_bytes() for path in chosen})
    write_scene(folder / "scenes" / "scene.tif", noise(99, 150, 200))


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
