"""Ground areas against closed forms, outlines and each other."""

import itertools

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from pipelines.geodesy.ground import GroundGrid
from tests.examples import examples
from tests.pipelines.grounds import (
    E2,
    ELLIPSOID_M2,
    EQUAL_AREA,
    SCENES,
    WORLD,
    A,
    density_m2,
    geographic,
    whole,
)


def test_one_degree_cell_at_the_equator_has_its_known_area() -> None:
    expected = 12308.46e6

    actual = geographic(1.0, 0.0, 1.0, 1, 1).pixel_areas_m2(0, 0, 1, 1)

    assert actual.shape == (1, 1)
    assert actual[0, 0] == pytest.approx(expected, rel=1e-6)


def test_whole_ellipsoid_has_its_known_area() -> None:
    grid = geographic(0.5, -180.0, 90.0, 360, 720)

    assert pytest.approx(510065621.724e6, rel=1e-12) == ELLIPSOID_M2
    assert grid.footprint_m2() == pytest.approx(ELLIPSOID_M2, rel=1e-13)
    assert whole(grid).sum() == pytest.approx(ELLIPSOID_M2, rel=1e-12)


def test_whole_ellipsoid_in_grads_has_its_known_area() -> None:
    a, b = 6378249.2, 6356515.0  # Clarke 1880 (IGN), of the Paris system
    e = np.sqrt(1 - (b / a) ** 2)
    expected = 2 * np.pi * a**2 * (1 + (1 - e**2) / e * np.arctanh(e))

    grid = GroundGrid.of(Affine(1, 0, -200, 0, -1, 100), "EPSG:4807", 200, 400)

    assert whole(grid).sum() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("crs", ["ESRI:104903", "+proj=longlat +R=1737400 +type=crs"])
def test_moon_is_measured_on_the_moon(crs: str) -> None:
    grid = GroundGrid.of(Affine(1, 0, -180, 0, -1, 90), crs, 180, 360)

    assert whole(grid).sum() == pytest.approx(4 * np.pi * 1737400.0**2, rel=1e-12)


def test_rows_beyond_the_poles_have_no_area() -> None:
    grid = geographic(1.0, -180.0, 92.5, 185, 360)

    areas = grid.pixel_areas_m2(0, 0, 185, 360)[:, 0]

    assert areas[:2].tolist() == [0, 0]
    assert areas[-2:].tolist() == [0, 0]
    assert (areas[2:-2] > 0).all()
    assert areas.sum() * 360 == pytest.approx(ELLIPSOID_M2, rel=1e-12)
    assert grid.footprint_m2() == pytest.approx(ELLIPSOID_M2, rel=1e-12)


@pytest.mark.parametrize("latitude", [0.0, 47.0, -89.9])
def test_pixels_of_a_millionth_degree_keep_nine_digits(latitude: float) -> None:
    step = 1e-6
    grid = geographic(step, 8.0, latitude + 1.5 * step, 3, 3)
    expected = density_m2(np.radians(latitude)) * np.radians(step) ** 2

    assert grid.pixel_areas_m2(1, 1, 1, 1)[0, 0] == pytest.approx(expected, rel=1e-9)


def test_south_up_is_north_up_upside_down() -> None:
    north_up = geographic(0.1, 5.0, 60.0, 100, 50)
    south_up = GroundGrid.of(Affine(0.1, 0, 5, 0, 0.1, 50), "EPSG:4326", 100, 50)

    np.testing.assert_allclose(whole(south_up), whole(north_up)[::-1], rtol=1e-12)


def test_general_way_agrees_with_the_closed_form_on_a_quarter_turn() -> None:
    upright = geographic(0.01, 5.0, 60.0, 300, 200)
    turned = GroundGrid.of(Affine(0, 0.01, 5, -0.01, 0, 60), "EPSG:4326", 200, 300)

    np.testing.assert_allclose(whole(turned), whole(upright).T, rtol=1e-9)
    assert turned.footprint_m2() == pytest.approx(upright.footprint_m2(), rel=1e-10)


def test_web_mercator_at_60_degrees_shrinks_by_3_987_and_not_by_4() -> None:
    y = A * np.arcsinh(np.tan(np.radians(60)))
    grid = GroundGrid.of(Affine(1, 0, 0, 0, -1, y + 150.5), "EPSG:3857", 301, 301)
    expected = 4 * (1 - E2 * np.sin(np.radians(60)) ** 2) ** 2 / (1 - E2)

    actual = 1 / grid.pixel_areas_m2(150, 150, 1, 1)[0, 0]

    assert expected == pytest.approx(3.987, abs=5e-4)
    assert actual == pytest.approx(expected, rel=1e-8)


def test_every_row_of_the_world_in_web_mercator_has_its_exact_area() -> None:
    size = 1024
    grid = GroundGrid.of(
        Affine(2 * WORLD / size, 0, -WORLD, 0, -2 * WORLD / size, WORLD), "EPSG:3857", size, size
    )
    edges = np.degrees(np.arctan(np.sinh((WORLD - 2 * WORLD / size * np.arange(size + 1)) / A)))
    strips = [
        GroundGrid.of(Affine(360 / size, 0, 0, 0, low - high, high), "EPSG:4326", 1, 1)
        for high, low in itertools.pairwise(edges)
    ]
    expected = np.array([strip.footprint_m2() for strip in strips])

    actual = grid.pixel_areas_m2(0, 500, size, 3)

    np.testing.assert_allclose(actual, np.broadcast_to(expected[:, None], (size, 3)), rtol=1e-9)


@pytest.mark.parametrize("pixel_m", [0.05, 0.1, 10.0])
def test_central_meridian_of_a_utm_zone_has_the_scale_of_its_definition(pixel_m: float) -> None:
    transform = Affine(pixel_m, 0, 500000 - 1.5 * pixel_m, 0, -pixel_m, 6e6)
    grid = GroundGrid.of(transform, "EPSG:32633", 3, 3)

    actual = grid.pixel_areas_m2(1, 1, 1, 1)[0, 0]

    assert actual == pytest.approx((pixel_m / 0.9996) ** 2, rel=1e-9)


@pytest.mark.parametrize("name", SCENES)
def test_pixels_sum_to_the_outline(name: str) -> None:
    grid = GroundGrid.of(*SCENES[name])
    expected = grid.footprint_m2()

    assert whole(grid).sum() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", EQUAL_AREA)
def test_equal_area_maps_have_the_area_of_their_coordinates(name: str) -> None:
    transform, crs, height, width = SCENES[name]
    grid = GroundGrid.of(transform, crs, height, width)
    expected = abs(transform.determinant)

    np.testing.assert_allclose(whole(grid), expected, rtol=1e-8)
    assert grid.footprint_m2() == pytest.approx(expected * height * width, rel=1e-8)


def test_other_maps_do_not_have_the_area_of_their_coordinates() -> None:
    for name in ("web mercator", "utm", "polar"):
        transform, crs, height, width = SCENES[name]
        naive = abs(transform.determinant) * height * width

        assert GroundGrid.of(transform, crs, height, width).footprint_m2() != pytest.approx(
            naive, rel=1e-4
        )


def test_one_patch_of_ground_has_one_area_in_every_crs() -> None:
    # A patch with a soft edge, so that no pixel is cut and the sum over pixels is exact to 1e-9.
    lon, lat, soft = -74.0, 40.7, 0.05

    def patch(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.exp(-((x - lon) ** 2 + (y - lat) ** 2) / (2 * soft**2))

    nodes, weights = np.polynomial.legendre.leggauss(80)
    x, y = lon + 7 * soft * nodes, lat + 7 * soft * nodes[:, None]
    scale = np.radians(7 * soft) ** 2
    expected = scale * weights @ (patch(x, y) * density_m2(np.radians(y))) @ weights

    for crs in ("EPSG:4326", "EPSG:3857", "EPSG:32618", "EPSG:6933", "EPSG:5070", "EPSG:2263"):
        base = CRS(crs).geodetic_crs
        degrees = Transformer.from_crs(crs, base, always_xy=True)
        corners = np.array([lon - 0.5, lon + 0.5]), np.array([lat - 0.5, lat + 0.5])
        (west, east), (south, north) = degrees.transform(*corners, direction="INVERSE")
        step_x, step_y = (east - west) / 300, (north - south) / 300
        transform = Affine(step_x, 0, west, 0, -step_y, north)
        grid = GroundGrid.of(transform, crs, 300, 300)
        columns, rows = np.meshgrid(np.arange(300) + 0.5, np.arange(300) + 0.5)
        centres = degrees.transform(west + step_x * columns, north - step_y * rows)

        actual = (whole(grid) * patch(*centres)).sum()

        assert actual == pytest.approx(expected, rel=1e-6), crs


def test_antimeridian_changes_no_area() -> None:
    transform, _, height, width = SCENES["utm antimeridian"]
    across = GroundGrid.of(transform, "EPSG:32660", height, width)
    elsewhere = GroundGrid.of(transform, "EPSG:32630", height, width)

    np.testing.assert_allclose(whole(across), whole(elsewhere), rtol=1e-11)
    assert across.footprint_m2() == pytest.approx(elsewhere.footprint_m2(), rel=1e-11)


@pytest.mark.parametrize("name", ["geographic", "south up", "web mercator world", "utm sheared"])
@settings(max_examples=examples(15), deadline=None)
@given(data=st.data())
def test_windows_that_tile_the_scene_sum_to_the_scene(name: str, data: st.DataObject) -> None:
    grid = GroundGrid.of(*SCENES[name])
    rows = data.draw(st.sets(st.integers(1, grid.height - 1), max_size=4))
    columns = data.draw(st.sets(st.integers(1, grid.width - 1), max_size=4))
    tops, lefts = [0, *sorted(rows), grid.height], [0, *sorted(columns), grid.width]
    expected = whole(grid)

    total = 0.0
    for top, bottom in itertools.pairwise(tops):
        for left, right in itertools.pairwise(lefts):
            window = (top, left, bottom - top, right - left)
            actual = np.broadcast_to(grid.pixel_areas_m2(*window), window[2:])
            np.testing.assert_allclose(actual, expected[top:bottom, left:right], rtol=1e-11)
            assert actual.sum() == pytest.approx(grid.window_footprint_m2(*window), rel=1e-7)
            total += actual.sum()

    assert total == pytest.approx(expected.sum(), rel=1e-12)
