"""Exact sums of ground areas."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from affine import Affine

from pipelines.geodesy.ground import GroundGrid
from pipelines.layers.polygons import measures
from pipelines.layers.polygons.components import components_of
from pipelines.layers.polygons.measures import AREA, COUNTED, WholeAreas, measures_of
from segmodel.tiling.windows import Window

WHOLE = Window(0, 0, 40, 30)
GRIDS = {
    "not smooth": GroundGrid.of(Affine(9e5, 0, -1.8e7, 0, -9e5, 1.8e7), "ESRI:54009", 40, 30),
    "geographic": GroundGrid.of(Affine(1e-4, 0, 20, 0, -1e-4, 60), "EPSG:4326", 40, 30),
    "projected": GroundGrid.of(Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32633", 40, 30),
    "rotated": GroundGrid.of(Affine(9, 2, 5e5, 2, -9, 5e6), "EPSG:32633", 40, 30),
}


@pytest.mark.parametrize("ground", GRIDS.values(), ids=GRIDS)
def test_areas_of_a_pixel_are_the_same_in_any_run(ground, monkeypatch):
    monkeypatch.setattr(measures, "_TILE_ROWS", 16)
    monkeypatch.setattr(measures, "_TILE_COLUMNS", 7)
    measures._tile.cache_clear()
    areas, rows = WholeAreas.of(ground), np.arange(40)
    starts = np.arange(30)
    pixels = [areas.of_runs(np.full(30, row), starts, starts + 1) for row in rows]
    halves = [areas.of_runs(rows, rows * 0 + at, rows * 0 + to) for at, to in ((0, 13), (13, 30))]
    assert sum(halves).tolist() == [int(row.sum()) for row in pixels]
    expected = np.broadcast_to(ground.pixel_areas_m2(0, 0, 40, 30), (40, 30))
    found = np.ldexp(np.array(pixels, float), areas.exponent)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-13 * expected.mean())
    measures._tile.cache_clear()


@pytest.mark.parametrize("ground", GRIDS.values(), ids=GRIDS)
def test_sums_by_component_are_those_of_the_pixels_of_the_run(ground):
    labels = (np.indices((40, 30)).sum(axis=0) // 7).astype(np.uint8)
    pixel_areas = np.broadcast_to(ground.pixel_areas_m2(0, 0, 40, 30), (40, 30))
    areas = WholeAreas.of(ground)
    found = measures_of(components_of(labels), WHOLE, areas, None, None)
    expected = [math.fsum(pixel_areas[labels == label]) for label in range(labels.max() + 1)]
    assert areas.square_metres(found[:, AREA]) == pytest.approx(np.array(expected), rel=1e-13)
    assert float(sum(map(areas.exact, found[:, AREA]))) == pytest.approx(math.fsum(expected), 1e-13)


def test_pixels_that_count_elsewhere_are_left_out_of_what_is_counted():
    areas, window = WholeAreas.of(0.1), Window(4, 4, 2, 2)
    elsewhere = np.array([[True, False], [False, False]])
    confidence = np.array([[255, 0], [1, 2]], np.uint8)
    components = components_of(np.zeros((2, 2), np.uint8))
    found = measures_of(components, window, areas, elsewhere, confidence)
    pixel = Fraction(round(0.1 * 2**49), 2**49)
    assert [areas.exact(found[0, AREA]), areas.exact(found[0, COUNTED])] == [4 * pixel, 3 * pixel]
    assert (found[0, 0], found[0, -1]) == (4, 258)


def test_without_ground_and_confidence_there_are_pixels_only():
    found = measures_of(components_of(np.zeros((1, 3), np.uint8)), WHOLE, None, None, None)
    assert found.tolist() == [[3, 0, 0, 0, 0, 0]]
