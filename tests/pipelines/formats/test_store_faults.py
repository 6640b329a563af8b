"""While a store or a disk fails, at whatever request, a shard is unfinished and never corrupt."""

from __future__ import annotations

import errno
import gzip
import io
from pathlib import Path

import pytest

from pipelines.formats.shards import ShardSample
from pipelines.formats.work import ReadOptions
from pipelines.storage import filesystem
from pipelines.worker.formats import find_format
from segmodel.errors import TransientError, is_transient
from tests.pipelines.archives import PNGS, archive, extended, pax, special
from tests.pipelines.corpus import (
    files_in,
    make_work,
    pixels,
    record,
    run_unit,
    tree,
    units_in,
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
