"""Simplified polygons: a coverage, whose ground is that of the map, whatever its windows are."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.layers.options import MIN_TOLERANCE_PX
from pipelines.layers.polygons import simplified
from pipelines.layers.polygons.components import components_of
from pipelines.layers.polygons.simplified import dissolved, moments, simplify_block
from tests.examples import examples

NODATA = 255
MAPS = arrays(
    np.uint8, st.tuples(*[st.integers(1, 16)] * 2), elements=st.sampled_from([0, 1, 2, NODATA])
)


def simplify(labels, tolerance_px, rimmed=None):
    if rimmed is None:
        rimmed = np.pad(labels, 1, constant_values=NODATA)
    return simplify_block(rimmed, components_of(labels), NODATA, tolerance_px)


def stairs(side):
    """Two classes with a border of steps from the upper left to the lower right."""
    return np.tri(side, dtype=np.uint8)


@settings(max_examples=examples(50), deadline=None)
@given(MAPS, st.sampled_from([0.5, 2, 30]), st.sampled_from([1, 12, 1 << 18]))
def test_a_simplified_block_is_a_valid_coverage_with_the_ground_of_the_map(labels, px, meetings):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(simplified, "MAX_MEETINGS", meetings)
        found = simplify(labels, px)

    components = components_of(labels)
    has_class = components.labels != NODATA
    areas = shapely.area(found.polygons)
    assert found.components.tolist() == np.flatnonzero(has_class).tolist()
    assert shapely.coverage_is_valid(found.polygons)
    assert shapely.is_valid(found.polygons).all()
    assert areas.sum() == np.count_nonzero(labels != NODATA)
    assert areas.tolist() == (components.pixels[has_class] + found.drift[:, 0]).tolist()
    assert found.drift[:, 0].sum() == 0
    points = shapely.get_coordinates(found.polygons)
    assert (points == np.rint(points)).all()


def test_the_least_tolerance_is_the_first_that_leaves_vertices_out():
    exact, almost, least = (simplify(stairs(8), px) for px in (0, 0.7, MIN_TOLERANCE_PX))

    assert shapely.equals_exact(almost.polygons, exact.polygons).all()
    assert shapely.get_num_coordinates(exact.polygons).tolist() == [19, 17]
    assert shapely.get_num_coordinates(least.polygons).tolist() == [7, 5]


@settings(max_examples=examples(25), deadline=None)
@given(MAPS, st.integers(1, 16), st.integers(1, 16), st.sampled_from([1, 12, 1 << 18]))
def test_blocks_are_a_valid_coverage_together_and_their_pieces_join(labels, row, column, meetings):
    rimmed = np.pad(labels, 1, constant_values=NODATA)
    whole = components_of(labels)
    polygons, of = [], []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(simplified, "MAX_MEETINGS", meetings)
        for top in range(0, labels.shape[0], row):
            for left in range(0, labels.shape[1], column):
                block = labels[top : top + row, left : left + column]
                height, width = block.shape
                around = rimmed[top : top + height + 2, left : left + width + 2]
                found = simplify(block, 2, around)
                first = components_of(block).first[found.components]
                pixels = (first // width + top) * labels.shape[1] + first % width + left
                of.append(whole.at(pixels))
                polygons.append(shapely.transform(found.polygons, lambda p, at=(left, top): p + at))
    numbers, groups = np.unique(np.concatenate(of), return_inverse=True)

    joined = dissolved(groups, np.concatenate(polygons))

    assert numbers.tolist() == np.flatnonzero(whole.labels != NODATA).tolist()
    assert shapely.coverage_is_valid(joined)
    assert shapely.is_valid(joined).all()
    assert shapely.area(joined).sum() == np.count_nonzero(labels != NODATA)


def test_steps_become_one_edge_that_both_neighbours_have():
    low, high = simplify(stairs(8), 3).polygons

    edge = shapely.intersection(low, high)
    assert shapely.get_num_coordinates(shapely.line_merge(edge)) == 2
    assert shapely.area([low, high]).sum() == 64


@pytest.mark.parametrize("side", [23, 1571, 2048])
def test_vertices_of_long_sides_are_corners_of_pixels(side):
    (polygon,) = simplify(np.zeros((side, side), np.uint8), 1).polygons
    assert polygon.normalize().equals_exact(shapely.box(0, 0, side, side).normalize(), 0)


def test_a_small_tolerance_leaves_only_out_what_is_on_a_straight_line():
    found = simplify(stairs(8), 0.01)

    assert found.drift[:, 0].tolist() == [0, 0]
    assert shapely.area(found.polygons).tolist() == [36, 28]


def test_borders_to_nodata_stay_as_they_are():
    labels = stairs(8)
    labels[labels == 0] = NODATA

    (found,) = simplify(labels, 50).polygons

    assert shapely.area(found) == 36
    assert shapely.get_num_coordinates(found) == 2 * 8 + 3


def test_what_is_left_out_does_not_depend_on_other_windows_where_nothing_is_cut():
    labels = np.zeros((40, 40), np.uint8)
    labels[5:15, 5:15] = stairs(10)

    whole, moved = simplify(labels, 2), simplify(np.pad(labels, ((7, 0), (0, 0))), 2)

    there = shapely.transform(moved.polygons[1], lambda points: points - [0, 7])
    assert shapely.equals(shapely.normalize(whole.polygons[1]), shapely.normalize(there))


def test_moments_are_those_of_the_pixels():
    ring = shapely.difference(shapely.box(2, 3, 8, 9), shapely.box(4, 5, 6, 6))

    (found,) = moments(np.array([ring]))

    expected = [36 - 2, 36 * 5 - 2 * 5, 36 * 6 - 2 * 5.5]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
