"""Parquet files that are cut or corrupt: a group of rows costs itself, and others stay exact."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.formats import parquet, parquet_pages
from pipelines.formats.parquet import ParquetFormat
from pipelines.formats.shards import ShardSample, UnreadableSample
from pipelines.formats.work import ReadOptions
from segmodel.errors import ConfigurationError, FailureCode
from tests.fakes import contract
from tests.pipelines.corpus import check_inputs, failure_rows, files_in, plan_context
from tests.pipelines.formats.test_parquet import NAMES, PNGS, STRUCTS, check_labels, label, read

PACKINGS = {
    "snappy": {"compression": "snappy"},
    "zstd": {"compression": "zstd"},
    "gzip": {"compression": "gzip", "use_dictionary": False},
    "none": {"compression": "none", "use_dictionary": False, "write_statistics": False},
    "checked": {"compression": "none", "write_page_checksum": True},
    "new pages": {"compression": "snappy", "data_page_version": "2.0"},
}


def write_groups(path: Path, groups: int = 3, **options) -> Path:
    """Two rows a group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": STRUCTS[: 2 * groups]})
    pq.write_table(table, path, row_group_size=2, **options)
    return path


def place_of(path: Path, group: int, column: int = 0) -> tuple[int, int]:
    """First byte and length of the pages of a column: 0 is the bytes of the image, 1 its path."""
    described = pq.ParquetFile(path).metadata.row_group(group).column(column)
    first = described.data_page_offset
    if described.dictionary_page_offset is not None:
        first = min(first, described.dictionary_page_offset)
    return first, described.total_compressed_size


def turn(path: Path, places: range) -> None:
    content = bytearray(path.read_bytes())
    for place in places:
        content[place] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_files_are_read_exactly(tmp_path, work, packing):
    path = write_groups(tmp_path / "in" / "s.parquet", **PACKINGS[packing])
    table, images, failed = label(work, path)
    check_labels(table, list(range(6)))
    assert (images, failed) == (6, 0)


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("group", [0, 1, 2])
@pytest.mark.parametrize("packing", ["snappy", "zstd", "gzip", "checked", "new pages"])
def test_a_corrupt_group_of_rows_costs_its_own_rows_only(tmp_path, work, packing, group, column):
    path = write_groups(tmp_path / "in" / "s.parquet", **PACKINGS[packing])
    first, size = place_of(path, group, column)
    turn(path, range(first + size // 2, first + size))
    table, images, failed = label(work, path)
    check_labels(table, [number for number in range(6) if number // 2 != group])
    assert (images, failed) == (4, 1)
    (row,) = failure_rows(work)
    assert (row["uri"], row["key"], row["stage"]) == ("in/s.parquet", f"#{2 * group}", "record")
    begin = f"rows {2 * group} to {2 * group + 1} are lost: the group is corrupt: "
    assert row["reason"].startswith(begin)
    assert len(row["reason"]) > len(begin)
    assert not row["transient"]


def test_a_byte_that_nothing_guards_costs_the_image_in_which_it_is(tmp_path, work):
    path = write_groups(tmp_path / "in" / "s.parquet", **PACKINGS["none"])
    place = path.read_bytes().index(PNGS[3]) + len(PNGS[3]) // 2
    turn(path, range(place, place + 1))
    table, images, failed = label(work, path)
    check_labels(table, [0, 1, 2, 4, 5])
    assert table["filename"].to_pylist() == [NAMES[number] for number in (0, 1, 2, 4, 5)]
    assert (images, failed) == (5, 1)
    (row,) = failure_rows(work)
    assert (row["key"], row["stage"]) == ("#3 cats/3.png", "read")


@pytest.mark.parametrize("packing", PACKINGS)
def test_any_turned_byte_costs_no_more_than_its_group(tmp_path, packing):
    whole = write_groups(tmp_path / "s.parquet", **PACKINGS[packing])
    content = whole.read_bytes()
    first, size = place_of(whole, 1)
    for place in range(first, first + size, max(1, size // 150)):
        broken = tmp_path / "b.parquet"
        broken.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        kept = {entry.number: entry for entry in read(broken) if isinstance(entry, ShardSample)}
        for number in (0, 1, 4, 5):
            assert kept[number].encoded == PNGS[number]
            assert kept[number].name == NAMES[number]
        assert set(kept) <= set(range(6))


BROKEN = {
    "empty": lambda content: b"",
    "garbage": lambda content: b"text" * 300,
    "garbage with marks": lambda content: b"PAR1" + b"\xff" * 99 + b"\x20\0\0\0PAR1",
    "marks alone": lambda content: b"PAR1\0\0\0\0PAR1",
    "cut by a byte": lambda content: content[:-1],
    "cut in the footer": lambda content: content[:-100],
    "cut in half": lambda content: content[: len(content) // 2],
    "a footer of its own length": lambda content: content[:-8] + b"\xff\xff\xff\x7fPAR1",
    "a column name that is no text": lambda content: content.replace(b"image", b"im\xe9ge"),
    "a turned footer": lambda content: content[:-60] + b"\xff" * 52 + content[-8:],
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_without_its_footer_is_one_failure(tmp_path, work, kind):
    path = write_groups(tmp_path / "in" / "s.parquet")
    path.write_bytes(BROKEN[kind](path.read_bytes()))
    files = files_in(path)
    check_inputs(ParquetFormat(), files, plan_context(contract()))
    assert ParquetFormat().count(files[0], 9, ReadOptions()) == 1
    estimate = ParquetFormat().estimate(files, plan_context())
    assert (estimate.images, estimate.pixels, estimate.exact) == (1, 0, False)
    table, images, failed = label(work, path)
    assert (table.num_rows, images, failed) == (0, 0, 1)
    (row,) = failure_rows(work)
    assert (row["key"], row["stage"]) == ("#0", "record")
    assert row["reason"].startswith("the file cannot be read: ")


def test_a_file_without_images_is_refused_though_another_cannot_be_read(tmp_path):
    (tmp_path / "0.parquet").write_bytes(b"text")
    pq.write_table(pa.table({"id": [1]}), tmp_path / "1.parquet")
    reason = r"^\w+/1\.parquet: no column 'image' .*: name the right one .*, or leave the file out$"
    with pytest.raises(ConfigurationError, match=reason):
        check_inputs(ParquetFormat(), files_in(tmp_path), plan_context(contract()))


def varint(number: int) -> bytes:
    """A whole number of a footer: zigzag, seven bits a byte."""
    packed, rest = bytearray(), number << 1
    while rest > 127:
        packed.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*packed, rest])


@pytest.mark.parametrize("rows", [3, 1 << 41, 1 << 62])
def test_rows_of_groups_that_are_not_those_of_the_file_are_one_failure(tmp_path, work, rows):
    path = write_groups(tmp_path / "in" / "s.parquet", compression="none", store_schema=False)
    content = path.read_bytes()
    begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    # Field 3 of a group, and field 4 in front of the next: its rows and its size.
    footer = content[begin:-8].replace(b"\x16\x04\x26", b"\x16" + varint(rows) + b"\x26", 1)
    assert footer != content[begin:-8]
    path.write_bytes(content[:begin] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    table, images, failed = label(work, path)
    assert (table.num_rows, images, failed) == (0, 0, 1)
    (row,) = failure_rows(work)
    assert row["reason"].startswith("the file cannot be read: its footer is corrupt: the rows of")


@pytest.mark.parametrize("step", [1, 13])
def test_no_turned_byte_of_a_footer_is_more_than_a_failure(tmp_path, step):
    content = write_groups(tmp_path / "s.parquet").read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    broken = tmp_path / "b.parquet"
    for place in range(len(content) - 8 - length, len(content), step):
        broken.write_bytes(content[:place] + bytes([content[place] ^ 0x2A]) + content[place + 1 :])
        entries = read(broken)
        assert all(isinstance(entry, ShardSample | UnreadableSample) for entry in entries)
        assert len(entries) <= 6 + 3


def test_rows_of_several_groups_are_counted_on(tmp_path):
    path = tmp_path / "s.parquet"
    nested = pa.chunked_array([STRUCTS[:1], STRUCTS[1:]])
    pq.write_table(pa.table({"image": nested}), path, row_group_size=5)
    entries = read(path)
    assert [(entry.number, entry.name) for entry in entries] == list(enumerate(NAMES))
    assert [entry.encoded for entry in entries] == PNGS


def test_groups_of_no_row_do_no_harm(tmp_path):
    path = tmp_path / "s.parquet"
    table = pa.table({"image": STRUCTS})
    with pq.ParquetWriter(path, table.schema) as writer:
        for part in (table[:0], table[:2], table[:0], table[2:]):
            writer.write_table(part)
    assert [(entry.number, entry.encoded) for entry in read(path)] == list(enumerate(PNGS))


def test_a_group_with_fewer_rows_than_it_says_is_told(tmp_path, monkeypatch):
    path = write_groups(tmp_path / "s.parquet")

    class Forgetful(pq.ParquetFile):
        def iter_batches(self, size, groups, *arguments, **options):
            batches = super().iter_batches(size, groups, *arguments, **options)
            yield from islice(batches, 1) if groups == [1] else batches

    monkeypatch.setattr(pq, "ParquetFile", Forgetful)
    entries = read(path)
    lost = [entry for entry in entries if isinstance(entry, UnreadableSample)]
    reason = "rows 3 to 3 are lost: the group is corrupt: its rows end at 2"
    assert lost == [UnreadableSample(3, "", reason, FailureCode.CORRUPT_SHARD)]
    assert [entry.number for entry in entries] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "error", [MemoryError(), pa.ArrowMemoryError("malloc"), OSError(5, "disk")]
)
def test_a_fault_that_may_pass_is_not_blamed_on_the_file(tmp_path, monkeypatch, error):
    path = write_groups(tmp_path / "s.parquet")

    class Exhausted(pq.ParquetFile):
        def iter_batches(self, *arguments, **options):
            raise error

    def exhausted(*arguments, **options):
        raise error

    for stand_in in (Exhausted, exhausted):
        monkeypatch.setattr(pq, "ParquetFile", stand_in)
        with pytest.raises(type(error)):
            read(path)


def test_an_image_larger_than_any_within_the_limit_costs_itself(tmp_path):
    large = b"\0" * ((1 << 20) + 8001)
    pq.write_table(pa.table({"image": [large, PNGS[1]]}), tmp_path / "s.parquet")
    first, second = read(tmp_path / "s.parquet", max_pixels=1000)
    reason = "1056577 bytes are more than any image within --max_pixels has"
    assert first == UnreadableSample(0, "", reason, FailureCode.TOO_LARGE)
    assert second.encoded == PNGS[1]


def test_a_stored_schema_of_a_type_of_others_is_read_as_what_it_stands_on(tmp_path):
    field = pa.field("image", pa.binary(), metadata={"ARROW:extension:name": "some.image"})
    table = pa.table([pa.array(PNGS, pa.binary())], schema=pa.schema([field]))
    pq.write_table(table, tmp_path / "s.parquet")
    assert [entry.encoded for entry in read(tmp_path / "s.parquet")] == PNGS


@pytest.mark.parametrize(("limit", "expected"), [(0, 0), (1, 1), (3, 3), (6, 6), (99, 6)])
def test_rows_are_counted_up_to_what_is_asked(tmp_path, limit, expected):
    (file,) = files_in(write_groups(tmp_path / "s.parquet"))
    assert ParquetFormat().count(file, limit, ReadOptions()) == expected


def most_allocated(path: Path, **reading) -> tuple[list[ShardSample | UnreadableSample], int]:
    """Samples of a file, and the most bytes that Arrow had when one of them was given."""
    entries, most, before = [], 0, pa.total_allocated_bytes()
    for entry in ParquetFormat().read(files_in(path)[0], ReadOptions(**reading)):
        most = max(most, pa.total_allocated_bytes() - before)
        entries.append(entry)
    return entries, most


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_a_page_above_the_limit_costs_its_group_and_is_not_read(
    tmp_path, monkeypatch, dictionary, version
):
    monkeypatch.setattr(parquet, "_PAGE_BYTES", 1 << 20)
    large = bytes(4 << 20)
    pq.write_table(
        pa.table({"image": pa.array([large, PNGS[0]], pa.binary())}),
        tmp_path / "s.parquet", row_group_size=1, compression="zstd", write_statistics=False,
        use_dictionary=dictionary, dictionary_pagesize_limit=1 << 30, data_page_version=version,
    )  # fmt: skip
    (lost, kept), most = most_allocated(tmp_path / "s.parquet", max_pixels=1 << 10)
    assert lost.code == FailureCode.TOO_LARGE
    # The value with its length; Arrow copies a dictionary. New pages have a level of two bytes.
    needed = 2 * (len(large) + 4) if dictionary else len(large) + (6 if version == "2.0" else 10)
    assert lost.reason.startswith(
        f"rows 0 to 0 are lost: a row needs pages of {needed} bytes, and the limit is 1056768: "
        f"write pages of few rows (pyarrow: write_batch_size=1, "
    )
    assert kept.encoded == PNGS[0]
    # Of 4 MiB that are not inflated, nothing; a piece of the file may be held.
    assert most < 2 << 20


def test_names_above_the_limit_cost_their_group(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_PAGE_BYTES", 1 << 20)
    table = pa.table({"image": PNGS[:2], "filename": ["x" * (1 << 19), "b.png"]})
    options = {"compression": "zstd", "use_dictionary": False}
    pq.write_table(table, tmp_path / "s.parquet", row_group_size=1, **options)
    lost, kept = read(tmp_path / "s.parquet", max_pixels=1 << 10)
    assert (lost.number, lost.code) == (0, FailureCode.TOO_LARGE)
    assert "needs pages of 524298 bytes" in lost.reason
    assert "the limit is 264192: " in lost.reason
    assert (kept.name, kept.encoded) == ("b.png", PNGS[1])


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_group_above_the_limit_is_read_if_its_pages_are_within(
    tmp_path, monkeypatch, compression
):
    monkeypatch.setattr(parquet, "_PAGE_BYTES", 2 << 20)
    images = [np.random.default_rng(n).bytes(200_000 + n) for n in range(16)]
    pq.write_table(
        pa.table({"image": images, "filename": [f"{n}.png" for n in range(16)]}),
        tmp_path / "s.parquet", compression=compression, use_dictionary=False, data_page_size=1,
        write_batch_size=1,
    )  # fmt: skip
    entries, most = most_allocated(tmp_path / "s.parquet", max_pixels=1 << 10)
    assert [(entry.name, entry.encoded) for entry in entries] == [
        (f"{number}.png", image) for number, image in enumerate(images)
    ]
    assert most < 2 << 20


def test_values_of_a_large_dictionary_are_held_one_by_one(tmp_path):
    image = bytes(8 << 20)
    options = {"compression": "zstd", "use_dictionary": True, "write_statistics": False}
    pq.write_table(pa.table({"image": [image] * 9}), tmp_path / "s.parquet", **options)
    entries, most = most_allocated(tmp_path / "s.parquet")
    assert [len(entry.encoded) for entry in entries] == [len(image)] * 9
    # The page, its values, and one of a row.
    assert most < 4 * len(image)


def test_a_list_that_repeats_a_large_value_does_not_take_its_memory_again(tmp_path):
    image = bytes(1 << 20)
    rows = pa.array([[image] * 100, [PNGS[0]]], pa.list_(pa.binary()))
    pq.write_table(pa.table({"image": rows}), tmp_path / "s.parquet", compression="zstd")
    (several, kept), most = most_allocated(tmp_path / "s.parquet")
    assert several.code == FailureCode.SEVERAL_IMAGES
    assert several.reason == "the row has a list of 100 images: write a row for each"
    assert kept.encoded == PNGS[0]
    assert most < 8 << 20


def test_a_list_of_more_values_than_memory_is_for_costs_its_group(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_PAGE_BYTES", 1 << 20)
    rows = pa.array([[None] * (1 << 17), [PNGS[0]]], pa.list_(pa.binary()))
    pq.write_table(pa.table({"image": rows}), tmp_path / "s.parquet", row_group_size=1)
    lost, kept = read(tmp_path / "s.parquet", max_pixels=1 << 10)
    assert lost.code == FailureCode.TOO_LARGE
    assert kept.encoded == PNGS[0]


def test_values_of_a_fixed_size_above_the_limit_cost_the_file(tmp_path):
    table = pa.table({"image": pa.array([None], pa.binary(150 << 20))})
    pq.write_table(table, tmp_path / "s.parquet")
    (lost,) = read(tmp_path / "s.parquet", max_pixels=1 << 10)
    assert lost.code == FailureCode.TOO_LARGE
    assert lost.reason == (
        "the file cannot be read: each value of column 'image' has 157286400 bytes, and the "
        "limit is 134217728: write it as binary"
    )


def test_columns_that_share_a_path_are_told(tmp_path):
    table = pa.table({"image": STRUCTS[:1], "image.bytes": pa.array([PNGS[1]], pa.binary())})
    pq.write_table(table, tmp_path / "s.parquet")
    (lost,) = read(tmp_path / "s.parquet")
    assert lost.reason == (
        "the file cannot be read: 2 columns have the name 'image.bytes': write them with names "
        "without dots"
    )


def test_a_column_of_too_many_pages_costs_its_group(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_pages, "MAX_PAGES", 2)
    options = {"use_dictionary": False, "data_page_size": 1, "write_batch_size": 1}
    pq.write_table(
        pa.table({"image": PNGS[:5]}), tmp_path / "s.parquet", row_group_size=3, **options
    )
    lost, *kept = read(tmp_path / "s.parquet")
    assert lost.code == FailureCode.TOO_LARGE
    assert lost.reason == (
        "rows 0 to 2 are lost: a column has more than 2 pages: write larger ones (pyarrow: "
        "data_page_size)"
    )
    assert [entry.encoded for entry in kept] == PNGS[3:5]
