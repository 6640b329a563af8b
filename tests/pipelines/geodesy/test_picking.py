"""Pixels picked in proportion to ground: as the cumulative area says, also at its ends."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.geodesy.picking import pixels_at, row_areas


def picked(mask: np.ndarray, areas: np.ndarray, shares: np.ndarray) -> list[list[int]]:
    ends = np.cumsum(row_areas(mask, areas))
    found = pixels_at(
        lambda row: mask[row], ends, lambda top, rows: areas[top : top + rows], shares
    )
    return [axis.tolist() for axis in found]


@pytest.mark.parametrize("width", [1, 7])
def test_pixels_are_picked_as_the_cumulative_area_says(width):
    random = np.random.default_rng(3)
    mask = random.random((300, 7)) < 0.2
    mask[100:140] = False
    areas, shares = random.random((300, width)), random.random(2000)
    ends = np.cumsum(np.where(mask, areas, 0).ravel())
    expected = np.divmod(np.searchsorted(ends, shares * ends[-1], "right"), 7)
    assert picked(mask, areas, shares) == [axis.tolist() for axis in expected]


def test_the_greatest_share_picks_the_last_pixel_with_ground():
    mask = np.array([[True, True], [True, False], [False, True]])
    areas = np.array([[1.0], [0.1], [0.0]])
    assert picked(mask, areas, np.array([1 - 2**-53])) == [[1], [0]]
