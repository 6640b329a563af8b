"""Training data by a configuration: folders, shards of every container, and what is wrong."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import FileIO
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets import training
from pipelines.datasets.training import read_data
from pipelines.formats import example
from pipelines.formats.tfrecord import LABELS, frame
from segmodel.errors import ConfigurationError, DiskError, InputError
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.labels.confusion import IGNORED
from segmodel.pairs.stats import collect_stats
from segmodel.tiling.windows import Window
from segmodel.training.configuration import Configuration, DataConfig, ModelConfig
from tests.pipelines.corpus import png, write
from tests.pipelines.pack_corpus import COUNT, ids, image, pack, write_pairs

CLASSES = ClassTable((LabelClass(0, "land", (16, 32, 48)), LabelClass(7, "water", (64, 80, 96))))
CONTAINERS = ("tfrecord", "tfrecord.gz", "tar", "tar.gz", "parquet")


def configuration(**data) -> Configuration:
    return Configuration(DataConfig(mask_encoding="id", **data), ModelConfig("m"), CLASSES)


def packed(folder: Path, container: str = "tfrecord") -> Path:
    options = replace(write_pairs(folder), container=container)
    assert pack(options)[0] == 0
    return Path(options.output)


def folders(root: Path) -> dict[str, tuple[str, ...]]:
    """Two pairs for training and one for validation."""
    for number, name in enumerate(("training/1", "training/2", "validation/1")):
        split, stem = name.split("/")
        write(root / split / "images" / f"{stem}.png", png(image(number)))
        write(root / split / "masks" / f"{stem}.png", png(ids(number)))
    return {
        "images": (str(root / "training" / "images"),),
        "masks": (str(root / "training" / "masks"),),
        "validation_images": (str(root / "validation" / "images"),),
        "validation_masks": (str(root / "validation" / "masks"),),
    }


def record(**features: bytes) -> bytes:
    names = {"image": "image/encoded", "labels": LABELS, "name": "image/filename"}
    return frame(example.serialize_example({names[key]: value for key, value in features.items()}))


def good(number: int) -> bytes:
    return record(image=png(image(number)), labels=png(ids(number)), name=b"%d.png" % number)


def whole(pair) -> Window:
    return Window(0, 0, pair.height, pair.width)


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_pack_wrote_is_read_back(tmp_path, container):
    output = packed(tmp_path, container)
    config = configuration(
        shards=(str(output / "train"),), validation_shards=(str(output / "test" / "*"),)
    )

    with read_data(config) as data:
        pairs = (*data.training, *data.validation)
        assert len(data.training) > 0
        assert len(data.validation) > 0
        assert len({pair.name for pair in pairs}) == len(pairs) == COUNT
        seen = set()
        for pair in pairs:
            number = pair.width - 5
            seen.add(number)
            np.testing.assert_array_equal(pair.pixels(whole(pair)).values, image(number))
            expected = np.where(ids(number)[..., 0] == 7, 1, 0)
            np.testing.assert_array_equal(pair.truth(whole(pair)), expected)
            shard, _, rest = pair.name.partition("#")
            assert pair.group == shard
            assert shard.endswith(f".{container}")
            assert rest.endswith(f" {number:02d}.png")
        assert seen == set(range(COUNT))
        counted = collect_stats(pairs, CLASSES, allow_empty=False).counts
        every = np.concatenate([ids(number).ravel() for number in range(COUNT)])
        assert counted.tolist() == [int((every == 0).sum()), int((every == 7).sum())]


def test_samples_are_read_in_any_order_by_several_threads(tmp_path):
    output = packed(tmp_path)
    config = configuration(shards=(str(output),), cache_mb=1)
    with read_data(config, without_validation=True) as data, ThreadPoolExecutor(4) as pool:
        order = list(np.random.default_rng(0).permutation(np.tile(np.arange(COUNT), 5)))
        widths = pool.map(lambda n: data.training[n].truth(whole(data.training[n])).shape[1], order)
        assert list(widths) == [data.training[n].width for n in order]


def test_an_image_that_names_files_elsewhere_is_refused_unless_it_is_trusted(tmp_path):
    data = folders(tmp_path)
    outside = tmp_path / "outside.png"
    write(outside, png(image(1)))
    band = '<VRTRasterBand dataType="Byte" band="{0}"><SimpleSource><SourceFilename>{1}'
    band += "</SourceFilename><SourceBand>{0}</SourceBand></SimpleSource></VRTRasterBand>"
    bands = "".join(band.format(number, outside) for number in (1, 2, 3))
    place = "<SRS>EPSG:32633</SRS><GeoTransform>500000,10,0,5600000,0,-10</GeoTransform>"
    size = f'rasterXSize="{image(1).shape[1]}" rasterYSize="{image(1).shape[0]}"'
    scene = Path(data["images"][0]) / "1.tif"
    (scene.with_suffix(".png")).unlink()
    scene.write_text(f"<VRTDataset {size}>{place}{bands}</VRTDataset>")

    with (
        pytest.raises(InputError, match=r"1\.tif: .*outside\.png.*--trust_inputs") as caught,
        read_data(configuration(**data)),
    ):
        pass
    with read_data(configuration(**data), is_trusted=True) as trusted:
        pixels = trusted.training[0].pixels(whole(trusted.training[0])).values

    assert caught.value.code.value == "not_trusted"
    np.testing.assert_array_equal(pixels, image(1))


def test_folders_and_shards_are_read_together(tmp_path):
    write(tmp_path / "a.tfrecord", good(5) + good(6))
    config = configuration(**folders(tmp_path), shards=(str(tmp_path / "a.tfrecord"),))
    with read_data(config) as data:
        assert [pair.name for pair in data.training] == [
            "training/images/1.png",
            "training/images/2.png",
            "a.tfrecord#0 5.png",
            "a.tfrecord#1 6.png",
        ]
        assert [pair.name for pair in data.validation] == ["validation/images/1.png"]
        groups = [pair.group for pair in data.training]
        assert groups == ["training/images", "training/images", "a.tfrecord", "a.tfrecord"]


def test_groups_are_found_in_paths_and_in_names_of_samples(tmp_path):
    write(
        tmp_path / "x" / "a.tfrecord",
        record(image=png(image(1)), labels=png(ids(1)), name=b"tile4/images/9.png"),
    )
    config = configuration(shards=(str(tmp_path / "x"),), group=r"(tile\d)/")
    with read_data(config, without_validation=True) as data:
        assert [pair.group for pair in data.training] == ["tile4"]
    unmatched = configuration(shards=(str(tmp_path / "x"),), group="(city)")
    with (
        pytest.raises(ConfigurationError, match=r"matches no part of .*a\.tfrecord/tile4/images/9"),
        read_data(unmatched, without_validation=True),
    ):
        pass


def test_shards_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in "ab":
        write(tmp_path / folder / "0.tfrecord", good(1))
    config = configuration(shards=(str(tmp_path / "a"),), validation_shards=(str(tmp_path / "b"),))
    with read_data(config) as data:
        assert data.training[0].name == "a/0.tfrecord#0 1.png"
        assert data.validation[0].name == "b/0.tfrecord#0 1.png"


def test_nodata_and_ignored_ids_of_label_maps_count_nowhere(tmp_path):
    labels = np.array([[[7], [255], [9]]], np.uint8)
    picture = np.zeros((1, 3, 3), np.uint8)
    write(tmp_path / "a.tfrecord", record(image=png(picture), labels=png(labels)))
    config = configuration(shards=(str(tmp_path),), ignore_ids=(9,))
    with read_data(config, without_validation=True) as data:
        assert data.training[0].truth(Window(0, 0, 1, 3)).tolist() == [[1, IGNORED, IGNORED]]


def test_a_label_of_no_class_is_named_with_its_sample_by_the_survey(tmp_path):
    labels = png(np.full((6, 6, 1), 8, np.uint8))
    write(tmp_path / "a.tfrecord", good(0) + record(image=png(image(1)), labels=labels, name=b"n"))
    with (
        read_data(configuration(shards=(str(tmp_path),)), without_validation=True) as data,
        pytest.raises(InputError, match=r"label map of a\.tfrecord#1 n: mask has id 8, which is"),
    ):
        collect_stats(data.training, CLASSES, allow_empty=True)


def test_the_copy_of_shards_is_gone_after_the_block(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    write(tmp_path / "a.tfrecord", good(1))
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    with read_data(configuration(shards=(str(tmp_path),)), without_validation=True) as data:
        (pair,) = data.training
    assert not list((tmp_path / "scratch").iterdir())
    if before:
        assert set(os.listdir("/proc/self/fd")) <= before
    with pytest.raises(OSError, match="Bad file descriptor"):
        pair.pixels(Window(0, 0, 1, 1))


@pytest.mark.parametrize("short", [0, 1])
def test_shards_whose_copy_cannot_fit_are_refused_before_any_is_read(tmp_path, monkeypatch, short):
    size = sum(write(tmp_path / f"{n}.tfrecord", good(n)).stat().st_size for n in (1, 2))
    asked = []

    def free(folder: str) -> int:
        asked.append(folder)
        return size - short

    monkeypatch.setattr(training, "free_bytes_of", free)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = read_data(configuration(shards=(str(tmp_path),)), without_validation=True)
    if short:
        monkeypatch.setattr(training, "_samples", None)
        with (
            pytest.raises(DiskError, match=rf"{tmp_path}: the copy .* MiB are left: make room"),
            data,
        ):
            pass
    else:
        with data as found:
            assert len(found.training) == 2
    assert asked == [str(tmp_path)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_gets_full_is_told_with_the_remedy(tmp_path, monkeypatch):
    write(tmp_path / "a.tfrecord", good(1))
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: FileIO("/dev/full", "w"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with (
        pytest.raises(DiskError, match=f"{tmp_path}: no space is left on the disk"),
        read_data(configuration(shards=(str(tmp_path),)), without_validation=True),
    ):
        pass


def broken_tar(folder: Path) -> Path:
    """A sample without a label map."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("a.png", png(image(1))), ("a.labels.png", png(ids(1)))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo("b.png")
        member.size = len(png(image(2)))
        archive.addfile(member, io.BytesIO(png(image(2))))
    return write(folder / "a.tar", buffer.getvalue())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (good(1) + record(image=png(image(2)), name=b"x"), r"a\.tfrecord: #1 has no label map \("),
        (good(1) + record(labels=png(ids(2))), r"a\.tfrecord: #1 has no image that can be read"),
        (good(1) + good(2)[:-9], r"a\.tfrecord: #1 has no image .* in the middle of a record"),
        (good(1)[:20] + b"x" + good(1)[21:], r"a\.tfrecord: #0 has no image .* checksum"),
        (b"", r"a\.tfrecord: the shard holds no sample"),
    ],
)
def test_a_broken_shard_is_named_with_the_sample(tmp_path, content, reason):
    write(tmp_path / "a.tfrecord", content)
    config = configuration(shards=(str(tmp_path),))
    with pytest.raises(InputError, match=reason) as caught, read_data(config, True):
        pass
    assert "--image_field" not in str(caught.value)


def test_a_sample_of_an_archive_without_label_map_is_named(tmp_path):
    broken_tar(tmp_path)
    config = configuration(shards=(str(tmp_path),))
    reason = r"a\.tar: #1 b has no label map \(labels\.png\) that can be read: the sample has 0"
    with pytest.raises(InputError, match=reason), read_data(config, True):
        pass


def test_a_gzip_shard_that_is_cut_off_is_named(tmp_path):
    whole_shard = gzip.compress(good(1) + good(2))
    write(tmp_path / "a.tfrecord.gz", whole_shard[: len(whole_shard) // 2])
    config = configuration(shards=(str(tmp_path),))
    with pytest.raises(InputError, match=r"a\.tfrecord\.gz: #"), read_data(config, True):
        pass


def test_ten_faults_are_enough(tmp_path):
    bare = record(image=png(image(1)))
    write(tmp_path / "a.tfrecord", bare * 30)
    with (
        pytest.raises(InputError) as caught,
        read_data(configuration(shards=(str(tmp_path),)), True),
    ):
        pass
    assert str(caught.value).count("a.tfrecord: #") == 10


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, "data.images or data.shards must name something to train on"),
        ({"shards": ("{}/a.tfrecord",)}, "data.validation_images or data.validation_shards must"),
        ({"shards": ("{}/b*",), "validation_shards": ("{}",)}, "data.shards: .*b. matches no"),
        ({"shards": ("{}",), "validation_shards": ("{}/c",)}, "data.validation_shards: .*/c match"),
        (
            {"shards": ("{}",), "validation_shards": ("{}/a.tfrecord",)},
            r"a\.tfrecord is for training and for validation",
        ),
        ({"shards": ("{}", "{}/a*"), "validation_shards": ("{}",)}, r"a\.tfrecord is found twice"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(tmp_path, data, reason):
    write(tmp_path / "a.tfrecord", good(1))
    located = {key: tuple(p.format(tmp_path) for p in patterns) for key, patterns in data.items()}
    with pytest.raises(ConfigurationError, match=reason), read_data(configuration(**located)):
        pass


def test_an_image_for_training_and_for_validation_is_named(tmp_path):
    data = folders(tmp_path)
    data |= {"validation_images": data["images"], "validation_masks": data["masks"]}
    with (
        pytest.raises(ConfigurationError, match=r"1\.png is for training and for validation"),
        read_data(configuration(**data)),
    ):
        pass


def test_an_image_without_mask_is_named(tmp_path):
    data = folders(tmp_path)
    (tmp_path / "training" / "masks" / "2.png").unlink()
    with (
        pytest.raises(InputError, match=r"no mask with the same path .*training/images/2\.png"),
        read_data(configuration(**data)),
    ):
        pass


def test_a_missing_shard_is_a_warning_and_both_sides_count_together(tmp_path, caplog):
    for number in (0, 1, 2):
        write(tmp_path / f"a-0000{number}-of-00004.tfrecord", good(number + 1))
    config = configuration(
        shards=(str(tmp_path / "a-0000[01]*"),), validation_shards=(str(tmp_path / "a-00002*"),)
    )

    with read_data(config):
        pass

    (warning,) = caplog.messages
    assert warning.startswith("missing: 1 shard that the names of others count: ")
    assert warning.endswith("a-00003-of-00004.tfrecord")
