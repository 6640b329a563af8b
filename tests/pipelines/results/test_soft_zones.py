"""Soft areas by zone: of known probabilities, in zones that share windows, borders and pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import shapely

from pipelines.geodesy.ground import GroundGrid
from pipelines.scenes.results import result_lines
from tests.fakes import BRIGHT, DARK, MIDDLE, brightness_labels
from tests.pipelines.corpus import DEGREES, UTM, photos, pixels, small_blocks, tree, write_scene
from tests.pipelines.counted_scenes import TWO, box, cells, holes, parts_of, to_ground
from tests.pipelines.grounds import whole
from tests.pipelines.scene_runs import Finished, run_scenes, write_polygons

NAMES = {DARK: "dark", MIDDLE: "middle", BRIGHT: "bright"}
# The fake gives 0.8 to the label and 0.2 to the next class.
NEXT = {DARK: MIDDLE, MIDDLE: BRIGHT, BRIGHT: DARK}
OUTSIDE = "(outside all zones)"


def soft(run: Finished, column: str = "soft_pixels") -> dict[str, dict[str, float | None]]:
    """A column of `soft_zones.csv` by zone and class; None for empty cells."""
    found: dict[str, dict[str, float | None]] = {}
    for row in run.rows("soft_zones.csv"):
        value = float(row[column]) if row[column] else None
        found.setdefault(row["zone"], {})[row["class"]] = value
    return found


def expected(labels: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """What each class has by the fake's probabilities."""
    of_label = {label: float(weights[labels == label].sum()) for label in NAMES}
    found = {name: 0.8 * of_label[label] for label, name in NAMES.items()}
    for label in NAMES:
        found[NAMES[NEXT[label]]] += 0.2 * of_label[label]
    return found | {"total": sum(of_label.values())}


def scene(folder: Path, place=UTM) -> tuple[Path, np.ndarray]:
    """A scene with nodata, and the labels that it gets."""
    values, valid = pixels(150, 130), holes(150, 130, 1)
    path = write_scene(folder / "in" / "a.tif", values, place, mask=valid)
    return path, np.where(valid, brightness_labels(values), 255)


BOXES = {"left": (10, 20, 70, 90), "right": (70, 20, 120, 140)}


def zones(folder: Path, boxes: dict[str, tuple[int, ...]] = BOXES, name: str = "zones") -> str:
    """Rectangles in pixels of the scene, as a file."""
    named = [(zone, box(*corners)) for zone, corners in boxes.items()]
    return write_polygons(folder / f"{name}.geojson", UTM[0], named)


def inside(corners: tuple[int, ...]) -> np.ndarray:
    """Pixels of the scene in a rectangle of columns and rows."""
    left, top, right, bottom = corners
    mask = np.zeros((150, 130), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_sums_by_zone_are_those_of_its_pixels_and_add_up_to_the_run(tmp_path, model_folder):
    path, labels = scene(tmp_path)
    run = run_scenes(
        tmp_path / "run", model_folder, path, halo=32, soft_areas=True, zones=zones(tmp_path)
    )
    areas = whole(GroundGrid.of(UTM[1], UTM[0], *labels.shape))
    masks = {zone: inside(corners) for zone, corners in BOXES.items()}
    masks[OUTSIDE] = ~(masks["left"] | masks["right"])
    pixels_of, areas_of = soft(run), soft(run, "soft_m2")
    assert list(pixels_of) == ["left", "right", OUTSIDE]
    for zone, mask in masks.items():
        counted = np.where(mask, labels, 255)
        assert pixels_of[zone] == pytest.approx(expected(counted, np.ones(mask.shape)), rel=1e-15)
        assert areas_of[zone] == pytest.approx(expected(counted, areas), rel=1e-6)
        assert soft(run, "area_m2")[zone]["middle"] == run.zones("area_m2")[zone]["middle"]
    whole_run = {row["class"]: row for row in run.rows("soft_areas.csv")}
    for name in (*NAMES.values(), "total"):
        summed = sum(areas_of[zone][name] for zone in areas_of)
        assert summed == pytest.approx(float(whole_run[name]["soft_m2"]), rel=1e-12)
    assert run.verified()[1] == []
    assert not [line for line in result_lines(run.summary) if "soft" in line]


def test_many_zones_in_a_window_and_zones_that_overlap_have_all_their_pixels(
    tmp_path, model_folder
):
    path, labels = scene(tmp_path, DEGREES)
    boxes = {"a": (0, 0, 130, 75), "b": (20, 30, 90, 120), "c": (40, 50, 60, 70)}
    many = {f"row {row:03}": (0, row, 130, row + 1) for row in range(100, 140)}
    named = [(zone, to_degrees(corners)) for zone, corners in (boxes | many).items()]
    polygons = write_polygons(tmp_path / "zones.geojson", DEGREES[0], named)
    run = run_scenes(tmp_path / "run", model_folder, path, soft_areas=True, zones=polygons)
    found = soft(run)
    for zone, corners in (boxes | many).items():
        counted = np.where(inside(corners), labels, 255)
        assert found[zone] == pytest.approx(expected(counted, np.ones(counted.shape)), rel=1e-14)
    covered = np.logical_or.reduce([inside(corners) for corners in (boxes | many).values()])
    counted = np.where(covered, 255, labels)
    assert found[OUTSIDE]["total"] == (counted != 255).sum()
    assert run.verified()[1] == []


def to_degrees(corners: tuple[int, ...]) -> shapely.Polygon:
    """A rectangle in pixels of a scene in degrees."""
    left, top, right, bottom = corners
    (west, north), (east, south) = DEGREES[1] @ (left, top), DEGREES[1] @ (right, bottom)
    return shapely.box(west, south, east, north)


def test_a_scene_in_blocks_has_the_sums_of_one_block(tmp_path, model_folder, monkeypatch):
    path, _ = scene(tmp_path)
    polygons = write_polygons(
        tmp_path / "zones.geojson",
        "EPSG:4326",
        [(name, to_ground(shape, "EPSG:4326")) for name, shape in cells(150, 130, 3)],
    )
    options = {"soft_areas": True, "zones": polygons}
    one = run_scenes(tmp_path / "whole", model_folder, path, **options)
    small_blocks(monkeypatch, 64)
    run = run_scenes(tmp_path / "run", model_folder, path, **options)
    assert soft(run) == soft(one)
    areas, of_one = soft(run, "soft_m2"), soft(one, "soft_m2")
    assert len(areas) == 13
    for zone in areas.keys() - {OUTSIDE}:
        assert areas[zone] == pytest.approx(of_one[zone], rel=1e-6)


def test_records_have_exact_sums_by_zone_label_and_class(tmp_path, model_folder):
    path = write_scene(tmp_path / "in" / "a.tif", np.full((4, 6, 3), 200, np.uint8))
    polygons = zones(tmp_path, {"a": (1, 1, 4, 3)})
    run = run_scenes(tmp_path / "run", model_folder, path, soft_areas=True, zones=polygons)
    records = [run.work.log.load(name) for name in run.work.log.names()]
    by_zone = {"0:7:0": Fraction(6, 5), "0:7:7": Fraction(24, 5)}
    by_zone |= {"outside:7:0": Fraction(18, 5), "outside:7:7": Fraction(72, 5)}
    # Of the scene, and of its count.
    assert [record.tally.sums["soft_zone_pixels"] for record in records] == [by_zone, by_zone]


def test_other_zones_leave_cells_empty_and_say_so_until_the_first_are_back(tmp_path, model_folder):
    path, _ = scene(tmp_path)
    first, other = zones(tmp_path), zones(tmp_path, {"all": (0, 0, 130, 150)}, "other")

    def again(chosen: str | None) -> Finished:
        return run_scenes(tmp_path / "run", model_folder, path, soft_areas=True, zones=chosen)

    begun = again(first)
    before = tree(begun.root)
    run = again(other)
    assert [report.skipped for report in run.reports] == [1]
    assert set(soft(run)["all"].values()) == {None}
    assert (
        soft(run, "pixels")["all"]["total"]
        == run.pixels["dark"] + run.pixels["middle"] + (run.pixels["bright"])
    )
    (line,) = (line for line in result_lines(run.summary) if "soft" in line)
    assert line == (
        "cells of soft_zones.csv are empty: probabilities are summed by the zones that a run is "
        "begun with, and these are others; begin a run with --soft_areas and these --zones, or "
        "with --probabilities, to have them"
    )
    assert run.verified()[1] == []
    assert not (again(None).root / "soft_zones.csv").exists()
    after = tree(again(first).root)
    del before["summary.json"], after["summary.json"]
    assert after == before


def test_zones_of_a_run_that_was_begun_without_have_empty_cells(tmp_path, model_folder):
    path, _ = scene(tmp_path)
    run_scenes(tmp_path / "run", model_folder, path, soft_areas=True)
    run = run_scenes(tmp_path / "run", model_folder, path, soft_areas=True, zones=zones(tmp_path))
    assert {value for row in soft(run).values() for value in row.values()} == {None}
    assert (run.reports[0].skipped, run.verified()[1]) == (1, [])


def test_a_run_that_goes_on_with_other_zones_sums_by_the_first(tmp_path, model_folder):
    path, _ = scene(tmp_path)
    first = zones(tmp_path)
    whole_run = run_scenes(tmp_path / "whole", model_folder, path, soft_areas=True, zones=first)
    options = {"soft_areas": True, "zones": first}
    run = run_scenes(tmp_path / "run", model_folder, path, **options)
    for record in (run.root / "commits").iterdir():
        record.unlink()
    other = zones(tmp_path, {"all": (0, 0, 130, 150)}, "other")
    run_scenes(tmp_path / "run", model_folder, path, soft_areas=True, zones=other)
    assert soft(run_scenes(tmp_path / "run", model_folder, path, **options)) == soft(whole_run)


def test_where_scenes_overlap_only_zones_without_shared_ground_have_cells(tmp_path, model_folder):
    folder, _ = parts_of(tmp_path, TWO)
    boxes = {"first": (100, 5, 120, 25), "both": (60, 60, 70, 70), "nowhere": (900, 0, 910, 9)}
    chosen = zones(tmp_path, boxes)
    options = {"soft_areas": True, "zones": chosen}
    twice = soft(run_scenes(tmp_path / "twice", model_folder, folder, **options))
    run = run_scenes(tmp_path / "run", model_folder, folder, overlap="first", **options)
    once = soft(run)
    assert once["first"] == twice["first"]
    assert once["first"]["total"] == soft(run, "pixels")["first"]["total"] > 0
    assert set(once["nowhere"].values()) == {0.0}
    assert set(once["both"].values()) == set(once[OUTSIDE].values()) == {None}
    (line,) = (line for line in result_lines(run.summary) if "soft_zones" in line)
    assert "of ground that counts in another scene" in line
    assert run.verified()[1] == []


@pytest.mark.parametrize(
    "options", [{"overlap": "first"}, {"resample_to": 17.0}, {"overlap": "first", "halo": 32}]
)
def test_written_probabilities_are_summed_by_whatever_zones_there_are(
    tmp_path, model_folder, options
):
    folder, _ = parts_of(tmp_path, TWO)
    every = {"soft_areas": True, "probabilities": True, **options}
    first, second = zones(tmp_path, {"a": (0, 0, 70, 70)}), zones(tmp_path, BOXES, "other")
    run_scenes(tmp_path / "run", model_folder, folder, zones=first, **every)
    run = run_scenes(tmp_path / "run", model_folder, folder, zones=second, **every)
    assert [report.skipped for report in run.reports] == [1, 1]
    found, areas = soft(run), soft(run, "soft_m2")
    assert list(found) == [*BOXES, OUTSIDE]
    for zone in found:
        labels = run.zones()[zone]
        count = {label: labels[name] for label, name in NAMES.items()}
        mixed = {NAMES[label]: 0.8 * count[label] for label in NAMES}
        for label, other in NEXT.items():
            mixed[NAMES[other]] += 0.2 * count[label]
        assert found[zone] == pytest.approx(mixed | {"total": sum(count.values())}, rel=1e-15)
        of_labels = soft(run, "area_m2")[zone]["total"]
        assert areas[zone]["total"] == pytest.approx(of_labels, rel=1e-12)
    assert not [line for line in result_lines(run.summary) if "soft" in line]
    assert run.verified()[1] == []


def test_images_are_in_no_zone_and_have_no_sums_by_zone(tmp_path, model_folder):
    path, _ = scene(tmp_path / "scenes")
    inputs = path.parent, photos(tmp_path / "photos")
    run = run_scenes(
        tmp_path / "run", model_folder, *inputs, soft_areas=True, zones=zones(tmp_path)
    )
    total = sum(row["total"] for row in soft(run).values())
    labelled = {row["class"]: float(row["soft_pixels"]) for row in run.rows("soft_areas.csv")}
    assert total == labelled["total"] - 50 * (40 + 41 + 42)
