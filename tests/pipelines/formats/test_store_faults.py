"""While a store or a disk fails, at whatever request, a shard is unfinished and never corrupt."""

from __future__ import annotations

import errno
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipelines.formats.shards import ShardSample
from pipelines.formats.work import ReadOptions
from pipelines.storage import filesystem
from pipelines.worker.formats import find_format
from segmodel.errors import TransientError, is_transient
from tests.pipelines.archives import PNGS, archive, extended, pax, special
from tests.pipelines.corpus import (
    failure_rows,
    files_in,
    make_work,
    pixels,
    png,
    read_png,
    record,
    run_all,
    run_unit,
    tree,
    units_in,
    write_scene,
    write_shard,
)
from tests.pipelines.formats.test_parquet_broken import write_groups

LINKED = [*((f"{n}.png", PNGS[n]) for n in range(2)), (special("z.png", b"2", "0.png"), b"")]
SHARDS = {
    "a.tar": "tar",
    "a.tar.gz": "tar",
    "links.tar": "tar",
    "a.parquet": "parquet",
    "a.tfrecord": "tfrecord",
    "a.tfrecord.gz": "tfrecord",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A shard of each format, each with what its reader takes a way of its own for."""
    made = tmp_path / "in"
    made.mkdir()
    plain = extended(pax("comment", "x" * 600)) + archive([(f"{n}.png", PNGS[n]) for n in range(3)])
    (made / "a.tar").write_bytes(plain)
    (made / "a.tar.gz").write_bytes(gzip.compress(plain))
    (made / "links.tar").write_bytes(archive(LINKED))
    write_groups(made / "a.parquet", compression="none")
    for name in ("a.tfrecord", "a.tfrecord.gz"):
        write_shard(made / name, [record(pixels(20, 30, n)) for n in range(3)])
    return made


@pytest.fixture(autouse=True)
def _small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard takes many requests."""
    monkeypatch.setattr(filesystem.open_stream, "__defaults__", (None, 512))


class FailingFile(io.FileIO):
    """A file of which one read fails as a broken disk does.

    Attributes:
        left: Reads before that one.
    """

    left = 0

    def readinto(self, buffer):
        FailingFile.left -= 1
        if FailingFile.left < 0:
            raise OSError(errno.EIO, "Input/output error")
        return super().readinto(buffer)


@pytest.mark.parametrize("name", SHARDS)
def test_whichever_request_fails_the_fault_is_not_taken_for_content(folder, client, name):
    client.put_all(folder, "gs://b/in")
    (file,), form = files_in(f"gs://b/in/{name}"), find_format(SHARDS[name])
    client.asked.clear()
    expected = list(form.read(file, ReadOptions()))
    assert all(isinstance(sample, ShardSample) for sample in expected)
    requests = len(client.asked)
    assert requests >= 3
    for number in range(requests):
        client.asked.clear()
        client.fails = lambda *_, number=number: len(client.asked) > number
        with pytest.raises(TransientError, match="the store is down"):
            list(form.read(file, ReadOptions()))
    client.fails = lambda *_: False
    assert list(form.read(file, ReadOptions())) == expected


@pytest.mark.parametrize("name", SHARDS)
def test_whichever_read_of_a_disk_fails_the_fault_is_not_taken_for_content(
    folder, monkeypatch, name
):
    (file,), form = files_in(folder / name), find_format(SHARDS[name])
    expected = list(form.read(file, ReadOptions()))
    monkeypatch.setattr(
        filesystem, "open_local", lambda path: io.BufferedReader(FailingFile(path), 512)
    )
    FailingFile.left = most = 1000
    assert list(form.read(file, ReadOptions())) == expected
    for number in range(most - FailingFile.left):
        FailingFile.left = number
        with pytest.raises(OSError, match="Input/output error") as caught:
            list(form.read(file, ReadOptions()))
        assert is_transient(caught.value)


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_a_shard_whose_store_was_down_is_unfinished_and_heals(folder, client, tmp_path, name):
    client.put_all(folder, "gs://b/in")
    work, whole = make_work(tmp_path / "run"), make_work(tmp_path / "whole")
    (unit,) = units_in(work, f"gs://b/in/{name}")
    assert run_unit(unit, whole).done == 1
    client.asked.clear()
    client.fails = lambda *_: len(client.asked) > 1
    assert run_unit(unit, work) == (0, 0, 1, 0)
    assert not any(path.startswith(("commits", "failures")) for path in tree(work.run.root))
    client.fails = lambda *_: False
    assert run_unit(unit, work).done == 1
    labels = f"labels/in/{name}"
    assert tree(work.run.root)[labels] == tree(whole.run.root)[labels]


def test_a_tiff_with_a_mask_beside_it_is_read_in_a_store(tmp_path, client):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(20, 30), place=(None, None))
    valid = np.ones((20, 30), bool)
    valid[0] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as target:
        target.write_mask(valid)
    client.put_all(tmp_path / "in", "gs://b/in")
    work = make_work(tmp_path / "run")
    (unit,) = units_in(work, "gs://b/in/a.tif")
    assert unit.format == "images"
    assert run_unit(unit, work).done == 1
    assert failure_rows(work) == []
    labels = read_png(Path(work.run.path("labels/in/a.tif.png")))
    assert (labels == 255).sum() == 30


def test_objects_whose_names_lead_elsewhere_are_failures_and_others_are_labelled(tmp_path, client):
    names = ("x/../a.png", "../b.tfrecord", "./c.parquet", "x/../d.tif", "..", "e.png")
    client.objects |= {f"gs://b/in/{name}": png(pixels(20, 30)) for name in names}
    # What a path that is joined leads to.
    client.objects["gs://b/in/d.tif"] = write_scene(tmp_path / "d.tif", pixels(20, 30)).read_bytes()
    work = make_work(tmp_path / "run")
    totals = run_all(work, "gs://b/in")
    rows = [(row["uri"], row["reason"][:40]) for row in failure_rows(work)]
    reason = "a part of its name in the store is . or "
    assert sorted(rows) == [
        ("in/%2E%2E/b.tfrecord", reason),
        ("in/%2E/c.parquet", "the file cannot be read: a part of its n"),
        ("in/x/%2E%2E/a.png", reason),
        ("in/x/%2E%2E/d.tif", reason),
    ]
    assert totals.tally.images == 2
