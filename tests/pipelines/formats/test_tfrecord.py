"""TFRecord shards: a shard in gives a shard out, and broken bytes cost what they held."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.formats import example
from pipelines.formats.tfrecord import TFRecordFormat, frame, masked_crc32c, read_records
from pipelines.formats.work import ReadOptions
from pipelines.run.commits import CommitLog
from segmodel.errors import ContractError, FailureCode, InputError
from tests.fakes import brightness_labels, contract
from tests.pipelines.corpus import (
    check_inputs,
    failure_rows,
    files_in,
    make_work,
    pixels,
    plan_context,
    png,
    read_shard,
    record,
    run_unit,
    tree,
    units_in,
    write,
    write_shard,
)

IMAGES = [pixels(20 + number, 30, number) for number in range(4)]
RECORDS = [record(image, f"{number}.png") for number, image in enumerate(IMAGES)]
FRAMES = [frame(data) for data in RECORDS]
LABELS = "image/segmentation/class/encoded"


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def run_shard(work, path: Path):
    (unit,) = units_in(work, path)
    run_unit(unit, work)
    tally = CommitLog(work.run.root, work.options).read(unit).tally
    return read_shard(Path(work.run.root) / "labels" / path.parent.name / path.name), tally


@pytest.mark.parametrize(
    "name",
    [
        "a.tfrecord",
        "a.TFRecords",
        "a.tfrec",
        "a.tfrecord.gz",
        "a.tfrecord-00001-of-00010",
        "train-tfrecord-00001-of-00010",
        "a.tfrecords-00001-of-00010.gz",
    ],
)
def test_shards_are_known_by_their_name(name):
    assert TFRecordFormat().matches(name)


@pytest.mark.parametrize("name", ["a.png", "tfrecord", "a.tfrecord.txt", "a.gz", "a.tfrecord-x"])
def test_other_files_are_not_shards(name):
    assert not TFRecordFormat().matches(name)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_records_out_mirror_records_in(tmp_path, work, suffix):
    path = write_shard(tmp_path / "in" / f"s.tfrecord{suffix}", RECORDS)
    actual, tally = run_shard(work, path)
    assert [features["image/filename"] for features in actual] == [
        [f"{number}.png".encode()] for number in range(4)
    ]
    for features, image in zip(actual, IMAGES, strict=True):
        np.testing.assert_array_equal(decoded(features[LABELS][0]), brightness_labels(image))
        assert features["image/height"] == [image.shape[0]]
        assert features["image/width"] == [image.shape[1]]
        assert features["image/segmentation/class/format"] == [b"png"]
        assert "image/encoded" not in features
    assert (tally.images, tally.failed_images) == (4, 0)


def test_confidence_stands_in_the_record_where_it_was_asked_for(tmp_path):
    work = make_work(tmp_path / "run", confidence=True)
    image = np.full((4, 4, 3), 255, np.uint8)
    path = write_shard(tmp_path / "in" / "s.tfrecord", [record(image)])
    ((features,), _) = run_shard(work, path)
    assert (decoded(features["image/segmentation/confidence/encoded"][0]) == 255).all()


def test_a_zipped_shard_has_neither_time_nor_name_inside(tmp_path, work):
    path = write_shard(tmp_path / "in" / "s.tfrecord.gz", RECORDS)
    run_shard(work, path)
    content = (Path(work.run.root) / "labels" / "in" / "s.tfrecord.gz").read_bytes()
    magic, method, flags, seconds = struct.unpack("<HBBI", content[:8])
    assert (magic, method, flags, seconds) == (0x8B1F, 8, 0, 0)


def test_a_zipped_shard_may_be_named_in_capitals(tmp_path, work):
    path = write_shard(tmp_path / "in" / "S.TFRECORD.GZ", RECORDS)
    (unit,) = units_in(work, path)
    run_unit(unit, work)
    assert CommitLog(work.run.root, work.options).read(unit).tally.images == 4


def test_an_empty_shard_gives_an_empty_shard(tmp_path, work):
    actual, tally = run_shard(work, write_shard(tmp_path / "in" / "s.tfrecord", []))
    assert (actual, tally.images, tally.failed_images) == ([], 0, 0)


def spoiled(frames: list[bytes], number: int, at: int) -> bytes:
    """A shard in which one byte of a record's frame is turned."""
    broken = bytearray(frames[number])
    broken[at] ^= 0x10
    return b"".join([*frames[:number], bytes(broken), *frames[number + 1 :]])


SPOILED = {
    "length": (spoiled(FRAMES, 2, 0), "the length of a record is corrupt"),
    "checksum of the length": (spoiled(FRAMES, 2, 9), "the length of a record is corrupt"),
    "cut in data": (b"".join(FRAMES[:3])[:-30], "the shard ends in the middle of a record"),
    "cut in header": (b"".join(FRAMES[:2]) + FRAMES[2][:5], "the shard ends in the middle"),
    "cut after header": (b"".join(FRAMES[:2]) + FRAMES[2][:12], "the shard ends in the middle"),
    "cut before checksum": (b"".join(FRAMES[:3])[:-4], "the shard ends in the middle"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_broken_record_costs_the_rest_of_the_shard_only(tmp_path, work, kind):
    content, reason = SPOILED[kind]
    actual, tally = run_shard(work, write(tmp_path / "in" / "s.tfrecord", content))
    offset = len(FRAMES[0]) + len(FRAMES[1])
    assert [features["image/filename"] for features in actual] == [[b"0.png"], [b"1.png"]]
    assert (tally.images, tally.failed_images) == (2, 1)
    (row,) = failure_rows(work)
    assert (row["uri"], row["key"], row["stage"]) == ("in/s.tfrecord", "#2", "record")
    assert row["reason"].startswith(reason)
    assert row["reason"].endswith(f"the rest of the shard from byte {offset} on is lost")


@pytest.mark.parametrize("at", [12, 40, -5, -4, -1])
def test_a_record_with_a_turned_bit_costs_itself_alone_while_its_length_is_right(
    tmp_path, work, at
):
    path = write(tmp_path / "in" / "s.tfrecord", spoiled(FRAMES, 2, at))
    actual, tally = run_shard(work, path)
    names = [features["image/filename"] for features in actual]
    assert names == [[b"0.png"], [b"1.png"], [b"3.png"]]
    assert (tally.images, tally.failed_images) == (3, 1)
    (row,) = failure_rows(work)
    offset = len(FRAMES[0]) + len(FRAMES[1])
    assert row["key"] == "#2"
    assert row["reason"] == f"the checksum of the record at byte {offset} is not that of its data"


def test_a_broken_first_record_leaves_an_empty_shard(tmp_path, work):
    path = write(tmp_path / "in" / "s.tfrecord", b"\0" * 50)
    actual, tally = run_shard(work, path)
    assert (actual, tally.images, tally.failed_images) == ([], 0, 1)
    assert failure_rows(work)[0]["reason"].endswith("from byte 0 on is lost")


@pytest.mark.parametrize("kind", ["cut", "turned", "no gzip"])
def test_a_broken_zipped_shard_costs_the_rest(tmp_path, work, kind):
    content = bytearray(gzip.compress(b"".join(FRAMES), 0))
    if kind == "cut":
        content = content[:-40]
    elif kind == "turned":
        content[-4] ^= 1
    else:
        content[0] ^= 1
    actual, tally = run_shard(work, write(tmp_path / "in" / "s.tfrecord.gz", bytes(content)))
    assert tally.failed_images == 1
    assert len(actual) == tally.images == {"cut": 3, "turned": 4, "no gzip": 0}[kind]
    offset = sum(map(len, FRAMES[: tally.images]))
    assert failure_rows(work)[0]["reason"].endswith(f"from byte {offset} on is lost")


BAD_RECORDS = {
    "no image": (example.serialize_example({"image/height": 3}), "no feature image/encoded"),
    "nothing": (b"", "no feature image/encoded"),
    "garbage": (b"\xff\xfe\xfd", "not a tf.train.Example"),
    "a number": (example.serialize_example({"image/encoded": 7}), "no feature image/encoded"),
    "no image inside": (example.serialize_example({"image/encoded": b"text"}), "not a JPEG, PNG"),
    "an empty image": (example.serialize_example({"image/encoded": b""}), "empty file"),
}


@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_a_bad_record_costs_itself_only(tmp_path, work, kind):
    bad, reason = BAD_RECORDS[kind]
    path = write_shard(tmp_path / "in" / "s.tfrecord", [RECORDS[0], bad, RECORDS[1]])
    actual, tally = run_shard(work, path)
    assert [features["image/filename"] for features in actual] == [[b"0.png"], [b"1.png"]]
    assert (tally.images, tally.failed_images) == (2, 1)
    (row,) = failure_rows(work)
    assert row["key"] == "#1"
    assert reason in row["reason"]


@pytest.mark.parametrize(
    "names",
    [[None, None], ["same.png", "same.png"], ["", "a b  c.png"], ["../../x", "/etc/passwd"]],
)
def test_unnamed_equal_and_hostile_names_stay_names(tmp_path, work, names):
    records = [record(IMAGES[0], names[0]), record(IMAGES[1], names[1])]
    actual, tally = run_shard(work, write_shard(tmp_path / "in" / "s.tfrecord", records))
    assert tally.images == 2
    expected = [name.encode() if name else None for name in names]
    assert [f.get("image/filename", [None])[0] for f in actual] == expected
    for features, image in zip(actual, IMAGES, strict=False):
        np.testing.assert_array_equal(decoded(features[LABELS][0]), brightness_labels(image))
    outside = [name for name in tree(tmp_path) if not name.startswith(("run/", "in/"))]
    assert outside == []


def test_rows_of_a_shard_name_shard_number_and_file(tmp_path, work):
    path = write_shard(tmp_path / "in" / "s.tfrecord", [record(IMAGES[0]), RECORDS[1]])
    run_shard(work, path)
    (table,) = (Path(work.run.root) / "areas").glob("*.parquet")
    rows = pq.read_table(table).to_pylist()
    assert {(row["source"], row["key"]) for row in rows} == {
        ("in/s.tfrecord", "#0"),
        ("in/s.tfrecord", "#1 1.png"),
    }


def test_label_maps_of_unnamed_images_tell_which_record_they_belong_to(tmp_path, work):
    records = [record(IMAGES[0]), BAD_RECORDS["garbage"][0], record(IMAGES[1])]
    actual, _ = run_shard(work, write_shard(tmp_path / "in" / "s.tfrecord", records))
    first, second = ({**f, LABELS: 0, "image/height": 0, "image/width": 0} for f in actual)
    assert first != second


def test_a_name_that_is_no_utf8_comes_out_as_it_went_in(tmp_path, work):
    data = example.serialize_example(
        {"image/encoded": png(IMAGES[0]), "image/filename": b"\xff.png"}
    )
    ((features,), _) = run_shard(work, write_shard(tmp_path / "in" / "s.tfrecord", [data]))
    assert features["image/filename"] == [b"\xff.png"]


@pytest.mark.parametrize(
    ("value", "expected"), [(b"a.png", "a.png"), (17, "17"), (b"\xff", "\udcff"), (None, "")]
)
def test_the_name_may_be_another_feature_of_bytes_or_numbers(tmp_path, value, expected):
    features = {"photo": png(IMAGES[0]), "image/filename": b"wrong"}
    data = example.serialize_example(features | ({} if value is None else {"title": value}))
    (file,) = files_in(write_shard(tmp_path / "s.tfrecord", [data]))
    (sample,) = TFRecordFormat().read(file, ReadOptions(image_field="photo", name_field="title"))
    assert (sample.name, sample.encoded) == (expected, png(IMAGES[0]))


def test_a_zipped_shard_without_a_byte_is_a_cut_one(tmp_path):
    (file,) = files_in(write(tmp_path / "s.tfrecord.gz", b""))
    (lost,) = TFRecordFormat().read(file, ReadOptions())
    assert lost.reason == "the shard is empty, which gzip data never is: it was cut"


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (1, 1), (3, 3), (4, 4), (9, 4)])
def test_a_limited_unit_reads_so_many_records(tmp_path, work, limit, expected):
    path = write_shard(tmp_path / "in" / "s.tfrecord", RECORDS)
    (unit,) = TFRecordFormat().units(files_in(path), work, limit)
    run_unit(unit, work)
    assert CommitLog(work.run.root, work.options).read(unit).tally.images == expected


@pytest.mark.parametrize(("most", "expected"), [(0, 0), (2, 2), (4, 4), (9, 4)])
def test_records_are_counted_up_to_what_is_asked(tmp_path, most, expected):
    (file,) = files_in(write_shard(tmp_path / "in" / "s.tfrecord.gz", RECORDS))
    assert TFRecordFormat().count(file, most, ReadOptions()) == expected


def test_an_estimate_is_by_bytes_and_never_called_exact(tmp_path):
    path = write_shard(tmp_path / "in" / "s.tfrecord", [RECORDS[0]] * 10)
    estimate = TFRecordFormat().estimate(files_in(path), plan_context())
    assert (estimate.images, estimate.pixels, estimate.windows) == (11, 6600, 11)
    assert not estimate.exact


def test_an_estimate_does_not_mind_broken_shards(tmp_path):
    path = write(tmp_path / "in" / "s.tfrecord", b"\0" * 99)
    estimate = TFRecordFormat().estimate(files_in(path), plan_context())
    assert (estimate.images, estimate.pixels) == (1, 0)


def test_a_model_of_other_bands_is_refused(tmp_path):
    (file,) = files_in(write_shard(tmp_path / "in" / "s.tfrecord", []))
    two = contract(bands=("a", "b"), nodata_fill=(0.0, 0.0))
    with pytest.raises(ContractError, match=r"other TFRecord shards .*: bands: the model takes 2"):
        check_inputs(TFRecordFormat(), [file], plan_context(two))


def test_a_record_longer_than_the_limit_is_not_read_into_memory(tmp_path):
    length = struct.pack("<Q", 1 << 40)
    path = write(tmp_path / "s.tfrecord", length + struct.pack("<I", masked_crc32c(length)))
    with path.open("rb") as stream:
        (error,) = read_records(stream, 1 << 30)
    assert isinstance(error, InputError)
    assert "longer than any image within --max_pixels" in str(error)


PLAIN = b"".join(FRAMES)
STORED = {"plain": PLAIN, "gzip": gzip.compress(PLAIN), "zlib": zlib.compress(PLAIN)}


def entries_of(path: Path, content: bytes):
    (file,) = files_in(write(path, content))
    return list(TFRecordFormat().read(file, ReadOptions()))


@pytest.mark.parametrize("name", ["s.tfrecord", "s.tfrecord-00000-of-00001", "s.tfrecord.gz"])
@pytest.mark.parametrize("kind", STORED)
def test_the_content_says_whether_a_shard_is_compressed_and_not_its_name(tmp_path, kind, name):
    entries = entries_of(tmp_path / name, STORED[kind])
    assert [entry.name for entry in entries] == [f"{number}.png" for number in range(4)]


@pytest.mark.parametrize("begin", [b"\x1f\x8b", b"\x1f\x8b\x08", b"\x78\x9c", b"BZh"])
def test_a_record_whose_length_looks_like_compressed_data_is_a_record(tmp_path, begin):
    first = frame(b"\xff" * int.from_bytes(begin, "little"))
    assert first.startswith(begin)
    lost, entry = entries_of(tmp_path / "s.tfrecord", first + FRAMES[0])
    assert (lost.code, entry.name) == (FailureCode.CORRUPT_RECORD, "0.png")


@pytest.mark.parametrize("cut", [2, 40, -5, -1])
def test_zlib_data_that_are_cut_give_what_is_before_the_cut(tmp_path, cut):
    *_, lost = entries_of(tmp_path / "s.tfrecord", zlib.compress(PLAIN)[:cut])
    assert lost.code == FailureCode.CORRUPT_SHARD
    assert lost.reason.startswith("the zlib data end without their end mark; the rest of the shard")


def test_what_stands_behind_zlib_data_is_told(tmp_path):
    *read, lost = entries_of(tmp_path / "s.tfrecord", zlib.compress(PLAIN) + b"more")
    assert len(read) == 4
    assert lost.reason.startswith("there is more behind the end mark of the zlib data; the rest")


def test_another_compression_of_a_shard_is_named(tmp_path):
    (lost,) = entries_of(tmp_path / "s.tfrecord", b"\x28\xb5\x2f\xfd" + PLAIN)
    assert (lost.number, lost.code) == (0, FailureCode.UNSUPPORTED)
    assert lost.reason.startswith("the shard is compressed with zstd, which is not read: compress")
