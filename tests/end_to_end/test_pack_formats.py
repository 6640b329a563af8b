"""What `beamseg pack` writes in each format, read back by others and by `segment`."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.datasets.options import CONTAINERS
from pipelines.datasets.work import shards_of
from tests.end_to_end.conftest import command
from tests.end_to_end.pack_corpus import COUNT, run, samples, truth, words, write_data
from tests.fakes import BRIGHT, DARK, MIDDLE, brightness_labels


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twelve images in each of the five formats, in two splits and shards of about three."""
    folder = tmp_path_factory.mktemp("packed")
    write_data(folder)
    options = ["--split=train=0.7,test=0.3", "--images_per_shard=3"]
    for container in CONTAINERS:
        done = run(folder, words(container, f"--format={container}", *options))
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == (
            f"complete: shards in {container}, counts in {container}/pack.json"
        )
    return folder


def files_in(folder: Path, container: str) -> list[Path]:
    return sorted((folder / container).glob(f"*/*-of-*.{container}"))


def from_tar(path: Path) -> list[tuple[str, bytes, bytes, int, int]]:
    with tarfile.open(path) as archive:
        contents = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}
    rows = []
    for name in (name for name in contents if name.endswith(".json")):
        key, about = name.removesuffix(".json"), json.loads(contents[name])
        image = contents[key + Path(about["filename"]).suffix]
        labels = contents[f"{key}.labels.png"]
        rows.append((about["filename"], image, labels, about["height"], about["width"]))
    return rows


def from_parquet(path: Path) -> list[tuple[str, bytes, bytes, int, int]]:
    return [
        (row["image"]["path"], row["image"]["bytes"], row["labels"], row["height"], row["width"])
        for row in pq.read_table(path).to_pylist()
    ]


def from_tfrecord(path: Path) -> list[tuple[str, bytes, bytes, int, int]]:
    import tensorflow as tf

    def text(name: str) -> tf.io.FixedLenFeature:
        return tf.io.FixedLenFeature([], tf.int64 if "ght" in name or "dth" in name else tf.string)

    names = [
        "image/filename",
        "image/encoded",
        "image/segmentation/class/encoded",
        "image/height",
        "image/width",
    ]
    kind = "GZIP" if path.suffix == ".gz" else ""
    rows = []
    for record in tf.data.TFRecordDataset(str(path), kind):
        values = tf.io.parse_single_example(record, {name: text(name) for name in names})
        name, *rest = (values[name].numpy() for name in names)
        rows.append((name.decode(), *rest))
    return rows


@pytest.mark.parametrize("container", CONTAINERS)
def test_shards_hold_the_images_byte_for_byte_and_the_masks_pixel_for_pixel(packed, container):
    independent = {"tar": from_tar, "parquet": from_parquet, "tfrecord": from_tfrecord}
    read = independent[container.partition(".")[0]]
    shards, _ = shards_of(container)
    rows = []
    for path in files_in(packed, container):
        images = samples(path, container, None)
        labels = samples(path, container, shards.label_field)
        assert list(images) == list(labels)
        here = read(path)
        assert [Path(row[0]).stem for row in here] == list(images)
        assert [row[1] for row in here] == list(images.values())
        assert [row[2] for row in here] == list(labels.values())
        rows += here

    by_name = {row[0]: row[1:] for row in rows}
    paths = sorted((packed / "images").iterdir())
    assert len(rows) == COUNT
    assert sorted(by_name) == [path.name for path in paths]
    for number, path in enumerate(paths):
        image, label_map, height, width = by_name[path.name]
        assert image == path.read_bytes()
        with Image.open(io.BytesIO(label_map)) as decoded:
            np.testing.assert_array_equal(np.asarray(decoded), truth(number))
        assert (height, width) == (40 + number, 56)


def test_pack_json_counts_images_and_pixels(packed):
    documents = [json.loads((packed / name / "pack.json").read_text()) for name in CONTAINERS]

    (document, *others) = documents
    assert all(other["splits"] == document["splits"] for other in others)
    assert document["format"] == "beamseg pack"
    assert [entry["name"] for entry in document["classes"]] == ["dark", "middle", "bright"]
    assert document["label_field"] == "image/segmentation/class/encoded"
    every = np.concatenate([truth(number).ravel() for number in range(COUNT)])
    splits = document["splits"].values()
    assert sum(split["images"] for split in splits) == COUNT
    for name, value in (("dark", DARK), ("middle", MIDDLE), ("bright", BRIGHT)):
        expected = np.count_nonzero(every == value)
        assert sum(split["pixels"][name] for split in splits) == expected
    assert sum(split["nodata_pixels"] for split in splits) == COUNT * 56
    for split, counted in document["splits"].items():
        count = counted["shards"]
        assert sorted(p.name for p in (packed / "tar" / split).iterdir()) == [
            f"{split}-{number:05d}-of-{count:05d}.tar" for number in range(count)
        ]


def test_segment_takes_the_folder_of_a_pack(packed, brightness_savedmodel):
    inputs = [f"--input={container}" for container in CONTAINERS]
    done = run(
        packed, command("segment", *inputs, f"--model={brightness_savedmodel}", "--output=r")
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{COUNT * len(CONTAINERS)} images labelled, 0 failed")
    assert done.stderr.splitlines()[0].startswith("5 files are left aside: 5 .json (")
    for container in CONTAINERS:
        shards, _ = shards_of(container)
        for path in files_in(packed, container):
            labels = packed / "r" / "labels" / container / path.parent.name / path.name
            for name, encoded in samples(labels, container, shards.label_field).items():
                number = int(name.removeprefix("image-"))
                with Image.open(next((packed / "images").glob(f"{name}.*"))) as image:
                    expected = brightness_labels(np.asarray(image.convert("RGB")))
                with Image.open(io.BytesIO(encoded)) as decoded:
                    assert decoded.size == (56, 40 + number)
                    # JPEG decoders may differ by one in few pixels.
                    assert (np.asarray(decoded) != expected).mean() < 0.001
