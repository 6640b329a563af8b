"""The contact sheet shows images of every format beside their label maps, always the same ones."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.cli.values import FailureBudget
from pipelines.formats.interface import Thumbnail
from pipelines.results import contact_sheet
from pipelines.results.contact_sheet import TILE_PX, TILES, UnitSample, draw_sheet, overlay
from pipelines.results.totals import finish_run
from pipelines.run.plan import InputFile, WorkUnit
from tests.fakes import BRIGHT, CLASSES, DARK, WIDE_CLASSES, brightness_labels
from tests.pipelines.corpus import (
    make_work,
    png,
    read_png,
    record,
    run_all,
    write,
    write_scene,
    write_shard,
)

HALVES = np.zeros((40, 60, 3), np.uint8)
HALVES[:, 30:] = 255


def unit(name: str) -> WorkUnit:
    return WorkUnit(name, "images", (InputFile("/x/a", "x", "a", 1, "1"),))


def tar_of(encoded: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("a.png")
        member.size = len(encoded)
        archive.addfile(member, io.BytesIO(encoded))
    return buffer.getvalue()


def write_input(folder: Path, kind: str) -> None:
    """Black on the left, white on the right, behind a broken image where there is room for one."""
    if kind == "images":
        write(folder / "a.png", png(HALVES))
        write(folder / "broken.png", b"text")
    elif kind == "tfrecord":
        write_shard(folder / "a.tfrecord", [b"\xff", record(HALVES, "a")])
    elif kind == "tar":
        write(folder / "a.tar", tar_of(png(HALVES)))
    elif kind == "parquet":
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"image": [b"text", png(HALVES)]}), folder / "a.parquet")
    else:
        write_scene(folder / "a.tif", HALVES)


@pytest.mark.parametrize("kind", ["images", "tfrecord", "tar", "parquet", "scene"])
def test_a_tile_shows_the_image_and_its_own_label_map(tmp_path, kind):
    work = make_work(tmp_path / "run")
    write_input(tmp_path / "in", kind)
    totals = run_all(work, tmp_path / "in")

    (tile,) = contact_sheet.thumbnails(totals.sample, work)

    assert tile.caption.startswith("in/a.")
    height, width = tile.labels.shape
    assert tile.image.shape == (height, width, 3)
    assert abs(width / height - 1.5) < 0.02
    middle = height // 2
    for column, value, label in ((width // 4, 0, DARK), (3 * width // 4, 255, BRIGHT)):
        assert tile.image[middle, column].tolist() == [value] * 3
        assert tile.labels[middle, column] == label


def test_an_image_that_is_gone_leaves_its_place_to_others(tmp_path):
    work = make_work(tmp_path / "run")
    write_input(tmp_path / "in", "tar")
    write_input(tmp_path / "other", "images")
    totals = run_all(work, tmp_path / "in", tmp_path / "other")
    (tmp_path / "in" / "a.tar").unlink()

    tiles = list(contact_sheet.thumbnails(totals.sample, work))

    assert [tile.caption for tile in tiles] == ["other/a.png"]


def test_the_sheet_of_a_run_is_the_same_bytes_every_time(tmp_path):
    write_input(tmp_path / "in", "images")
    sheets = []
    for name in ("one", "two"):
        work = make_work(tmp_path / name)
        run_all(work, tmp_path / "in")
        finish_run(work, FailureBudget.parse("9"), {})
        sheets.append((tmp_path / name / "preview.png").read_bytes())
    assert sheets[0] == sheets[1]
    assert Image.open(io.BytesIO(sheets[0])).mode == "RGB"


def test_a_run_in_which_all_failed_has_a_sheet_that_says_so(tmp_path):
    work = make_work(tmp_path / "run")
    write(tmp_path / "in" / "a.png", b"text")
    run_all(work, tmp_path / "in")
    finish_run(work, FailureBudget.parse("0"), {})
    assert read_png(tmp_path / "run" / "preview.png").shape[0] < TILE_PX


def test_the_sample_does_not_depend_on_the_order_of_units():
    units = [unit(f"u{number}") for number in range(200)]
    forward, backward = UnitSample(), UnitSample()
    for entry in units:
        forward.offer(entry)
    for entry in reversed(units):
        backward.offer(entry)
    assert forward.units() == backward.units()
    assert len(forward.units()) == TILES
    assert forward.units() != units[:TILES]


def test_units_that_are_added_keep_most_of_a_sample():
    few, many = UnitSample(), UnitSample()
    for number in range(1000):
        many.offer(unit(f"u{number}"))
        if number < 900:
            few.offer(unit(f"u{number}"))
    kept = {entry.id for entry in few.units()} & {entry.id for entry in many.units()}
    assert len(kept) >= TILES - 8


def test_colours_are_those_of_the_classes_and_nodata_is_not_mixed():
    labels = np.array([[DARK, BRIGHT, 255]], np.uint8)
    tile = Thumbnail("a", np.full((1, 3, 3), 100, np.uint8), labels)
    painted = overlay(tile, CLASSES.palette(contact_sheet.EMPTY), CLASSES.nodata)[0]
    colors = {entry.id: np.array(entry.color) for entry in CLASSES.classes}
    for column, label in ((0, DARK), (1, BRIGHT)):
        expected = np.rint(0.65 * colors[label] + 35).astype(int)
        assert np.abs(painted[column].astype(int) - expected).max() <= 1
    assert painted[2].tolist() == list(contact_sheet.EMPTY)


def test_ids_above_255_have_their_colours():
    table = WIDE_CLASSES.palette(contact_sheet.EMPTY)
    assert table.shape == (65536, 3)
    assert table[300].tolist() == [1, 2, 3]


@pytest.mark.parametrize("count", [0, 1, 5, TILES])
def test_any_number_of_tiles_and_classes_fits(count):
    labels = brightness_labels(HALVES)
    tile = Thumbnail.of("name " * 40, HALVES, labels, TILE_PX)
    captions = dict.fromkeys(CLASSES.names, "12.3%")
    sheet = draw_sheet([tile] * count, CLASSES, captions, ["first line", "second line"])
    rows = -(-count // contact_sheet.COLUMNS)
    assert sheet.height > rows * TILE_PX
    assert sheet.width > 2 * TILE_PX * contact_sheet.COLUMNS


def test_a_thumbnail_never_mixes_labels():
    labels = np.indices((300, 300)).sum(0) % 2 * 7
    tile = Thumbnail.of("a", np.zeros((300, 300, 3), np.uint8), labels.astype(np.uint8), 100)
    assert tile.labels.shape == (100, 100)
    assert set(np.unique(tile.labels)) <= {0, 7}
