"""TIFFs as others than Pillow write them: read as what they are, or refused."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image, TiffImagePlugin, TiffTags

from segmodel.errors import InputError
from segmodel.images.encoded import decode_pixels
from tests.segmodel.pictures import check, grey, noise


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


def test_a_fourth_band_that_is_not_alpha_is_missed_by_a_model_of_four_bands_only():
    values = np.moveaxis(noise(4, 5, 4), -1, 0)
    content = geotiff(values, photometric="RGB", alpha="unspecified")
    np.testing.assert_array_equal(decode_pixels(content, 3).values, noise(4, 5, 4)[..., :3])
    with pytest.raises(InputError, match="the fourth band of the TIFF is not marked as alpha"):
        decode_pixels(content, 4)
    content = geotiff(values, photometric="RGB", alpha="yes")
    np.testing.assert_array_equal(decode_pixels(content, 4).values, noise(4, 5, 4))


def test_several_bands_of_which_the_first_would_be_grey_are_refused():
    profile = {"photometric": "MINISBLACK", "interleave": "band", "compress": "lzw"}
    content = geotiff(np.moveaxis(noise(4, 5), -1, 0), **profile)
    with pytest.raises(InputError, match=r"not marked as red, green and blue.*PHOTOMETRIC=RGB"):
        decode_pixels(content, 3)
    np.testing.assert_array_equal(decode_pixels(content, 1).values, noise(4, 5)[..., :1])


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
    with pytest.raises(InputError, match="band 4 is not read in an image file"):
        decode_pixels(content, 3, names=("nir", "red", "green"))


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


STRANGE = {
    "12 bits": (geotiff(deep(1) >> 4, nbits=12), "12 bits a sample"),
    "12 bits packed": (geotiff(deep(1) >> 4, nbits=12, compress="deflate"), "12 bits a sample"),
    "16 bits by band": (
        geotiff(deep(3), photometric="RGB", interleave="band"),
        "16 bits a sample, band after band",
    ),
    "16 bits by band packed": (
        geotiff(deep(3), photometric="RGB", interleave="band", compress="lzw"),
        "16 bits a sample, band after band",
    ),
    "16 bits from white": (
        geotiff(deep(1), photometric="MINISWHITE"),
        "16 bits a sample in which white is 0",
    ),
    "a sign": (geotiff(noise(4, 5)[None, ..., 0].view(np.int8)), "8 bits a sample with a sign"),
    "16 bits with a sign": (geotiff(deep(1).view(np.int16)), "mode I has 32 bits a sample"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_tiffs_that_would_be_read_as_what_they_are_not_are_refused(kind):
    content, reason = STRANGE[kind]
    for bands in (1, 3, 4):
        with pytest.raises(InputError, match=reason):
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
