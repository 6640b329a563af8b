"""Exact sums of ground areas."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from affine import Affine

from pipelines.geodesy.ground import GroundGrid
from pipelines.layers import pixel_areas
from pipelines.layers.polygons.components import components_of
from pipelines.layers.tracing.measures import AREA, COUNTED, WholeAreas, measures_of
from segmodel.tiling.windows import Window

GRIDS = {
    "geographic": GroundGrid.of(Affine(1e-4, 0, 20, 0, -1e-4, 60), "EPSG:4326", 40, 30),
    "projected": GroundGrid.of(Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32633", 40, 30),
    "rotated": GroundGrid.of(Affine(9, 2, 5e5, 2, -9, 5e6), "EPSG:32633", 40, 30),
}


@pytest.mark.parametrize("ground", GRIDS.values(), ids=GRIDS)
def test_areas_of_a_pixel_are_the_same_in_any_window(ground, monkeypatch):
    monkeypatch.setattr(pixel_areas, "_SQUARE_PX", 16)
    areas = WholeAreas.of(ground)
    whole = np.broadcast_to(areas.in_window(Window(0, 0, 40, 30)), (2, 40, 30))
    part = np.broadcast_to(areas.in_window(Window(7, 13, 21, 9)), (2, 21, 9))
    assert np.array_equal(part, whole[:, 7:28, 13:22])


@pytest.mark.parametrize("ground", GRIDS.values(), ids=GRIDS)
def test_sums_by_component_are_those_of_the_pixels_of_the_run(ground):
    labels = (np.indices((40, 30)).sum(axis=0) // 7).astype(np.uint8)
    pixel_areas = np.broadcast_to(ground.pixel_areas_m2(0, 0, 40, 30), (40, 30))
    areas = WholeAreas.of(ground)
    found = measures_of(components_of(labels), areas.in_window(Window(0, 0, 40, 30)), None, None)
    expected = [math.fsum(pixel_areas[labels == label]) for label in range(labels.max() + 1)]
    assert areas.square_metres(found[:, AREA]).tolist() == pytest.approx(expected, rel=1e-14)
    assert float(sum(map(areas.exact, found[:, AREA]))) == pytest.approx(math.fsum(expected), 1e-14)


def test_pixels_that_count_elsewhere_are_left_out_of_what_is_counted():
    areas = WholeAreas.of(0.1)
    elsewhere = np.array([[True, False], [False, False]])
    block = areas.in_window(Window(0, 0, 2, 2))
    confidence = np.array([[255, 0], [1, 2]], np.uint8)
    found = measures_of(components_of(np.zeros((2, 2), np.uint8)), block, elsewhere, confidence)
    pixel = Fraction(round(0.1 * 2**51), 2**51)
    assert [areas.exact(found[0, AREA]), areas.exact(found[0, COUNTED])] == [4 * pixel, 3 * pixel]
    assert (found[0, 0], found[0, -1]) == (4, 258)


def test_without_ground_and_confidence_there_are_pixels_only():
    found = measures_of(components_of(np.zeros((1, 3), np.uint8)), None, None, None)
    assert found.tolist() == [[3, 0, 0, 0, 0, 0]]
