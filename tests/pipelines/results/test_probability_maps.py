"""Probabilities of all classes are written beside labels, in levels of which a pixel has 255."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from PIL import Image

from pipelines.cli.values import FailureBudget
from segmodel.errors import ConfigurationError
from tests.fakes import CLASSES, brightness_labels
from tests.pipelines.corpus import (
    DEGREES,
    photos,
    pixels,
    png,
    read_png,
    read_shard,
    record,
    small_blocks,
    tree,
    write,
    write_scene,
    write_shard,
)
from tests.pipelines.counted_scenes import holes
from tests.pipelines.scene_runs import run_scenes

IDS = CLASSES.ids
SHARD = [pixels(20, 30, 5), pixels(24, 18, 6)]


def expected(labels: np.ndarray) -> np.ndarray:
    """Levels by class of the fake: 204 of the label, 51 of the next class, none without label."""
    found = np.zeros((*labels.shape, len(IDS)), np.uint8)
    for number, label in enumerate(IDS):
        found[labels == label, number] = 204
        found[labels == label, (number + 1) % len(IDS)] = 51
    return found


@pytest.mark.parametrize("side", [64, 1024])
def test_a_scene_has_a_band_for_each_class(tmp_path, model_folder, monkeypatch, side):
    small_blocks(monkeypatch, side)
    values, valid = pixels(150, 130), holes(150, 130, 1)
    path = write_scene(tmp_path / "in" / "a.tif", values, DEGREES, mask=valid)
    run = run_scenes(tmp_path / "run", model_folder, path, halo=32, probabilities=True)
    labels = np.where(valid, brightness_labels(values), 255)
    with rasterio.open(run.root / "probabilities" / "in" / "a.tif") as source:
        np.testing.assert_array_equal(np.moveaxis(source.read(), 0, -1), expected(labels))
        assert source.descriptions == ("dark", "middle", "bright")
        assert source.scales == (1 / 255,) * 3
        assert (source.crs, source.transform) == (DEGREES[0], DEGREES[1])
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    np.testing.assert_array_equal(run.labels("in/a.tif"), labels)
    assert not list(run.root.glob("soft*"))
    assert not list((run.root / "blocks").glob("*"))
    assert run.verified()[1] == []


def test_an_image_has_a_file_for_each_class(tmp_path, model_folder):
    run = run_scenes(tmp_path / "run", model_folder, photos(tmp_path), probabilities=True)
    names = [path.name for path in (run.root / "probabilities" / "photos").iterdir()]
    assert sorted(names) == sorted(f"{n}.png.{i}.png" for n in range(3) for i in IDS)
    for number in range(3):
        labels = read_png(run.root / "labels" / "photos" / f"{number}.png.png")
        folder = run.root / "probabilities" / "photos"
        levels = [read_png(folder / f"{number}.png.{i}.png") for i in IDS]
        np.testing.assert_array_equal(np.stack(levels, -1), expected(labels))
    assert run.verified()[1] == []


def test_probabilities_of_a_scaled_image_are_on_its_own_pixels(tmp_path, model_folder):
    options = {"probabilities": True, "resize": (64, 96)}
    run = run_scenes(tmp_path / "run", model_folder, photos(tmp_path, 1), **options)
    labels = read_png(run.root / "labels" / "photos" / "0.png.png")
    folder = run.root / "probabilities" / "photos"
    levels = np.stack([read_png(folder / f"0.png.{i}.png") for i in IDS], -1)
    np.testing.assert_array_equal(levels, expected(labels))


def of_tfrecord(path) -> list[list[bytes]]:
    names = [f"image/segmentation/probability/{i}/encoded" for i in IDS]
    return [[entry[name][0] for name in names] for entry in read_shard(path)]


def of_tar(path) -> list[list[bytes]]:
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    return [[files[f"{key}.probability-{i}.png"] for i in IDS] for key in ("a", "b")]


def of_parquet(path) -> list[list[bytes]]:
    return [[row[f"probability_{i}"] for i in IDS] for row in pq.read_table(path).to_pylist()]


def write_tar(path, images) -> None:
    with tarfile.open(path, "w") as archive:
        for key, image in zip("ab", images, strict=True):
            member = tarfile.TarInfo(f"{key}.png")
            member.size = len(image)
            archive.addfile(member, io.BytesIO(image))


def write_parquet(path, images) -> None:
    pq.write_table(pa.table({"image": images}), path)


def write_tfrecord(path, images) -> None:
    write_shard(path, [record(values) for values in SHARD])


@pytest.mark.parametrize(
    ("name", "make", "read"),
    [
        ("s.tfrecord", write_tfrecord, of_tfrecord),
        ("s.tar", write_tar, of_tar),
        ("s.parquet", write_parquet, of_parquet),
    ],
)
def test_a_shard_has_an_entry_for_each_class(tmp_path, model_folder, name, make, read):
    path = tmp_path / "in" / name
    path.parent.mkdir()
    make(path, [png(values) for values in SHARD])
    run = run_scenes(tmp_path / "run", model_folder, path, probabilities=True)
    found = read(run.root / "labels" / "in" / name)
    for values, images in zip(SHARD, found, strict=True):
        levels = [np.asarray(Image.open(io.BytesIO(image))) for image in images]
        np.testing.assert_array_equal(np.stack(levels, -1), expected(brightness_labels(values)))
    assert run.verified()[1] == []


def test_what_is_damaged_is_found_and_done_again(tmp_path, model_folder):
    folder = photos(tmp_path)
    run = run_scenes(tmp_path / "run", model_folder, folder, probabilities=True)
    before = tree(run.root)
    (run.root / "probabilities" / "photos" / "1.png.3.png").unlink()
    assert [f.path for f in run.verified()[1]] == ["probabilities/photos/1.png.3.png"]
    after = tree(run_scenes(tmp_path / "run", model_folder, folder, probabilities=True).root)
    del before["summary.json"], after["summary.json"]
    assert after == before


def test_an_image_that_fails_later_loses_its_probabilities(tmp_path, model_folder):
    folder = photos(tmp_path, 2)
    options = {"probabilities": True, "max_failures": FailureBudget(1, None)}
    run = run_scenes(tmp_path / "run", model_folder, folder, **options)
    write(folder / "0.png", b"no image")
    again = run_scenes(tmp_path / "run", model_folder, folder, gone="prune", **options)
    left = [path.name for path in (again.root / "probabilities" / "photos").iterdir()]
    assert sorted(left) == sorted(f"1.png.{i}.png" for i in IDS)
    assert run.status == again.status == 0


def test_adding_the_option_to_a_finished_run_is_refused_with_the_remedy(tmp_path, model_folder):
    folder = photos(tmp_path)
    run_scenes(tmp_path / "run", model_folder, folder)
    with pytest.raises(ConfigurationError, match=r"probabilities was False and is True.*--overw"):
        run_scenes(tmp_path / "run", model_folder, folder, probabilities=True)


def test_names_have_room_for_the_class(tmp_path, model_folder):
    for length in (249, 250):
        write(tmp_path / "in" / f"{'x' * (length - 4)}.png", png(SHARD[0]))
    options = {"probabilities": True, "max_failures": FailureBudget(1, None)}
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", **options)
    (row,) = run.failures().values()
    assert row["reason"] == "the name has more than 249 bytes: no room for .7.png after it"
