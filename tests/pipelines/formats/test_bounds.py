"""What is read of hostile or broken files has its bounds, and faults are told where they are."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.formats import images
from pipelines.formats.images import ImageFormat, stated_size
from pipelines.formats.parquet import ParquetFormat
from pipelines.formats.shards import MAX_NAME_CHARACTERS, ShardFormat, ShardSample, UnreadableSample
from pipelines.formats.tfrecord import TFRecordFormat
from pipelines.formats.work import ReadOptions
from pipelines.run.plan import InputFile
from segmodel.devices.startup import silence_pillow
from segmodel.errors import FailureCode, InputError
from tests.pipelines.archives import archive, read, write_archive
from tests.pipelines.corpus import (
    failure_rows,
    files_in,
    pixels,
    plan_context,
    png,
    record,
    run_all,
    units_in,
    write,
    write_shard,
)

LONG = "ä" * 5000
NOISE = np.random.default_rng(0).integers(0, 256, (800, 700, 3), dtype=np.uint8)


def write_long(folder: Path, kind: str) -> None:
    if kind == "tar":
        write_archive(folder / "s.tar", archive([(f"{LONG}.png", png(pixels(20, 20)))]))
    elif kind == "tfrecord":
        write_shard(folder / "s.tfrecord", [record(pixels(20, 20), LONG), b""])
    else:
        folder.mkdir(parents=True)
        table = pa.table({"image": [png(pixels(20, 20)), None], "path": [LONG] * 2})
        pq.write_table(table, folder / "s.parquet")


@pytest.mark.parametrize("kind", ["tar", "tfrecord", "parquet"])
def test_names_are_cut_in_tables_and_outputs(tmp_path, work, kind):
    write_long(tmp_path / "in", kind)
    totals = run_all(work, tmp_path / "in")
    assert totals.tally.images == 1
    (table,) = (Path(work.run.root) / "areas").glob("*.parquet")
    expected = f"#0 {LONG[:MAX_NAME_CHARACTERS]}"
    assert set(pq.read_table(table)["key"].to_pylist()) == {expected}
    for row in failure_rows(work):
        assert len(row["key"]) <= len(expected)


def test_a_name_of_any_length_is_kept_up_to_the_limit():
    for entry in (
        ShardSample(1, LONG, b""),
        UnreadableSample(1, LONG, "x", FailureCode.CORRUPT_RECORD),
    ):
        assert entry.name == LONG[:MAX_NAME_CHARACTERS]
    assert ShardSample(1, LONG[:MAX_NAME_CHARACTERS], b"").name == LONG[:MAX_NAME_CHARACTERS]


def test_reasons_show_the_beginning_of_long_names(tmp_path):
    (lost,) = read(write_archive(tmp_path / "s.tar", archive([(f"a.{LONG}", b"text")])))
    assert len(lost.reason) < 300
    pq.write_table(pa.table({LONG: [1]}), tmp_path / "s.parquet")
    (file,) = files_in(tmp_path / "s.parquet")
    (lost,) = ParquetFormat().read(file, ReadOptions())
    assert len(lost.reason) < 400


class Interrupted(TFRecordFormat):
    """Shards that cannot be read behind their second image."""

    def samples(self, file, reading):
        yield ShardSample(0, "a", b"")
        yield UnreadableSample(1, "b", "broken", FailureCode.CORRUPT_RECORD)
        raise OSError(errno.ENAMETOOLONG, "no longer")


def test_a_fault_in_the_middle_of_a_shard_has_its_number():
    shards: ShardFormat = Interrupted()
    file = InputFile("/x/a", "x", "a", 1, "1")
    *_, lost = shards.read(file, ReadOptions())
    reason = "the shard cannot be read on: no longer"
    assert lost == UnreadableSample(2, "", reason, FailureCode.CANNOT_READ)


def tiff_with_late_header(values: np.ndarray) -> bytes:
    """As most programs write it: the directory behind the pixels."""
    height, width, bands = values.shape
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 2), (273, 8), (277, bands)]
    tags += [(278, height), (279, values.size)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    header = struct.pack("<2sHI", b"II", 42, 8 + values.size)
    return header + values.tobytes() + struct.pack("<H", len(tags)) + entries + bytes(4)


def sparse_file(path: Path, size: int) -> InputFile:
    path.write_bytes(png(pixels(20, 30)))
    os.truncate(path, size)
    (file,) = files_in(path)
    return file


def test_of_a_large_file_only_the_beginning_is_read_for_an_estimate(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(images, "image_size", lambda begin: seen.append(len(begin)))
    file = sparse_file(tmp_path / "a.png", 1 << 30)
    assert stated_size(file, ReadOptions()) is None
    assert seen == [1 << 20, 16 << 20]
    assert stated_size(file, ReadOptions(max_pixels=1000)) is None
    assert len(seen) == 2


def test_headers_behind_pixels_are_found_in_files_of_some_size(tmp_path, recwarn):
    # Once in a process is enough, but for tests, after which filters are as before.
    silence_pillow.cache_clear()
    # As other programs write them: pixels first, the directory behind them.
    for name, encoded_bytes in (("a.png", png(NOISE)), ("b.tif", tiff_with_late_header(NOISE))):
        assert len(encoded_bytes) > 1 << 20
        (file,) = files_in(write(tmp_path / name, encoded_bytes))
        assert stated_size(file, ReadOptions()) == (800, 700)
    assert not recwarn.list


def test_a_file_that_vanished_has_no_size(tmp_path):
    file = sparse_file(tmp_path / "a.png", 999)
    (tmp_path / "a.png").unlink()
    estimate = ImageFormat().estimate([file], plan_context())
    assert (estimate.images, estimate.pixels) == (1, 0)


def areas_of(work) -> Path:
    (table,) = (Path(work.run.root) / "areas").glob("*.parquet")
    return table


def thumbnails(work, path: Path):
    (unit,) = units_in(work, path)
    return list(TFRecordFormat().thumbnails(unit, work, 4, 32))


def test_a_broken_table_of_areas_is_an_error_of_the_input(tmp_path, work):
    path = write_shard(tmp_path / "in" / "s.tfrecord", [record(pixels(20, 20), "a")])
    run_all(work, path)
    assert len(thumbnails(work, path)) == 1
    whole = areas_of(work).read_bytes()
    for content in (b"", b"text" * 99, whole[: len(whole) // 2], b"PAR1" + bytes(99) + b"PAR1"):
        areas_of(work).write_bytes(content)
        with pytest.raises(InputError, match=r"^the areas of .* cannot be read"):
            thumbnails(work, path)
    pq.write_table(pa.table({"other": [1]}), areas_of(work))
    with pytest.raises(InputError, match=r"^the areas of .* cannot be read"):
        thumbnails(work, path)


def test_a_long_table_of_areas_is_not_read_to_its_end(tmp_path, work, monkeypatch):
    path = write_shard(tmp_path / "in" / "s.tfrecord", [record(pixels(20, 20), "a")])
    run_all(work, path)
    keys = [f"#{number}" for number in range(20_000)]
    pq.write_table(pa.table({"key": keys}), areas_of(work), row_group_size=1000)
    read_rows = []

    class Counting(pq.ParquetFile):
        def iter_batches(self, *arguments, **options):
            for batch in super().iter_batches(*arguments, **options):
                read_rows.append(batch.num_rows)
                yield batch

    monkeypatch.setattr(pq, "ParquetFile", Counting)
    thumbnails(work, path)
    assert 0 < sum(read_rows) <= 2048
