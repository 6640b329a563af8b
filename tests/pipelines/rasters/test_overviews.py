"""Overviews held against slow ones; `test_tiff_layout` holds them against those of GDAL."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rasters.overviews import Spans, level_below, mean_of, mode_of, overview_sizes

NODATA = 9


def spans(source: int) -> tuple[Spans, list[range]]:
    """Those of an axis, and the pixels of each: two by two, or three where the length is odd."""
    target = max(1, source // 2)
    length = 2 + source % 2 if source > 1 else 1
    ranges = [range(2 * place, 2 * place + length) for place in range(target)]
    return Spans.of(0, target, source, target), ranges


def mode(labels: list[int]) -> int:
    """The label that is the first to have been seen most often."""
    most, found = 0, NODATA
    for number, label in enumerate(labels, 1):
        seen = labels[:number].count(label)
        if label != NODATA and seen > most:
            most, found = seen, label
    return found


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_most_frequent_label_is_the_one_of_a_count(height, width, seed, labels):
    choice = np.array([NODATA, 0, 3, 300][:labels], np.uint16)
    values = np.random.default_rng(seed).choice(choice, (1, height, width))
    (rows, down), (columns, across) = spans(height), spans(width)
    expected = [
        [mode([int(values[0, y, x]) for y in row for x in column]) for column in across]
        for row in down
    ]
    actual = mode_of(values, rows, columns, NODATA)
    assert actual.dtype == np.uint16
    assert actual[0].tolist() == expected


@pytest.mark.parametrize(
    ("square", "expected"),
    [
        ([5, 5, 3, 3], 5),
        ([5, 3, 3, 5], 3),
        ([5, 3, 5, 3], 5),
        ([3, 5, 7, 5], 5),
        ([7, 3, 5, 4], 7),
        ([NODATA, NODATA, NODATA, 4], 4),
        ([NODATA, NODATA, 3, 4], 3),
        ([NODATA, 4, NODATA, 4], 4),
        ([NODATA] * 4, NODATA),
    ],
)
def test_a_tie_goes_to_the_first_and_nodata_never_outnumbers_a_label(square, expected):
    values = np.array(square, np.uint8).reshape(1, 2, 2)
    pair = Spans.of(0, 1, 2, 1)
    assert mode_of(values, pair, pair, NODATA).tolist() == [[[expected]]]


def test_a_mean_counts_pixels_by_how_much_of_them_is_in_the_span():
    values = np.array([[[10, 20, 60, 200, 100]], [[1, 2, 2, 0, 1]]], np.uint8)
    rows, columns = Spans.of(0, 1, 1, 1), Spans.of(0, 2, 5, 2)
    # Of five columns, two pixels have two and a half each.
    expected = [
        [
            [
                int(Fraction(10 + 20 + 30) / Fraction(5, 2)),
                int(Fraction(30 + 200 + 100) / Fraction(5, 2)),
            ]
        ],
        [[2, 1]],
    ]
    actual = mean_of(values, rows, columns)
    assert actual.dtype == np.uint8
    assert actual.tolist() == expected


def test_halves_of_a_mean_are_rounded_up():
    pair = Spans.of(0, 1, 2, 1)
    values = np.array([[[1, 2], [2, 1]], [[0, 0], [0, 1]]], np.uint8)
    assert mean_of(values, pair, pair).tolist() == [[[2]], [[0]]]


@pytest.mark.parametrize(("source", "target"), [(10, 5), (11, 5), (1, 1), (9000, 281)])
def test_spans_of_a_part_are_those_of_the_whole(source, target):
    whole = Spans.of(0, target, source, target)
    first, count = target // 3, max(1, target // 2)
    part = Spans.of(first, count, source, target)
    assert part.begins.tolist() == whole.begins[first : first + count].tolist()
    assert part.begin == part.begins[0]
    filled = np.zeros_like(whole.weights[first : first + count])
    filled[:, : part.weights.shape[1]] = part.weights
    np.testing.assert_array_equal(filled, whole.weights[first : first + count])
    assert whole.begin + whole.length == source


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((512, 512), []),
        ((513, 1), [(256, 1)]),
        ((1024, 1027), [(512, 513), (256, 256)]),
        ((60_000, 3), [(60_000 >> level, max(1, 3 >> level)) for level in range(1, 8)]),
    ],
)
def test_overviews_are_halved_until_one_fits_in_a_tile(size, expected):
    assert overview_sizes(*size, 512) == expected


def test_a_map_too_large_to_be_read_for_an_overview_of_one_column_is_not():
    sizes = [(300_000, 2), (150_000, 1), (75_000, 1)]
    assert level_below(2, sizes, has_palette=False) == 1
