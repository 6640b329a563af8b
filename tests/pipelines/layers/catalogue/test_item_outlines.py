"""Outlines of scenes as GeoJSON: in longitude and latitude, cut at the antimeridian."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.longitudes import longitude_span
from pipelines.layers.catalogue.item_outlines import item_outline
from tests.examples import examples

POLAR = Affine(1e4, 0, -2e6, 0, -1e4, 2e6)


def outline(transform: Affine, crs: str, height: int, width: int):
    found = item_outline(GroundGrid.of(transform, crs, height, width))
    return shapely.geometry.shape(found.geometry), found.bbox


@pytest.mark.parametrize("step", [-0.01, 0.01], ids=["north-up", "south-up"])
def test_a_scene_in_degrees_has_its_own_corners_counterclockwise(step):
    shape, box = outline(Affine(0.01, 0, 10, 0, step, 50), "EPSG:4326", 100, 200)
    south, north = sorted((50.0, 50 + 100 * step))
    assert box == (10.0, south, 12.0, north)
    assert shape.normalize() == shapely.box(10, south, 12, north).normalize()
    assert shape.exterior.is_ccw


def test_a_projected_scene_is_where_proj_puts_its_corners():
    shape, box = outline(Affine(10, 0, 300_000, 0, -10, 6_000_000), "EPSG:32633", 1000, 1000)
    east, north = [300_000, 310_000, 310_000, 300_000], [6_000_000, 6_000_000, 5_990_000, 5_990_000]
    corners = Transformer.from_crs("EPSG:32633", "OGC:CRS84").transform(east, north)
    expected = shapely.Polygon(zip(*corners, strict=True))
    assert shape.symmetric_difference(expected).area < 1e-3 * expected.area
    assert box == pytest.approx(expected.bounds, abs=1e-6)


def test_a_scene_across_the_antimeridian_is_cut_and_its_box_goes_from_east_to_west():
    shape, box = outline(Affine(1, 0, 179, 0, -1, 10), "EPSG:4326", 2, 2)
    assert box == (179.0, 8.0, -179.0, 10.0)
    expected = shapely.MultiPolygon([shapely.box(179, 8, 180, 10), shapely.box(-180, 8, -179, 10)])
    assert shape.normalize() == expected.normalize()


def test_longitudes_beyond_180_are_those_of_the_other_side():
    shape, box = outline(Affine(1, 0, 190, 0, -1, 10), "EPSG:4326", 2, 2)
    assert box == (-170.0, 8.0, -168.0, 10.0)
    assert shape.bounds == (-170.0, 8.0, -168.0, 10.0)


@pytest.mark.parametrize(("crs", "sign"), [("EPSG:3413", 1), ("EPSG:3031", -1)])
def test_a_scene_around_a_pole_reaches_it_at_all_longitudes(crs, sign):
    shape, box = outline(POLAR, crs, 400, 400)
    least, greatest = sorted((box[1], box[3]))
    assert (box[0], box[2]) == (-180.0, 180.0)
    assert (greatest if sign > 0 else least) == sign * 90
    assert shapely.contains_xy(shape, np.arange(-175, 180, 10), 89 * sign).all()
    assert not shapely.contains_xy(shape, np.arange(-175, 180, 10), 60 * sign).any()
    assert shape.is_valid


def test_a_scene_that_leaves_its_projection_has_the_box_of_what_is_on_the_earth():
    shape, box = outline(Affine(1e5, 0, -18.1e6, 0, -1e5, 9.1e6), "ESRI:54009", 182, 362)
    assert box == (-180.0, -90.0, 180.0, 90.0)
    assert shape.area == 360 * 180


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(1e6, 0, 1e8, 0, -1e6, 1e8), "EPSG:3035"),
        (Affine(0.01, 0, 10, 0, -0.01, 50), "IAU_2015:30100"),
    ],
    ids=["nowhere", "the Moon"],
)
def test_a_scene_that_is_not_on_the_earth_has_no_outline(transform, crs):
    assert item_outline(GroundGrid.of(transform, crs, 20, 20)) is None


@settings(max_examples=examples(100))
@given(st.lists(st.tuples(st.integers(-180, 179), st.integers(1, 200)), min_size=1, max_size=6))
def test_the_span_of_longitudes_is_the_shortest_that_holds_all(found):
    spans = [(west, (west + length + 180) % 360 - 180) for west, length in found]
    covered = np.zeros(360, bool)
    for west, length in found:
        covered[[(west + 180 + degree) % 360 for degree in range(length)]] = True
    west, east = longitude_span(np.array(spans, float))
    held = np.zeros(360, bool)
    held[[int(west + 180 + degree) % 360 for degree in range(int(east - west))]] = True
    assert held[covered].all()
    gaps = "".join("x" if one else "." for one in np.tile(covered, 2)).split("x")
    assert east - west == 360 - min(360, max(map(len, gaps)))
