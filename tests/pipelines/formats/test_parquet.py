"""Parquet files: which column holds the images, which the names, and what comes out."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.formats.parquet import ParquetFormat
from pipelines.formats.shards import ShardSample, UnreadableSample
from pipelines.formats.work import ReadOptions
from pipelines.run.commits import CommitLog
from segmodel.errors import ConfigurationError, ContractError, FailureCode
from tests.fakes import CLASSES, WIDE_CLASSES, WideModel, brightness_labels, contract
from tests.pipelines.corpus import (
    check_inputs,
    failure_rows,
    files_in,
    make_work,
    pixels,
    plan_context,
    png,
    run_unit,
    units_in,
)

IMAGES = [pixels(20 + number, 30, number) for number in range(6)]
PNGS = [png(image) for image in IMAGES]
NAMES = [f"cats/{number}.png" for number in range(6)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
STRUCTS = pa.array([{"bytes": b, "path": n} for b, n in zip(PNGS, NAMES, strict=True)], STRUCT)


def write_table(path: Path, columns: dict[str, object], **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(path: Path, **reading) -> list[ShardSample | UnreadableSample]:
    (file,) = files_in(path)
    return list(ParquetFormat().read(file, ReadOptions(**reading)))


def label(work, path: Path, model=None) -> tuple[pa.Table, int, int]:
    """Table of label maps, and how many images were labelled and failed."""
    (unit,) = units_in(work, path)
    run_unit(unit, work, model)
    tally = CommitLog(work.run.root, work.options).read(unit).tally
    output = Path(work.run.root) / "labels" / path.parent.name / path.name
    return pq.read_table(output), tally.images, tally.failed_images


def values_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def check_labels(table: pa.Table, numbers: list[int]) -> None:
    """Assert that the rows are those of these images, in order, with their label maps."""
    rows = table.to_pylist()
    assert [row["record"] for row in rows] == numbers
    for row in rows:
        image = IMAGES[row["record"]]
        assert (row["height"], row["width"]) == image.shape[:2]
        np.testing.assert_array_equal(values_of(row["labels"]), brightness_labels(image))


@pytest.mark.parametrize("name", ["a.parquet", "a.PQ", "train-00000-of-00009.parquet"])
def test_files_are_known_by_their_name(name):
    assert ParquetFormat().matches(name)


@pytest.mark.parametrize("name", ["a.png", "parquet", "a.parquet.gz", "a.parquet.txt"])
def test_other_files_are_left_to_others(name):
    assert not ParquetFormat().matches(name)


IMAGE_COLUMNS = {
    "binary": pa.array(PNGS, pa.binary()),
    "large binary": pa.array(PNGS, pa.large_binary()),
    "struct": STRUCTS,
    "struct of large binary": pa.array(
        [{"bytes": b} for b in PNGS], pa.struct([("bytes", pa.large_binary())])
    ),
    "view": pa.array(PNGS, pa.binary_view()),
    "dictionary": pa.array(PNGS, pa.binary()).dictionary_encode(),
    "struct of view": pa.array(
        [{"bytes": b} for b in PNGS], pa.struct([("bytes", pa.binary_view())])
    ),
    "list of one": pa.array([[b] for b in PNGS], pa.list_(pa.binary())),
    "large list of one": pa.array([[b] for b in PNGS], pa.large_list(pa.binary_view())),
    "fixed list of one": pa.array([[b] for b in PNGS], pa.list_(pa.binary(), 1)),
}


@pytest.mark.parametrize("field", [None, "image", "image.bytes"])
@pytest.mark.parametrize("kind", IMAGE_COLUMNS)
def test_images_are_read_from_a_binary_column_or_a_struct(tmp_path, kind, field):
    if field == "image.bytes" and "struct" not in kind:
        field = "image"
    path = write_table(tmp_path / "s.parquet", {"id": range(6), "image": IMAGE_COLUMNS[kind]})
    entries = read(path, image_field=field)
    assert [(entry.number, entry.encoded) for entry in entries] == list(enumerate(PNGS))
    names = NAMES if kind == "struct" else [""] * 6
    assert [entry.name for entry in entries] == names


def test_images_of_one_length_may_be_stored_with_that_length(tmp_path):
    stored = [png + b"\0" * (max(map(len, PNGS)) - len(png)) for png in PNGS]
    column = pa.array(stored, pa.binary(len(stored[0])))
    path = write_table(tmp_path / "s.parquet", {"image": column})
    assert [entry.encoded for entry in read(path)] == stored


def test_a_list_of_structs_has_the_image_and_its_name(tmp_path):
    rows = [[{"bytes": b, "path": n}] for b, n in zip(PNGS, NAMES, strict=True)]
    path = write_table(tmp_path / "s.parquet", {"images": pa.array(rows, pa.list_(STRUCT))})
    assert [(entry.name, entry.encoded) for entry in read(path)] == list(
        zip(NAMES, PNGS, strict=True)
    )


def test_rows_with_several_images_or_none_fail_by_themselves(tmp_path):
    rows = [PNGS[:1], PNGS[:2], [], None, [None], [None, PNGS[1]]]
    path = write_table(tmp_path / "s.parquet", {"image": pa.array(rows, pa.list_(pa.binary()))})
    first, several, empty, null, of_null, last = read(path)
    assert [first.encoded, last.encoded] == PNGS[:2]
    assert several.reason == "the row has a list of 2 images: write a row for each"
    assert several.code == FailureCode.SEVERAL_IMAGES
    assert {entry.code for entry in (empty, null, of_null)} == {FailureCode.NO_IMAGE}


@pytest.mark.parametrize("field", [None, "sample.photo", "sample.photo.bytes"])
def test_a_struct_may_be_in_another(tmp_path, field):
    rows = [{"photo": {"bytes": b, "path": n}} for b, n in zip(PNGS, NAMES, strict=True)]
    kind = pa.struct([("photo", STRUCT)])
    path = write_table(tmp_path / "s.parquet", {"sample": pa.array(rows, kind)})
    entries = read(path, image_field=field)
    assert [(entry.name, entry.encoded) for entry in entries] == list(zip(NAMES, PNGS, strict=True))


def test_columns_of_views_and_lists_do_not_make_the_usual_column_doubtful(tmp_path):
    columns = {
        "id": pa.array([bytes([number] * 16) for number in range(6)], pa.binary(16)),
        "more": pa.array([[b"x", b"y"]] * 6, pa.list_(pa.binary())),
        "photo": IMAGE_COLUMNS["binary"],
    }
    assert [entry.encoded for entry in read(write_table(tmp_path / "s.parquet", columns))] == PNGS


def test_a_table_as_polars_writes_it_is_labelled(work, tmp_path):
    columns = {
        "image": IMAGE_COLUMNS["view"],
        "filename": pa.array(NAMES, pa.string_view()),
    }
    path = write_table(tmp_path / "in" / "s.parquet", columns)
    table, images, failed = label(work, path)
    assert (images, failed) == (6, 0)
    assert table["filename"].to_pylist() == NAMES
    check_labels(table, [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("name", ["jpg", "img", "content.bytes", "a b", "photo"])
def test_the_only_column_that_can_hold_images_is_taken_whatever_its_name(tmp_path, name):
    path = write_table(tmp_path / "s.parquet", {"x": ["a"] * 6, name: IMAGE_COLUMNS["binary"]})
    assert [entry.encoded for entry in read(path)] == PNGS


def test_of_several_columns_the_one_called_image_is_taken_or_the_one_that_the_user_names(tmp_path):
    columns = {"mask": pa.array(PNGS[::-1], pa.binary()), "image": STRUCTS}
    path = write_table(tmp_path / "s.parquet", columns)
    assert [entry.encoded for entry in read(path)] == PNGS
    assert [entry.encoded for entry in read(path, image_field="mask")] == PNGS[::-1]


COLUMN_NAMES = ["filename", "file_name", "path", "key", "__key__"]


@pytest.mark.parametrize("name", COLUMN_NAMES)
def test_names_come_from_a_column_that_is_usually_called_so(tmp_path, name):
    path = write_table(tmp_path / "s.parquet", {name: NAMES, "image": IMAGE_COLUMNS["binary"]})
    assert [entry.name for entry in read(path)] == NAMES


NAME_COLUMNS = {
    "text": (pa.array(NAMES), NAMES),
    "large text": (pa.array(NAMES, pa.large_string()), NAMES),
    "views of text": (pa.array(NAMES, pa.string_view()), NAMES),
    "dictionary of text": (pa.array(NAMES).dictionary_encode(), NAMES),
    "views of bytes": (pa.array([n.encode() for n in NAMES], pa.binary_view()), NAMES),
    "bytes": (pa.array([n.encode() for n in NAMES], pa.binary()), NAMES),
    "numbers": (pa.array(range(6)), [str(number) for number in range(6)]),
    "dictionary": (pa.array(NAMES).dictionary_encode(), NAMES),
    "nulls": (pa.array([None, *NAMES[1:]]), ["", *NAMES[1:]]),
    "no utf-8": (pa.array([b"caf\xe9"] * 6, pa.binary()), ["caf\udce9"] * 6),
    "hostile": (pa.array(["../../x", "/etc/passwd", "a\nb", "", " ", "x" * 300]), None),
}


@pytest.mark.parametrize("kind", NAME_COLUMNS)
def test_the_user_says_which_column_is_that_of_the_name(tmp_path, kind):
    column, expected = NAME_COLUMNS[kind]
    columns = {"title": column, "filename": ["wrong"] * 6, "image": STRUCTS}
    path = write_table(tmp_path / "s.parquet", columns)
    actual = [entry.name for entry in read(path, image_field="image", name_field="title")]
    assert actual == (expected or column.to_pylist())


def test_a_name_may_stand_in_a_struct(tmp_path):
    struct = pa.array([{"id": number} for number in range(6)])
    path = write_table(tmp_path / "s.parquet", {"about": struct, "image": IMAGE_COLUMNS["binary"]})
    assert [entry.name for entry in read(path, name_field="about.id")] == list("012345")


def test_a_column_that_is_no_text_is_not_taken_for_names(tmp_path):
    columns = {"path": [[1]] * 6, "key": NAMES, "image": IMAGE_COLUMNS["binary"]}
    path = write_table(tmp_path / "s.parquet", columns)
    assert [entry.name for entry in read(path)] == NAMES


REFUSED = {
    "no image": ({"id": [1], "name": ["a"]}, {}, r"no column 'image' .*id \(int64\), name"),
    "two columns": (
        {"a": pa.array([b"x"]), "b": pa.array([b"y"])},
        {},
        r"no column 'image' of encoded images; the columns are a \(binary\), b \(binary\): name",
    ),
    "a field that is not there": (
        {"image": pa.array([b"x"])},
        {"image_field": "photo"},
        r"no column 'photo' .*image \(binary\).*--image_field",
    ),
    "a field of text": (
        {"image": ["x"]},
        {"image_field": "image"},
        r".*image \(string\): .*base64",
    ),
    "a name that is not there": (
        {"image": pa.array([b"x"])},
        {"name_field": "title"},
        "no column 'title' of text or numbers: name the right one with --name_field",
    ),
    "a name that is a list": (
        {"image": pa.array([b"x"]), "title": [["a"]]},
        {"name_field": "title"},
        "no column 'title' of text or numbers",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_files_without_images_are_refused_before_any_work(tmp_path, kind):
    columns, reading, reason = REFUSED[kind]
    files = files_in(write_table(tmp_path / "in" / "s.parquet", columns))
    with pytest.raises(ConfigurationError, match=rf"^in/s\.parquet: {reason}"):
        check_inputs(ParquetFormat(), files, plan_context(contract(), ReadOptions(**reading)))
    (lost,) = ParquetFormat().read(files[0], ReadOptions(**reading))
    assert lost.number == 0
    assert lost.reason.startswith("the file cannot be read: no column")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([list(PNGS[0]), None], pa.list_(pa.uint8())),
        pa.array([list(PNGS[0]), None], pa.large_list(pa.int64())),
        pa.array([base64.b64encode(PNGS[0]).decode(), None]),
        pa.array([base64.b64encode(PNGS[0]).decode(), None], pa.large_string()),
    ],
)
def test_what_is_said_of_columns_of_numbers_and_of_text_makes_images_of_them(tmp_path, column):
    path = write_table(tmp_path / "in" / "s.parquet", {"id": [1, 2], "image": column})
    (lost,) = read(path)
    remedy = re.search(r" as (table\.set_column.*pa\.binary\(\)\)\)); ", lost.reason)[1]
    mended = eval(remedy, {"table": pq.read_table(path), "pa": pa, "base64": base64})
    pq.write_table(mended, path)
    first, second = read(path)
    assert first.encoded == PNGS[0]
    assert second.reason == "the row has no image"


def test_one_file_with_images_is_enough_to_begin(tmp_path):
    write_table(tmp_path / "in" / "0.parquet", {"id": [1]})
    (tmp_path / "in" / "1.parquet").write_bytes(b"text")
    write_table(tmp_path / "in" / "2.parquet", {"image": STRUCTS})
    check_inputs(ParquetFormat(), files_in(tmp_path / "in"), plan_context(contract()))


def test_a_model_of_other_bands_is_refused(tmp_path):
    files = files_in(write_table(tmp_path / "s.parquet", {"image": STRUCTS}))
    two = contract(bands=("a", "b"), nodata_fill=(0.0, 0.0))
    with pytest.raises(ContractError, match=r"other Parquet files .*: bands: the model takes 2"):
        check_inputs(ParquetFormat(), files, plan_context(two))


NULLS = {
    "binary": pa.array([PNGS[0], None, b"", PNGS[3]], pa.binary()),
    "struct": pa.array(
        [
            {"bytes": PNGS[0], "path": "a"},
            None,
            {"bytes": b"", "path": "c"},
            {"bytes": PNGS[3], "path": None},
        ],
        STRUCT,
    ),
    "bytes in a struct": pa.array(
        [
            {"bytes": PNGS[0], "path": "a"},
            {"bytes": None, "path": None},
            {"bytes": b"", "path": "c"},
            {"bytes": PNGS[3], "path": None},
        ],
        STRUCT,
    ),
}


@pytest.mark.parametrize("kind", NULLS)
def test_rows_without_an_image_cost_themselves(tmp_path, work, kind):
    path = write_table(tmp_path / "in" / "s.parquet", {"image": NULLS[kind]})
    table, images, failed = label(work, path)
    check_labels(table, [0, 3])
    assert (images, failed) == (2, 2)
    named = kind != "binary"
    assert table["filename"].to_pylist() == (["a", ""] if named else ["", ""])
    reasons = {row["key"]: row["reason"] for row in failure_rows(work)}
    expected = "the row has no image"
    assert reasons == {"#1": expected, "#2 c" if named else "#2": "empty file"}


@pytest.mark.parametrize("rows", [0, 1, 6])
def test_a_file_of_any_length_gives_a_file_of_that_length(tmp_path, work, rows):
    table, images, failed = label(
        work, write_table(tmp_path / "in" / "s.parquet", {"image": STRUCTS[:rows]})
    )
    check_labels(table, list(range(rows)))
    assert (images, failed) == (rows, 0)


@pytest.mark.parametrize("confidence", [False, True])
def test_the_output_has_rows_of_number_name_size_and_maps(tmp_path, confidence):
    work = make_work(tmp_path / "run", confidence=confidence)
    table, _, _ = label(work, write_table(tmp_path / "in" / "s.parquet", {"image": STRUCTS}))
    fields = [("record", pa.int64()), ("filename", pa.string())]
    fields += [("height", pa.int32()), ("width", pa.int32()), ("labels", pa.binary())]
    assert table.schema.equals(pa.schema(fields + [("confidence", pa.binary())] * confidence))
    assert table["filename"].to_pylist() == NAMES
    check_labels(table, list(range(6)))
    first = Image.open(io.BytesIO(table["labels"][0].as_py()))
    assert first.getpalette() == CLASSES.palette().ravel().tolist()
    if confidence:
        expected = IMAGES[0].astype(np.float32).mean(axis=-1)
        actual = values_of(table["confidence"][0].as_py())
        assert np.abs(actual.astype(np.float32) - expected).max() <= 0.51


def test_ids_above_255_are_16_bit_label_maps(tmp_path):
    work = make_work(tmp_path / "run", contract=contract(classes=WIDE_CLASSES))
    path = write_table(tmp_path / "in" / "s.parquet", {"image": STRUCTS})
    table, _, _ = label(work, path, WideModel())
    for content, image in zip(table["labels"].to_pylist(), IMAGES, strict=True):
        np.testing.assert_array_equal(values_of(content), np.where(image[..., 0] > 99, 300, 5))


def test_two_runs_write_the_same_bytes(tmp_path):
    path = write_table(tmp_path / "in" / "s.parquet", {"image": STRUCTS})
    for run in ("one", "two"):
        label(make_work(tmp_path / run), path)
    first, second = (
        (tmp_path / run / "labels/in/s.parquet").read_bytes() for run in ("one", "two")
    )
    assert first == second


def test_our_files_are_read_by_their_own_format(tmp_path, work):
    label(work, write_table(tmp_path / "in" / "s.parquet", {"image": STRUCTS}))
    output = Path(work.run.root) / "labels" / "in" / "s.parquet"
    entries = read(output, image_field=ParquetFormat.label_field)
    assert [entry.name for entry in entries] == NAMES
    for entry, image in zip(entries, IMAGES, strict=True):
        np.testing.assert_array_equal(values_of(entry.encoded), brightness_labels(image))
