"""The same command every night over a folder that changes does only what is new."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pipelines.commands import segment
from tests.end_to_end.conftest import SIZES, encoded_images, files_of, noise, write_scene
from tests.end_to_end.containers import WRITERS, write_files, write_shards
from tests.end_to_end.runs import CLOCKED, Books

CONTAINERS = ("tfrecord", "tar", "parquet")
SHARDS, IMAGES = 3, 12
# A shard of each container, a group of image files, and a scene.
UNITS = SHARDS * len(CONTAINERS) + 2


class Nights:
    """A folder with inputs of every format, and what the command finds there each night."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        for container in CONTAINERS:
            write_shards(folder / "in" / container, container, encoded_images(IMAGES), SHARDS)
        write_files(folder / "in" / "photos", encoded_images(5))
        write_scene(folder / "in" / "scene.tif", noise(3, 100, 120))
        self.run()
        self.books = Books(folder / "run")
        assert self.books.look() == []

    def run(self, name: str = "run", *more: str) -> dict[str, int]:
        """One night; gives the counts of this attempt."""
        words = [f"--input={self.folder / 'in'}", f"--model={self.model}"]
        assert segment.run([*words, f"--output={self.folder / name}", "--confidence", *more]) == 0
        summary = json.loads((self.folder / name / "summary.json").read_text())
        return summary["this_attempt"]

    def check_as_if_new(self) -> None:
        """The run directory is that of a run which finds the folder as it is now."""
        self.run("fresh")
        actual, expected = files_of(self.folder / "run"), files_of(self.folder / "fresh")
        assert set(actual) == set(expected)
        assert [name for name in actual if actual[name] != expected[name]] in ([], [CLOCKED])

    def shards(self, number: int) -> list[tuple[str, Path]]:
        """One shard of each container."""
        name = f"part-{number:05d}-of-{SHARDS:05d}"
        return [(c, self.folder / "in" / c / f"{name}.{c}") for c in CONTAINERS]

    def total_pixels(self) -> int:
        with (self.folder / "run" / "areas.csv").open() as stream:
            return next(int(r["pixels"]) for r in csv.DictReader(stream) if r["class"] == "total")


@pytest.fixture
def nights(tmp_path: Path, brightness_savedmodel: Path) -> Nights:
    """After the first night."""
    return Nights(tmp_path, brightness_savedmodel)


def pixels_of(images: dict[str, bytes]) -> int:
    """Of images named by their number."""
    sizes = (SIZES[int(name[6:9]) % 3] for name in images)
    return sum(height * width for height, width in sizes)


def test_a_night_with_new_files_does_only_these(nights):
    before, images = nights.total_pixels(), encoded_images(4, first=50)
    for container in CONTAINERS:
        path = nights.folder / "in" / container / f"later.{container}"
        WRITERS[container](path, images)
    write_scene(nights.folder / "in" / "second.tif", noise(4, 70, 80))

    counts = nights.run()

    computed = len(CONTAINERS) * pixels_of(images) + 70 * 80
    assert (counts["units_done"], counts["units_skipped"]) == (len(CONTAINERS) + 1, UNITS)
    assert counts["computed_pixels"] == computed
    assert nights.total_pixels() == before + computed
    assert nights.books.look() == []
    nights.check_as_if_new()


def test_a_night_after_a_change_does_only_what_changed(nights):
    images = encoded_images(3, first=70)
    for container, path in nights.shards(1):
        WRITERS[container](path, images)

    counts = nights.run()

    assert counts["units_done"] == len(CONTAINERS)
    assert counts["units_skipped"] == UNITS - len(CONTAINERS)
    assert counts["computed_pixels"] == len(CONTAINERS) * pixels_of(images)
    again = [line.split()[0] for line in nights.books.look() if not line.startswith("commits/")]
    tables = [path for path in again if path.startswith("areas/")]
    names = {f"labels/in/{container}/{path.name}" for container, path in nights.shards(1)}
    assert {*again} - {*tables} == names
    assert sorted(path.split("-")[0] for path in tables) == sorted(
        f"areas/{container}" for container in CONTAINERS
    )
    nights.check_as_if_new()


def test_a_night_after_a_removal_computes_nothing_and_drops_what_is_gone(nights):
    before = nights.total_pixels()
    lost = dict(list(encoded_images(IMAGES).items())[2::SHARDS])
    for _, path in nights.shards(2):
        path.unlink()

    counts = nights.run("run", "--gone=prune")

    assert (counts["units_done"], counts["computed_pixels"]) == (0, 0)
    assert counts["units_skipped"] == UNITS - len(CONTAINERS)
    for container, path in nights.shards(2):
        assert not (nights.folder / "run" / "labels" / "in" / container / path.name).exists()
    assert nights.total_pixels() == before - len(CONTAINERS) * pixels_of(lost)
    nights.check_as_if_new()


def test_a_shard_that_comes_back_is_done_again(nights):
    before = files_of(nights.folder / "run")
    kept = {path: path.read_bytes() for _, path in nights.shards(0)}
    for path in kept:
        path.unlink()
    nights.run("run", "--gone=prune")
    for path, content in kept.items():
        path.write_bytes(content)

    counts = nights.run()

    assert counts["units_done"] == len(CONTAINERS)
    after = files_of(nights.folder / "run")
    labels = {name: content for name, content in before.items() if name.startswith("labels/")}
    assert {name: after[name] for name in labels} == labels
    assert after["areas.csv"] == before["areas.csv"]
    nights.check_as_if_new()
