"""A finished run loses no byte to inputs that cannot be labelled any more, whatever they are."""

from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.rasters.header import read_header
from pipelines.rasters.reach import Reach
from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions
from pipelines.storage import filesystem
from pipelines.storage.clients import local
from segmodel.errors import ConfigurationError
from segmodel.rasters.header import Header
from tests.pipelines.corpus import (
    encoded,
    pixels,
    png,
    record,
    small_blocks,
    tree,
    write,
    write_scene,
    write_shard,
)
from tests.pipelines.segment.test_gone import run

IMAGES = {"a/0.png": "PNG", "a/1.jpg": "JPEG", "a/2.webp": "WEBP", "a/3.tif": "TIFF"}
SCENES = ("b/plain.tif", "b/packed.tif", "b/plain-blocks.tif", "b/packed-blocks.tif")
SHARDS = ("c/0.tfrecord", "c/1.tfrecord.gz", "c/2.tar", "c/3.tar.gz", "c/4.parquet")
# Without compression, where any bytes are pixels, and where zeros are the end of the archive.
ZEROS_ARE_CONTENT = ("a/2.webp", "a/3.tif", "b/plain.tif", "b/plain-blocks.tif", "c/2.tar")


def write_tar(path: Path, images: list[bytes]) -> Path:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for number, image in enumerate(images):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(image)
            archive.addfile(member, io.BytesIO(image))
    plain = content.getvalue()
    return write(path, gzip.compress(plain) if path.suffix == ".gz" else plain)


def write_inputs(folder: Path) -> None:
    """Each kind of image, scene and shard; scenes of one block and of several."""
    for number, (name, kind) in enumerate(IMAGES.items()):
        write(folder / name, encoded(pixels(64, 64, number), kind))
    for number, name in enumerate(SCENES):
        side = 128 if "blocks" in name else 60
        packed = {"compress": "deflate"} if "packed" in name else {}
        write_scene(folder / name, pixels(side, side, number), blockysize=16, **packed)
    images = [png(pixels(32, 32, number)) for number in range(6)]
    for name in SHARDS[:2]:
        write_shard(folder / name, [record(pixels(32, 32, number)) for number in range(6)])
    for name in SHARDS[2:4]:
        write_tar(folder / name, images)
    pq.write_table(pa.table({"image": images}), folder / SHARDS[4], row_group_size=1)


@pytest.fixture
def options(tmp_path, model_folder, monkeypatch) -> SegmentOptions:
    small_blocks(monkeypatch, 64)
    write_inputs(tmp_path)
    inputs = tuple(str(tmp_path / name) for name in "abc")
    return SegmentOptions(inputs, str(model_folder), str(tmp_path / "run"), window=64)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def zero_end(path: Path) -> None:
    """As a copy leaves it that takes its room first and is stopped half-way."""
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size * 2 // 3].ljust(size, b"\0"))


@pytest.mark.parametrize("damage", [cut, zero_end])
def test_an_input_of_which_only_a_part_arrived_ends_the_command(options, tmp_path, damage):
    run(options)
    before = tree(options.output)
    for name in (*IMAGES, *SCENES, *SHARDS):
        if damage is zero_end and name in ZEROS_ARE_CONTENT:
            continue
        shutil.copy2(tmp_path / name, tmp_path / "copy")
        damage(tmp_path / name)

        with pytest.raises(ConfigurationError, match=rf"1 input \({name}: .*\)\. Nothing was"):
            prepare_run(check_run(options))

        assert tree(options.output) == before
        shutil.copy2(tmp_path / "copy", tmp_path / name)
    assert run(options)[1] == 0


def test_what_the_model_was_not_made_for_ends_the_command_where_it_had_a_label_map(
    options, tmp_path
):
    run(options)
    before = tree(options.output)
    for name in SCENES:
        shutil.copy2(tmp_path / name, tmp_path / "copy")
        write_scene(tmp_path / name, pixels(60, 60, bands=5).astype(np.uint16))

        with pytest.raises(ConfigurationError, match=rf"1 input \({name}: ") as caught:
            prepare_run(check_run(options))

        assert "dtype" in str(caught.value) or "bands" in str(caught.value)
        assert tree(options.output) == before
        shutil.copy2(tmp_path / "copy", tmp_path / name)


def test_a_scene_that_only_an_earlier_release_labelled_ends_the_command(
    options, tmp_path, monkeypatch
):
    run(options)
    before = tree(options.output)

    def with_new_rules(uri: str, version: str, reach: Reach | None) -> Header:
        found = read_header(uri, version, reach)
        changed = replace(found, revision=found.revision + 1, bands=found.bands[:2])
        return changed if uri.endswith(("plain.tif", "packed-blocks.tif")) else found

    monkeypatch.setattr("pipelines.rasters.header.read_header", with_new_rules)
    with pytest.raises(ConfigurationError, match=r"2 inputs \(b/packed-blocks\.tif: bands"):
        prepare_run(check_run(options))
    assert tree(options.output) == before
    total, computed = run(replace(options, gone="keep"))
    assert (total.tally.failed_images, computed) == (0, 0)


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_that_was_cut_keeps_its_label_map_on_request(options, tmp_path, name):
    run(options)
    label = tmp_path / "run" / "labels" / name
    before = label.read_bytes()
    cut(tmp_path / name)

    total, computed = run(replace(options, gone="keep"))

    assert (total.tally.failed_images, computed) == (0, 0)
    assert label.read_bytes() == before


def test_shards_that_are_replaced_by_others_are_labelled_again(options, tmp_path):
    run(options)
    one = [png(pixels(40, 40, 9)), b"no image", png(pixels(24, 24, 8))]
    write_shard(tmp_path / SHARDS[0], [record(pixels(40, 40, 9))])
    write_tar(tmp_path / SHARDS[2], one)
    pq.write_table(pa.table({"image": one}), tmp_path / SHARDS[4])

    total, computed = run(options)

    assert (computed, total.tally.failed_images) == (3, 2)
    assert total.tally.images == len(IMAGES) + len(SCENES) + 2 * 6 + 1 + 2 + 2


def test_a_shard_of_which_no_image_can_be_decoded_ends_the_command(options, tmp_path):
    run(options)
    before = tree(options.output)
    write_tar(tmp_path / SHARDS[2], [b"no image"] * 3)
    with pytest.raises(ConfigurationError, match=rf"1 input \({SHARDS[2]}: "):
        prepare_run(check_run(options))
    assert tree(options.output) == before


@pytest.mark.parametrize("change", ["an added image", "--pixel_size", "--retry_failures"])
def test_an_image_that_may_not_be_read_keeps_its_label_map_while_its_group_is_done_again(
    options, tmp_path, monkeypatch, change
):
    write(tmp_path / "a" / "failing.png", b"no image")
    run(options)
    before, opened = tree(options.output), local.open_local
    if change == "an added image":
        write(tmp_path / "a" / "4.png", png(pixels(9, 9)))
    changed = {
        "an added image": options,
        "--pixel_size": replace(options, pixel_size=2.0),
        "--retry_failures": replace(options, retry_failures=True),
    }[change]

    def refuse(path: str):
        if path == str(tmp_path / "a" / "0.png"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path)

    for module in (local, filesystem):
        monkeypatch.setattr(module, "open_local", refuse)
    with pytest.raises(ConfigurationError, match=r"1 input \(a/0\.png: Permission denied\)"):
        prepare_run(check_run(changed))
    assert tree(options.output) == before


def test_a_stack_of_other_band_files_is_another_scene(options, tmp_path):
    for folder in ("R10m", "R20m"):
        for number, band in enumerate(("red", "green", "blue")):
            path = tmp_path / "d" / folder / f"s_{band}.tif"
            write_scene(path, pixels(40, 40, number + len(folder), bands=1))
    fine = replace(options, inputs=(str(tmp_path / "d"),), stack="R10m/{scene}_{band}.tif")
    run(fine)
    before = tree(options.output)
    with pytest.raises(ConfigurationError, match=r"\(d/s\.vrt: .* of other files now\)"):
        prepare_run(check_run(replace(fine, stack="R20m/{scene}_{band}.tif")))
    assert tree(options.output) == before
    os.utime(tmp_path / "d" / "R10m" / "s_red.tif")
    assert run(fine)[1] == 1
