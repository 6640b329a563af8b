"""Encoded images to arrays."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from segmodel.errors import InputError
from segmodel.images.encoded import decode_image, image_size
from segmodel.images.limits import MAX_PIXELS


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(height: int = 40, width: int = 60) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def png_header(width: int, height: int) -> bytes:
    """A PNG that states a size and holds no pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_lossless_images_come_back_exactly(kind):
    expected = np.asarray(picture())
    actual = decode_image(encoded(picture(), kind), 3)
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == np.uint8


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (7, 1)])
def test_images_of_one_row_or_column_are_decoded(height, width):
    assert decode_image(encoded(picture(height, width)), 3).shape == (height, width, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_truncated_image_is_refused(kind, share):
    whole = encoded(picture(200, 200), kind)
    with pytest.raises(InputError, match=r"truncated or corrupt|cannot be decoded|not a JPEG"):
        decode_image(whole[: int(len(whole) * share)], 3)


def test_an_empty_file_is_refused():
    with pytest.raises(InputError, match="empty file"):
        decode_image(b"", 3)


@pytest.mark.parametrize("content", [b"hello, I am no image", b"\0" * 64, b"GIF89a" + b"\0" * 40])
def test_what_is_no_image_is_refused(content):
    with pytest.raises(InputError, match="not a JPEG, PNG, WebP or TIFF image"):
        decode_image(content, 3)


def test_a_format_outside_of_the_list_is_refused():
    with pytest.raises(InputError, match="not a JPEG"):
        decode_image(encoded(picture(), "BMP"), 3)


def test_the_greatest_number_of_pixels_is_decoded_and_one_more_refused():
    image = encoded(picture(10, 10))
    assert decode_image(image, 3, max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(InputError, match="10x10 pixels exceed the limit of 99"):
        decode_image(image, 3, max_pixels=99)


def test_a_decompression_bomb_is_refused_without_decoding():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="limit"):
            decode_image(png_header(65535, 65535), 3)


@pytest.mark.filterwarnings("ignore:Image size")
def test_a_size_below_our_limit_is_not_refused_by_pillows():
    assert MAX_PIXELS > 13000 * 13000
    assert image_size(png_header(13000, 13000)) == (13000, 13000)


def test_the_size_in_the_header_is_height_and_width():
    assert image_size(encoded(picture(3, 5))) == (3, 5)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_header_has_no_size(content):
    assert image_size(content) is None


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (6, lambda a: np.rot90(a, -1)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_an_image_is_turned_as_its_exif_orientation_says(orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    actual = decode_image(encoded(picture(4, 6), exif=exif), 3)
    np.testing.assert_array_equal(actual, turn(np.asarray(picture(4, 6))))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_every_mode_of_8_bits_gives_the_bands_asked_for(mode, bands):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = picture(5, 7).convert(mode)
    actual = decode_image(encoded(image, kind), bands)
    assert actual.shape == (5, 7, bands)
    assert actual.dtype == np.uint8
    expected = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[bands]))
    np.testing.assert_array_equal(actual, expected.reshape(5, 7, bands))


def test_grey_gives_equal_bands_and_full_alpha():
    image = encoded(Image.fromarray(np.array([[0, 128, 255]], np.uint8)))
    expected = [[[0, 0, 0, 255], [128, 128, 128, 255], [255, 255, 255, 255]]]
    assert decode_image(image, 4).tolist() == expected


@pytest.mark.parametrize("bands", [2, 5, -1])
def test_another_number_of_bands_is_refused(bands):
    with pytest.raises(InputError, match=f"gives 1, 3 or 4 bands, not {bands}"):
        decode_image(encoded(picture()), bands)


SIXTEEN_BIT = [
    pytest.param("PNG", "<u2", id="PNG"),
    pytest.param("TIFF", "<u2", id="TIFF"),
    pytest.param("TIFF", ">u2", id="TIFF-big-endian"),
]


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize(("kind", "dtype"), SIXTEEN_BIT)
def test_16_bit_grey_gives_its_high_byte(kind, dtype, bands):
    values = np.array([[0, 255, 256], [3000, 65279, 65535]], dtype)
    actual = decode_image(encoded(Image.fromarray(values), kind), bands)
    expected = np.array([[0, 0, 1], [11, 254, 255]], np.uint8)
    np.testing.assert_array_equal(actual, np.repeat(expected[..., None], bands, axis=2))


def test_16_bit_colour_gives_its_high_byte():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    body = zlib.compress(b"\0" + struct.pack(">3H", 1000, 2000, 65535))
    content = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )
    assert decode_image(content, 3).tolist() == [[[3, 7, 255]]]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_samples_of_32_bits_are_refused_as_an_image(dtype):
    content = encoded(Image.fromarray(np.full((4, 4), 1, dtype)), "TIFF")
    with pytest.raises(
        InputError,
        match="given uint8, or the high byte of uint16, of an image without coordinates or in a "
        f"shard; this one has {dtype.__name__}; convert it",
    ):
        decode_image(content, 3)


def test_a_mask_keeps_palette_indices_and_16_bit_values():
    indices = np.array([[0, 7], [254, 255]], np.uint8)
    palette = Image.fromarray(indices)
    palette.putpalette(bytes(range(256)) * 3)
    np.testing.assert_array_equal(decode_image(encoded(palette), 0), indices)
    wide = np.array([[0, 300], [65534, 65535]], np.uint16)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(wide)), 0), wide)


def test_a_mask_of_ids_in_colours_is_refused():
    with pytest.raises(InputError, match="one band, got mode RGB"):
        decode_image(encoded(picture()), 0)


def test_memory_that_is_short_is_not_blamed_on_the_image(monkeypatch):
    def exhausted(self):
        raise MemoryError

    content = encoded(picture())
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", exhausted)
    with pytest.raises(MemoryError):
        decode_image(content, 3)
