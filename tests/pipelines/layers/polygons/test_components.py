from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import label

from pipelines.layers.polygons.components import components_of, joined
from tests.examples import examples

label_maps = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([0, 1, 255]),
    fill=st.nothing(),
)


def flooded(labels: np.ndarray) -> list[list[int]]:
    """Pixels of each component, in order of the first."""
    found = []
    for value in np.unique(labels):
        ids, count = label(labels == value)
        found += [np.flatnonzero(ids == number).tolist() for number in range(1, count + 1)]
    return sorted(found)


@settings(max_examples=examples(150))
@given(labels=label_maps)
def test_components_are_those_of_a_flood_in_order_of_their_first_pixels(labels):
    found = components_of(labels)
    expected = flooded(labels)
    parts = [np.flatnonzero(found.ids == number).tolist() for number in range(len(found.labels))]
    assert parts == expected
    assert found.first.tolist() == [pixels[0] for pixels in expected]
    assert found.labels.tolist() == [labels.ravel()[pixels[0]] for pixels in expected]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_a_label_map_of_one_label_is_one_component(shape):
    found = components_of(np.full(shape, 65535, np.uint16))
    assert found.ids.tolist() == np.zeros(shape, int).tolist()
    assert (found.ids.dtype, found.labels.dtype) == (np.int32, np.uint16)
    assert (found.labels.tolist(), found.first.tolist()) == ([65535], [0])


def test_what_meets_at_a_corner_only_is_apart():
    found = components_of(np.array([[1, 2], [2, 1]], np.uint8))
    assert found.ids.tolist() == [[0, 1], [2, 3]]


def test_chains_of_pairs_are_one_group_and_things_without_any_stay_alone():
    groups = joined(6, np.array([5, 3]), np.array([3, 0]))
    assert groups.tolist() == [0, 1, 2, 0, 3, 0]
    assert joined(2, np.array([], int), np.array([], int)).tolist() == [0, 1]


@settings(max_examples=examples(50))
@given(labels=label_maps)
def test_sums_of_components_are_sums_over_their_pixels(labels):
    values = np.arange(labels.size, dtype=np.int64).reshape(labels.shape) << 30
    found = components_of(labels)
    expected = [int(values.ravel()[pixels].sum()) for pixels in flooded(labels)]
    assert found.sums(values).tolist() == expected
    assert found.pixels.tolist() == [len(pixels) for pixels in flooded(labels)]
    assert found.at(np.arange(labels.size)).tolist() == found.ids.ravel().tolist()
