"""Zones of the pixels of a window, as the few combinations that it has."""

from __future__ import annotations

import numpy as np
import shapely
from pyproj import CRS

from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygon_masks import ScenePolygons
from pipelines.geodesy.polygons import Polygons
from pipelines.rasters.zone_index import index_zones
from segmodel.tiling.windows import Window
from tests.pipelines.corpus import UTM
from tests.pipelines.counted_scenes import box

WHOLE = Window(0, 0, 1200, 1100)


def polygons(*shapes: shapely.Polygon) -> ScenePolygons:
    """Zones on the pixels of a scene."""
    names = tuple(f"zone {n}" for n in range(len(shapes)))
    grid = GroundGrid.of(UTM[1], UTM[0], WHOLE.height, WHOLE.width)
    wkb = tuple(bytes(shapely.to_wkb(shape)) for shape in shapes)
    return ScenePolygons.of(Polygons(CRS(UTM[0]).to_wkt(), names, wkb), grid)


def test_zones_of_each_pixel_are_found_also_where_they_overlap():
    corners = [(0, 0, 1100, 1050), (10, 10, 500, 1100), (1030, 20, 1090, 40)]
    index, zones = index_zones(polygons(*(box(*c) for c in corners)), WHOLE)
    expected = np.zeros((WHOLE.height, WHOLE.width, 3), bool)
    for number, (left, top, right, bottom) in enumerate(corners):
        expected[top:bottom, left:right, number] = True
    found = np.array([[number in zone for number in range(3)] for zone in zones])[index]
    np.testing.assert_array_equal(found, expected)
    assert sorted(zones) == [(), (0,), (0, 1), (0, 2), (1,)]


def test_a_window_in_one_combination_of_zones_needs_no_index():
    inner = Window(100, 100, 64, 64)
    assert index_zones(polygons(box(0, 0, 700, 700)), inner) == (None, ((0,),))
    assert index_zones(polygons(box(600, 600, 700, 700)), inner) == (None, ((),))
    assert index_zones(None, inner) == (None, ((),))


def test_a_window_is_the_slice_of_the_scene():
    zones = polygons(box(3.3, 4.4, 60, 70), box(40, 50, 90, 99))
    part = Window(30, 20, 50, 60)
    index, found = index_zones(zones, part)
    whole_index, of_whole = index_zones(zones, WHOLE)
    here = [[found[n] for n in row] for row in index]
    assert here == [[of_whole[n] for n in row] for row in whole_index[part.slices]]
