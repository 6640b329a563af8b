"""Pixels and ground area by class: exact, balanced, and the same in any order."""

from __future__ import annotations

import csv
import io
import math
import tracemalloc
from fractions import Fraction
from functools import reduce
from operator import add

import numpy as np
import pyarrow.parquet as pq
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS

from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.row_areas import RowAreas
from pipelines.run import area_tables, areas
from pipelines.run.areas import Tally, Unlabelled
from segmodel.errors import ContractError
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.tiling.windows import Window
from tests.examples import examples
from tests.fakes import BRIGHT, CLASSES, DARK, MIDDLE
from tests.pipelines.corpus import make_work, pixels, run_all, write_scene
from tests.pipelines.grounds import SCENES

VALUES = {"0": DARK, "3": MIDDLE, "7": BRIGHT, "nodata": 255}


def random_labels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0, 3, 7, 255], np.uint8), (height, width))


def rows_of_csv(content: bytes) -> dict[str, dict[str, str]]:
    return {row["class"]: row for row in csv.DictReader(io.StringIO(content.decode()))}


def test_counts_are_those_of_every_class_and_nodata():
    labels = np.array([[0, 0, 7], [255, 3, 0]], np.uint8)
    actual = areas.measure(labels, CLASSES, None)
    assert actual.pixels == {"0": 3, "3": 1, "7": 1, "nodata": 1}
    assert (actual.images, actual.failed_images) == (1, 0)
    assert (actual.ground_pixels, actual.area_m2, actual.footprint_m2) == ({}, {}, 0.0)


def test_a_label_that_is_no_class_is_an_error_and_never_counted_as_another():
    with pytest.raises(ContractError, match=r"labels \[.*4.*\] are not in the class table"):
        areas.measure(np.array([[0, 4]], np.uint8), CLASSES, None)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 9), (9, 1), (256, 3), (257, 5), (700, 2)]
)
@pytest.mark.parametrize("strip", [1, 700, 1 << 20])
def test_areas_of_a_grid_that_is_equal_along_rows_are_exactly_rounded(
    monkeypatch, height, width, strip
):
    monkeypatch.setattr(areas, "_STRIP_PIXELS", strip)
    labels = random_labels(height, width)
    by_row = np.random.default_rng(1).uniform(1e5, 2e5, (height, 1))
    actual = areas.measure(labels, CLASSES, areas.by_rows(by_row), 1.0).area_m2
    for key, value in VALUES.items():
        rows, _ = np.nonzero(labels == value)
        # Each product of a count and an area is rounded once before the exact sum.
        products = [int((rows == row).sum()) * float(by_row[row, 0]) for row in range(height)]
        assert actual[key] == float(sum(map(Fraction, products))), key
        exact = sum(Fraction(float(by_row[row, 0])) for row in rows)
        assert actual[key] == pytest.approx(float(exact), rel=1e-15)


@pytest.mark.parametrize(("height", "width"), [(1, 2), (255, 7), (256, 7), (257, 7), (513, 4)])
@pytest.mark.parametrize("strip", [1, 7 * 256, 1 << 20])
def test_areas_of_a_grid_that_varies_everywhere_equal_a_sum_pixel_by_pixel(
    monkeypatch, height, width, strip
):
    monkeypatch.setattr(areas, "_STRIP_PIXELS", strip)
    labels = random_labels(height, width)
    everywhere = np.random.default_rng(1).uniform(50, 150, (height, width))
    actual = areas.measure(labels, CLASSES, areas.by_rows(everywhere), 1.0).area_m2
    for key, value in VALUES.items():
        assert actual[key] == pytest.approx(math.fsum(everywhere[labels == value]), rel=1e-13)


@pytest.mark.parametrize(
    ("scene", "form"),
    [("utm", RowAreas), ("utm rotated", RowAreas), ("geographic", np.ndarray), ("polar", RowAreas)],
)
@pytest.mark.parametrize("strip", [1, 1 << 13])
def test_areas_of_runs_along_rows_equal_those_of_their_pixels(monkeypatch, scene, form, strip):
    monkeypatch.setattr(areas, "_STRIP_PIXELS", strip)
    grid = GroundGrid.of(*SCENES[scene])
    row, column, height, width = 31, 57, 40, 203
    labels = random_labels(height, width)
    # Runs of all lengths, up to rows of one label, and a class of the last pixel alone.
    labels[:, 50:150], labels[7:9], labels[labels == 7] = 3, 0, 3
    labels[-1, -1] = 7
    inside = np.ones(labels.shape, bool)
    inside[20:25, 190:] = False
    lost = Window(30, 0, 4, 9)
    labels[lost.slices] = labels[~inside] = 255
    unlabelled = Unlabelled([lost], inside)

    def summable(top: int, rows: int) -> np.ndarray | RowAreas:
        found = grid.summable_areas_m2(row + top, column, rows, width)
        assert isinstance(found, form)
        return found

    actual = areas.measure(labels, CLASSES, summable, 1.0, unlabelled=unlabelled).area_m2
    by_pixel = np.broadcast_to(grid.pixel_areas_m2(row, column, height, width), labels.shape)
    masks = {key: labels == value for key, value in VALUES.items()}
    masks |= {"failed": np.zeros(labels.shape, bool), "outside": ~inside}
    masks["failed"][lost.slices] = True
    masks["nodata"] = masks["nodata"] & ~masks["failed"] & inside
    assert actual.keys() == masks.keys()
    for key, mask in masks.items():
        assert actual[key] == pytest.approx(math.fsum(by_pixel[mask]), rel=1e-12), key


def test_areas_of_equal_pixels_are_counts_times_the_area():
    labels = random_labels(300, 11)
    tally = areas.measure(labels, CLASSES, 0.25, 0.25 * labels.size)
    assert tally.area_m2 == {key: 0.25 * count for key, count in tally.pixels.items()}
    assert tally.ground_pixels == tally.pixels


def test_confidence_is_summed_over_the_pixels_of_each_class_without_nodata():
    labels = np.array([[0, 0, 7, 255]], np.uint8)
    confidence = np.array([[0.5, 0.25, 1.0, 0.125]], np.float32)
    actual = areas.measure(labels, CLASSES, None, confidence=confidence)
    assert actual.confidence_sum == {"0": 0.75, "3": 0.0, "7": 1.0}
    means = {
        row["class"]: row["mean_confidence"]
        for row in area_tables.rows_of("a", None, actual, CLASSES)
    }
    assert means == {"dark": 0.375, "middle": None, "bright": 1.0, "nodata": None}


def test_a_mean_confidence_of_zero_is_zero_and_not_unknown():
    confidence = np.zeros((1, 2), np.float32)
    tally = areas.measure(np.zeros((1, 2), np.uint8), CLASSES, None, confidence=confidence)
    assert area_tables.rows_of("a", None, tally, CLASSES)[0]["mean_confidence"] == 0.0


TALLIES = st.builds(
    Tally,
    images=st.integers(0, 3),
    failed_images=st.integers(0, 3),
    pixels=st.dictionaries(st.sampled_from([*VALUES, "failed"]), st.integers(0, 10**12)),
    area_m2=st.dictionaries(st.sampled_from([*VALUES, "failed"]), st.floats(0, 1e15)),
    confidence_sum=st.dictionaries(st.sampled_from(["0", "3", "7"]), st.floats(0, 1e9)),
    footprint_m2=st.floats(0, 1e15),
)


@given(tallies=st.lists(TALLIES, max_size=8), seed=st.randoms(use_true_random=False))
@settings(max_examples=examples(80), deadline=None)
def test_merged_tallies_do_not_depend_on_order_bit_for_bit(tallies, seed):
    expected = Tally.sum(tallies)
    shuffled = list(tallies)
    seed.shuffle(shuffled)
    actual = Tally.sum(shuffled)
    assert actual == expected
    assert list(actual.pixels) == list(expected.pixels)
    assert area_tables.totals_csv(actual, CLASSES) == area_tables.totals_csv(expected, CLASSES)


def test_a_plain_sum_would_depend_on_order_so_the_comparison_can_fail():
    values = [1e15, 0.3, 0.3, 0.3]
    # Not sum(), which compensates from Python 3.12 on.
    assert reduce(add, values) != reduce(add, reversed(values))
    tallies = [Tally(footprint_m2=value) for value in values]
    assert Tally.sum(tallies) == Tally.sum(reversed(tallies))


def test_the_sum_of_nothing_is_nothing():
    assert Tally.sum([]) == Tally()


def test_shares_are_of_all_classes_without_nodata():
    labels = np.array([[0, 3, 3, 3, 255, 255, 255, 255]], np.uint8)
    rows = area_tables.rows_of("a.jpg", "#1", areas.measure(labels, CLASSES, None), CLASSES)
    shares = {row["class"]: row["share"] for row in rows}
    assert shares == {"dark": 0.25, "middle": 0.75, "bright": 0.0, "nodata": None}
    assert {(row["source"], row["key"]) for row in rows} == {("a.jpg", "#1")}
    assert [row["class_id"] for row in rows] == [0, 3, 7, 255]


def test_shares_are_of_ground_where_it_is_known():
    labels = np.array([[0], [3]], np.uint8)
    tally = areas.measure(labels, CLASSES, areas.by_rows(np.array([[1.0], [3.0]])), 4.0)
    shares = [row["share"] for row in area_tables.rows_of("a", None, tally, CLASSES)]
    assert shares == [0.25, 0.75, 0.0, None]


def test_an_image_of_nodata_alone_has_no_shares():
    labels = np.full((2, 2), 255, np.uint8)
    rows = area_tables.rows_of("a", None, areas.measure(labels, CLASSES, None), CLASSES)
    assert [row["share"] for row in rows] == [None] * 4
    assert [row["pixels"] for row in rows] == [0, 0, 0, 4]


def test_class_ids_of_sixteen_bits_are_counted_as_themselves():
    classes = ClassTable(
        (LabelClass(256, "a", (1, 1, 1)), LabelClass(0, "b", (2, 2, 2))),
    )
    tally = areas.measure(np.array([[256, 0, 0, 65535]], np.uint16), classes, None)
    assert tally.pixels == {"256": 1, "0": 2, "nodata": 1}


def test_the_same_rows_give_the_same_parquet_bytes(tmp_path):
    labels = random_labels(20, 20)
    rows = area_tables.rows_of("é/a.jpg", None, areas.measure(labels, CLASSES, 2.0, 800.0), CLASSES)
    many = rows * (area_tables.GROUP_ROWS // 2)
    for name in ("one", "two"):
        with area_tables.area_table(str(tmp_path / name)) as table:
            for number in range(0, len(many), 4):
                table.add(many[number : number + 4])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    expected = [{name: row[name] for name in area_tables.SCHEMA.names} for row in many]
    assert pq.read_table(tmp_path / "one").to_pylist() == expected
    assert pq.ParquetFile(tmp_path / "one").num_row_groups == 2


def test_a_table_without_rows_has_its_columns(tmp_path):
    with area_tables.area_table(str(tmp_path / "none")):
        pass
    assert pq.read_table(tmp_path / "none").schema.equals(area_tables.SCHEMA)


def test_totals_give_classes_nodata_failed_their_sum_and_the_footprint():
    labelled = Tally(
        images=1,
        pixels={"0": 1, "3": 3, "nodata": 4},
        ground_pixels={"0": 1, "3": 3, "nodata": 4},
        area_m2={"0": 10.0, "3": 30.0, "nodata": 40.0},
        footprint_m2=80.0,
    )
    lost = Tally(
        pixels={"failed": 2},
        ground_pixels={"failed": 2},
        area_m2={"failed": 20.0},
        footprint_m2=20.0,
    )
    no_ground = Tally(images=1, pixels={"7": 4})
    expected = """\
class_id,class,pixels,pixel_share,area_m2,area_share
0,dark,1,0.125,10.0,0.25
3,middle,3,0.375,30.0,0.75
7,bright,4,0.5,0.0,0.0
255,nodata,4,,40.0,
,failed,2,,20.0,
,total,14,,100.0,
,footprint,10,,100.0,
"""
    total = Tally.sum([labelled, lost, no_ground])
    assert area_tables.totals_csv(total, CLASSES).decode() == expected


def test_totals_without_ground_leave_areas_empty_and_have_no_footprint():
    rows = rows_of_csv(area_tables.totals_csv(Tally(pixels={"0": 5}), CLASSES))
    assert {row["area_m2"] for row in rows.values()} == {""}
    assert {row["area_share"] for row in rows.values()} == {""}
    assert (rows["total"]["pixels"], rows["dark"]["pixel_share"]) == ("5", "1.0")
    assert "footprint" not in rows


def test_totals_of_nothing_are_zeros_without_shares():
    rows = rows_of_csv(area_tables.totals_csv(Tally(), CLASSES))
    assert [row["pixels"] for row in rows.values()] == ["0"] * 6
    assert {row["pixel_share"] for row in rows.values()} == {""}


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", Affine(0.01, 0, 10, 0, -0.01, 60)),
        ("EPSG:3857", Affine(100, 0, 1e6, 0, -100, 8.4e6)),
        ("EPSG:32633", Affine(8.66, 5, 3e5, 5, -8.66, 6e6)),
    ],
)
def test_the_table_balances_on_the_ground(tmp_path, crs, transform):
    values = pixels(150, 130)
    values[:40, :50] = 0
    write_scene(tmp_path / "in" / "a.tif", values, (crs, transform), nodata=0)
    total = run_all(make_work(tmp_path / "run"), tmp_path / "in").tally
    assert total.pixels["nodata"] == 2000
    assert sum(total.pixels.values()) == 150 * 130
    summed = math.fsum(total.area_m2.values())
    assert summed == pytest.approx(total.footprint_m2, rel=1e-6)
    outline = GroundGrid.of(transform, CRS.from_user_input(crs), 150, 130).footprint_m2()
    assert total.footprint_m2 == pytest.approx(outline, rel=1e-12)


def test_counting_pixels_overstates_ground_in_web_mercator(tmp_path):
    north = ("EPSG:3857", Affine(100, 0, 1e6, 0, -100, 8.4e6))
    write_scene(tmp_path / "in" / "a.tif", pixels(64, 64), north)
    total = run_all(make_work(tmp_path / "run"), tmp_path / "in").tally
    planar = 64 * 64 * 100**2
    assert 3.9 < planar / total.footprint_m2 < 4.1


LOST = [Window(0, 0, 3, 4), Window(5, 6, 2, 1), Window(8, 0, 1, 9)]


def with_lost(height: int = 9, width: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Labels that are nodata where windows are lost and elsewhere, and where they are lost."""
    labels = random_labels(height, width)
    lost = np.zeros(labels.shape, bool)
    for window in LOST:
        lost[window.slices] = True
    labels[lost] = 255
    return labels, lost


def test_what_is_lost_counts_as_failed_and_the_rest_as_it_is():
    labels, lost = with_lost()
    tally = areas.measure(labels, CLASSES, None, unlabelled=Unlabelled(LOST))
    assert (tally.images, tally.failed_images) == (0, 1)
    assert tally.pixels == {
        **{key: int((labels == value).sum()) for key, value in VALUES.items() if key != "nodata"},
        "nodata": int(((labels == 255) & ~lost).sum()),
        "failed": 23,
    }
    assert sum(tally.pixels.values()) == 81


@pytest.mark.parametrize("strip", [1, 9, 20, 1 << 20])
@pytest.mark.parametrize("shape", [(9, 1), (9, 9)])
def test_areas_of_what_is_lost_are_failed_ground(monkeypatch, shape, strip):
    monkeypatch.setattr(areas, "_STRIP_PIXELS", strip)
    labels, lost = with_lost()
    by_pixel = np.random.default_rng(1).uniform(50, 150, shape)
    everywhere = np.broadcast_to(by_pixel, labels.shape)
    confidence = np.full(labels.shape, 0.5, np.float32)
    confidence[labels == 255] = 0
    tally = areas.measure(
        labels,
        CLASSES,
        areas.by_rows(by_pixel),
        1.0,
        confidence=confidence,
        unlabelled=Unlabelled(LOST),
    )
    for key, value in VALUES.items():
        expected = math.fsum(everywhere[(labels == value) & ~lost])
        assert tally.area_m2[key] == pytest.approx(expected, rel=1e-13)
        if key != "nodata":
            assert tally.confidence_sum[key] == 0.5 * tally.pixels[key]
    assert tally.area_m2["failed"] == pytest.approx(math.fsum(everywhere[lost]), rel=1e-13)
    assert math.fsum(tally.area_m2.values()) == pytest.approx(everywhere.sum(), rel=1e-13)
    assert tally.ground_pixels == tally.pixels
    assert set(tally.confidence_sum) == {"0", "3", "7"}


def test_equal_pixels_that_are_lost_are_counts_times_the_area():
    labels, _ = with_lost()
    tally = areas.measure(labels, CLASSES, 0.25, 0.25 * labels.size, unlabelled=Unlabelled(LOST))
    assert tally.area_m2 == {key: 0.25 * count for key, count in tally.pixels.items()}


def test_without_anything_lost_there_is_no_failed_ground():
    labels, _ = with_lost()
    tally = areas.measure(labels, CLASSES, 0.25, 0.25 * labels.size)
    assert set(tally.pixels) == set(tally.area_m2) == set(VALUES)


def test_what_is_lost_of_a_map_of_sixteen_bits_is_failed_too():
    classes = ClassTable((LabelClass(300, "a", (1, 1, 1)),))
    labels = np.array([[300, 65535, 65535]], np.uint16)
    weights = np.array([[1.0, 2.0, 4.0]])
    lost = [Window(0, 2, 1, 1)]
    tally = areas.measure(labels, classes, areas.by_rows(weights), 7.0, unlabelled=Unlabelled(lost))
    assert tally.pixels == {"300": 1, "nodata": 1, "failed": 1}
    assert tally.area_m2 == {"300": 1.0, "nodata": 2.0, "failed": 4.0}


def test_seams_are_summed():
    tallies = [Tally(seam_pixels=5, seam_differences=1), Tally(seam_pixels=7), Tally()]
    total = Tally.sum(tallies)
    assert (total.seam_pixels, total.seam_differences) == (12, 1)


def test_names_in_tables_are_neither_formulas_nor_controls_and_numbers_are_as_they_were() -> None:
    rows = [["=cmd()", "+1", "-1e-05", "@a", "'=a", "a\nb\x1b[31m", -2, "", "a=b", "\u202ex"]]

    line = area_tables.csv_bytes(rows).decode()

    assert line == "'=cmd(),+1,-1e-05,'@a,''=a,a\\nb\\x1b[31m,-2,,a=b,\\u202ex\n"


def test_rows_of_a_unit_are_summed_exactly_group_by_group():
    # Added one after the other as floating point, these give 1e16.
    given, images = [1e16, 1.0, 1.0], 20_000
    stream = io.BytesIO()
    table = area_tables.AreaTable(stream, area_tables.SCHEMA)
    for number in range(images):
        area = given[number] if number < 3 else None
        table.add([{"class_id": 3, "class": "x", "pixels": 2, "area_m2": area}])
        table.add([{"class_id": 255, "class": "nodata", "pixels": 1}])
    table.close()
    tracemalloc.start()
    try:
        total = area_tables.sums_of_rows(stream, 255)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    expected = Tally(
        images=images,
        pixels={"3": 2 * images, "nodata": images},
        area_m2={"3": 10_000_000_000_000_002.0},
        out_of_range={"3": 0, "nodata": 0},
    )
    assert total == expected
    assert peak < 100 * images
