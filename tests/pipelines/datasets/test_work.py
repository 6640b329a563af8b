"""Shards without an engine: written once, resumed, and counted from their records."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli.values import FailureBudget
from pipelines.datasets import work as work_module
from pipelines.datasets.launch import check_pack, prepare_pack
from pipelines.datasets.options import PackOptions
from pipelines.datasets.work import _Room, pack_unit
from pipelines.run import plan
from pipelines.storage import filesystem
from segmodel.errors import ConfigurationError
from tests.pipelines.corpus import encoded, png, tree, write, write_scene
from tests.pipelines.pack_corpus import COUNT, ids, image, pack, result, rows, shards, write_pairs


@pytest.fixture
def options(tmp_path: Path) -> PackOptions:
    return write_pairs(tmp_path)


def test_counts_are_those_of_the_masks(options):
    status, done = pack(options)

    assert status == 0
    splits = result(options)["splits"]
    every = np.concatenate([ids(number).ravel() for number in range(COUNT)])
    assert sum(split["images"] for split in splits.values()) == COUNT
    assert sum(split["groups"] for split in splits.values()) == COUNT
    for name, value in (("land", 0), ("water", 7)):
        total = sum(split["pixels"][name] for split in splits.values())
        assert total == np.count_nonzero(every == value)
    assert {split["nodata_pixels"] for split in splits.values()} == {0}
    assert len(done) == sum(split["shards"] for split in splits.values())
    assert not (Path(options.output) / ".beamseg" / "tmp").exists()


def test_without_masks_nothing_is_said_of_classes(options):
    bare = replace(options, masks=(), classes=None, mask_encoding=None)
    assert pack(bare)[0] == 0
    document = result(bare)
    assert "classes" not in document
    assert all("pixels" not in split for split in document["splits"].values())
    assert document["options"]["mask_encoding"] is None


def test_a_finished_pack_is_left_as_it_is(options):
    pack(options)
    before = tree(options.output)
    assert pack(options) == (0, [])
    assert tree(options.output) == before


def test_a_shard_that_is_missing_or_cut_is_written_again_with_the_same_bytes(options):
    pack(options)
    before = shards(options)
    lost, cut = sorted(name for name in before if name.startswith("train/"))[:2]
    (Path(options.output) / lost).unlink()
    (Path(options.output) / cut).write_bytes(before[cut][:-1])

    status, done = pack(options)

    assert status == 0
    assert done == [Path(lost).stem, Path(cut).stem]
    assert shards(options) == before


def test_an_image_that_is_added_changes_its_shard_alone(options, tmp_path):
    pack(options)
    before = shards(options)
    write(tmp_path / "images" / "new.jpg", encoded(image(1), "JPEG"))
    write(tmp_path / "masks" / "new.png", png(ids(1)))

    status, done = pack(options)

    assert status == 0
    assert len(done) == 1
    after = shards(options)
    assert set(after) == set(before)
    changed = {Path(name).stem for name in after if after[name] != before[name]}
    assert changed == {*done, "pack"}
    assert sum(split["images"] for split in result(options)["splits"].values()) == COUNT + 1


def test_an_image_that_is_removed_leaves_no_trace(options, tmp_path):
    (tmp_path / "images" / "07.png").rename(tmp_path / "07.png")
    assert pack(options)[0] == 0
    expected = shards(options)
    (tmp_path / "07.png").rename(tmp_path / "images" / "07.png")
    pack(options)
    assert shards(options) != expected
    (tmp_path / "images" / "07.png").unlink()

    assert pack(replace(options, gone="prune"))[0] == 0
    assert shards(options) == expected


@pytest.mark.parametrize("mend", [True, False])
def test_bad_files_are_failures_with_the_file_and_the_value(options, tmp_path, mend):
    (tmp_path / "images" / "03.png").write_bytes(png(image(3))[:-20])
    (tmp_path / "masks" / "05.png").write_bytes(png(ids(5) + 3))
    (tmp_path / "masks" / "06.png").write_bytes(png(ids(7)))

    status, _ = pack(options)

    assert status == 3
    assert not (Path(options.output) / "pack.json").exists()
    found = {row["uri"]: (row["stage"], row["reason"]) for row in rows(options)}
    assert set(found) == {"images/03.png", "masks/05.png", "masks/06.png"}
    assert found["images/03.png"][0] == "read"
    assert found["masks/05.png"] == (
        "mask",
        "mask has id 3, 10, which is neither a class nor ignored",
    )
    assert found["masks/06.png"] == ("mask", "the mask is 12x6, its image 11x6")
    if mend:
        for folder, content in (("images", png(image(3))), ("masks", b"")):
            (tmp_path / folder / "03.png").write_bytes(content or png(ids(3)))
        (tmp_path / "masks" / "05.png").write_bytes(png(ids(5)))
        (tmp_path / "masks" / "06.png").write_bytes(png(ids(6)))
        assert pack(options)[0] == 0
        assert rows(options) == []
    else:
        allowed = replace(options, max_failures=FailureBudget(3, None))
        assert pack(allowed) == (0, [])
        assert sum(s["failed_images"] for s in result(options)["splits"].values()) == 3
        assert pack(replace(allowed, retry_failures=True))[1] != []


@pytest.mark.parametrize(
    ("count", "dtype", "refused"),
    [
        (1, "uint8", None),
        (4, "uint8", None),
        (4, "uint16", None),
        (2, "uint8", ("wrong_bands", "2 of uint8")),
        (5, "uint16", ("wrong_bands", "5 of uint16")),
        (3, "float32", ("wrong_dtype", "3 of float32")),
    ],
)
def test_tiffs_are_packed_if_a_model_can_read_them_from_shards(options, count, dtype, refused):
    (Path(options.images[0]) / "03.png").unlink()
    path, values = Path(options.images[0]) / "03.tif", np.zeros((6, 8, count), dtype)
    write_scene(path, values, place=(None, None), photometric="minisblack")
    assert pack(options)[0] == (0 if refused is None else 3)
    found = {(row["uri"], row["code"]): row["reason"] for row in rows(options)}
    assert list(found) == ([] if refused is None else [("images/03.tif", refused[0])])
    for reason in found.values():
        assert reason.startswith(
            f"shards hold images of 1, 3 or 4 bands of uint8 or uint16, this TIFF has "
            f"{refused[1]}: write those to keep"
        )


def test_a_fault_that_may_pass_leaves_the_shard_for_the_next_attempt(options, monkeypatch, caplog):
    read = filesystem.read_bytes

    def flaky(uri: str, version: str | None = None) -> bytes:
        if uri.endswith("images/03.png"):
            raise OSError(errno.EIO, "the disk coughs")
        return read(uri, version)

    monkeypatch.setattr(work_module.filesystem, "read_bytes", flaky)
    status, done = pack(options)

    assert status == 4
    assert not (Path(options.output) / "pack.json").exists()
    assert rows(options) == []
    monkeypatch.undo()
    status, again = pack(options)
    assert (status, len(again)) == (0, 1)
    assert not set(done) & set(again)


def test_a_damaged_record_is_not_believed(options):
    pack(options)
    before = shards(options)
    record = next(Path(options.output).glob(".beamseg/commits/*.json"))
    record.write_bytes(b"{}")

    status, done = pack(options)

    assert status == 0
    assert [record.name.startswith(name) for name in done] == [True]
    assert shards(options) == before


def test_a_fault_of_ours_is_no_failure_of_an_image(options, monkeypatch):
    def broken(*arguments):
        raise KeyError("a bug")

    monkeypatch.setattr(work_module.areas, "measure", broken)
    with pytest.raises(KeyError, match="a bug"):
        pack(options)


def test_too_little_memory_is_refused_and_large_files_fail(options):
    with pytest.raises(ConfigurationError, match=r"--memory 256M is not enough .*give 283M"):
        check_pack(replace(options, memory=256 << 20))
    with pytest.raises(ConfigurationError, match="images of 178956970 pixels: give 4808M"):
        check_pack(replace(options, max_pixels=178_956_970))

    work = replace(prepare_pack(check_pack(options)).work, encoded_bytes=100)
    unit = next(plan.read_units(work.run.plan, plan.WorkUnit))
    pack_unit(unit, work)
    assert all("are more than --memory leaves for one file" in r["reason"] for r in rows(options))
    assert work.log.read(unit).tally.failed_images == len(unit.files) // 2


def test_threads_share_room_and_what_is_too_large_comes_alone():
    room, together, most = _Room(10), 0, 0
    lock = threading.Lock()

    def take(size: int) -> None:
        nonlocal together, most
        with room.taken(size):
            with lock:
                together += size
                most = max(most, together if together <= 25 else 99)
            threading.Event().wait(0.002)
            with lock:
                together -= size

    threads = [threading.Thread(target=take, args=(size,)) for size in [3, 4, 5, 25] * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 25
    assert together == 0
