"""The grid as a value: edges of projections, pixel size, pickling, and what is refused."""

import pickle

import numpy as np
import pytest
from affine import Affine
from pyproj import CRS
from rasterio.crs import CRS as RasterioCRS

from pipelines.geodesy.ground import GroundGrid
from segmodel.errors import GroundError
from tests.pipelines.grounds import (
    E2,
    ELLIPSOID_M2,
    LOCAL,
    MOLLWEIDE,
    SCENES,
    WORLD,
    whole,
)


@pytest.mark.parametrize("crs", ["ESRI:54009", "ESRI:54008"])
def test_corners_outside_a_world_map_have_no_area(crs: str) -> None:
    # PROJ's Mollweide takes the geodetic latitude for one of a sphere; its sinusoidal does not.
    equator = 1 - E2 if crs == "ESRI:54009" else 1.0
    height, width = 270, 540
    half = MOLLWEIDE if crs == "ESRI:54009" else WORLD
    step = 2 * half / width
    grid = GroundGrid.of(Affine(step, 0, -half, 0, -step, half / 2), crs, height, width)

    areas = whole(grid)

    assert areas[0, 0] == areas[0, -1] == areas[-1, 0] == areas[-1, -1] == 0
    assert areas[135, 270] == pytest.approx(equator * step**2, rel=1e-4)
    assert areas.sum() == pytest.approx(ELLIPSOID_M2, rel=2e-4)
    assert grid.footprint_m2() == pytest.approx(areas.sum(), rel=1e-12)


def test_coarse_samples_of_a_large_world_map_agree_between_windows() -> None:
    step = 2 * MOLLWEIDE / 2000
    grid = GroundGrid.of(
        Affine(step, 0, -MOLLWEIDE, 0, -step, MOLLWEIDE / 2), "ESRI:54009", 1000, 2000
    )
    expected = whole(grid)

    np.testing.assert_array_equal(grid.pixel_areas_m2(101, 7, 50, 613), expected[101:151, 7:620])
    assert grid.window_footprint_m2(101, 7, 50, 613) == pytest.approx(
        expected[101:151, 7:620].sum(), rel=1e-12
    )
    assert expected.sum() == pytest.approx(ELLIPSOID_M2, rel=2e-4)


def test_pixel_size_is_that_of_the_ground_and_not_of_the_map() -> None:
    equator = GroundGrid.of(Affine(10, 0, -1000, 0, -10, 1000), "EPSG:3857", 200, 200)
    utm = GroundGrid.of(Affine(0.1, 0, 499990, 0, -0.1, 6e6), "EPSG:32633", 200, 200)
    feet = GroundGrid.of(*SCENES["state plane in feet"])

    assert equator.pixel_size_m() == pytest.approx((10.0, 10 * (1 - E2)), rel=1e-7)
    assert utm.pixel_size_m() == pytest.approx((0.1 / 0.9996, 0.1 / 0.9996), rel=1e-7)
    assert feet.pixel_size_m() == pytest.approx((1200 / 3937, 1200 / 3937), rel=1e-4)


def test_grid_is_a_value_that_can_be_pickled() -> None:
    grid = GroundGrid.of(*SCENES["utm"])
    expected = whole(grid)

    copy = pickle.loads(pickle.dumps(grid))

    assert copy == grid
    assert hash(copy) == hash(grid)
    np.testing.assert_array_equal(whole(copy), expected)


def test_crs_may_come_from_rasterio_or_pyproj_or_be_compound() -> None:
    transform, crs, height, width = SCENES["utm"]
    expected = GroundGrid.of(transform, crs, height, width).footprint_m2()

    for same in (RasterioCRS.from_string(crs), CRS(crs), "EPSG:32633+5773"):
        assert GroundGrid.of(transform, same, height, width).footprint_m2() == expected


def test_empty_window_has_no_pixels_and_no_area() -> None:
    for name in ("geographic", "utm"):
        grid = GroundGrid.of(*SCENES[name])

        assert grid.pixel_areas_m2(5, 5, 0, 0).size == 0
        assert grid.window_footprint_m2(5, 5, 0, 0) == 0


@pytest.mark.parametrize("crs", [LOCAL, "EPSG:4978", "EPSG:5773"])
def test_crs_without_ground_is_refused(crs: str) -> None:
    with pytest.raises(GroundError, match=r"geographic or projected.*assign the right CRS"):
        GroundGrid.of(Affine(1, 0, 0, 0, -1, 0), crs, 10, 10)


@pytest.mark.parametrize("crs", ["", "no such system", None, RasterioCRS()])
def test_unreadable_crs_is_refused(crs: object) -> None:
    with pytest.raises(GroundError, match="assign a CRS"):
        GroundGrid.of(Affine(1, 0, 0, 0, -1, 0), crs, 10, 10)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "transform",
    [Affine(0, 0, 0, 0, -1, 0), Affine(1, 2, 0, 2, 4, 0), Affine(np.nan, 0, 0, 0, 1, 0)],
)
def test_transform_without_inverse_is_refused(transform: Affine) -> None:
    with pytest.raises(GroundError, match=r"invertible.*repair the georeference"):
        GroundGrid.of(transform, "EPSG:4326", 10, 10)


def test_scene_without_pixels_is_refused() -> None:
    with pytest.raises(GroundError, match="needs a pixel"):
        GroundGrid.of(Affine(1, 0, 0, 0, -1, 0), "EPSG:4326", 0, 10)


@pytest.mark.parametrize("window", [(-1, 0, 5, 5), (0, 398, 5, 5), (299, 0, 2, 5), (5, 5, -1, 5)])
def test_window_outside_the_scene_is_refused(window: tuple[int, int, int, int]) -> None:
    grid = GroundGrid.of(*SCENES["utm"])

    with pytest.raises(GroundError, match="inside the scene"):
        grid.pixel_areas_m2(*window)
    with pytest.raises(GroundError, match="inside the scene"):
        grid.window_footprint_m2(*window)
