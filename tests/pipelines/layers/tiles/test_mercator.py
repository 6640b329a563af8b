"""Where label maps lie in the square that web tiles divide."""

from __future__ import annotations

import math

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS

from pipelines.layers.tiles.mercator import WORLD_M, extent_of, world_grid
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window
from tests.pipelines.grounds import SCENES, WORLD

POLAR = (Affine(1000, 0, -250_000, 0, -1000, 250_000), "EPSG:3413", 500, 500)
PLACED = [*((n, s) for n, s in SCENES.items() if n != "moon"), ("north pole", POLAR)]


def grid_of(scene) -> Grid:
    transform, crs, height, width = scene
    return Grid(height, width, transform, CRS.from_user_input(crs))


@pytest.mark.parametrize("scene", [scene for _, scene in PLACED], ids=[name for name, _ in PLACED])
def test_no_pixel_of_a_map_lies_outside_its_extent(scene):
    grid = grid_of(scene)
    extent = extent_of(grid)
    rows, columns = (np.linspace(0.5, side - 0.5, 97) for side in (grid.height, grid.width))
    across, down = np.meshgrid(columns, rows)
    a, b, c, d, e, f = tuple(grid.transform)[:6]
    degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lon, lat = degrees.transform(a * across + b * down + c, d * across + e * down + f)
    there = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) < 85.05)
    x = (lon[there] + 180) % 360 / 360
    y = 0.5 - np.arcsinh(np.tan(np.radians(lat[there]))) / (2 * np.pi)

    zoom = 12
    inside = np.zeros(x.shape, bool)
    for window in extent.windows(zoom) if extent is not None else ():
        column, row = x * (256 << zoom), y * (256 << zoom)
        inside |= (
            (window.column <= column)
            & (column <= window.column + window.width)
            & (window.row <= row)
            & (row <= window.row + window.height)
        )
    assert inside.all()


def test_a_map_that_crosses_the_antimeridian_has_a_window_on_each_side():
    grid = Grid(100, 200, Affine(0.01, 0, 179, 0, -0.01, 0.5), CRS.from_epsg(4326))
    one, other = extent_of(grid).windows(8)
    side = 256 << 8
    assert one.column + one.width == side
    assert other.column == 0
    assert extent_of(grid).bounds == pytest.approx((179, -0.5, 181, 0.5))
    # A degree on each side, and a sixteenth of both degrees more.
    assert one.width == other.width == math.ceil(side * 1.125 / 360)


def test_the_deepest_zoom_is_the_first_that_is_not_coarser():
    for zoom in (0, 7, 18):
        step = WORLD_M / (256 << zoom)
        for factor, expected in ((1.0, zoom), (1.01, zoom), (0.99, zoom + 1)):
            place = Affine(step * factor, 0, 0, 0, -step * factor, 0)
            extent = extent_of(Grid(10, 10, place, CRS.from_epsg(3857)))
            assert extent.zoom == expected


def test_pixels_of_ten_metres_are_finer_on_the_map_far_north():
    def zoom(north: float) -> int:
        place = Affine(10, 0, 500_000, 0, -10, north)
        return extent_of(Grid(100, 100, place, CRS.from_epsg(32633))).zoom

    # 10 m at 60° N take 20 m of the Web Mercator; zoom 13 has 19.1 m, zoom 14 has 9.6 m.
    assert (zoom(10_000), zoom(6_656_000)) == (14, 13)


def test_what_lies_beyond_the_square_has_no_extent():
    north = Grid(10, 10, Affine(0.1, 0, 0, 0, -0.1, 88), CRS.from_epsg(4326))
    moon = Grid(10, 10, Affine(0.1, 0, 0, 0, -0.1, 8), CRS.from_user_input("IAU_2015:30100"))
    nowhere = Grid(10, 10, Affine.identity(), None)
    assert [extent_of(grid) for grid in (north, moon, nowhere)] == [None, None, None]


def test_the_square_ends_at_the_antimeridian_and_at_85_degrees():
    grid = world_grid(3)
    assert (grid.height, grid.width) == (2048, 2048)
    assert grid.transform @ (0, 0) == pytest.approx((-WORLD, WORLD), abs=1e-6)
    assert grid.transform @ (2048, 2048) == pytest.approx((WORLD, -WORLD), abs=1e-6)
    world = extent_of(grid)
    assert list(world.windows(3)) == [Window(0, 0, 2048, 2048)]
    assert world.bounds == pytest.approx((-180, -85.0511287798, 180, 85.0511287798))
