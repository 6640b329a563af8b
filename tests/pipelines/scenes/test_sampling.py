"""Places of the pixels of one raster in another."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS

from pipelines.scenes.sampling import INTERPOLATED_PX, nearest_pixels, places_in
from segmodel.rasters.grid import Grid

MERCATOR = Grid(200, 300, Affine(100, 0, 1_600_000, 0, -100, 7_000_000), CRS.from_epsg(3857))
UTM = Grid(400, 400, Affine(75, 0, 430_000, 0, -75, 5_900_000), CRS.from_epsg(32633))
FINE = Grid(4000, 4000, Affine(100, 0, 300_000, 0, -100, 6_200_000), CRS.from_epsg(32633))
COARSE = Grid(90, 90, Affine(10_000, 0, -200_000, 0, -10_000, 9_000_000), CRS.from_epsg(3857))
POLAR = Grid(900, 900, Affine(10_000, 0, -4e6, 0, -10_000, 4e6), CRS.from_epsg(3413))


def exact(grid: Grid, other: Grid) -> np.ndarray:
    """Columns and rows in the other raster of all pixel centres, by pyproj alone."""
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    transformer = Transformer.from_crs(grid.crs, other.crs, always_xy=True)
    (a, b, c, d, e, f), inverse = tuple(grid.transform)[:6], ~other.transform
    x, y = transformer.transform(a * columns + b * rows + c, d * columns + e * rows + f)
    return np.stack(
        [inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f]
    )


@pytest.mark.parametrize("step", [50, 200, 500, 600, 700])
def test_interpolated_places_are_as_good_as_is_claimed_between_conformal_projections(step):
    # In the middle of four nodes what both axes do to the place is opposite, and nothing is wrong.
    grid = Grid(90, 90, Affine(step, 0, 1_630_000, 0, -step, 7_000_000), MERCATOR.crs)
    errors = np.abs(np.stack(places_in(grid.window, grid, FINE)) - exact(grid, FINE))
    assert errors.max() <= INTERPOLATED_PX


@pytest.mark.parametrize(("grid", "other"), [(MERCATOR, UTM), (UTM, MERCATOR), (COARSE, POLAR)])
def test_the_nearest_pixel_is_that_of_the_exact_place(grid, other):
    places = np.floor(exact(grid, other)).astype(int)
    limits = np.array([other.width, other.height])[:, None, None]
    outside = ~((places >= 0) & (places < limits)).all(axis=0)
    places[:, outside] = -1
    found = np.stack(nearest_pixels(grid.window, grid, other))
    np.testing.assert_array_equal(found, places)
    assert np.count_nonzero(found[0] >= 0) > 0
