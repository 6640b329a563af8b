"""Scenes of which a part, and their centre, is off the Earth."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine

from pipelines.scenes.results import OUTSIDE
from tests.pipelines.corpus import pixels, write_scene
from tests.pipelines.scene_runs import run_scenes, write_polygons

R = 6371007.181  # metres: the sphere of MODIS
SINUSOIDAL = f"+proj=sinu +R={R} +units=m +no_defs"
TILE, SIDE = 1111950.5196666666, 80
DISK = f"+proj=geos +h=35785831 +lon_0=0 +sweep=y +R={R} +units=m +no_defs"


def tile(h: int, v: int) -> tuple[str, Affine]:
    x, y, step = -np.pi * R + h * TILE, np.pi * R / 2 - v * TILE, TILE / SIDE
    return SINUSOIDAL, Affine(step, 0, x, 0, -step, y)


# Between 10 and 20 degrees south the tile h35v10 starts at this easting.
START = np.pi * R - TILE


def east_of_start_m2() -> float:
    """The part of h35v10 that is on the Earth."""
    y = np.radians(-10 - 10 * (np.arange(100_000) + 0.5) / 100_000)
    return float(np.clip(np.pi * R * np.cos(y) - START, 0, None).sum() * TILE / 100_000)


def test_tile_whose_centre_is_off_the_earth_is_labelled_and_balances(tmp_path, model_folder):
    values = pixels(SIDE, SIDE)
    path = write_scene(tmp_path / "in" / "h35v10.tif", values, tile(35, 10))

    run = run_scenes(tmp_path / "run", model_folder, path)

    assert run.status == 0
    assert run.summary["balanced"]
    assert sum(run.pixels[name] for name in ("dark", "middle", "bright")) == SIDE**2
    assert run.area_m2["total"] == pytest.approx(east_of_start_m2(), rel=1e-5)
    assert run.area_m2["footprint"] == pytest.approx(run.area_m2["total"], rel=1e-12)


def test_zones_hold_no_pixel_that_is_off_the_earth(tmp_path, model_folder):
    path = write_scene(tmp_path / "in" / "h35v10.tif", pixels(SIDE, SIDE), tile(35, 10))
    named = [
        ("world", shapely.box(-180, -90, 180, 90)),
        ("east", shapely.box(170, -30, 180, 0)),
        ("beyond", shapely.box(-180, -30, -170, 0)),
        ("across", shapely.box(175, -30, 185, 0)),
    ]
    zones = write_polygons(tmp_path / "zones.geojson", "EPSG:4326", named)

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    area = {name: sum(zone.values()) for name, zone in run.zones("area_m2").items()}
    count = {name: sum(zone.values()) for name, zone in run.zones().items()}
    # Pixels at the rim whose centre is off the Earth are in no zone.
    assert area["world"] == pytest.approx(run.area_m2["total"], rel=1e-2)
    assert area["world"] + area[OUTSIDE] == pytest.approx(run.area_m2["total"], rel=1e-3)
    assert abs(count[OUTSIDE] + count["world"] - SIDE**2) <= 2
    assert 0.3 < count["world"] / SIDE**2 < 0.45
    assert area["east"] == pytest.approx(area["world"], rel=1e-2)  # all of it is east of 170
    assert 0 < area["across"] < area["east"]
    assert area.get("beyond", 0) == 0


def test_pixels_off_the_earth_lie_in_no_other_scene(tmp_path, model_folder):
    first = write_scene(tmp_path / "in" / "a.tif", pixels(SIDE, SIDE), tile(35, 10))
    step = 20 / 100
    world = ("EPSG:4326", Affine(step, 0, 160, 0, -step, -5))  # 160 to 180 east, and beyond
    grid = write_scene(tmp_path / "in" / "b.tif", pixels(100, 150), world)

    run = run_scenes(tmp_path / "run", model_folder, grid, first, overlap="first")

    assert run.status == 0
    (row,) = run.rows("overlaps.csv")
    assert row["scene"].endswith("a.tif")
    on_earth = 0.3 * SIDE**2, 0.45 * SIDE**2
    assert on_earth[0] < int(row["pixels"]) < on_earth[1]


def test_disk_from_space_is_labelled(tmp_path, model_folder):
    step = 11.2e6 / SIDE
    disk = (DISK, Affine(step, 0, -5.6e6, 0, -step, 5.6e6))
    path = write_scene(tmp_path / "in" / "disk.tif", pixels(SIDE, SIDE), disk)

    run = run_scenes(tmp_path / "run", model_folder, path)

    cap = 2 * np.pi * R**2 * (1 - R / (R + 35785831))
    assert run.status == 0
    assert run.area_m2["footprint"] == pytest.approx(cap, rel=1e-3)


def test_scene_that_is_nowhere_on_the_earth_is_a_failure(tmp_path, model_folder):
    lost = write_scene(tmp_path / "in" / "h00v00.tif", pixels(SIDE, SIDE), tile(0, 0))
    good = write_scene(tmp_path / "in" / "h35v10.tif", pixels(SIDE, SIDE), tile(35, 10))

    run = run_scenes(tmp_path / "run", model_folder, lost, good)

    assert run.status == 3
    assert "no pixel of the scene is on the Earth" in run.failures()["in/h00v00.tif"]["reason"]
