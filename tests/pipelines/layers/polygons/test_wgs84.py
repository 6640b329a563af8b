"""Polygons of any CRS in longitude and latitude, by RFC 7946."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS, Geod, Transformer

from pipelines.geodesy.ground import GroundGrid
from pipelines.layers.polygons.wgs84 import MAX_BEND_M, on_wgs84

WGS84 = CRS("EPSG:4326").to_wkt()


def moved(*polygons, crs=WGS84):
    found = on_wgs84(np.array(polygons), CRS(crs).to_wkt())
    assert shapely.is_valid(found).all()
    assert (shapely.bounds(found)[:, 0] >= -180).all()
    assert (shapely.bounds(found)[:, 2] <= 180).all()
    return found


@pytest.mark.parametrize(
    ("polygon", "expected"),
    [
        (shapely.box(10, 0, 20, 5), [(10, 0, 20, 5)]),
        (shapely.box(170, 0, 190, 5), [(-180, 0, -170, 5), (170, 0, 180, 5)]),
        (shapely.box(190, 0, 200, 5), [(-170, 0, -160, 5)]),
        (shapely.box(-200, 0, -190, 5), [(160, 0, 170, 5)]),
        (shapely.box(-180, -90, 180, 90), [(-180, -90, 180, 90)]),
        (shapely.box(0, 0, 360, 5), [(-180, 0, 0, 5), (0, 0, 180, 5)]),
    ],
)
def test_longitudes_lie_between_180_west_and_180_east(polygon, expected):
    (found,) = moved(polygon)

    expected_ground = shapely.union_all([shapely.box(*bounds) for bounds in expected])
    assert shapely.equals(found, expected_ground)


def test_a_hole_across_the_antimeridian_stays_a_hole():
    ring = shapely.difference(shapely.box(178, 0, 182, 4), shapely.box(179, 1, 181, 3))

    (found,) = moved(ring)

    assert found.area == 4 * 4 - 2 * 2
    assert not shapely.intersects_xy(found, 179.5, 2)
    assert not shapely.intersects_xy(found, -179.5, 2)
    assert shapely.intersects_xy(found, -178.5, 2)


@pytest.mark.parametrize(("crs", "latitude"), [("EPSG:3413", 90), ("EPSG:3031", -90)])
def test_what_holds_a_pole_keeps_its_ground(crs, latitude):
    whole = shapely.box(-1e6, -1e6, 1e6, 1e6)
    middle, beside = shapely.box(-1e5, -1e5, 1e5, 1e5), shapely.box(1e5, -1e5, 3e5, 1e5)
    ring, other = shapely.difference(whole, middle), shapely.difference(whole, beside)

    found = moved(whole, middle, ring, other, beside, crs=crs)

    globe = Geod(ellps="WGS84")
    areas = [abs(globe.geometry_area_perimeter(shape)[0]) for shape in found]
    assert areas[0] == pytest.approx(areas[1] + areas[2], rel=1e-6)
    assert areas[0] == pytest.approx(areas[3] + areas[4], rel=1e-6)
    ground = GroundGrid.of(Affine(2e4, 0, -1e6, 0, -2e4, 1e6), crs, 100, 100)
    assert areas[0] == pytest.approx(ground.footprint_m2(), rel=1e-6)
    holds_pole = shapely.intersects_xy(found, 45, latitude)
    assert holds_pole.tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031"])
def test_what_holds_a_pole_may_begin_where_it_is_hidden_from_it(crs):
    bay = [(1e6, -8e5), (-9e5, -8e5), (-9e5, -6e5), (1e6, -6e5)]
    hook = shapely.Polygon([*bay, (1e6, 1e6), (-1e6, 1e6), (-1e6, -1e6), (1e6, -1e6)])
    turns = np.roll(hook.exterior.coords[:-1], 1, axis=0)

    found = moved(hook, shapely.Polygon(turns), shapely.box(-1e6, -1e6, 1e6, 1e6), crs=crs)

    globe = Geod(ellps="WGS84")
    areas = [abs(globe.geometry_area_perimeter(shape)[0]) for shape in found]
    (bay_on_globe,) = moved(shapely.Polygon(bay), crs=crs)
    expected = areas[2] - abs(globe.geometry_area_perimeter(bay_on_globe)[0])
    assert areas[:2] == pytest.approx([expected, expected], rel=1e-6)


def test_long_edges_stay_where_they_are_on_the_ground():
    side = 100_000
    scene = shapely.box(300_000, 5_000_000, 300_000 + side, 5_000_000 + side)

    (found,) = moved(scene, crs="EPSG:32640")

    # Back in the plane, the middle of each edge is beside the outline of the scene.
    lon, lat = shapely.get_coordinates(found).T
    middles = (lon[1:] + lon[:-1]) / 2, (lat[1:] + lat[:-1]) / 2
    back = Transformer.from_crs("EPSG:4326", "EPSG:32640", always_xy=True).transform(*middles)
    gaps = shapely.distance(scene.exterior, shapely.points(*back))
    assert 4 * 20 < len(gaps) < 4 * 100
    assert gaps.max() < MAX_BEND_M


def test_a_polygon_off_the_earth_has_no_place():
    off, here = shapely.box(-1.8e7, 8e6, -1.7e7, 9e6), shapely.box(0, 0, 10, 10)

    found = on_wgs84(np.array([off, here]), CRS("ESRI:54009").to_wkt())

    assert found[0] is None
    assert found[1].is_valid
