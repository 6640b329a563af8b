"""Windows: cores tile an area exactly once, and reads are what the network may see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmodel.errors import ConfigurationError
from segmodel.tiling.windows import (
    MAX_BATCH_SIZE,
    Layout,
    Window,
    computed_pixels,
    cores,
    spans,
    tiles,
)
from tests.examples import examples

many = settings(max_examples=examples(200), deadline=None)


@st.composite
def layouts(draw, fixed: bool = False) -> Layout:
    stride = draw(st.sampled_from([1, 2, 4, 8]))
    window = stride * draw(st.integers(1, 5))
    halo = draw(st.integers(0, 12))
    spare = draw(st.integers(0, 3)) * stride
    reach = -(-halo // stride) * stride
    if fixed:
        return Layout(window, halo, stride, 1, window + 2 * (reach + spare))
    return Layout(window, halo, stride, 1, rectangular=draw(st.booleans()))


@st.composite
def rasters_with_area(draw, stride: int) -> tuple[Window, Window]:
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    row = stride * draw(st.integers(0, (height - 1) // stride))
    column = stride * draw(st.integers(0, (width - 1) // stride))
    area = Window(
        row,
        column,
        draw(st.integers(1, height - row)),
        draw(st.integers(1, width - column)),
    )
    return Window(0, 0, height, width), area


def writes(raster: Window, area: Window, layout: Layout) -> np.ndarray:
    counts = np.zeros((raster.height, raster.width), int)
    for tile in tiles(raster, area, layout):
        counts[tile.core.slices] += 1
    return counts


@many
@given(st.data(), st.booleans())
def test_window_cores_cover_every_pixel_of_the_area_once_and_no_other(data, fixed):
    layout = data.draw(layouts(fixed))
    raster, area = data.draw(rasters_with_area(layout.stride_px))
    expected = np.zeros((raster.height, raster.width), int)
    expected[area.slices] = 1
    np.testing.assert_array_equal(writes(raster, area, layout), expected)


@many
@given(st.data(), st.booleans())
def test_a_read_covers_core_and_halo_as_far_as_the_raster_goes(data, fixed):
    layout = data.draw(layouts(fixed))
    raster, area = data.draw(rasters_with_area(layout.stride_px))
    for tile in tiles(raster, area, layout):
        core, read = tile.core, tile.read
        assert 0 <= read.row <= max(0, core.row - layout.halo_px)
        assert 0 <= read.column <= max(0, core.column - layout.halo_px)
        bottom, right = read.row + read.height, read.column + read.width
        assert (
            min(raster.height, core.row + core.height + layout.halo_px) <= bottom <= raster.height
        )
        assert min(raster.width, core.column + core.width + layout.halo_px) <= right <= raster.width


@many
@given(st.data())
def test_origins_of_reads_are_multiples_of_the_stride(data):
    layout = data.draw(layouts())
    raster, area = data.draw(rasters_with_area(layout.stride_px))
    for tile in tiles(raster, area, layout):
        assert tile.read.row % layout.stride_px == 0
        assert tile.read.column % layout.stride_px == 0
        assert (tile.height, tile.width) == (tile.read.height, tile.read.width)


@many
@given(st.data())
def test_a_window_without_fixed_size_reads_no_more_than_core_and_rounded_halo(data):
    layout = replace(data.draw(layouts()), rectangular=False)
    raster, area = data.draw(rasters_with_area(layout.stride_px))
    for tile in tiles(raster, area, layout):
        assert tile.read.height <= tile.core.height + 2 * layout.aligned_halo_px <= layout.read_px
        assert tile.read.width <= tile.core.width + 2 * layout.aligned_halo_px <= layout.read_px


@many
@given(st.data())
def test_a_fixed_window_always_has_its_size(data):
    layout = data.draw(layouts(fixed=True))
    raster, area = data.draw(rasters_with_area(layout.stride_px))
    for tile in tiles(raster, area, layout):
        assert (tile.height, tile.width) == (layout.fixed_px, layout.fixed_px)
        assert tile.read.height == min(layout.fixed_px, raster.height)
        assert tile.read.width == min(layout.fixed_px, raster.width)


@many
@given(st.data())
def test_fixed_windows_away_from_the_far_edge_start_on_the_stride(data):
    layout = data.draw(layouts(fixed=True))
    raster, area = data.draw(rasters_with_area(layout.stride_px))
    for tile in tiles(raster, area, layout):
        if tile.read.row + tile.read.height < raster.height:
            assert tile.read.row % layout.stride_px == 0


def test_a_fixed_window_starts_on_the_stride_whatever_its_halo():
    layout = Layout(window_px=48, halo_px=4, stride_px=16, fixed_px=64)
    raster = Window(0, 0, 208, 64)
    rows = [tile.read.row for tile in tiles(raster, raster, layout)]
    assert [row % 16 for row in rows] == [0] * len(rows)


@many
@given(st.data())
def test_cores_are_as_few_as_possible_and_about_equal(data):
    layout = data.draw(layouts())
    length = data.draw(st.integers(1, 200))
    sizes = [size for _, size in spans(0, length, layout)]
    assert len(sizes) <= -(-length // layout.window_px)
    assert len(set(sizes[:-1])) <= 1
    assert max(sizes) <= layout.window_px
    assert sum(sizes) == length
    # The last one lacks less than a stride for each of the others.
    assert max(sizes) - min(sizes) < layout.stride_px * max(1, len(sizes))


@many
@given(st.data(), st.booleans())
def test_computed_pixels_are_those_of_all_tiles(data, fixed):
    layout = data.draw(layouts(fixed))
    raster, area = data.draw(rasters_with_area(layout.stride_px))
    expected = sum(tile.height * tile.width for tile in tiles(raster, area, layout))
    assert computed_pixels(raster, area, layout) == expected


@pytest.mark.parametrize("fixed", [None, 16])
def test_a_raster_of_one_pixel_is_one_window(fixed):
    raster = Window(0, 0, 1, 1)
    (tile,) = tiles(raster, raster, Layout(8, 3, 4, 1, fixed))
    side = fixed or 1
    assert (tile.core, tile.read) == (raster, raster)
    assert (tile.height, tile.width) == (side, side)


@pytest.mark.parametrize(
    ("length", "expected"), [(8, [8]), (9, [8, 1]), (16, [8, 8]), (17, [8, 8, 1])]
)
def test_the_last_core_of_a_row_is_what_is_left(length, expected):
    raster = Window(0, 0, 1, length)
    cores = [tile.core.width for tile in tiles(raster, raster, Layout(8, 0, 4))]
    assert cores == expected


def test_an_area_without_pixels_has_no_window():
    raster = Window(0, 0, 8, 8)
    assert list(tiles(raster, Window(0, 0, 0, 8), Layout(8, 0, 4))) == []


@pytest.mark.parametrize("area", [Window(2, 0, 8, 8), Window(0, 3, 8, 8)])
def test_an_area_that_starts_beside_the_stride_is_refused(area):
    with pytest.raises(ConfigurationError, match="area must start on a multiple of 4"):
        list(tiles(Window(0, 0, 32, 32), area, Layout(8, 0, 4)))


@pytest.mark.parametrize("area", [Window(0, 0, 16, 33), Window(32, 0, 1, 1), Window(0, 8, 40, 8)])
def test_an_area_that_leaves_the_raster_is_refused(area):
    with pytest.raises(ConfigurationError, match="leaves the raster of 32x32"):
        list(tiles(Window(0, 0, 32, 32), area, Layout(8, 0, 4)))


@pytest.mark.parametrize("window", [0, -32, 1, 31, 33])
def test_a_window_that_is_no_multiple_of_the_stride_is_refused(window):
    with pytest.raises(
        ConfigurationError, match=f"multiple of the model's stride 32, got {window}"
    ):
        Layout(window, 0, 32)


@pytest.mark.parametrize(
    ("halo", "stride", "batch"), [(-1, 4, 1), (0, 0, 1), (0, 4, 0), (0, 4, "many")]
)
def test_sizes_below_their_least_value_are_refused(halo, stride, batch):
    with pytest.raises(ConfigurationError, match="at least"):
        Layout(8, halo, stride, batch)


def test_a_halo_that_just_fits_in_the_fixed_window_is_accepted():
    assert Layout(8, 4, 4, 1, 16).read_px == 16


def test_a_halo_one_too_large_for_the_fixed_window_is_refused():
    with pytest.raises(ConfigurationError, match="lower --halo"):
        Layout(8, 5, 4, 1, 16)


@pytest.mark.parametrize(("halo", "expected"), [(0, 0), (1, 32), (32, 32), (33, 64)])
def test_the_halo_is_rounded_up_to_the_stride(halo, expected):
    layout = Layout(64, halo, 32)
    assert layout.aligned_halo_px == expected
    assert layout.read_px == 64 + 2 * expected


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (512, 512, 1),
        (2048, 2048, 1),
        (512, 513, 1),
        (256, 512, 2),
        (256, 511, 2),
        (128, 128, 16),
        (64, 64, 64),
        (1, 1, MAX_BATCH_SIZE),
        (0, 0, MAX_BATCH_SIZE),
    ],
)
def test_small_windows_share_calls_in_runs_of_earlier_releases(height, width, expected):
    assert Layout(2048, 0, 32, batch=None).batch_size(height, width) == expected
    assert Layout(64, 0, 32, batch=None).batch_size(height, width) == expected


@pytest.mark.parametrize("side", [0, 1, 64, 512, 2048])
def test_each_window_has_a_call_of_its_own(side):
    assert Layout(64, 0, 32).batch_size(side, side) == 1


@pytest.mark.parametrize("side", [1, 64, 512, 2048])
def test_a_batch_that_is_asked_for_is_that_of_every_shape(side):
    assert Layout(64, 0, 32, batch=4).batch_size(side, side) == 4


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (Layout(2048, 32, 32), 2112**2),
        (Layout(64, 0, 32), 512**2),
        (Layout(64, 0, 32, batch=3), 3 * 64**2),
    ],
)
def test_no_call_has_more_pixels_than_the_layout_says(layout, expected):
    assert layout.max_batch_pixels == expected
    for side in (1, 7, 64, 500, layout.read_px):
        shape = (min(side, layout.read_px),) * 2
        assert layout.batch_size(*shape) * shape[0] * shape[1] <= expected


@pytest.mark.parametrize(("height", "width"), [(-1, 0), (0, -1)])
def test_a_window_of_negative_size_is_refused(height, width):
    with pytest.raises(ConfigurationError, match="at least 0"):
        Window(0, 0, height, width)


def test_slices_select_the_pixels_of_a_window():
    values = np.arange(20).reshape(4, 5)
    assert values[Window(1, 2, 2, 3).slices].tolist() == [[7, 8, 9], [12, 13, 14]]
    assert Window(1, 2, 2, 3).pixels == 6


@many
@given(st.data())
def test_rectangular_windows_have_no_more_pixels_than_a_square_and_compute_no_more(data):
    squares = replace(data.draw(layouts()), rectangular=False)
    raster, area = data.draw(rasters_with_area(squares.stride_px))
    layout = replace(squares, rectangular=True)
    for tile in tiles(raster, area, layout):
        assert tile.height * tile.width <= layout.read_px**2
        assert max(tile.core.height, tile.core.width) <= 2 * layout.window_px
    if squares.window_px >= 2 * squares.aligned_halo_px:
        assert computed_pixels(raster, area, layout) <= computed_pixels(raster, area, squares)


@pytest.mark.parametrize(
    ("window", "halo", "expected", "ratio"),
    [
        (2048, 32, (2048, 2048), 1.0474),
        (2432, 64, (2048, 2752), 1.0796),
        (2496, 32, (2048, 2752), 1.0394),
        (2752, 64, (2752, 2752), 1.0635),
    ],
)
def test_a_scene_is_divided_so_that_the_least_pixels_are_computed(window, halo, expected, ratio):
    layout = Layout(window, halo, 32, rectangular=True)
    scene = Window(0, 0, 8192, 8192)
    rows, columns = cores(scene, scene, layout)
    assert (rows[0][1], columns[0][1]) == expected
    assert computed_pixels(scene, scene, layout) / scene.pixels == pytest.approx(ratio, abs=5e-5)


def test_without_halo_windows_have_the_shortest_borders():
    layout = Layout(2048, 0, 32, rectangular=True)
    scene = Window(0, 0, 8192, 8192)
    rows, columns = cores(scene, scene, layout)
    assert (len(rows), len(columns)) == (4, 4)


def test_a_strip_is_divided_into_windows_that_are_longer_than_a_square():
    layout = Layout(512, 32, 32, rectangular=True)
    strip = Window(0, 0, 100, 10_000)
    rows, columns = cores(strip, strip, layout)
    assert rows == [(0, 100)]
    assert columns[0] == (0, 1024)
    assert len(columns) == 10
