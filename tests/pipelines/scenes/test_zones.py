"""Zones: each pixel in the one that holds its centre, and all of them in some."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import shapely
from affine import Affine

from pipelines.scenes.results import OUTSIDE
from tests.fakes import brightness_labels
from tests.pipelines.corpus import (
    UTM,
    pixels,
    spoil_strip,
    write_scene,
)
from tests.pipelines.counted_scenes import (
    ANY,
    NAMES,
    THREE,
    box,
    cells,
    check_once,
    lines,
    one_scene,
    parts_of,
    to_ground,
)
from tests.pipelines.scene_runs import PARTS, Finished, run_scenes, write_polygons

pytestmark = pytest.mark.usefixtures("several_tiles_and_blocks")


def check_sum_of_zones(run: Finished) -> None:
    """All zones together are the total, to the pixel and to 1e-9 of its area."""
    by_pixels, by_area = run.zones(), run.zones("area_m2")
    for line in PARTS:
        assert sum(zone.get(line, 0) for zone in by_pixels.values()) == run.pixels[line]
        summed = math.fsum(zone.get(line, 0.0) for zone in by_area.values())
        assert summed == pytest.approx(run.area_m2[line], rel=1e-9)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3035"])
def test_zones_that_tile_the_footprint_sum_to_the_totals(tmp_path, model_folder, crs):
    path, labels = one_scene(tmp_path)
    named = [(name, to_ground(shape, crs)) for name, shape in cells(150, 130, 1)]
    zones = write_polygons(tmp_path / "zones.geojson", crs, named)

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    assert run.status == 0
    assert {k: n for k, n in run.pixels.items() if k in NAMES.values()} == lines(labels)
    check_sum_of_zones(run)
    assert run.zones().get(OUTSIDE, {}) == {}
    assert run.verified() == (run.verified()[0], [])


def test_borders_of_zones_between_pixels_are_exact(tmp_path, model_folder):
    path, labels = one_scene(tmp_path)
    parts = {"nw": (0, 0, 51, 70), "ne": (51, 0, 130, 70), "s": (0, 70, 130, 100)}
    zones = write_polygons(
        tmp_path / "z.geojson", UTM[0], [(name, box(*part)) for name, part in parts.items()]
    )

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    expected = {
        name: lines(labels[top:bottom, left:right])
        for name, (left, top, right, bottom) in parts.items()
    }
    assert run.zones() == expected | {OUTSIDE: lines(labels[100:])}
    check_sum_of_zones(run)


def test_borders_of_zones_through_pixel_centres_put_each_pixel_in_one_zone(tmp_path, model_folder):
    path, labels = one_scene(tmp_path)
    rows, columns = [-0.5, 20.5, 64.5, 149.5], [-3, 0.5, 47.5, 129.5]
    named = [
        (f"{top} {left}", box(left, top, right, bottom))
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], named)

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    # A centre on an edge is in what is below it and to its right.
    assert run.zones()["20.5 0.5"] == lines(labels[20:64, 0:47])
    outside = np.ones(labels.shape, bool)
    outside[:149, :129] = False
    assert run.zones()[OUTSIDE] == lines(labels, outside)
    check_sum_of_zones(run)


def test_diagonal_borders_through_pixel_centres_put_each_pixel_in_one_zone(tmp_path, model_folder):
    path, labels = one_scene(tmp_path, 64, 64)
    corners = [(0, 0), (64, 0), (64, 64), (0, 64)]
    triangles = [
        ("upper", shapely.Polygon([UTM[1] @ corners[n] for n in (0, 1, 2)])),
        ("lower", shapely.Polygon([UTM[1] @ corners[n] for n in (0, 2, 3)])),
    ]
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], triangles)

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    total = {name: sum(zone.values()) for name, zone in run.zones().items()}
    assert sorted((total["upper"], total["lower"])) == [64 * 63 // 2, 64 * 65 // 2]
    assert total[OUTSIDE] == 0
    check_sum_of_zones(run)
    assert sum(lines(labels).values()) == 64 * 64


def test_zones_that_overlap_each_count_all_of_their_own_ground(tmp_path, model_folder):
    path, labels = one_scene(tmp_path)
    parts = {
        "all": (0, 0, 130, 150),
        "left": (0, 0, 60, 150),
        "middle": (40, 50, 90, 100),
        "elsewhere": (900, 900, 990, 990),
    }
    zones = write_polygons(
        tmp_path / "z.geojson", UTM[0], [(name, box(*part)) for name, part in parts.items()]
    )

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    found = run.zones()
    assert found["all"] == lines(labels)
    assert found["left"] == lines(labels[:, :60])
    assert found["middle"] == lines(labels[50:100, 40:90])
    assert found.get("elsewhere", {}) == found.get(OUTSIDE, {}) == {}
    assert run.area_m2["bright"] == pytest.approx(run.zones("area_m2")["all"]["bright"], rel=1e-9)


def test_zones_are_told_of_failed_windows(tmp_path, model_folder):
    values = pixels(128, 128)
    path = write_scene(tmp_path / "in" / "a.tif", values, compress="deflate", blockysize=64)
    spoil_strip(path, 1)
    named = [("upper", box(0, 0, 128, 64)), ("lower", box(0, 64, 128, 128))]
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], named)

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones, max_failures=ANY)

    assert run.status == 0
    assert run.zones()["upper"] == lines(brightness_labels(values)[:64])
    assert run.zones()["lower"] == {"failed": 64 * 128}
    check_sum_of_zones(run)


# Overlaps


def test_zones_of_scenes_that_overlap_sum_to_the_totals(tmp_path, model_folder):
    folder, parts = parts_of(tmp_path, THREE, failing=(1,))
    zones = write_polygons(
        tmp_path / "z.geojson",
        "EPSG:4326",
        [(name, to_ground(shape, "EPSG:4326")) for name, shape in cells(120, 120, 3)],
    )

    run = run_scenes(
        tmp_path / "run", model_folder, folder, overlap="first", zones=zones, max_failures=ANY
    )

    check_once(run, parts, [0, 1, 2])
    check_sum_of_zones(run)
    assert sum(run.zones()[OUTSIDE].values()) > 0


def test_a_scene_of_another_body_is_in_no_zone_and_costs_nothing_else(tmp_path, model_folder):
    moon = ("IAU_2015:30110", Affine(100, 0, 0, 0, -100, 0))
    for number, at in enumerate((UTM, moon)):
        write_scene(tmp_path / "in" / f"{number}.tif", pixels(50, 60, number), at)
    zones = write_polygons(tmp_path / "z.geojson", "EPSG:4326", [("n", shapely.box(0, 0, 40, 80))])

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", zones=zones, overlap="first")

    assert run.status == 0
    earth, lunar = (lines(brightness_labels(pixels(50, 60, number))) for number in range(2))
    assert run.zones() == {"n": earth, OUTSIDE: lunar}
    check_sum_of_zones(run)
    assert run.verified()[1] == []
