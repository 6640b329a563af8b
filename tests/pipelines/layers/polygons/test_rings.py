"""Polygons of label maps, beside those of GDAL."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipelines.layers.polygons.components import components_of
from pipelines.layers.polygons.corners import corners_of
from pipelines.layers.polygons.rings import Rings, rings_of
from tests.examples import examples

NODATA = 255
label_maps = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([0, 1, NODATA]),
    fill=st.nothing(),
)


def traced(labels: np.ndarray) -> Rings:
    found = corners_of(np.pad(labels, 1, constant_values=NODATA), NODATA)
    return rings_of(components_of(labels).at(found.pixels), *found[1:])


def of_gdal(labels: np.ndarray, transform: Affine) -> list[bytes]:
    shapes = rasterio.features.shapes(labels, labels != NODATA, transform=transform)
    found = [shapely.from_geojson(json.dumps(shape)) for shape, _ in shapes]
    return sorted(shapely.to_wkb(shapely.normalize(found)))


@settings(max_examples=examples(300))
@given(labels=label_maps)
def test_polygons_are_those_of_gdal_and_valid(labels):
    transform = Affine(0.5, 0, 600000, 0, -0.25, 5000000)
    actual = traced(labels).geometries(transform)
    assert sorted(shapely.to_wkb(shapely.normalize(actual))) == of_gdal(labels, transform)
    assert shapely.is_valid(actual).all()


@settings(max_examples=examples(100))
@given(labels=label_maps)
def test_polygons_burned_again_are_the_label_map(labels):
    components = components_of(labels)
    rings = traced(labels)
    shapes = zip(
        rings.geometries(Affine.identity()), components.labels[rings.polygons], strict=True
    )
    burned = np.full(labels.shape, NODATA, np.uint8)
    for shape, label in shapes:
        rasterio.features.rasterize([(shape, int(label))], out=burned)
    assert burned.tolist() == labels.tolist()


@pytest.mark.parametrize(
    "transform",
    [Affine(2, 0, 0, 0, -2, 0), Affine(2, 0, 0, 0, 2, 0), Affine(0, 2, 5, 2, 0, 7)],
    ids=["north-up", "south-up", "transposed"],
)
def test_shells_are_counterclockwise_and_holes_clockwise_on_any_grid(transform):
    labels = np.zeros((3, 3), np.uint8)
    labels[1, 1] = NODATA
    (shape,) = traced(labels).geometries(transform)
    assert shapely.is_ccw(shape.exterior)
    assert [shapely.is_ccw(hole) for hole in shape.interiors] == [False]


def test_a_component_that_touches_itself_in_corners_has_rings_that_touch_each_other():
    labels = np.zeros((5, 5), np.uint8)
    labels[[1, 2, 3], [1, 2, 3]] = NODATA
    labels[4, 4] = NODATA
    (shape,) = traced(labels).geometries(Affine.identity())
    outside = [(0, 0), (5, 0), (5, 4), (4, 4), (4, 5), (0, 5)]
    holes = [[(n, n), (n + 1, n), (n + 1, n + 1), (n, n + 1)] for n in (1, 2, 3)]
    assert shape.is_valid
    assert shapely.normalize(shape) == shapely.normalize(shapely.Polygon(outside, holes))


def test_a_label_map_of_nodata_has_no_polygon():
    assert traced(np.full((2, 3), NODATA, np.uint8)).geometries(Affine.identity()).tolist() == []
