"""TIFFs as others than Pillow write them: read as what they are, or refused."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image, TiffImagePlugin, TiffTags

from segmodel.errors import InputError
from segmodel.images.encoded import EncodedImage, decode_pixels
from tests.segmodel.pictures import check, encoded, grey, noise, smooth


def geotiff(values: np.ndarray, descriptions: tuple[str, ...] = (), **profile) -> bytes:
    """A TIFF of `(bands, height, width)` values as GDAL writes it, without a place."""
    bands, height, width = values.shape
    size = {"count": bands, "height": height, "width": width, "dtype": values.dtype.name}
    with warnings.catch_warnings(), rasterio.MemoryFile() as memory:
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with memory.open(driver="GTiff", **size, **profile) as target:
            target.write(values)
            if descriptions:
                target.descriptions = descriptions
        return memory.read()


def deep(bands: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 65536, (bands, 4, 5), dtype=np.uint16)


def test_16_bit_tiffs_give_their_high_byte():
    content = geotiff(deep(3), photometric="RGB", interleave="pixel")
    check(content, np.moveaxis(deep(3) >> 8, 0, -1).astype(np.uint8))
    check(geotiff(deep(1)), grey((deep(1)[0] >> 8).astype(np.uint8)))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_8_bit_tiffs_may_have_their_bands_one_after_the_other(interleave):
    values = np.moveaxis(noise(4, 5), -1, 0)
    check(geotiff(values, photometric="RGB", interleave=interleave), noise(4, 5))


def test_8_bit_tiffs_in_which_white_is_0_are_turned_round():
    check(
        geotiff(noise(4, 5)[None, ..., 0], photometric="MINISWHITE"),
        grey(255 - noise(4, 5)[..., 0]),
    )


def test_a_fourth_band_that_is_not_alpha_is_one_for_models_of_four_bands():
    values = np.moveaxis(noise(4, 5, 4), -1, 0)
    for alpha in ("unspecified", "yes"):
        content = geotiff(values, photometric="RGB", alpha=alpha)
        np.testing.assert_array_equal(decode_pixels(content, 3).values, noise(4, 5, 4)[..., :3])
        np.testing.assert_array_equal(decode_pixels(content, 4).values, noise(4, 5, 4))
    assert decode_pixels(content, 4).valid is None


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_bands_without_colours_are_those_of_a_model_of_as_many(interleave):
    profile = {"photometric": "MINISBLACK", "interleave": interleave, "compress": "lzw"}
    content = geotiff(np.moveaxis(noise(4, 5), -1, 0), **profile)
    np.testing.assert_array_equal(decode_pixels(content, 3).values, noise(4, 5))
    for bands in (1, 4):
        with pytest.raises(
            InputError, match=r"takes ., the TIFF has 1 \(gray\), 2, 3.*translate -b"
        ):
            decode_pixels(content, bands)


RGB = ("red", "green", "blue")


def test_bands_that_are_described_are_taken_by_name():
    stored = np.moveaxis(noise(4, 5), -1, 0)
    content = geotiff(stored, ("Blue", "green", "red"), photometric="RGB")
    np.testing.assert_array_equal(
        decode_pixels(content, 3, names=RGB).values, noise(4, 5)[..., ::-1]
    )
    check(content, noise(4, 5))
    for other in (("x", "y", "z"), ("Band 1", "Band 2", "Band 3"), ("red", "green", "")):
        content = geotiff(stored, other, photometric="RGB")
        np.testing.assert_array_equal(decode_pixels(content, 3, names=RGB).values, noise(4, 5))
    content = geotiff(stored, ("nir", "red", "green"), photometric="RGB")
    np.testing.assert_array_equal(
        decode_pixels(content, 3, names=("nir", "red", "green")).values, noise(4, 5)
    )
    with pytest.raises(InputError, match="no band blue, but names others of them"):
        decode_pixels(content, 3, names=RGB)


def test_a_band_that_is_described_is_not_alpha():
    stored = np.moveaxis(noise(4, 5, 4), -1, 0).copy()
    stored[3] = 0
    content = geotiff(stored, (*RGB, "nir"), photometric="RGB", alpha="yes")
    pixels = decode_pixels(content, 3, names=RGB)
    assert pixels.valid is None
    np.testing.assert_array_equal(pixels.values, noise(4, 5, 4)[..., :3])
    pixels = decode_pixels(content, 3, names=("nir", "red", "green"))
    np.testing.assert_array_equal(pixels.values, noise(4, 5, 4)[..., [3, 0, 1]] * [0, 1, 1])


def test_a_tiff_that_leaves_tiles_out_is_refused():
    size = {"width": 32, "height": 32, "count": 1, "dtype": "uint8"}
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "SPARSE_OK": True}
    with warnings.catch_warnings(), rasterio.MemoryFile() as memory:
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with memory.open(driver="GTiff", **size, **tiles) as target:
            target.write(noise(16, 16)[..., 0], 1, window=((0, 16), (0, 16)))
        content = memory.read()
    with pytest.raises(InputError, match="the TIFF is sparse"):
        decode_pixels(content, 1)


def test_samples_of_other_than_8_bits_give_their_high_bits():
    check(geotiff(deep(1) >> 4, nbits=12), grey((deep(1)[0] >> 8).astype(np.uint8)))
    check(geotiff(deep(1).astype(np.uint8) >> 6, nbits=2), grey((deep(1)[0] % 256 >> 6) * 85))
    content = geotiff(deep(3), photometric="RGB", interleave="band", compress="lzw")
    check(content, np.moveaxis(deep(3) >> 8, 0, -1).astype(np.uint8))


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw"])
def test_a_tiff_whose_header_is_cut_off_is_refused(compression):
    """GDAL reads such as it has of the tags."""
    whole = encoded(smooth(), "TIFF", compression=None if compression == "raw" else compression)
    for missing in (1, 2, 8, 20, 60):
        with pytest.raises(InputError, match=r"truncated or corrupt TIFF|cannot be decoded"):
            decode_pixels(whole[:-missing], 3)


def with_tag(content: bytes, tag: int, value: int) -> bytes:
    """A TIFF with another first number in a tag of several."""
    with Image.open(io.BytesIO(content)) as image:
        numbers = image.tag_v2[tag]
    stored = struct.pack(f"<{len(numbers)}I", *numbers)
    assert content.count(stored) == 1
    return content.replace(stored, struct.pack("<I", value) + stored[4:])


@pytest.mark.parametrize(
    ("tag", "value", "reason"),
    [
        (279, 0, "the TIFF is sparse"),
        (273, 0, "the TIFF is sparse"),
        (273, 1 << 30, "cannot be decoded"),
    ],
)
def test_a_strip_that_is_not_there_is_not_black(tag, value, reason):
    content = geotiff(np.moveaxis(smooth(), -1, 0), photometric="RGB", blockysize=100)
    np.testing.assert_array_equal(decode_pixels(content, 3).values, smooth())
    with pytest.raises(InputError, match=reason):
        decode_pixels(with_tag(content, tag, value), 3)


def test_bands_without_number_are_refused_before_they_are_read():
    content = geotiff(np.zeros((90, 40, 50), np.uint8), compress="deflate")
    with pytest.raises(InputError, match="90 bands of 50x40 pixels are more than --max_pixels"):
        EncodedImage(content, 3, max_pixels=2000)


STRANGE = {
    "16 bits from white": (
        geotiff(deep(1), photometric="MINISWHITE"),
        "its grey is 0 where it is white",
    ),
    "a sign": (geotiff(noise(4, 5)[None, ..., 0].view(np.int8)), "this one has int8; convert it"),
    "16 bits with a sign": (geotiff(deep(1).view(np.int16)), "this one has int16; convert it"),
    "floats": (geotiff(deep(1).astype(np.float32)), "this one has float..; convert it"),
    "2 bands": (geotiff(deep(2)), r"takes 3, the TIFF has 1 \(gray\), 2, not marked"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_tiffs_that_would_be_read_as_what_they_are_not_are_refused(kind):
    content, reason = STRANGE[kind]
    for bands in (1, 3, 4):
        with pytest.raises(InputError, match=reason.replace("3", str(bands))):
            decode_pixels(content, bands)


@pytest.mark.parametrize("bands", [1, 3])
def test_a_nodata_value_is_one_where_all_bands_hold_it_or_the_model_cannot_have_it(bands):
    values = np.moveaxis(noise(4, 5), -1, 0)[:bands].copy()
    values[:, 1, 2] = 7
    values[0, 2, 3] = 7
    content = geotiff(values, nodata=7, photometric="RGB" if bands == 3 else "MINISBLACK")
    expected = ~(values == 7).all(axis=0)
    np.testing.assert_array_equal(decode_pixels(content, bands).valid, expected)
    found = decode_pixels(content, bands, value_range=(8.0, 255.0)).valid
    np.testing.assert_array_equal(found, ~(values == 7).any(axis=0))


def test_nodata_of_16_bits_is_a_sample_of_the_file():
    values = deep(1)
    values[0, :2], values[0, 2, 2] = 65535, 65280
    found = decode_pixels(geotiff(values, nodata=65535), 1)
    np.testing.assert_array_equal(found.valid, values[0] != 65535)
    assert (found.values[2, 2], found.values[0, 0]) == (255, 255)


def test_a_second_picture_is_no_mask():
    first, second = (Image.fromarray(noise(4, 5)) for _ in range(2))
    buffer = io.BytesIO()
    first.save(buffer, "TIFF", save_all=True, append_images=[second])
    assert decode_pixels(buffer.getvalue(), 3).valid is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_is_valid_is_turned_like_the_image(orientation):
    values = np.full((3, 4), 9, np.uint8)
    values[0, 0] = values[0, 1] = values[1, 0] = 7
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113], tags[274] = "7", orientation
    tags.tagtype[42113] = TiffTags.ASCII
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", tiffinfo=tags)
    found = decode_pixels(buffer.getvalue(), 1)
    np.testing.assert_array_equal(found.valid, found.values[..., 0] != 7)
    assert found.values.shape[:2] == ((3, 4) if orientation < 5 else (4, 3))
