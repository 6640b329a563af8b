"""Archives that are cut, corrupt or hostile: what stands before is labelled, the rest is told."""

from __future__ import annotations

import gzip
import tarfile
import time

import numpy as np
import pytest

from pipelines.formats.tar import TarFormat
from pipelines.formats.tar_members import MAX_EXTRA_BYTES
from pipelines.formats.work import ReadOptions
from tests.fakes import brightness_labels
from tests.pipelines.archives import (
    END_MARK,
    IMAGES,
    PNGS,
    archive,
    extended,
    header,
    label_archive,
    members_of,
    names_and_reasons,
    padded,
    pax,
    png_values,
    read,
    write_archive,
)
from tests.pipelines.corpus import failure_rows, files_in, plan_context

MEMBERS = [(f"{number}.png", PNGS[number]) for number in range(4)]
WHOLE = archive(MEMBERS)
# Where the header of each member begins; the end mark is behind the last.
STARTS = [0]
for _, image in MEMBERS:
    STARTS.append(STARTS[-1] + 512 + len(padded(image)))


def image_member(name: str, image: bytes) -> bytes:
    return header(name, len(image)) + padded(image)


BEFORE = b"".join(image_member(f"{n}.png", PNGS[n]) for n in range(2))
BEHIND = b"".join(image_member(f"{n}.png", PNGS[n]) for n in range(2, 4)) + END_MARK


def with_turned_byte(place: int) -> bytes:
    content = bytearray(WHOLE)
    content[place] ^= 0x55
    return bytes(content)


CORRUPT = "a header is corrupt"
BROKEN = {
    "name in a header": (with_turned_byte(STARTS[2] + 1), f"{CORRUPT} (bad checksum)"),
    "size in a header": (with_turned_byte(STARTS[2] + 130), f"{CORRUPT} (bad checksum)"),
    "checksum": (with_turned_byte(STARTS[2] + 150), CORRUPT),
    "cut in data": (WHOLE[: STARTS[2] + 700], "the archive ends in the middle of a member"),
    "cut in a header": (WHOLE[: STARTS[2] + 100], f"{CORRUPT} (truncated header)"),
    "cut behind a header": (WHOLE[: STARTS[2] + 512], "the archive ends in the middle of a member"),
    "cut between members": (WHOLE[: STARTS[2]], "the archive ends without its end mark"),
    "two archives": (
        archive(MEMBERS[:2]) + archive(MEMBERS[2:]),
        "there is more behind the end mark of the archive",
    ),
    "text behind the end": (
        WHOLE[: STARTS[2]] + END_MARK + b"text",
        "there is more behind the end mark of the archive",
    ),
    "text instead of a header": (WHOLE[: STARTS[2]] + b"text" * 200, CORRUPT),
}


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_costs_what_stands_behind_it_only(tmp_path, work, kind, name):
    content, reason = BROKEN[kind]
    path = write_archive(tmp_path / "in" / name, content)
    output, tally = label_archive(work, path)
    maps = [content for name, content in members_of(output) if name.endswith(".png")]
    assert len(maps) == 2
    for image, content in zip(IMAGES, maps, strict=False):
        np.testing.assert_array_equal(png_values(content), brightness_labels(image))
    assert (tally.images, tally.failed_images) == (2, 1)
    (row,) = failure_rows(work)
    assert (row["uri"], row["key"], row["stage"]) == (f"in/{name}", "#2", "record")
    assert row["reason"].startswith(reason)
    assert row["reason"].endswith(f"; the rest of the shard from byte {STARTS[2]} on is lost")
    assert not row["transient"]


@pytest.mark.parametrize("cut", range(0, STARTS[2] + 512, 173))
def test_an_archive_cut_anywhere_gives_the_images_before_the_cut(tmp_path, cut):
    entries = read(write_archive(tmp_path / "s.tar", WHOLE[:cut]))
    ends = [start + 512 + len(image) for start, image in zip(STARTS[:4], PNGS[:4], strict=True)]
    whole = sum(cut >= end for end in ends)
    assert [entry.encoded for entry in entries[:-1]] == PNGS[:whole]
    # Where the padding of a member is missing, its image is there, and the rest begins with it.
    offset = max(start for start in STARTS if start <= cut)
    assert names_and_reasons(entries)[-1][:2] == (whole, "")
    assert entries[-1].reason.endswith(f"the rest of the shard from byte {offset} on is lost")


def test_a_cut_within_a_sample_is_one_failure_and_not_two(tmp_path):
    parts = [header("a.json", 2) + padded(b"{}"), image_member("a.png", PNGS[0])]
    content = parts[0] + parts[1] + header("b.json", 2) + padded(b"{}") + parts[1]
    entries = read(write_archive(tmp_path / "s.tar", content[: -len(padded(PNGS[0]))]))
    assert names_and_reasons(entries)[0] == (0, "a.png", None)
    number, name, reason = names_and_reasons(entries)[1]
    assert (number, name, len(entries)) == (1, "b", 2)
    assert reason.startswith("the archive ends in the middle of a member; the rest of the shard")


def test_a_cut_behind_the_image_of_a_sample_does_not_cost_the_image(tmp_path):
    content = image_member("a.png", PNGS[0]) + header("a.json", 2000) + b"{}"
    image, lost = read(write_archive(tmp_path / "s.tar", content))
    assert image.encoded == PNGS[0]
    assert (lost.number, lost.name) == (1, "")


@pytest.mark.parametrize("name", ["s.tar", "s.tgz"])
@pytest.mark.parametrize("content", [b"", b"x", b"text" * 1000, b"\xff" * 512, PNGS[0]])
def test_what_is_no_archive_is_one_failure(tmp_path, work, name, content):
    output, tally = label_archive(work, write_archive(tmp_path / "in" / name, content))
    assert members_of(output) == []
    assert (tally.images, tally.failed_images) == (0, 1)
    (row,) = failure_rows(work)
    assert row["key"] == "#0"
    assert row["reason"].endswith("the rest of the shard from byte 0 on is lost")


@pytest.mark.parametrize("cut", [0, 1, 9, 15])
def test_an_archive_that_is_no_gzip_data_is_one_failure(tmp_path, cut):
    for content in (b"text" * 400, gzip.compress(WHOLE)[:cut]):
        (tmp_path / "s.tar.gz").write_bytes(content)
        (lost,) = read(tmp_path / "s.tar.gz")
        assert lost.reason.endswith("the rest of the shard from byte 0 on is lost")


@pytest.mark.parametrize("kind", ["cut", "turned", "text behind"])
def test_broken_gzip_data_costs_the_rest(tmp_path, kind):
    packed = bytearray(gzip.compress(WHOLE, 0))
    if kind == "cut":
        packed = packed[: STARTS[3] + 700]
    elif kind == "turned":
        packed[-6] ^= 1
    else:
        packed += b"text"
    (tmp_path / "s.tgz").write_bytes(packed)
    *whole, lost = read(tmp_path / "s.tgz")
    assert [entry.encoded for entry in whole] == PNGS[: 3 if kind == "cut" else 4]
    offset = STARTS[3] if kind == "cut" else STARTS[4]
    assert lost.reason.endswith(f"; the rest of the shard from byte {offset} on is lost")


def test_an_archive_may_be_packed_in_parts(tmp_path):
    packed = gzip.compress(WHOLE[:1000]) + gzip.compress(WHOLE[1000:])
    (tmp_path / "s.tar.gz").write_bytes(packed)
    assert [entry.encoded for entry in read(tmp_path / "s.tar.gz")] == PNGS[:4]


GIGABYTES = 8 << 30
HOSTILE = {
    "a size below 0": header("2.png", -5000),
    "a size below 0 of text": header("2.txt", -5000),
    "8 GiB of text": header("2.txt", GIGABYTES),
    "8 GiB of text by octal digits": header("2.txt", 8**11 - 1),
    "more than any disk": header("2.txt", 1 << 62),
    "more than any number": header("2.txt", 1 << 80),
    "an extended header of 8 GiB": header("x", GIGABYTES, tarfile.XHDTYPE),
    "a long name of 8 GiB": header("x", GIGABYTES, tarfile.GNUTYPE_LONGNAME),
    "an extended header above the limit": extended(b"1" * (MAX_EXTRA_BYTES + 1)),
    "a size below 0 that leads back": extended(pax("size", "-1536")) + header("2.png"),
    "a size below 0 that leads back at the end": extended(pax("size", "-1536")) + header("2.png"),
    "8 GiB by an extended header": extended(pax("size", str(GIGABYTES))) + header("2.txt"),
    "too many digits": extended(pax("size", "9" * 4000)) + header("2.txt"),
    "a record of no length": extended(b"0 path=x\n") + header("2.txt"),
    "a sparse size that is none": extended(pax("GNU.sparse.size", "x")) + header("2.png"),
    "a sparse file below 0": extended(pax("GNU.sparse.size", "-9")) + header("2.png"),
    "a sparse map that goes on at the end": header(
        "2.png", 4, tarfile.GNUTYPE_SPARSE, more=(482, b"\1")
    )
    + b"\1" * (1 << 20),
    "long names without end": header("x", 1, tarfile.GNUTYPE_LONGNAME) * 5000,
    "extended headers without end": extended(pax("path", "y")) * 5000,
    "an extended header of nothing": extended(pax("path", "y")) + END_MARK,
}


@pytest.mark.parametrize("name", ["s.tar", "s.tgz"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_header_costs_the_rest_and_neither_hangs_nor_dies(tmp_path, kind, name):
    content = BEFORE + HOSTILE[kind] + (b"" if kind.endswith("at the end") else BEHIND)
    begin = time.monotonic()
    *whole, lost = read(write_archive(tmp_path / name, content), ReadOptions(max_pixels=1000))
    assert time.monotonic() - begin < 20
    assert [entry.encoded for entry in whole] == PNGS[:2]
    assert (lost.number, lost.name) in ((2, ""), (2, "2"))
    assert lost.reason.endswith(f"; the rest of the shard from byte {len(BEFORE)} on is lost")


MAPS = {
    "one that is none": extended(pax("GNU.sparse.map", "a,b")) + header("2.png"),
    "of any length": extended(pax("GNU.sparse.major", "1") + pax("GNU.sparse.minor", "0"))
    + header("2.png", 4 << 20)
    + b"9" * 12
    + b"\n"
    + padded(b"0\n" * (2 << 20))[: (4 << 20) - 13],
    "block after block": header("2.png", 4, tarfile.GNUTYPE_SPARSE, more=(482, b"\1"))
    + b"00000000001\0" * 42
    + b"\1\0\0\0\0\0\0\0"
    + bytes(512)
    + padded(b"data"),
}


@pytest.mark.parametrize("kind", MAPS)
def test_the_map_of_a_sparse_file_is_not_read(tmp_path, monkeypatch, kind):
    path = write_archive(tmp_path / "s.tar", BEFORE + MAPS[kind] + BEHIND)
    monkeypatch.setattr(tarfile.TarInfo, "_proc_gnusparse_01", pytest.fail)
    monkeypatch.setattr(tarfile.TarInfo, "_proc_gnusparse_10", pytest.fail)
    monkeypatch.setattr(tarfile.TarInfo, "_proc_sparse", pytest.fail)
    reason = "is a sparse file in the archive, which is not read: pack it without tar --sparse"
    assert [(name, why) for _, name, why in names_and_reasons(read(path))] == [
        ("0.png", None),
        ("1.png", None),
        ("2.png", reason),
        ("2.png", None),
        ("3.png", None),
    ]


@pytest.mark.parametrize("size", ["nan", "", "1e3", "9" * 5000])
def test_a_size_that_is_no_number_is_none(tmp_path, size):
    content = BEFORE + extended(pax("size", size)) + header("x.png") + BEHIND
    entries = read(write_archive(tmp_path / "s.tar", content))
    assert [entry.encoded for entry in entries] == [*PNGS[:2], b"", *PNGS[2:4]]


def test_a_hostile_size_of_an_image_is_told_as_such(tmp_path):
    content = BEFORE + header("2.png", GIGABYTES) + BEHIND
    *_, large, lost = read(write_archive(tmp_path / "s.tar", content))
    reason = f"{GIGABYTES} bytes are more than any image within --max_pixels has"
    assert (large.number, large.name, large.reason) == (2, "2.png", reason)
    assert (lost.number, lost.name) == (3, "")


def test_an_extended_header_as_large_as_may_be_is_read_in_time(tmp_path):
    records = b"1" * MAX_EXTRA_BYTES
    content = BEFORE + extended(records) + BEHIND
    begin = time.monotonic()
    entries = read(write_archive(tmp_path / "s.tar", content))
    assert time.monotonic() - begin < 20
    assert len(entries) >= 3


def test_a_shard_that_vanished_is_one_failure(tmp_path):
    (file,) = files_in(write_archive(tmp_path / "s.tar", WHOLE))
    (tmp_path / "s.tar").unlink()
    (lost,) = TarFormat().read(file, ReadOptions())
    assert lost.reason == "the shard cannot be opened: No such file or directory"


@pytest.mark.parametrize("content", [b"", b"text" * 300, WHOLE[: STARTS[1] - 600], END_MARK])
def test_an_estimate_and_a_count_do_not_mind_broken_archives(tmp_path, content):
    files = files_in(write_archive(tmp_path / "in" / "s.tar", content))
    estimate = TarFormat().estimate(files, plan_context())
    assert (estimate.images, estimate.pixels, estimate.exact) == (1, 0, False)
    assert TarFormat().count(files[0], 9, ReadOptions()) == (0 if content == END_MARK else 1)
