"""Ground that several scenes show: counted once, in the right one."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS

from pipelines.rasters.header import Headers
from pipelines.scenes.blocks import MAX_SIDE_PX
from pipelines.scenes.overlaps import overlaps_of
from tests.fakes import brightness_labels
from tests.pipelines.corpus import (
    DEGREES,
    UTM,
    files_in,
    pixels,
    read_band,
    small_blocks,
    write_scene,
)
from tests.pipelines.counted_scenes import (
    ANY,
    THREE,
    TWO,
    check_once,
    expected_once,
    lines,
    parts_of,
    place,
)
from tests.pipelines.scene_runs import PARTS, run_scenes

pytestmark = pytest.mark.usefixtures("several_tiles_and_blocks")


@pytest.mark.parametrize("places", [TWO, THREE, [(0, 0)] * 2, [(0, 0)] * 3, [(0, 0), (500, 0)]])
def test_ground_counts_once_in_the_first_scene_that_shows_it(tmp_path, model_folder, places):
    folder, parts = parts_of(tmp_path, places)

    run = run_scenes(tmp_path / "run", model_folder, folder, overlap="first")

    assert run.status == 0
    check_once(run, parts, list(range(len(places))))


@pytest.mark.parametrize("failing", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_a_failed_window_is_filled_by_what_another_scene_shows(
    tmp_path, monkeypatch, model_folder, failing
):
    small_blocks(monkeypatch, 64)
    folder, parts = parts_of(tmp_path, THREE, failing=failing)

    run = run_scenes(tmp_path / "run", model_folder, folder, overlap="first", max_failures=ANY)

    assert (run.status, run.summary["failed_images"]) == (0, len(failing))
    check_once(run, parts, [0, 1, 2])


def test_the_order_of_inputs_is_the_order_of_scenes(tmp_path, model_folder):
    folder, parts = parts_of(tmp_path, THREE)
    named = [folder / f"{number}.tif" for number in (2, 0, 1)]

    run = run_scenes(tmp_path / "run", model_folder, *named, overlap="first")

    check_once(run, parts, [2, 0, 1])


@pytest.mark.parametrize(
    ("dates", "order"),
    [
        (["2020:01:01 10:00:00", "2024:01:01 10:00:00", "2022:06:01 00:00:00"], [1, 2, 0]),
        (["2024-05-01T10:00:00Z", "2024:05:01 10:00:01", "2024:05:01 09:59:59"], [1, 0, 2]),
        (["2024:05:01 10:00:00", "2024:05:01 10:00:00", "2025:05:01 10:00:00"], [2, 0, 1]),
    ],
)
def test_ground_counts_once_in_the_newest_scene_that_shows_it(tmp_path, model_folder, dates, order):
    folder, parts = parts_of(tmp_path, THREE, dates)

    run = run_scenes(tmp_path / "run", model_folder, folder, overlap="newest")

    assert run.status == 0
    check_once(run, parts, order)


def test_scenes_in_two_systems_of_coordinates_count_their_ground_once(tmp_path, model_folder):
    values = np.full((120, 120, 3), 200, np.uint8)
    write_scene(tmp_path / "in" / "0.tif", values)
    corner = Transformer.from_crs(UTM[0], "EPSG:4326", always_xy=True)
    west, north = corner.transform(*(UTM[1] @ (50, 50)))
    # Pixels of about 10 m, turned against those of UTM.
    degrees = Affine(1.5e-4, 0, west, 0, -9e-5, north)
    dark = np.full((100, 100, 3), 10, np.uint8)
    write_scene(tmp_path / "in" / "1.tif", dark, ("EPSG:4326", degrees))

    alone = run_scenes(tmp_path / "alone", model_folder, tmp_path / "in")
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", overlap="first")
    again = run_scenes(
        tmp_path / "again",
        model_folder,
        *sorted((tmp_path / "in").iterdir())[::-1],
        overlap="first",
    )

    for once in (run, again):
        assert once.status == 0
        summed = math.fsum(once.area_m2[line] for line in PARTS)
        assert summed == pytest.approx(once.area_m2["footprint"], rel=1e-9)
        assert once.pixels["footprint"] == sum(once.pixels[line] for line in PARTS) == 24_400
        assert once.verified()[1] == []
        repeated = once.summary["overlap"]["repeated_m2"]
        # The border of what both show is about 4 x 70 pixels long; half of a pixel at most is off,
        # to either side.
        assert once.area_m2["elsewhere"] == pytest.approx(repeated, abs=70 * 4 * 50)
        assert once.area_m2["elsewhere"] == pytest.approx(repeated, rel=0.01)
    assert run.area_m2["bright"] == pytest.approx(alone.area_m2["bright"], rel=1e-12)
    assert again.area_m2["dark"] == pytest.approx(alone.area_m2["dark"], rel=1e-12)
    both = math.fsum(alone.area_m2[line] for line in ("bright", "dark"))
    assert run.area_m2["bright"] + run.area_m2["dark"] == pytest.approx(
        both - alone.summary["overlap"]["repeated_m2"], rel=2e-3
    )


def test_scenes_on_both_sides_of_the_antimeridian_count_their_ground_once(tmp_path, model_folder):
    for number, west in enumerate((179, -181)):
        values = pixels(50, 200, number)
        place = Affine(0.01, 0, west, 0, -0.01, 10)
        write_scene(tmp_path / "in" / f"{number}.tif", values, ("EPSG:4326", place))

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", overlap="first")

    assert run.pixels["elsewhere"] == 50 * 200
    expected = lines(brightness_labels(pixels(50, 200, 0)))
    assert {line: run.pixels[line] for line in expected} == expected
    assert run.summary["overlap"]["repeated_m2"] == pytest.approx(run.area_m2["elsewhere"], 1e-6)


def test_without_a_rule_the_summary_says_how_much_ground_counts_more_than_once(
    tmp_path, model_folder
):
    folder, parts = parts_of(tmp_path, THREE)

    run = run_scenes(tmp_path / "run", model_folder, folder)

    _, elsewhere, _ = expected_once(parts, [0, 1, 2])
    assert run.pixels["elsewhere"] == 0
    assert run.pixels["total"] == sum(part.labels.size for part in parts)
    overlap = run.summary["overlap"]
    assert (overlap["counted_once_by"], overlap["scenes"], overlap["overlapping"]) == (None, 3, 3)
    pixel_m2 = run.area_m2["footprint"] / run.pixels["footprint"]
    assert overlap["repeated_m2"] == pytest.approx(sum(elsewhere.values()) * pixel_m2, rel=1e-4)
    assert overlap["footprint_m2"] == pytest.approx(run.area_m2["footprint"], rel=1e-9)
    assert not (run.root / "overlaps.csv").exists()


def test_a_mosaic_for_each_system_takes_the_place_of_the_one_for_all(tmp_path, model_folder):
    write_scene(tmp_path / "in" / "0.tif", pixels(50, 60))
    run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    write_scene(tmp_path / "in" / "1.tif", pixels(50, 60), DEGREES)

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")

    names = sorted(path.name for path in run.root.glob("*.vrt"))
    assert names == ["labels-EPSG-32633.vrt", "labels-EPSG-4326.vrt"]
    for name, path in zip(names, ("in/0.tif", "in/1.tif"), strict=True):
        np.testing.assert_array_equal(read_band(run.root / name), run.labels(path))
    systems = json.loads((run.root / "labels.json").read_text("utf-8"))["systems"]
    assert [system["vrt"] for system in systems] == names
    for system, path in zip(systems, ("in/0.tif", "in/1.tif"), strict=True):
        (found,) = system["maps"]
        with rasterio.open(run.root / found["path"]) as source:
            assert found["path"] == f"labels/{path}"
            assert source.crs == CRS.from_string(system["crs"]) == CRS.from_wkt(system["wkt"])
            assert list(source.transform)[:6] == found["transform"]
            assert list(source.bounds) == found["bounds"]
            assert source.shape == (found["height"], found["width"])


def test_tiles_that_abut_show_nothing_twice(tmp_path, model_folder):
    for number in range(4):
        values = pixels(64, 64, number)
        at = place(64 * (number % 2), 64 * (number // 2))
        write_scene(tmp_path / "in" / f"{number}.tif", values, at)

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", overlap="first")

    assert run.summary["overlap"]["overlapping"] == 0
    assert run.pixels["elsewhere"] == 0
    assert run.rows("overlaps.csv") == []


# Runs that go on


@pytest.mark.parametrize("rows", [MAX_SIDE_PX + 1, 2**31 - 1])
def test_a_scene_of_any_stated_size_costs_itself_and_has_no_ground(tmp_path, model_folder, rows):
    write_scene(tmp_path / "in" / "a.tif", pixels(40, 50))
    (tmp_path / "in" / "b.vrt").write_text(
        f'<VRTDataset rasterXSize="1" rasterYSize="{rows}"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>"
        + "".join(f'<VRTRasterBand dataType="Byte" band="{band}"/>' for band in (1, 2, 3))
        + "</VRTDataset>"
    )
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    assert (run.status, run.summary["failed_images"]) == (3, 1)
    (row,) = run.rows("failures.csv")
    assert (row["uri"], row["code"]) == ("in/b.vrt", "too_many_pixels")
    assert overlaps_of(files_in(tmp_path / "in"), Headers()).scenes == 1
