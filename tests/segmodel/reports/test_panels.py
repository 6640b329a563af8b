"""Pictures of images, labels and errors."""

from __future__ import annotations

import numpy as np
import pytest

from segmodel.reports.panels import (
    NODATA,
    PICTURE_PX,
    UNCOUNTED,
    WRONG,
    draw_classes,
    draw_errors,
    error_picture,
    legend_of,
    picture_of,
)
from segmodel.savedmodel.contract import Contract
from tests.fakes import CLASSES, WIDE_CLASSES, contract
from tests.segmodel.made_pairs import ArrayPair


def pair_of(image: np.ndarray, valid: np.ndarray | None = None) -> ArrayPair:
    return ArrayPair("a", image, np.zeros(image.shape[:2], np.int16), valid)


def given(bands: tuple[str, ...], dtype: str = "uint8", limits=(0.0, 255.0)) -> Contract:
    fill = (0.0,) * len(bands)
    return contract(bands=bands, dtype=dtype, value_range=limits, nodata_fill=fill)


def test_small_8_bit_images_are_shown_as_they_are():
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    actual = picture_of(pair_of(image), given(("red", "green", "blue")))
    np.testing.assert_array_equal(actual, image)


def test_bands_are_found_by_their_names():
    image = np.zeros((2, 2, 4), np.uint8)
    image[...] = (10, 20, 30, 40)
    actual = picture_of(pair_of(image), given(("nir", "blue", "green", "red")))
    assert actual[0, 0].tolist() == [40, 30, 20]


def test_one_band_is_grey():
    image = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    actual = picture_of(pair_of(image), given(("pan",)))
    np.testing.assert_array_equal(actual, image.repeat(3, axis=2))


def test_large_images_are_shrunk_by_a_whole_number_to_means_of_valid_pixels(monkeypatch):
    monkeypatch.setattr("segmodel.reports.panels.KEPT_PX", 4)
    monkeypatch.setattr("segmodel.reports.panels.READ_PX", 5)
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (10, 7, 3), dtype=np.uint8)
    valid = random.random((10, 7)) < 0.7
    valid[:3, :3] = False
    actual = picture_of(pair_of(image, valid), given(("red", "green", "blue")))
    assert actual.shape == (4, 3, 3)
    assert actual[0, 0].tolist() == list(NODATA)
    part = image[3:6, 3:6][valid[3:6, 3:6]].mean(axis=0)
    assert np.abs(actual[1, 1] - part).max() <= 0.5
    corner = image[9:, 6:][valid[9:, 6:]]
    assert actual[3, 2].tolist() == (corner[0].tolist() if len(corner) else list(NODATA))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_other_types_are_stretched_within_their_range(dtype):
    image = np.linspace(0, 3000, 200 * 3).reshape(10, 20, 3).astype(dtype)
    actual = picture_of(pair_of(image), given(("a", "b", "c"), dtype, (0.0, 10000.0)))
    assert actual.min() == 0
    assert actual.max() == 255


def test_nan_is_nodata_and_a_constant_image_does_not_fail():
    image = np.full((4, 4, 2), 50.0, np.float32)
    image[0, 0, 1] = np.nan
    actual = picture_of(pair_of(image), given(("vv", "vh"), "float32", (0.0, 100.0)))
    assert actual[0, 0].tolist() == list(NODATA)
    assert actual[1, 1].tolist() == [128] * 3


def test_errors_are_red_and_what_does_not_count_is_grey():
    image = np.zeros((1, 3, 3), np.uint8)
    truth = np.array([[0, 3, CLASSES.nodata]], np.uint8)
    labels = np.array([[0, 7, 7]], np.uint8)
    actual = error_picture(image, truth, labels, CLASSES.nodata)
    assert actual[0, 0].tolist() == [178] * 3
    assert actual[0, 1].tolist() == list(WRONG)
    assert actual[0, 2].tolist() == list(UNCOUNTED)


def test_a_panel_shows_the_colors_of_the_classes_in_their_columns():
    image = np.zeros((PICTURE_PX, PICTURE_PX, 3), np.uint8)
    truth, labels = np.full(image.shape[:2], 3, np.uint8), np.full(image.shape[:2], 7, np.uint8)
    sheet = np.asarray(draw_errors(image, truth, labels, CLASSES, "a"))
    row = sheet[PICTURE_PX // 2]
    columns = [12 + n * (PICTURE_PX + 12) + PICTURE_PX // 2 for n in range(4)]
    expected = [[0, 0, 0], [90, 160, 70], [240, 230, 200], list(WRONG)]
    assert [row[column].tolist() for column in columns] == expected


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (50, 70)])
def test_panels_of_any_shape_and_caption_are_drawn(shape):
    image, truth = np.zeros((*shape, 3), np.uint8), np.full(shape, 300, np.uint16)
    sheet = draw_errors(image, truth, truth, WIDE_CLASSES, "\u6c34 \n" * 200)
    assert sheet.width < 2000
    assert draw_classes(WIDE_CLASSES).height < 100


def test_the_legend_holds_classes_that_occur():
    labels = np.array([[7, 7, CLASSES.nodata]], np.uint8)
    assert legend_of(CLASSES, [labels]) == [("bright", (240, 230, 200))]
