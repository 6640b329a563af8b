"""Rasters on the grid of a model: exact weights, the same in every window, labels brought back."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segmodel.errors import ConfigurationError, ContractError
from segmodel.tiling import resampling
from segmodel.tiling.resampling import ModelGrid, nearest, resize_valid
from segmodel.tiling.windows import Window
from tests.examples import examples

many = settings(max_examples=examples(150), deadline=None)
DTYPES = [np.uint8, np.uint16, np.float32]


@st.composite
def grids(draw, most: int = 23) -> ModelGrid:
    own = draw(st.integers(1, most)), draw(st.integers(1, most))
    return ModelGrid.from_scale(own, (draw(st.floats(0.2, 5)), draw(st.floats(0.2, 5))))


@st.composite
def windows_of(draw, size: tuple[int, int], least: int = 1) -> Window:
    row, column = draw(st.integers(0, size[0] - least)), draw(st.integers(0, size[1] - least))
    height = draw(st.integers(least, size[0] - row))
    return Window(row, column, height, draw(st.integers(least, size[1] - column)))


@st.composite
def rasters(draw, own: tuple[int, int], dtype: type) -> tuple[np.ndarray, np.ndarray | None]:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if dtype is np.float32:
        values = (random.normal(size=(*own, 2)) * 10.0 ** random.integers(-9, 9)).astype(dtype)
    else:
        values = random.integers(0, np.iinfo(dtype).max, (*own, 2), dtype, endpoint=True)
    share = draw(st.sampled_from([None, 0, 0.1, 0.5, 0.95, 1]))
    return values, None if share is None else random.random(own) < share


def whole(size: tuple[int, int]) -> Window:
    return Window(0, 0, *size)


def line(values, model: int, dtype=np.uint8, valid=None) -> list:
    """One row of one band, seen with another width."""
    own = np.array(values, dtype)[None, :, None]
    mask = None if valid is None else np.array(valid, bool)[None]
    grid = ModelGrid((1, len(values)), (1, model))
    return grid.resample(own, mask, Window(0, 0, 1, model))[0][0, :, 0].tolist()


def weights(own: int, model: int, pixel: int) -> dict[int, Fraction]:
    """Of own pixels, by the definition."""
    low, high = Fraction(pixel * own, model), Fraction((pixel + 1) * own, model)
    if own > model:
        shares = {r: min(high, r + 1) - max(low, r) for r in range(own)}
    else:
        centre = min(max((low + high) / 2, Fraction(1, 2)), own - Fraction(1, 2))
        shares = {r: 1 - abs(centre - r - Fraction(1, 2)) for r in range(own)}
    return {r: share for r, share in shares.items() if share > 0}


@many
@given(st.data(), st.sampled_from(DTYPES), st.sampled_from([1, 40, 2**17]))
def test_a_window_is_bit_for_bit_a_part_of_the_whole(data, dtype, strip):
    grid = data.draw(grids())
    values, valid = data.draw(rasters(grid.source_size, dtype))
    expected, expected_valid = grid.resample(values, valid, whole(grid.model_size))
    window = data.draw(windows_of(grid.model_size))
    there = grid.source_window(window).slices
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "STRIP_PX", strip)
        part = None if valid is None else valid[there]
        actual, actual_valid = grid.resample(values[there], part, window)
    assert actual.dtype == expected.dtype == dtype
    assert actual.shape == (window.height, window.width, 2)
    assert actual.tobytes() == expected[window.slices].tobytes()
    if expected_valid is None:
        assert actual_valid is None
    else:
        np.testing.assert_array_equal(actual_valid, expected_valid[window.slices])


@settings(max_examples=examples(60), deadline=None)
@given(st.data(), st.sampled_from([np.uint8, np.uint16]))
def test_integers_are_the_exact_averages_rounded_half_up(data, dtype):
    grid = data.draw(grids(most=7))
    values, valid = data.draw(rasters(grid.source_size, dtype))
    actual, seen = grid.resample(values, valid, whole(grid.model_size))
    takes = [nearest(grid.source_size[axis], grid.model_size[axis]) for axis in (0, 1)]
    centres = [nearest(grid.model_size[axis], grid.source_size[axis]) for axis in (0, 1)]
    known = np.ones(grid.source_size, bool) if valid is None else valid
    for row, column in np.ndindex(*grid.model_size):
        labels = known[takes[0] == row][:, takes[1] == column]
        is_valid = labels.any() if labels.size else known[centres[0][row], centres[1][column]]
        shares = {
            (r, c): down * right
            for r, down in weights(grid.source_size[0], grid.model_size[0], row).items()
            for c, right in weights(grid.source_size[1], grid.model_size[1], column).items()
            if known[r, c]
        }
        expected = [0, 0]
        if is_valid:
            sums = [sum(w * int(values[at][band]) for at, w in shares.items()) for band in (0, 1)]
            expected = [floor(s / sum(shares.values()) + Fraction(1, 2)) for s in sums]
        assert actual[row, column].tolist() == expected
        assert seen is None or seen[row, column] == is_valid


@many
@given(st.data(), st.sampled_from(DTYPES), st.integers(1, 255))
def test_a_constant_stays_constant_whatever_is_not_valid(data, dtype, constant):
    grid = data.draw(grids())
    noise, valid = data.draw(rasters(grid.source_size, dtype))
    value = dtype(constant) / 7 if dtype is np.float32 else constant
    values = np.full_like(noise, value)
    if valid is not None:
        values[~valid] = noise[~valid]
    seen, seen_valid = grid.resample(values, valid, whole(grid.model_size))
    expected = np.full_like(seen, value)
    if seen_valid is not None:
        expected[~seen_valid] = 0
    np.testing.assert_array_equal(seen, expected)


def test_two_pixels_are_averaged_and_a_half_is_rounded_up():
    assert line([0, 1, 1, 1, 1, 2, 254, 255, 255, 255], 5) == [1, 1, 2, 255, 255]
    assert line([-1, 0, -3, -2], 2, np.int16) == [0, -2]
    assert line([65535, 65534], 1, np.uint16) == [65535]
    assert line([0, 1, 1, 4], 2, np.float32) == [0.5, 2.5]


def test_squares_of_four_are_averaged():
    values = np.array([[0, 1, 9, 9], [0, 1, 9, 8]], np.uint8)[..., None]
    seen, valid = ModelGrid((2, 4), (1, 2)).resample(values, None, Window(0, 0, 1, 2))
    assert seen[..., 0].tolist() == [[1, 9]]
    assert valid is None


def test_three_pixels_to_two_count_the_middle_one_by_halves():
    # (2 * 0 + 1 * 60) / 3 and (1 * 60 + 2 * 90) / 3.
    assert line([0, 60, 90], 2) == [20, 80]
    assert line([0, 60, 90, 30, 0, 60], 4) == [20, 80, 20, 40]


def test_one_pixel_to_two_is_linear_between_centres_and_level_at_the_edges():
    assert line([0, 80, 40], 6) == [0, 20, 60, 70, 50, 40]
    assert line([1, 2], 4, np.float32) == [1, 1.25, 1.75, 2]


def test_two_pixels_to_three_are_linear_between_centres():
    assert line([0, 90, 90, 0], 6) == [0, 45, 90, 90, 45, 0]


def test_pixels_that_are_not_valid_do_not_contribute():
    assert line([10, 200, 30, 50], 2, valid=[1, 0, 1, 1]) == [10, 40]
    assert line([0, 60, 90], 2, valid=[0, 1, 1]) == [0, 80]
    assert line([0, 80], 4, valid=[1, 0]) == [0, 0, 0, 0]
    assert line([40, 80], 4, valid=[1, 0]) == [40, 40, 0, 0]


def test_weights_are_made_to_sum_to_one_over_the_area_and_not_by_axis():
    values = np.array([[30, 60], [90, 255]], np.uint8)[..., None]
    valid = np.array([[True, True], [True, False]])
    seen, _ = ModelGrid((2, 2), (1, 1)).resample(values, valid, Window(0, 0, 1, 1))
    assert seen.tolist() == [[[60]]]


@pytest.mark.parametrize("model", [1, 2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, np.float32(3.4e38)])
def test_what_is_not_valid_does_not_leak_even_where_it_is_not_finite(model, fill):
    values = np.full((4, 4, 2), 5, np.float32)
    valid = np.random.default_rng(1).random((4, 4)) < 0.6
    values[~valid] = fill
    seen, seen_valid = ModelGrid((4, 4), (model, model)).resample(
        values, valid, Window(0, 0, model, model)
    )
    np.testing.assert_array_equal(seen, np.where(seen_valid[..., None], np.float32([5, 5]), 0))


def test_what_is_valid_and_not_finite_reaches_what_it_has_a_part_in_and_no_more():
    assert line([1, np.inf, 3, 3, 3, 3], 3, np.float32) == [np.inf, 3, 3]
    first, *others = line([np.nan, 0, 3, 3, 3, 3], 4, np.float32)
    assert np.isnan(first)
    assert others == [2, 3, 3]


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_grids_change_nothing_but_what_is_not_valid(dtype):
    values = np.random.default_rng(2).normal(size=(5, 6, 3)).astype(np.float32).view(np.uint8)
    values = np.ascontiguousarray(values).view(dtype)
    grid, window = ModelGrid((5, 6), (5, 6)), Window(1, 2, 3, 4)
    part = values[window.slices]
    assert grid.source_window(window) == grid.labelled_window(window) == window
    assert grid.resample(part, None, window)[0] is part
    assert grid.resample(part, np.ones((3, 4), bool), window)[0] is part
    valid = np.random.default_rng(3).random((3, 4)) < 0.5
    seen, seen_valid = grid.resample(part, valid, window)
    assert seen[valid].tobytes() == part[valid].tobytes()
    assert not seen[~valid].any()
    np.testing.assert_array_equal(seen_valid, valid)
    labels = part[..., 0]
    np.testing.assert_array_equal(
        grid.to_source_grid(labels, window, Window(2, 2, 1, 4)), labels[1:2]
    )


@many
@given(st.data())
def test_a_source_is_what_has_a_part_and_not_a_pixel_more(data):
    grid = data.draw(grids())
    window = data.draw(windows_of(grid.model_size))
    source = grid.source_window(window)
    for axis, first, length, start, count in (
        (0, source.row, source.height, window.row, window.height),
        (1, source.column, source.width, window.column, window.width),
    ):
        used = {
            own
            for pixel in range(start, start + count)
            for own in weights(grid.source_size[axis], grid.model_size[axis], pixel)
        }
        assert used == set(range(first, first + length))


@many
@given(st.data())
def test_windows_that_tile_the_grid_of_the_model_tile_the_own_grid(data):
    grid = data.draw(grids())
    height, width = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    labels = np.arange(grid.model_size[0] * grid.model_size[1]).reshape(grid.model_size)
    rows, columns = (nearest(grid.source_size[axis], grid.model_size[axis]) for axis in (0, 1))
    counts, actual = np.zeros(grid.source_size, int), np.full(grid.source_size, -1)
    for row in range(0, grid.model_size[0], height):
        for column in range(0, grid.model_size[1], width):
            area = Window(
                row,
                column,
                min(height, grid.model_size[0] - row),
                min(width, grid.model_size[1] - column),
            )
            own = grid.labelled_window(area)
            counts[own.slices] += 1
            actual[own.slices] = grid.to_source_grid(labels[area.slices], area, own)
    assert (counts == 1).all()
    np.testing.assert_array_equal(actual, labels[rows[:, None], columns])


@many
@given(st.data())
def test_a_part_of_the_own_pixels_has_the_labels_that_the_whole_has(data):
    grid = data.draw(grids())
    labels = np.arange(grid.model_size[0] * grid.model_size[1]).reshape(grid.model_size)
    expected = grid.to_source_grid(labels, whole(grid.model_size), whole(grid.source_size))
    own = data.draw(windows_of(grid.source_size, least=0))
    actual = grid.to_source_grid(labels, whole(grid.model_size), own)
    assert actual.dtype == labels.dtype
    np.testing.assert_array_equal(actual, expected[own.slices])


@many
@given(st.data(), st.floats(0.2, 5))
def test_with_one_scale_for_both_axes_validity_is_that_of_resize_images(data, scale):
    own = data.draw(st.integers(1, 23)), data.draw(st.integers(1, 23))
    grid = ModelGrid.from_scale(own, (scale, scale))
    values, valid = data.draw(rasters(own, np.uint8))
    if valid is not None:
        _, actual = grid.resample(values, valid, whole(grid.model_size))
        np.testing.assert_array_equal(actual, resize_valid(valid, grid.model_size))


@many
@given(st.data())
def test_every_valid_own_pixel_takes_its_label_from_a_valid_pixel(data):
    grid = data.draw(grids())
    values, valid = data.draw(rasters(grid.source_size, np.uint8))
    if valid is not None:
        _, seen = grid.resample(values, valid, whole(grid.model_size))
        assert grid.to_source_grid(seen, whole(grid.model_size), whole(grid.source_size))[
            valid
        ].all()


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_a_ramp_is_not_shifted_and_even_ratios_are_as_pillow_has_them(factor):
    side = 8 * factor
    ramp = np.add.outer(np.arange(side), 2 * np.arange(side)).astype(np.float32)
    grid = ModelGrid((side, side), (8, 8))
    seen = grid.resample(ramp[..., None], None, whole(grid.model_size))[0][..., 0]
    centres = (np.arange(8) + 0.5) * factor - 0.5
    np.testing.assert_array_equal(seen, np.add.outer(centres, 2 * centres).astype(np.float32))
    by_pillow = Image.fromarray(ramp).resize((8, 8), Image.Resampling.BOX)
    np.testing.assert_allclose(seen, np.asarray(by_pillow), rtol=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_a_ramp_that_gets_finer_stays_a_ramp_between_the_outermost_centres(factor):
    ramp = np.arange(8, dtype=np.float32)
    expected = np.clip((np.arange(8 * factor) + 0.5) / factor - 0.5, 0, 7)
    np.testing.assert_allclose(line(ramp, 8 * factor, np.float32), expected, atol=1e-6)


@pytest.mark.parametrize("model", [(1, 1), (1, 5), (5, 1), (4, 7)])
def test_a_raster_of_one_pixel_is_that_pixel_everywhere(model):
    grid, values = ModelGrid((1, 1), model), np.array([[[7, 9]]], np.uint8)
    assert grid.source_window(whole(model)) == Window(0, 0, 1, 1)
    seen, valid = grid.resample(values, np.array([[True]]), whole(model))
    assert (seen == (7, 9)).all()
    assert valid.all()
    seen, valid = grid.resample(values, np.array([[False]]), whole(model))
    assert not seen.any()
    assert not valid.any()


def test_a_raster_that_the_model_sees_as_one_pixel_is_averaged():
    grid = ModelGrid.from_scale((3, 4), (0.01, 0.01))
    values = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    assert grid.model_size == (1, 1)
    assert grid.resample(values, None, Window(0, 0, 1, 1))[0].tolist() == [[[6]]]
    assert grid.labelled_window(Window(0, 0, 1, 1)) == Window(0, 0, 3, 4)


@pytest.mark.parametrize("window", [Window(2, 1, 0, 2), Window(1, 3, 2, 0), Window(4, 4, 0, 0)])
@pytest.mark.parametrize("own", [(2, 2), (4, 4), (9, 9), (2, 9)])
def test_a_window_without_pixels_needs_none_and_has_none(window, own):
    grid = ModelGrid(own, (4, 4))
    source = grid.source_window(window)
    assert source.pixels == grid.labelled_window(window).pixels == 0
    valid = np.ones((source.height, source.width), bool)
    seen, seen_valid = grid.resample(np.ones((*valid.shape, 3), np.uint8), valid, window)
    assert seen.shape == (window.height, window.width, 3)
    assert seen_valid.shape == seen.shape[:2]


@pytest.mark.parametrize("share", [None, 0.9])
def test_memory_beyond_the_result_does_not_grow_with_the_window(share):
    grid = ModelGrid((1100, 1000), (550, 500))
    values = np.ones((1100, 1000, 4), np.uint8)
    valid = None if share is None else np.random.default_rng(4).random((1100, 1000)) < share
    tracemalloc.start()
    try:
        seen, _ = grid.resample(values, valid, whole(grid.model_size))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - seen.nbytes < 10 * 8 * resampling.STRIP_PX


@pytest.mark.parametrize("scale", [0, -1, float("inf"), float("nan")])
def test_a_scale_that_is_no_positive_number_is_refused(scale):
    with pytest.raises(ConfigurationError, match="positive number"):
        ModelGrid.from_scale((4, 4), (1, scale))


def test_grids_without_pixels_are_refused():
    with pytest.raises(ConfigurationError, match="at least 1"):
        ModelGrid((0, 4), (1, 1))


@pytest.mark.parametrize("window", [Window(0, 0, 3, 1), Window(-1, 0, 1, 1), Window(0, 2, 1, 1)])
def test_a_window_that_leaves_the_grid_is_refused(window):
    grid = ModelGrid((4, 4), (2, 2))
    for refused in (grid.source_window, grid.labelled_window):
        with pytest.raises(ConfigurationError, match="must not leave"):
            refused(window)


def test_arrays_of_another_shape_or_dtype_are_refused():
    grid, window = ModelGrid((4, 4), (2, 2)), Window(0, 0, 1, 2)
    values = np.zeros((2, 4, 1), np.uint8)
    with pytest.raises(ConfigurationError, match="values must be those of"):
        grid.resample(values[:1], None, window)
    with pytest.raises(ConfigurationError, match="valid must be that of"):
        grid.resample(values, np.ones((4, 4), bool), window)
    for dtype in (np.int64, np.uint64, np.complex64, bool):
        with pytest.raises(ContractError, match="dtype: must be integers up to 32 bits or floats"):
            grid.resample(values.astype(dtype), None, window)


def test_labels_that_come_from_elsewhere_are_refused():
    grid, area = ModelGrid((4, 4), (2, 2)), Window(0, 0, 1, 2)
    with pytest.raises(ConfigurationError, match="must not leave"):
        grid.to_source_grid(np.zeros((1, 2), np.uint8), area, Window(1, 0, 2, 4))
    with pytest.raises(ConfigurationError, match="labels must be those of"):
        grid.to_source_grid(np.zeros((2, 2), np.uint8), area, Window(0, 0, 2, 4))
