"""A short series of mutants, and what longer series have found, each with its outcome."""

from __future__ import annotations

import struct
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.formats.parquet import ParquetFormat
from pipelines.formats.shards import ShardSample, UnreadableSample
from pipelines.formats.tfrecord import masked_crc32c
from pipelines.formats.work import ReadOptions
from tests.image_kinds import KINDS
from tests.pipelines.corpus import failure_rows, files_in, run_all, write
from tests.shard_entries import read_entries
from tests.shard_kinds import KnownShard, mixture, parquet, shard, tar, tfrecord
from tools import fuzz
from tools.fuzzing import oracle
from tools.fuzzing.checks import failed_rightly, intact_images, labelled_rightly
from tools.fuzzing.mutations import mutant

SERIES, MUTANTS = 7, 400


def test_mutants_are_labelled_rightly_or_fail_and_nothing_crashes_hangs_or_grows():
    summary = fuzz.fuzz(MUTANTS, SERIES)
    assert summary.findings == []
    assert summary.mutants == MUTANTS
    # About one of four images is labelled still, and nearly each shard is broken somewhere.
    assert sum(summary.labelled.values()) > MUTANTS / 2
    assert sum(summary.failed.values()) > MUTANTS / 2


def test_a_number_stands_for_the_same_mutant_every_time():
    first, second = (mutant(SERIES, 12) for _ in range(2))
    assert first.content == second.content
    assert first.content != mutant(SERIES + 1, 12).content


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("import os; os.abort()", "ended with status -6"),
        ("import time; time.sleep(60)", "no progress for 1 s"),
        ("raise KeyError('unheard of')", "KeyError: 'unheard of'"),
    ],
)
def test_a_process_that_crashes_hangs_or_raises_is_found_with_its_mutant(
    monkeypatch, program, found
):
    monkeypatch.setattr(fuzz, "PROGRAM", ("-c", program))
    monkeypatch.setattr(fuzz, "SILENCE_SECONDS", 1.0)
    summary = fuzz.fuzz(2, SERIES)
    assert [number for number, _ in summary.findings] == [0, 1]
    assert all(found in finding for _, finding in summary.findings)


def test_memory_that_grows_behind_the_first_mutants_is_found():
    summary = fuzz.Summary()
    for last, now in ((1000, 300 << 20), (2000, 150 << 20), (3000, 250 << 20)):
        line = {"first": last - 1000, "last": last, "labelled": {}, "failed": {}, "findings": []}
        summary.add(line | {"now_bytes": now, "peak_bytes": now})
    summary.check_memory()
    assert summary.findings == [(-1, "memory grew by 100 MiB")]


def test_wrong_labels_and_wrong_failures_are_found():
    image = KINDS["png-rgb-8"](0)
    wrong = image.labels.copy()
    wrong[3, 4] = 9
    assert list(labelled_rightly(image.encoded, [image], image.labels)) == []
    assert list(labelled_rightly(image.encoded, [], image.labels)) == []
    for known in ([image], []):
        assert list(labelled_rightly(image.encoded, known, wrong)) == ["1 of 714 labels are wrong"]
    assert list(failed_rightly(image.encoded, [image], "checksum")) == [
        "is intact and failed: checksum"
    ]
    assert list(failed_rightly(image.encoded, [], "moon")) == ["can be decoded and failed: moon"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_oracle_knows_the_labels_of_every_kind(kind):
    image = KINDS[kind](1)
    np.testing.assert_array_equal(oracle.labels_of(image.encoded), image.labels)


@pytest.mark.parametrize("kind", ["tfrecord", "tar", "parquet-plain"])
def test_images_before_a_change_are_intact(kind):
    start = shard(kind, 0)
    content = bytearray(start.encoded)
    content[start.spans[4][0] + 30] ^= 1
    assert intact_images(start, bytes(content)) == [0, 1, 2, 3]
    assert intact_images(start, start.encoded) == [0, 1, 2, 3, 4, 5]


def labelled_of(tmp_path: Path, work, name: str, start: KnownShard, content: bytes) -> list[int]:
    """Numbers of the images of a changed shard that have labels, all of them the right ones."""
    write(tmp_path / "in" / name, content)
    assert run_all(work, tmp_path / "in").missing == 0
    entries = read_entries(Path(work.run.path(f"labels/in/{name}")))
    for entry in entries:
        np.testing.assert_array_equal(entry.labels, start.images[entry.record].labels)
    return [entry.record for entry in entries]


def tar_field(block: bytes, place: int, value: bytes) -> bytes:
    """A header with another field, its checksum mended."""
    out = bytearray(block)
    out[place : place + len(value)] = value
    out[148:156] = b" " * 8
    out[148:156] = b"%06o\0 " % sum(out)
    return bytes(out)


def tar_with(start: KnownShard, sample: int, change) -> bytes:
    """An archive in which the header of a sample's image is replaced."""
    place = start.spans[sample][0]
    content = start.encoded
    return content[:place] + change(content[place : place + 512]) + content[place + 512 :]


def extended(**values: str) -> bytes:
    """An extended header of a member; POSIX.1-2001, pax."""
    records = b""
    for key, value in values.items():
        text = f" {key.replace('_', '.')}={value}\n".encode()
        length = len(text) + 2
        assert 10 <= length < 100
        records += b"%d" % length + text
    member = tarfile.TarInfo("extended")
    member.type, member.size = tarfile.XHDTYPE, len(records)
    return member.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0")


HOSTILE_HEADERS = {
    "2**88 - 1 bytes": lambda block: tar_field(block, 124, b"\x80" + b"\xff" * 11),
    "2**63 bytes": lambda block: tar_field(block, 124, b"\x80" + (2**63).to_bytes(11, "big")),
    "less than no bytes": lambda block: tar_field(block, 124, b"\xff" * 12),
    "back to the header before": lambda block: extended(size="-1024") + block,
    "a size of forty digits": lambda block: extended(size="9" * 40) + block,
    "two thousand extended headers": lambda block: extended(comment="a") * 2000 + block,
}


@pytest.mark.parametrize("hostile", HOSTILE_HEADERS)
def test_a_hostile_header_of_a_tar_archive_costs_what_is_behind_it(tmp_path, work, hostile):
    start = tar(*mixture(0))
    content = tar_with(start, 2, HOSTILE_HEADERS[hostile])
    assert labelled_of(tmp_path, work, "a.tar", start, content) == [0, 1]
    reasons = [row["reason"] for row in failure_rows(work)]
    assert reasons[-1].startswith("a header is corrupt (")
    assert "the rest of the shard from byte " in reasons[-1]


def test_a_sparse_file_in_a_tar_archive_whose_map_makes_no_sense_costs_itself(tmp_path, work):
    start = tar(*mixture(0))
    sparse = extended(GNU_sparse_major="1", GNU_sparse_minor="0")
    content = tar_with(start, 2, lambda block: sparse + block)
    assert labelled_of(tmp_path, work, "a.tar", start, content) == [0, 1, 3, 4, 5]
    (row,) = failure_rows(work)
    assert row["key"] == "#2 02/webp-alpha.webp"
    assert row["reason"].startswith("is a sparse file in the archive, which is not read: ")


def test_a_length_of_a_tfrecord_above_all_images_costs_what_is_behind_it(tmp_path, work):
    start = tfrecord(*mixture(0))
    place = start.spans[3][0]
    length = struct.pack("<Q", 2**63 - 1)
    header = length + struct.pack("<I", masked_crc32c(length))
    content = start.encoded[:place] + header + start.encoded[place + 12 :]
    assert labelled_of(tmp_path, work, "a.tfrecord", start, content) == [0, 1, 2]
    (row,) = failure_rows(work)
    assert row["reason"] == (
        "a record of 9223372036854775807 bytes is longer than any image within --max_pixels; the "
        f"rest of the shard from byte {place} on is lost"
    )


def test_a_page_that_is_gone_costs_its_group_of_rows(tmp_path, work):
    start = parquet(*mixture(0), binary=True, compression="none", use_dictionary=False)
    first, last = start.spans[2]
    content = start.encoded[:first] + bytes(last - first) + start.encoded[last:]
    assert labelled_of(tmp_path, work, "a.parquet", start, content) == [0, 1, 4, 5]
    (row,) = failure_rows(work)
    assert row["reason"].startswith("rows 2 to 3 are lost: the group is corrupt: ")


def rows_with_memory_for(
    tmp_path: Path, monkeypatch, asked: int
) -> list[ShardSample | UnreadableSample]:
    """Samples of a Parquet file, where Arrow does not get so many bytes."""

    def short_of_memory(*arguments, **options):
        raise pa.ArrowMemoryError(f"malloc of size {asked} failed")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", short_of_memory)
    write(tmp_path / "in" / "a.parquet", parquet(*mixture(0)).encoded)
    (file,) = files_in(tmp_path / "in")
    return list(ParquetFormat().samples(file, ReadOptions()))


def test_memory_that_is_short_for_a_page_of_usual_size_may_pass(tmp_path, monkeypatch):
    with pytest.raises(MemoryError):
        rows_with_memory_for(tmp_path, monkeypatch, 5000)
