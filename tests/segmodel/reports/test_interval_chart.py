"""The chart of numbers with intervals: what is drawn where."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from segmodel.reports import interval_chart as chart
from segmodel.reports.interval_chart import IntervalBar

BLUE, DARK = (0, 114, 178), (40, 44, 52)
# Left and right end of the axis, and the middle of the first line.
LEFT, RIGHT, MIDDLE = 212, 798, 95


def drawn(*bars: IntervalBar) -> np.ndarray:
    png = chart.interval_chart("Areas in hectares", "estimate", "area on the map", bars)
    return np.asarray(Image.open(BytesIO(png)))


def columns(picture: np.ndarray, row: int, color: tuple[int, int, int]) -> list[int]:
    """First and last column of a colour in a row, between the ends of the axis."""
    found = LEFT + np.flatnonzero((picture[row, LEFT:RIGHT] == color).all(-1))
    return [int(found[0]), int(found[-1])] if len(found) else []


def test_a_bar_reaches_from_limit_to_limit_and_the_axis_a_little_further():
    picture = drawn(IntervalBar("lake", 50.0, 0.0, 100.0, 25.0))

    # The axis goes from -8 to 108, over 586 pixels.
    first, last = columns(picture, MIDDLE, BLUE)
    assert abs(first - (LEFT + 586 * 8 / 116)) <= 2
    assert abs(last - (LEFT + 586 * 108 / 116)) <= 2
    # Above the bar, the diamond of the other number and the circle of the estimate.
    diamond = columns(picture, MIDDLE - 8, DARK)
    assert abs(np.mean(diamond) - (LEFT + 586 * 33 / 116)) <= 2
    circle = columns(picture, MIDDLE + 4, BLUE)
    at = (
        np.flatnonzero((picture[MIDDLE + 4, LEFT + 100 : RIGHT - 100] == BLUE).all(-1)) + LEFT + 100
    )
    assert circle
    assert abs(at.mean() - (LEFT + 586 * 58 / 116)) <= 2


def test_a_number_without_limits_is_a_circle_alone():
    picture = drawn(IntervalBar("lake", 50.0, None, None, None))

    first, last = columns(picture, MIDDLE, BLUE)

    assert last - first < 12
    assert not columns(picture, MIDDLE - 8, DARK)


def test_at_most_forty_lines_are_drawn():
    bars = [IntervalBar(f"class {number}", 1.0, 0.5, 2.0, 1.0) for number in range(41)]

    assert drawn(*bars).shape == drawn(*bars[:40]).shape == (64 + 40 * 62 + 12, 1180, 3)


def test_numbers_of_any_size_are_drawn():
    for value in (0.0, 1e-12, 5.1e14, 1e300):
        assert columns(drawn(IntervalBar("a", value, None, None, value)), MIDDLE, BLUE)
