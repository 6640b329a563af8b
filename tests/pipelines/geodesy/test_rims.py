"""Scenes that the rim of a projection cuts: tiles of world maps, disks seen from space."""

from collections.abc import Callable

import numpy as np
import pytest
from affine import Affine

from pipelines.geodesy.ground import GroundGrid
from segmodel.errors import GroundError
from tests.pipelines.grounds import whole

R = 6371007.181  # metres: the sphere of MODIS
TILE = 1111950.5196666666  # side of a tile of MODIS in metres
SINUSOIDAL = f"+proj=sinu +R={R} +type=crs"
GOODE = f"+proj=igh +R={R} +type=crs"
MOLLWEIDE = f"+proj=moll +R={R} +type=crs"
DISK = f"+proj=geos +h=35785831 +lon_0=0 +sweep=y +R={R} +type=crs"

# Eastings of the map that are on the Earth, by northings: arrays of ranges in metres.
Ranges = Callable[[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]


def on_sinusoidal(y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    half = np.pi * R * np.cos(y / R)
    return [(-half, half)]


def on_mollweide(y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    half = 2 * np.sqrt(np.maximum(2 * R**2 - y**2, 0))
    return [(-half, half)]


def on_goode(y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two lobes in the north; y below 40 degrees, where they are sinusoidal."""
    lobes = ((-180, -100, -40), (-40, 30, 180))
    flat = np.radians(lobes) * R
    return [
        tuple(middle + (x - middle) * np.cos(y / R) for x in (west, east))
        for west, middle, east in flat
    ]


def area_m2(x0: float, y1: float, side: float, ranges: Ranges) -> float:
    """Area of what a square of an equal-area map shows of the Earth."""
    y = y1 - side * (np.arange(100_000) + 0.5) / 100_000
    lengths = [
        np.clip(np.minimum(x0 + side, east) - np.maximum(x0, west), 0, None)
        for west, east in ranges(y)
    ]
    return float(np.sum(lengths) * side / 100_000)


def modis(h: int, v: int, pixels: int = 120) -> GroundGrid:
    x, y, step = -np.pi * R + h * TILE, np.pi * R / 2 - v * TILE, TILE / pixels
    return GroundGrid.of(Affine(step, 0, x, 0, -step, y), SINUSOIDAL, pixels, pixels)


def square(crs: str, x: float, y: float, side: float, pixels: int) -> GroundGrid:
    step = side / pixels
    return GroundGrid.of(Affine(step, 0, x, 0, -step, y), crs, pixels, pixels)


@pytest.mark.parametrize(("h", "v"), [(10, 2), (9, 2), (14, 0), (35, 10), (0, 8)])
def test_tiles_of_modis_have_the_area_of_what_they_show_of_the_earth(h: int, v: int) -> None:
    grid = modis(h, v)
    x, y = -np.pi * R + h * TILE, np.pi * R / 2 - v * TILE
    expected = area_m2(x, y, TILE, on_sinusoidal)

    areas = whole(grid)

    assert areas.sum() == pytest.approx(expected, rel=1e-4 if v == 0 else 5e-6)
    assert grid.footprint_m2() == pytest.approx(areas.sum(), rel=1e-12)
    assert areas.max() == pytest.approx((TILE / 120) ** 2, rel=1e-4)


@pytest.mark.parametrize(
    ("crs", "x", "y", "side", "ranges", "pixels"),
    [
        (MOLLWEIDE, -18e6, 5e6, 4e6, on_mollweide, 30),
        (MOLLWEIDE, 9e6, -6e6, 4e6, on_mollweide, 1600),
        (GOODE, -5e6, 3e6, 2e6, on_goode, 30),
        (GOODE, -4.9e6, 1.6e6, 8e5, on_goode, 1600),
        (GOODE, -20.1e6, 4e6, 2e6, on_goode, 30),
    ],
)
def test_tiles_of_world_maps_have_the_area_of_what_they_show(
    crs: str, x: float, y: float, side: float, ranges: Ranges, pixels: int
) -> None:
    grid = square(crs, x, y, side, pixels)
    expected = area_m2(x, y, side, ranges)

    actual = grid.footprint_m2()

    assert 0 < expected < 0.99 * side**2
    assert actual == pytest.approx(expected, rel=2e-6)
    assert min(grid.pixel_size_m()) > 0


def test_disk_from_space_has_the_area_of_its_cap() -> None:
    half = 5.6e6
    cap = 2 * np.pi * R**2 * (1 - R / (R + 35785831))

    for pixels in (100, 1000):
        actual = square(DISK, -half, half, 2 * half, pixels).footprint_m2()

        assert actual == pytest.approx(cap, rel=5e-4)


def test_a_disk_has_nothing_in_its_corners() -> None:
    areas = whole(square(DISK, -5.6e6, 5.6e6, 11.2e6, 100))

    assert areas[0, 0] == areas[0, -1] == areas[-1, 0] == areas[-1, -1] == 0
    assert areas[50, 50] == pytest.approx(112000**2, rel=1e-3)


def test_a_gap_between_lobes_that_is_narrower_than_any_step_breaks_no_balance() -> None:
    # The gap opens at the equator, at 40 degrees west of the central meridian of the map.
    x = np.radians(-40) * R
    for side in (1e4, 5e4):
        grid = square(GOODE, x - 0.37 * side, side, side, 40)

        assert whole(grid).sum() == pytest.approx(grid.footprint_m2(), rel=1e-6)
        for window in ((0, 0, 16, 40), (3, 12, 5, 7)):
            part = grid.pixel_areas_m2(*window).sum()
            assert part == pytest.approx(grid.window_footprint_m2(*window), rel=1e-6)


def test_size_of_pixels_is_that_of_the_middle_of_what_is_on_the_earth() -> None:
    grid = modis(35, 10)
    column, row = grid.middle

    assert not np.isfinite(grid.lon_lat(np.array([60.0]), np.array([60.0]))).any()
    assert np.isfinite(grid.lon_lat(np.array([column]), np.array([row]))).all()
    assert grid.pixel_size_m()[0] == pytest.approx(TILE / 120, rel=1e-3)


def test_scene_of_which_one_corner_is_on_the_earth_has_a_size() -> None:
    half = np.pi * R
    grid = square(SINUSOIDAL, half - 1.0, 500.0, 1000.0, 10)  # 1 m of 1 km

    assert grid.pixel_size_m() == pytest.approx((100, 100), rel=0.01)
    assert 0 < grid.footprint_m2() < 1.7e3


def test_scene_that_is_nowhere_on_the_earth_is_refused() -> None:
    grid = modis(0, 0)

    with pytest.raises(
        GroundError, match=r"no pixel of the scene is on the Earth.*leave the raster"
    ):
        grid.pixel_size_m()
    assert whole(grid).sum() == 0
