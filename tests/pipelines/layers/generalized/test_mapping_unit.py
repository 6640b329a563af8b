from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import label

from pipelines.geodesy.ground import GroundGrid
from pipelines.layers.generalized.mapping_unit import MappingUnit, longest
from pipelines.layers.generalized.unsettled import BlockComponents, SceneSeams, Sides
from pipelines.layers.polygons.components import components_of
from pipelines.layers.polygons.measures import AREA, WholeAreas, measures_of
from segmodel.tiling.windows import Window
from tests.examples import examples

NODATA = 255


# Rows of a geographic scene differ in area, and pixels of a rotated one too.
GROUNDS = (
    GroundGrid.of(Affine(1, 0, 20, 0, -1, 75), "EPSG:4326", 20, 20),
    GroundGrid.of(Affine(9e4, 2e4, 2e5, 2e4, -9e4, 7e6), "EPSG:32633", 20, 20),
    1.1,
)


def generalized(labels: np.ndarray, unit: MappingUnit, side: int) -> np.ndarray:
    """A label map that is generalized in blocks of a side."""
    height, width = labels.shape
    blocks, seams, columns = [], SceneSeams(unit), -(-width // side)
    windows = list(Window(0, 0, height, width).subdivide(side, side))
    for window in windows:
        ends = window.row + window.height, window.column + window.width
        sides = Sides(window.row > 0, window.column > 0, ends[0] < height, ends[1] < width)
        blocks.append(BlockComponents(labels[window.slices], window, sides, unit, NODATA))
    for first in range(0, len(blocks), columns):
        seams.add_row([block.unsettled() for block in blocks[first : first + columns]])
    found = np.empty_like(labels)
    for window, block, pieces in zip(windows, blocks, seams.settle()[0], strict=True):
        found[window.slices] = block.settle(pieces).labels[block.found.ids]
    return found


def unit_of(square_metres: float, ground: GroundGrid | float = 1.0) -> MappingUnit:
    return MappingUnit(WholeAreas.of(ground), square_metres)


def by_definition(labels: np.ndarray, areas: np.ndarray, unit: float) -> np.ndarray:
    """The same, pixel by pixel, as the definition says it."""
    component, count = np.zeros(labels.shape, int), 0
    for value in np.unique(labels):
        ids, number = label(labels == value)
        component[ids > 0] = ids[ids > 0] + count
        count += number
    whole = np.broadcast_to(areas, labels.shape)
    large = {c for c in range(1, count + 1) if whole[component == c].sum() >= unit * (1 - 1e-9)}
    borders: dict[int, Counter] = {c: Counter() for c in range(1, count + 1)}
    height, width = labels.shape
    for row, column in np.ndindex(height, width):
        for down, across in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            y, x = row + down, column + across
            if 0 <= y < height and 0 <= x < width and labels[y, x] != NODATA:
                here, there = component[row, column], component[y, x]
                if here != there and there in large:
                    borders[here][labels[y, x]] += 1
    found = labels.copy()
    for number, lengths in borders.items():
        where = component == number
        if number not in large and lengths and labels[where][0] != NODATA:
            found[where] = min(lengths, key=lambda value: (-lengths[value], value))
    return found


label_maps = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    elements=st.sampled_from([0, 1, 1, 1, 7, NODATA]),
    fill=st.nothing(),
)


@settings(max_examples=examples(200), deadline=None)
@given(
    labels=label_maps,
    pixels=st.sampled_from([1.0, 2.0, 3.0, 5.0, 9.0, 500.0]),
    ground=st.sampled_from(GROUNDS),
    side=st.integers(1, 14),
)
def test_a_generalized_map_is_that_of_the_definition_however_it_is_cut(
    labels, pixels, ground, side
):
    height, width = labels.shape
    if isinstance(ground, GroundGrid):
        areas = ground.pixel_areas_m2(0, 0, height, width)
    else:
        areas = np.full((1, 1), ground)
    unit = pixels * float(areas.mean())
    expected = by_definition(labels, areas, unit)
    assert generalized(labels, unit_of(unit, ground), side).tolist() == expected.tolist()


@settings(max_examples=examples(10), deadline=None)
@given(seed=st.integers(0, 1 << 30), side=st.integers(16, 64), unit=st.sampled_from([6, 40, 300]))
def test_blocks_of_16_to_64_give_the_bytes_of_the_whole(seed, side, unit):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 4, (20, 25)).repeat(8, 0).repeat(8, 1)
    noisy = np.where(random.random(coarse.shape) < 0.1, random.integers(0, 4, coarse.shape), coarse)
    labels = np.where(random.random(noisy.shape) < 0.01, NODATA, noisy).astype(np.uint8)
    whole = generalized(labels, unit_of(unit), max(labels.shape))
    assert generalized(labels, unit_of(unit), side).tobytes() == whole.tobytes()
    assert (whole != labels).any()
    assert np.array_equal(whole == NODATA, labels == NODATA)


def test_a_component_takes_the_class_of_its_longest_border_and_of_equals_the_lower():
    labels = np.array([[5, 5, 5, 5], [5, 9, 2, 2], [2, 2, 2, 2]], np.uint8)
    assert generalized(labels, unit_of(2.0), 4)[1].tolist() == [5, 2, 2, 2]
    labels[1, 1], labels[1, 0] = 9, 2
    assert generalized(labels, unit_of(2.0), 4)[1].tolist() == [2, 2, 2, 2]


def test_what_has_only_small_neighbours_or_nodata_around_stays():
    labels = np.array([[1, 2, NODATA, 3], [2, 1, NODATA, 3]], np.uint8)
    assert generalized(labels, unit_of(3.0), 2).tolist() == labels.tolist()


@pytest.mark.parametrize(("side", "count"), [(0.3, 1000), (0.1, 10_000), (5.0, 3)])
def test_a_component_of_just_the_unit_is_large_whatever_its_pixels_are(side, count):
    unit = unit_of(round(side**2 * count, 6), side**2)
    for pixels, expected in ((count, True), (count - 1, False)):
        components = components_of(np.zeros((1, pixels), np.uint8))
        sums = measures_of(components, Window(0, 0, 1, pixels), unit.areas, None, None)[:, AREA]
        assert unit.is_large(sums).tolist() == [expected]


def test_borders_in_several_parts_count_together():
    owners, classes = longest(np.array([0, 0, 0]), np.array([4, 1, 4]), np.array([2, 3, 2]))
    assert (owners.tolist(), classes.tolist()) == ([0], [4])
