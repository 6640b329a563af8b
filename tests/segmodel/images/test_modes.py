"""Encoded images of every mode: which pixels they give, and which are nodata."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from segmodel.images.encoded import decode_pixels
from tests.segmodel.pictures import (
    COLOUR,
    GREY,
    GREY_ALPHA,
    by_pillow,
    check,
    chunk,
    encoded,
    grey,
    image_of,
    noise,
    png_file,
    smooth,
)

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_and_colour_come_as_they_are(kind):
    check(encoded(noise(5, 7, 1), kind), grey(noise(5, 7, 1)[..., 0]))
    check(encoded(noise(5, 7), kind), noise(5, 7))


ALPHA = np.array([[0, 1, 2], [254, 255, 0]], np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_only_alpha_of_zero_is_nodata(kind):
    values = np.dstack([noise(2, 3), ALPHA])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    check(encoded(values, kind, **options), values[..., :3], ALPHA)


def test_alpha_that_is_nowhere_zero_leaves_no_mask():
    values = np.dstack([noise(2, 3), np.maximum(ALPHA, 1)])
    check(encoded(values), values[..., :3], values[..., 3])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_alpha_is_nodata_where_alpha_is_zero(kind):
    image = Image.fromarray(np.dstack([noise(2, 3)[..., 0], ALPHA]))
    assert image.mode == "LA"
    check(encoded(image, kind), grey(noise(2, 3)[..., 0]), ALPHA)


COLORS = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 0], [255, 255, 255]], np.uint8)
INDICES = np.array([[0, 1, 2], [3, 3, 1]], np.uint8)


def palette_image() -> Image.Image:
    image = Image.fromarray(INDICES)
    image.putpalette(COLORS.tobytes())
    return image


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_palette_colours_stand_for_indices(kind):
    check(encoded(palette_image(), kind), COLORS[INDICES])


@pytest.mark.parametrize(
    ("transparency", "alpha"),
    [
        (2, [255, 255, 0, 255]),
        (b"\xff\xff\0", [255, 255, 0, 255]),
        (b"\0\x80\xff\x01", [0, 128, 255, 1]),
        (b"\xff\xff\xff\xff", [255, 255, 255, 255]),
    ],
)
def test_palette_entries_that_are_fully_transparent_are_nodata(transparency, alpha):
    content = encoded(palette_image(), transparency=transparency)
    check(content, COLORS[INDICES], np.array(alpha, np.uint8)[INDICES])


def test_a_palette_with_an_alpha_band_is_nodata_where_that_is_zero():
    image = palette_image().convert("PA")
    image.putalpha(Image.fromarray(ALPHA))
    content = encoded(image, "TIFF")
    assert Image.open(io.BytesIO(content)).mode == "PA"
    check(content, COLORS[INDICES], ALPHA)


def test_the_transparent_colour_of_a_colour_png_is_nodata():
    values = noise(4, 5)
    values[1, 2] = values[3, 4] = (7, 8, 9)
    values[0, 0] = (7, 8, 10)
    alpha = np.full((4, 5), 255, np.uint8)
    alpha[1, 2] = alpha[3, 4] = 0
    check(encoded(values, transparency=(7, 8, 9)), values, alpha)


def packed(samples: list[list[int]], depth: int) -> list[bytes]:
    """Rows of samples of 1, 2, 4, 8 or 16 bits."""
    rows = []
    for row in samples:
        bits = "".join(f"{value:0{depth}b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        rows.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return rows


@pytest.mark.parametrize(
    ("depth", "samples", "transparent", "expected"),
    [
        (1, [[0, 1, 1]], 1, [[0, 255, 255]]),
        (1, [[0, 1, 1]], 0, [[0, 255, 255]]),
        (2, [[0, 1, 2, 3]], 3, [[0, 85, 170, 255]]),
        (4, [[0, 1, 14, 15]], 15, [[0, 17, 238, 255]]),
        (8, [[0, 3, 250, 255]], 3, [[0, 3, 250, 255]]),
        (16, [[0, 255, 256, 770, 771, 65535]], 770, [[0, 0, 1, 3, 3, 255]]),
    ],
)
def test_grey_pngs_of_every_depth_know_their_transparent_value(
    depth, samples, transparent, expected
):
    size = (len(samples[0]), len(samples))
    key = chunk(b"tRNS", struct.pack(">H", transparent))
    rows = packed(samples, depth)
    values = grey(np.array(expected, np.uint8))
    check(png_file(size, depth, GREY, rows), values)
    alpha = np.where(np.array(samples) == transparent, 0, 255).astype(np.uint8)
    check(png_file(size, depth, GREY, rows, before=key), values, alpha)


def test_16_bit_colour_gives_its_high_byte_and_knows_its_transparent_colour():
    samples = np.array([[[1000, 2000, 65535], [513, 1027, 3]]], ">u2")
    content = png_file((2, 1), 16, COLOUR, [samples[0].tobytes()])
    expected = np.array([[[3, 7, 255], [2, 4, 0]]], np.uint8)
    check(content, expected)
    key = chunk(b"tRNS", struct.pack(">3H", 513, 1027, 3))
    content = png_file((2, 1), 16, COLOUR, [samples[0].tobytes()], before=key)
    check(content, expected, np.array([[255, 0]], np.uint8))


def test_16_bit_grey_with_alpha_gives_its_high_bytes():
    samples = np.array([[[1000, 0], [65535, 65535]]], ">u2")
    content = png_file((2, 1), 16, GREY_ALPHA, [samples[0].tobytes()])
    check(content, grey(np.array([[3, 255]], np.uint8)), np.array([[0, 255]], np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit_is_black_and_white(kind):
    bits = noise(5, 9)[..., 0] > 127
    content = encoded(Image.fromarray(bits), kind)
    check(content, grey(np.where(bits, 255, 0).astype(np.uint8)))


JPEGS = {
    "4:4:4": {"quality": 90, "subsampling": "4:4:4"},
    "4:2:2": {"quality": 90, "subsampling": "4:2:2"},
    "4:2:0": {"quality": 75, "subsampling": "4:2:0"},
    "progressive": {"quality": 85, "progressive": True},
    "optimized": {"quality": 30, "optimize": True},
    "restarts": {"quality": 75, "restart_marker_rows": 1},
    "rgb": {"quality": 90, "keep_rgb": True},
}


@pytest.mark.parametrize("size", [(1, 1), (8, 17), (200, 230)])
@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_are_decoded_exactly_as_pillow_does(kind, size):
    content = encoded(smooth(*size), "JPEG", **JPEGS[kind])
    colours = by_pillow(content, "RGB")
    check(content, colours)


@pytest.mark.parametrize("progressive", [False, True])
def test_grey_jpegs_are_decoded_exactly_as_pillow_does(progressive):
    content = encoded(smooth()[..., :1], "JPEG", progressive=progressive)
    check(content, grey(by_pillow(content, "L")))


def test_of_several_jpegs_in_one_file_the_first_is_taken():
    first, second = image_of(smooth()), image_of(smooth()[::-1].copy())
    content = encoded(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(content)).format == "MPO"
    expected = by_pillow(content, "RGB")
    assert np.abs(expected.astype(int) - smooth()).mean() < 20
    check(content, expected)


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_cmyk_jpegs_are_converted_as_pillow_does(bands):
    inks = np.dstack([smooth(), smooth()[..., 0] // 2])
    content = encoded(Image.frombytes("CMYK", (230, 200), inks.tobytes()), "JPEG")
    expected = by_pillow(content, MODES[bands]).reshape(200, 230, bands)
    actual = decode_pixels(content, bands)
    np.testing.assert_array_equal(actual.values, expected)
    assert actual.valid is None


def test_of_several_pictures_in_a_tiff_the_first_is_taken():
    first, second = image_of(noise(4, 5)), image_of(noise(9, 9, seed=1))
    check(encoded(first, "TIFF", save_all=True, append_images=[second]), noise(4, 5))
