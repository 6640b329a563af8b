"""Ground areas of pixels in windows of label maps."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine

from pipelines.layers import pixel_areas
from pipelines.layers.pixel_areas import areas_by_squares
from pipelines.rasters.reader import ground_grid
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window
from tests.pipelines.corpus import DEGREES, UTM


@pytest.mark.parametrize("place", [UTM, DEGREES, (UTM[0], UTM[1] @ Affine.rotation(20))])
def test_areas_of_a_window_are_the_bits_of_those_of_the_scene(place, monkeypatch):
    monkeypatch.setattr(pixel_areas, "_SQUARE_PX", 64)
    ground = ground_grid(Grid(300, 257, place[1], rasterio.CRS.from_string(place[0])))
    whole = areas_by_squares(ground, Window(0, 0, 300, 257))
    assert np.allclose(whole, ground.pixel_areas_m2(0, 0, 300, 257), rtol=1e-15, atol=0)
    random = np.random.default_rng(1)
    windows = random.integers(1, 128, (40, 4)).tolist()
    # Windows of one column, at an end of a square and in the last column.
    for row, column, height, width in [*windows, (3, 63, 80, 90), (0, 256, 300, 1), (5, 64, 9, 1)]:
        rows, columns = Window(row, column, height, width).slices
        expected = whole[rows] if whole.shape[1] == 1 else whole[rows, columns]
        found = areas_by_squares(ground, Window(row, column, height, width))
        assert found.tobytes() == expected.tobytes()
        assert found.shape == expected.shape


def test_pixels_of_one_size_have_one_area():
    assert areas_by_squares(9.0, Window(5, 2, 2, 7)).tolist() == [[9.0], [9.0]]
