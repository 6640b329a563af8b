"""Ground that scenes share: across zones, datums, the antimeridian and the poles."""

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import Transformer

from pipelines.geodesy.footprints import counted_twice_m2, covered, covered_m2, neighbours
from pipelines.geodesy.ground import GroundGrid
from tests.pipelines.grounds import MOLLWEIDE, SCENES, WORLD, A, geographic

UTM = "EPSG:32633"


def utm(east: float, north: float, pixels: int = 100, step: float = 10) -> GroundGrid:
    return GroundGrid.of(Affine(step, 0, east, 0, -step, north), UTM, pixels, pixels)


def globe(step: float = 1.0) -> GroundGrid:
    return geographic(step, -180, 90, round(180 / step), round(360 / step))


def test_tiles_that_overlap_by_half_share_the_ground_of_that_half() -> None:
    first, second = utm(3e5, 6e6), utm(3e5 + 500, 6e6)

    assert neighbours([first, second]) == [(1,), (0,)]
    assert covered(first, [second]).equals(shapely.box(50, 0, 100, 100))
    assert covered_m2(first, [second]) == pytest.approx(
        first.window_footprint_m2(0, 50, 100, 50), rel=1e-8
    )


def test_ground_of_three_scenes_at_one_place_counts_once() -> None:
    grids = [utm(3e5, 6e6)] * 3
    near = neighbours(grids)

    assert near == [(1, 2), (0, 2), (0, 1)]
    assert counted_twice_m2(grids, near) == 2 * grids[0].footprint_m2()


def test_earlier_scenes_that_overlap_each_other_are_not_counted_twice_over() -> None:
    grids = [utm(3e5, 6e6), utm(3e5 + 200, 6e6), utm(3e5 + 400, 6e6)]
    expected = sum(grid.window_footprint_m2(0, 0, 100, 80) for grid in grids[1:])

    actual = counted_twice_m2(grids, neighbours(grids))

    assert actual == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 1e-9, 0.0049, -0.0049])
def test_tiles_that_abut_are_no_neighbours(shift: float) -> None:
    row = [utm(3e5 + x * 1000 + shift * x * 10, 6e6 - y * 1000) for y in range(3) for x in range(2)]

    assert neighbours(row) == [()] * 6
    assert counted_twice_m2(row, neighbours(row)) == 0


def test_a_sliver_is_measured_in_pixels_of_the_scene_itself() -> None:
    coarse, fine = utm(3e5, 6e6, 10, 100), utm(3e5 + 999.5, 6e6, 100, 1)

    assert neighbours([coarse, fine]) == [(), (0,)]


def test_no_scene_and_a_single_one_have_no_neighbours() -> None:
    assert neighbours([]) == []
    assert neighbours([utm(3e5, 6e6)]) == [()]
    assert covered(utm(3e5, 6e6), []).is_empty
    assert covered_m2(utm(3e5, 6e6), []) == 0


@pytest.mark.parametrize("name", ["geographic", "utm one pixel", "utm sheared", "polar", "moon"])
def test_a_scene_covers_itself_and_halves_of_it_are_neighbours_by_their_overlap(name: str) -> None:
    transform, crs, height, width = SCENES[name]
    whole = GroundGrid.of(transform, crs, height, width)
    start = width // 3
    part = GroundGrid.of(transform @ Affine.translation(start, 0), crs, height, width - start)

    assert covered_m2(whole, [whole]) == whole.footprint_m2()
    assert neighbours([whole, part]) == [(1,), (0,)]
    assert covered_m2(part, [whole]) == part.footprint_m2()
    assert covered_m2(whole, [part]) == pytest.approx(
        whole.window_footprint_m2(0, start, height, width - start), rel=1e-6
    )


@pytest.mark.parametrize("name", sorted({*SCENES} - {"moon", "utm 0.1 m", "utm one pixel"}))
def test_the_whole_globe_covers_every_scene_and_is_covered_by_its_footprint(name: str) -> None:
    scene, world = GroundGrid.of(*SCENES[name]), globe()
    footprint = scene.footprint_m2()

    assert neighbours([scene, world])[0] == (1,)
    assert covered_m2(scene, [world]) == footprint
    # Datums other than that of the globe have an ellipsoid of their own: 2e-4. Poles are sampled.
    tolerance = {"polar": 1e-2, "paris grads": 2e-4, "state plane in feet": 2e-4}.get(name, 1e-4)
    assert covered_m2(world, [scene]) == pytest.approx(footprint, rel=tolerance)


@pytest.mark.parametrize("east", [12.3, 16.7])
def test_a_geographic_scene_and_one_in_utm_share_the_same_ground_either_way(east: float) -> None:
    flat = GroundGrid.of(Affine(100, 0, 300000, 0, -100, 6e6), UTM, 1000, 1000)
    round_ = geographic(0.01, east, 54, 100, 150)

    forth, back = covered_m2(flat, [round_]), covered_m2(round_, [flat])

    assert 0.1 < forth / flat.footprint_m2() < 0.9 or east > 13
    assert abs(forth - back) < 1e-4 * flat.footprint_m2()


def test_zones_of_utm_share_the_same_ground_either_way() -> None:
    west = GroundGrid.of(Affine(10, 0, 699960, 0, -10, 5400000), "EPSG:32632", 10980, 10980)
    east = GroundGrid.of(Affine(10, 0, 199980, 0, -10, 5400000), "EPSG:32633", 10980, 10980)

    assert neighbours([west, east]) == [(1,), (0,)]
    assert covered_m2(west, [east]) == pytest.approx(covered_m2(east, [west]), rel=1e-4)


def test_scenes_meet_across_the_antimeridian() -> None:
    west, east = geographic(1, 175, 10, 10, 10), geographic(1, -180, 10, 10, 10)

    assert neighbours([west, east]) == [(1,), (0,)]
    assert covered(west, [east]).equals(shapely.box(5, 0, 10, 10))
    assert covered(east, [west]).equals(shapely.box(0, 0, 5, 10))
    assert covered_m2(west, [east]) == pytest.approx(
        west.window_footprint_m2(0, 5, 10, 5), rel=1e-12
    )


def test_globes_cut_at_different_meridians_cover_each_other() -> None:
    pacific = geographic(1, 0, 90, 180, 360)

    assert covered_m2(pacific, [globe()]) == pacific.footprint_m2()
    assert covered_m2(pacific, [geographic(1, -180, 90, 180, 90)]) == pytest.approx(
        pacific.footprint_m2() / 4, rel=1e-12
    )


def test_web_mercator_goes_on_beyond_the_antimeridian() -> None:
    web = GroundGrid.of(*SCENES["web mercator antimeridian"])
    other = GroundGrid.of(Affine(500, 0, -WORLD, 0, -500, 2e6), "EPSG:3857", web.height, web.width)
    columns = 200  # of 400 lie east of the antimeridian

    assert covered_m2(web, [other]) == pytest.approx(
        web.window_footprint_m2(0, columns, web.height, columns), rel=1e-7
    )


def test_scenes_at_opposite_sides_of_the_earth_are_no_neighbours() -> None:
    here, there = utm(3e5, 6e6), geographic(0.01, -168.2, -54.0, 100, 100)

    assert neighbours([here, there]) == [(), ()]
    assert covered(here, [there]).is_empty
    assert covered_m2(there, [here]) == 0


def test_polar_scene_and_strip_of_all_longitudes_share_the_cap() -> None:
    polar = GroundGrid.of(Affine(10000, 0, -3e6, 0, -10000, 3e6), "EPSG:3413", 600, 600)
    strip = geographic(1, -180, 90, 10, 360)

    assert neighbours([polar, strip]) == [(1,), (0,)]
    assert covered_m2(strip, [polar]) == strip.footprint_m2()
    assert covered_m2(polar, [strip]) == pytest.approx(
        strip.footprint_m2(), abs=1e-2 * polar.footprint_m2()
    )


def test_a_world_map_that_leaves_its_projection_covers_what_it_shows() -> None:
    step = 2 * MOLLWEIDE / 540
    transform = Affine(step, 0, -MOLLWEIDE, 0, -step, MOLLWEIDE / 2)
    world = GroundGrid.of(transform, "ESRI:54009", 270, 540)
    scene, north = utm(3e5, 6e6), geographic(1, -180, 90, 90, 360)

    assert covered_m2(scene, [world]) == scene.footprint_m2()
    assert covered_m2(world, [north]) == pytest.approx(north.footprint_m2(), rel=1e-2)


def test_datums_meet_where_they_lie_on_the_ground() -> None:
    # Shifted by about 100 m in the east of Germany, by the operation that PROJ prefers.
    old = GroundGrid.of(Affine(10, 0, 4.5e6, 0, -10, 5.7e6), "EPSG:31468", 100, 100)
    x, y = Transformer.from_crs("EPSG:31468", UTM, always_xy=True).transform(4500500, 5699500)
    new = utm(x - 500, y + 500)

    assert covered_m2(old, [new]) == pytest.approx(old.footprint_m2(), rel=0.1)
    assert neighbours([old, new]) == [(1,), (0,)]


def test_scenes_of_different_bodies_never_overlap() -> None:
    moon = GroundGrid.of(*SCENES["moon"])
    earth = geographic(0.001, 0, 0, 300, 400)

    assert neighbours([moon, earth, moon]) == [(2,), (), (0,)]
    assert covered(moon, [earth]).is_empty


def test_rotated_and_south_up_scenes_share_the_ground_of_the_upright_one() -> None:
    upright = utm(3e5, 6e6)
    south_up = GroundGrid.of(Affine(10, 0, 3e5, 0, 10, 6e6 - 1000), UTM, 100, 100)
    turned = GroundGrid.of(
        Affine.translation(3e5 + 500, 6e6 - 500)
        @ Affine.rotation(45)
        @ Affine.scale(10, -10)
        @ Affine.translation(-50, -50),
        UTM,
        100,
        100,
    )
    octagon = 2 * (np.sqrt(2) - 1)  # of a square and the same turned by 45 degrees

    assert covered_m2(upright, [south_up]) == upright.footprint_m2()
    assert covered(upright, [turned]).area == pytest.approx(octagon * 1e4, rel=1e-9)
    assert covered_m2(turned, [upright]) == pytest.approx(covered_m2(upright, [turned]), rel=1e-6)


def test_holes_are_not_covered() -> None:
    whole = utm(3e5, 6e6)
    frame = [utm(3e5 + x, 6e6 - y, 40) for x in (0, 300, 600) for y in (0, 300, 600)]
    frame.remove(utm(3e5 + 300, 6e6 - 300, 40))

    expected = whole.footprint_m2() - whole.window_footprint_m2(40, 40, 20, 20)

    assert covered_m2(whole, frame) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("width", "tolerance"), [(60, 1e-4), (90, 1.1e-4), (180, 5e-4)])
def test_sectors_around_the_pole_are_the_same_ground_as_a_cap(width: int, tolerance: float) -> None:
    step = 2 * A / 200
    polar = GroundGrid.of(Affine(step, 0, -A, 0, -step, A), "EPSG:3031", 200, 200)
    sectors = [geographic(1, west, -70, 20, width) for west in range(-180, 180, width)]

    assert neighbours([polar, *sectors])[0] == tuple(range(1, 1 + 360 // width))
    expected = sum(sector.footprint_m2() for sector in sectors)
    assert covered_m2(polar, sectors) == pytest.approx(expected, rel=tolerance)


def test_a_scene_at_the_rim_of_its_projection_is_covered_by_share_of_its_ground() -> None:
    x, y = Transformer.from_crs("EPSG:4326", "ESRI:54008", always_xy=True).transform(179.999, 50)
    rim = GroundGrid.of(Affine(10, 0, x - 500, 0, -10, y + 50), "ESRI:54008", 10, 100)
    middle = Transformer.from_crs("ESRI:54008", "EPSG:4326", always_xy=True).transform(x, y)[1]
    north = geographic(0.01, 179, round(middle + 1, 6), 100, 100)
    south = geographic(0.01, 179, round(middle, 6), 100, 100)

    north_m2, south_m2 = covered_m2(rim, [north]), covered_m2(rim, [south])

    assert min(north_m2, south_m2) > 0.1 * rim.footprint_m2()
    assert north_m2 + south_m2 == pytest.approx(rim.footprint_m2(), rel=1e-2)
