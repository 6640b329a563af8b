"""Images scaled for the model, and maps back on the grid of the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segmodel.images.encoded import EncodedImage, decode_image
from segmodel.tiling.resampling import SourceGrid, nearest, resize_image, resize_valid
from segmodel.tiling.windows import Window
from tests.segmodel.pictures import encoded, noise, smooth

sides = st.integers(1, 13)


def test_the_nearest_pixel_is_the_one_in_which_the_centre_lies():
    assert nearest(1, 1).tolist() == [0]
    assert nearest(3, 3).tolist() == [0, 1, 2]
    assert nearest(6, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert nearest(3, 6).tolist() == [1, 3, 5]
    assert nearest(2, 3).tolist() == [0, 2]
    assert nearest(3, 2).tolist() == [0, 1, 1]
    assert nearest(5, 1).tolist() == [0] * 5
    assert nearest(1, 5).tolist() == [2]


@given(sides, sides)
def test_nearest_is_what_pillow_takes_except_on_the_line_between_two_pixels(to, of):
    values = np.arange(of, dtype=np.uint8)[None]
    by_pillow = np.asarray(Image.fromarray(values).resize((to, 1), Image.Resampling.NEAREST))[0]
    on_the_line = (2 * np.arange(to) + 1) * of % (2 * to) == 0
    np.testing.assert_array_equal(nearest(to, of)[~on_the_line], by_pillow[~on_the_line])


def test_an_image_that_gets_half_as_large_is_weighted_by_a_triangle():
    values = np.array([[0, 0, 0, 80, 80, 80, 80, 80]], np.uint8)[..., None]
    # Weights 1, 3, 3, 1 of 8; at the edge 3, 3, 1 of 7.
    expected = [[[0], [40], [80], [80]]]
    assert resize_image(values, (1, 4)).tolist() == expected


def test_an_image_that_gets_twice_as_large_is_linear_between_centres():
    values = np.array([[0, 80]], np.uint8)[..., None]
    assert resize_image(values, (1, 4)).tolist() == [[[0], [20], [60], [80]]]


@pytest.mark.parametrize("size", [(1, 1), (10, 10), (37, 23), (20, 30)])
def test_an_image_is_scaled_as_pillow_does(size):
    expected = Image.fromarray(noise(20, 30)).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize_image(noise(20, 30), size), np.asarray(expected))


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_bands_are_scaled_without_regard_to_each_other(bands):
    values = noise(20, 30, bands)
    actual = resize_image(values, (7, 11))
    assert actual.shape == (7, 11, bands)
    assert actual.dtype == np.uint8
    for band in range(bands):
        alone = resize_image(values[..., band : band + 1], (7, 11))
        np.testing.assert_array_equal(actual[..., band : band + 1], alone)


def test_colours_under_an_alpha_band_of_zero_stay_colours():
    values = np.full((4, 4, 4), (200, 100, 50, 0), np.uint8)
    assert (resize_image(values, (2, 2)) == (200, 100, 50, 0)).all()


def test_a_part_of_an_image_is_scaled_although_its_rows_are_apart():
    values = noise(20, 30)[:, 5:15]
    np.testing.assert_array_equal(resize_image(values, (5, 5)), resize_image(values.copy(), (5, 5)))


@given(sides, sides, sides, sides, st.randoms(use_true_random=False))
def test_nodata_is_exactly_where_the_image_has_none(height, width, rows, columns, random):
    valid = np.array([[random.random() < 0.4 for _ in range(width)] for _ in range(height)])
    seen = resize_valid(valid, (rows, columns))
    assert seen.shape == (rows, columns)
    labels = np.where(seen, 7, 255).astype(np.uint8)
    actual = SourceGrid(height, width, True, valid).to_source_grid(labels, 255)
    np.testing.assert_array_equal(actual, np.where(valid, 7, 255))


def test_one_valid_pixel_of_many_is_seen_by_the_model():
    valid = np.zeros((100, 100), bool)
    valid[57, 33] = True
    assert resize_valid(valid, (2, 2)).tolist() == [[False, False], [True, False]]
    assert resize_valid(~valid, (2, 2)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_map_comes_back_by_nearest_in_its_own_type(dtype):
    values = np.array([[1, 2], [3, 400 if dtype is not np.uint8 else 4]], dtype)
    actual = SourceGrid(3, 4, scaled=True).to_source_grid(values, 9)
    np.testing.assert_array_equal(actual, values[[0, 1, 1]][:, [0, 0, 1, 1]])
    assert actual.dtype == dtype


def test_a_map_of_16_bits_has_its_own_nodata():
    valid = np.array([[True, False]])
    actual = SourceGrid(1, 2, True, valid).to_source_grid(np.array([[300]], np.uint16), 65535)
    assert actual.tolist() == [[300, 65535]]


def test_an_image_that_is_not_scaled_keeps_its_map():
    labels = noise(4, 5)[..., 0]
    assert SourceGrid(4, 5, scaled=False).to_source_grid(labels, 255) is labels


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_an_encoded_image_is_read_scaled(bands):
    content = encoded(np.dstack([smooth(), smooth()[..., 0]]))
    raster = EncodedImage(content, bands, resize=(64, 96))
    assert (raster.height, raster.width) == (64, 96)
    expected = resize_image(decode_image(content, bands), (64, 96))
    np.testing.assert_array_equal(raster.read(Window(0, 0, 64, 96)).values, expected)
    part = Window(10, 20, 30, 40)
    np.testing.assert_array_equal(raster.read(part).values, expected[part.slices])
    assert raster.on_source_grid(np.zeros((64, 96), np.uint8), 255).shape == (200, 230)


def test_nodata_of_a_scaled_image_is_known_once_it_has_been_read():
    values = np.full((4, 4, 4), 255, np.uint8)
    values[:2, :3, 3] = 0
    raster = EncodedImage(encoded(values), 3, resize=(2, 2))
    pixels = raster.read(Window(0, 0, 2, 2))
    assert pixels.valid.tolist() == [[False, True], [True, True]]
    actual = raster.on_source_grid(np.array([[255, 1], [2, 3]], np.uint8), 255)
    expected = [[255, 255, 255, 1], [255, 255, 255, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert actual.tolist() == expected
    confidence = raster.on_source_grid(np.array([[0, 0.5], [1, 1]], np.float32), 0)
    assert confidence[0].tolist() == [0, 0, 0, 0.5]


def test_an_image_is_scaled_after_it_is_turned():
    values = np.zeros((2, 6, 3), np.uint8)
    values[:, 3:] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    raster = EncodedImage(encoded(values, exif=exif), 3, resize=(6, 2))
    expected = [[0, 0], [0, 0], [0, 0], [200, 200], [200, 200], [200, 200]]
    assert raster.read(Window(0, 0, 6, 2)).values[..., 0].tolist() == expected
