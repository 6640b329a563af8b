"""The contact sheet shows images of every format beside their label maps, always the same ones."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from PIL import Image

from pipelines.cli.values import FailureBudget
from pipelines.formats import images
from pipelines.formats.images import decoded
from pipelines.formats.interface import Thumbnail
from pipelines.results import contact_sheet
from pipelines.results.contact_sheet import (
    EMPTY,
    MIN_WIDTH_PX,
    TILE_PX,
    TILES,
    UnitSample,
    draw_sheet,
    nodata_color,
)
from pipelines.run.plan import UnitReference
from segmodel.labels.classes import ClassTable, LabelClass
from tests.fakes import BRIGHT, CLASSES, DARK, WIDE_CLASSES, brightness_labels
from tests.pipelines.corpus import (
    contract,
    finish,
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


def test_a_tile_of_a_tiff_shows_the_mask_beside_it(tmp_path):
    work = make_work(tmp_path / "run")
    path = write_scene(tmp_path / "in" / "a.tif", HALVES, (None, None))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as target:
        target.write_mask(np.broadcast_to(np.arange(60) >= 15, (40, 60)))
    assert Path(f"{path}.msk").exists()
    totals = run_all(work, tmp_path / "in")

    (tile,) = contact_sheet.thumbnails(totals.sample, work)

    height, width = tile.labels.shape
    seen = tile.valid[height // 2, [width // 8, 3 * width // 8, 7 * width // 8]]
    assert seen.tolist() == [False, True, True]


def test_a_tile_shows_the_first_bands_of_a_tiff_that_only_a_model_of_four_bands_reads(tmp_path):
    four = replace(contract(), bands=("red", "green", "blue", "nir"), nodata_fill=(0.0,) * 4)
    values = np.dstack([HALVES, HALVES[..., :1] + 7])
    path = write_scene(tmp_path / "a.tif", values, (None, None), photometric="minisblack")
    work = make_work(tmp_path / "run", contract=four)
    tile = decoded("a", path.read_bytes(), png(HALVES[..., :1]), work)
    np.testing.assert_array_equal(tile.image, HALVES)
    assert tile.valid is None


def test_an_image_that_is_gone_leaves_its_place_to_others(tmp_path):
    work = make_work(tmp_path / "run")
    write_input(tmp_path / "in", "tar")
    write_input(tmp_path / "other", "images")
    totals = run_all(work, tmp_path / "in", tmp_path / "other")
    (tmp_path / "in" / "a.tar").unlink()

    tiles = list(contact_sheet.thumbnails(totals.sample, work))

    assert [tile.caption for tile in tiles] == ["other/a.png"]


def test_an_image_that_a_store_refuses_once_is_shown(tmp_path, monkeypatch):
    work = make_work(tmp_path / "run")
    write_input(tmp_path / "in", "images")
    sample = run_all(work, tmp_path / "in").sample
    expected = [tile.caption for tile in contact_sheet.thumbnails(sample, work)]
    assert expected == ["in/a.png"]

    for refusals in (1, 2):
        left = [PermissionError(13, "refused")] * refusals
        monkeypatch.setattr(images, "mask_beside", lambda file, left=left: _refuse(left))
        found = [tile.caption for tile in contact_sheet.thumbnails(sample, work)]
        assert found == (expected if refusals == 1 else [])


def _refuse(left: list[OSError]) -> None:
    if left:
        raise left.pop()


def test_the_sheet_of_a_run_is_the_same_bytes_every_time(tmp_path):
    write_input(tmp_path / "in", "images")
    sheets = []
    for name in ("one", "two"):
        work = make_work(tmp_path / name)
        run_all(work, tmp_path / "in")
        finish(work, FailureBudget.parse("9"), {})
        sheets.append((tmp_path / name / "preview.png").read_bytes())
    assert sheets[0] == sheets[1]
    assert Image.open(io.BytesIO(sheets[0])).mode == "RGB"


def test_a_run_in_which_all_failed_has_a_sheet_that_says_so(tmp_path):
    work = make_work(tmp_path / "run")
    write(tmp_path / "in" / "a.png", b"text")
    run_all(work, tmp_path / "in")
    finish(work, FailureBudget.parse("0"), {})
    assert read_png(tmp_path / "run" / "preview.png").shape[0] < TILE_PX


def sample(numbers: Iterable[int], with_classes: Container[int] = range(1000)) -> UnitSample:
    """The sample of units of these numbers, which are their places in the plan."""
    places = ((number, UnitReference("part-00000.jsonl", number, 1)) for number in numbers)
    return UnitSample.merged(
        UnitSample.of(f"u{number:03d}", place, number in with_classes) for number, place in places
    )


def numbers(found: UnitSample) -> list[int]:
    return [reference.offset for reference in found.references]


def test_the_sample_depends_neither_on_the_order_of_units_nor_on_how_they_are_grouped():
    forward, backward = sample(range(200)), sample(reversed(range(200)))
    grouped = UnitSample.merged(map(sample, (range(7), range(150, 200), range(7, 150))))
    assert numbers(forward) == numbers(backward) == numbers(grouped)
    assert len(numbers(forward)) == TILES
    assert numbers(forward) != list(range(TILES))


def test_units_that_are_added_keep_most_of_a_sample():
    kept = {*numbers(sample(range(900)))} & {*numbers(sample(range(1000)))}
    assert len(kept) >= TILES - 2


def test_units_without_a_class_are_sampled_only_where_there_is_nothing_else():
    found = numbers(sample(range(100), with_classes=(7, 70)))
    assert len(found) == TILES
    assert {7, 70} <= {*found}


def test_places_that_small_units_leave_are_taken_by_others(tmp_path):
    work = make_work(tmp_path / "run", groups=2)
    for number in range(9):
        write(tmp_path / "in" / f"{number}.png", png(HALVES))
    write_input(tmp_path / "scene", "scene")
    totals = run_all(work, tmp_path / "in", tmp_path / "scene")
    tiles = list(contact_sheet.thumbnails(totals.sample, work))
    assert len({tile.caption for tile in tiles}) == len(tiles) == TILES


def test_a_label_map_stands_beside_its_image_in_the_colours_of_the_legend():
    labels = np.array([[DARK, BRIGHT], [CLASSES.nodata, DARK]], np.uint8)
    image = np.full((2, 2, 3), 100, np.uint8)
    valid = np.array([[True, True], [True, False]])
    tile = Thumbnail("a", image, labels, valid).fitted(TILE_PX)
    sheet = np.asarray(draw_sheet([tile], CLASSES, {}, []))

    empty = nodata_color(CLASSES)
    colors = {entry.id: entry.color for entry in CLASSES.classes} | {CLASSES.nodata: empty}
    (top,) = np.flatnonzero((sheet[:, 200] == 100).all(axis=-1))[:1]
    for row, column in np.ndindex(2, 2):
        y, x = top + row * 256 + 128, 12 + column * 256 + 128
        assert sheet[y, x].tolist() == ([100] * 3 if valid[row, column] else list(empty))
        assert sheet[y, x + TILE_PX + 6].tolist() == list(colors[int(labels[row, column])])


@pytest.mark.parametrize("has_nodata", [False, True])
def test_the_legend_explains_nodata_where_there_is_some(has_nodata):
    labels = np.full((40, 40), CLASSES.nodata if has_nodata else DARK, np.uint8)
    tile = Thumbnail("a", np.zeros((40, 40, 3), np.uint8), labels).fitted(TILE_PX)
    legend = np.asarray(draw_sheet([tile], CLASSES, {}, []))[:40]
    assert (legend == nodata_color(CLASSES)).all(axis=-1).any() == has_nodata


def test_nodata_looks_like_no_class():
    assert nodata_color(ClassTable((LabelClass(0, "a", (0, 0, 255)),))) == EMPTY[0]
    greys = ClassTable(tuple(LabelClass(i, str(i), EMPTY[i]) for i in range(3)))
    assert nodata_color(greys) == EMPTY[4]


def test_ids_above_255_have_their_colours():
    table = WIDE_CLASSES.palette(EMPTY[0])
    assert table.shape == (65536, 3)
    assert table[300].tolist() == [1, 2, 3]


@pytest.mark.parametrize("count", [0, 1, 5, TILES])
def test_any_number_of_tiles_and_classes_fits(count):
    labels = brightness_labels(HALVES)
    tile = Thumbnail("name " * 40, HALVES, labels).fitted(TILE_PX)
    captions = dict.fromkeys(CLASSES.names, "12.3%")
    sheet = draw_sheet([tile] * count, CLASSES, captions, ["first line", "second line"])
    rows = -(-count // 2)
    assert sheet.height > rows * tile.labels.shape[0]
    assert (sheet.width > 2 * MIN_WIDTH_PX) == (count > 1)


def test_a_sheet_of_hundreds_of_classes_names_those_in_its_tiles():
    classes = ClassTable(tuple(LabelClass(i, f"class {i} " * 9, (i, 0, 0)) for i in range(250)))
    labels = np.full((8, 8), 77, np.uint8)
    tile = Thumbnail("a", np.full((8, 8, 3), 255, np.uint8), labels).fitted(TILE_PX)
    assert draw_sheet([tile], classes, {}, []).height < TILE_PX + 150


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((300, 300), (512, 512)),
        ((3000, 2000), (512, 341)),
        ((7, 10), (358, 512)),
        ((2000, 200), (1024, 102)),
        ((600, 300), (724, 362)),
        ((100, 200), (512, 1024)),
        ((200, 2000), (102, 1024)),
        ((1, 90000), (1, 1024)),
    ],
)
def test_a_thumbnail_fills_its_place_and_never_mixes_labels(shape, expected):
    labels = np.indices(shape).sum(0) % 2 * 7
    image = np.zeros((*shape, 3), np.uint8)
    tile = Thumbnail("a", image, labels.astype(np.uint16), labels > 0).fitted(512)
    assert tile.labels.shape == tile.image.shape[:2] == tile.valid.shape == expected
    assert set(np.unique(tile.labels)) <= {0, 7}
    np.testing.assert_array_equal(tile.valid, tile.labels > 0)


def test_transparent_pixels_of_an_image_are_empty(tmp_path):
    work = make_work(tmp_path / "run")
    opaque = np.full((40, 60, 1), 255, np.uint8)
    opaque[:, :30] = 0
    write(tmp_path / "in" / "a.png", png(np.concatenate([HALVES, opaque], axis=2)))
    totals = run_all(work, tmp_path / "in")
    (tile,) = contact_sheet.thumbnails(totals.sample, work)
    assert not tile.valid[:, :250].any()
    assert tile.valid[:, 260:].all()
