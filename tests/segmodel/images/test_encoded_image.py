"""Encoded images as rasters: their size before they are decoded, their windows, their own grid."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from segmodel.errors import InputError
from segmodel.images import encoded as images
from segmodel.images.encoded import (
    EncodedImage,
    decode_image,
    decode_pixels,
    image_size,
)
from segmodel.images.stored import DECODING_BYTES_PER_PIXEL
from segmodel.tiling.windows import Window
from tests.segmodel.pictures import (
    COLOUR,
    ORIENTATION,
    chunk,
    encoded,
    exif,
    exif_chunk,
    noise,
    png_file,
    smooth,
)

TURNS = {
    0: lambda a: a,
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
    9: lambda a: a,
    255: lambda a: a,
}
STATED = range(1, 9)
XMP = '<x:xmpmeta><rdf:RDF><rdf:Description tiff:Orientation="{}"/></rdf:RDF></x:xmpmeta>'


def whole(raster: EncodedImage) -> np.ndarray:
    return raster.read(Window(0, 0, raster.height, raster.width)).values


def xmp_chunk(orientation: int) -> bytes:
    text = XMP.format(orientation).encode()
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text)


def raw_profile_chunk(orientation: int) -> bytes:
    block = exif(orientation).tobytes()
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    return chunk(b"tEXt", b"Raw profile type exif\0" + text)


def turned(kind: str, values: np.ndarray, orientation: int) -> bytes:
    """The image with its orientation stated in one of the ways that a file can."""
    height, width = values.shape[:2]
    rows = [row.tobytes() for row in values]
    if kind.startswith("PNG"):
        _, what, place = kind.split()
        make = {"eXIf": exif_chunk, "XMP": xmp_chunk, "raw": raw_profile_chunk}[what]
        return png_file((width, height), 8, COLOUR, rows, **{place: make(orientation)})
    if kind == "TIFF":
        return encoded(values, "TIFF", tiffinfo={ORIENTATION: orientation})
    if kind == "TIFF deflate":
        options = {"compression": "tiff_adobe_deflate"}
        return encoded(values, "TIFF", tiffinfo={ORIENTATION: orientation}, **options)
    if kind == "WEBP":
        return encoded(values, "WEBP", lossless=True, exif=exif(orientation))
    return encoded(values, "JPEG", exif=exif(orientation))


KINDS = [
    *("JPEG", "WEBP", "TIFF", "TIFF deflate", "PNG eXIf before", "PNG eXIf behind"),
    *("PNG XMP before", "PNG XMP behind", "PNG raw before", "PNG raw behind"),
]


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_known_before_decoding_and_pixels_are_turned(kind, orientation, bands):
    if ("XMP" in kind and orientation > 9) or (
        kind == "TIFF deflate" and orientation not in STATED
    ):
        pytest.skip("cannot be written")
    values = smooth(24, 37)
    plain = turned(kind, values, 1)
    expected = TURNS[orientation](decode_image(plain, bands))
    content = turned(kind, values, orientation)
    raster = EncodedImage(content, bands)
    assert (raster.height, raster.width) == expected.shape[:2] == image_size(content)
    np.testing.assert_array_equal(whole(raster), expected)
    np.testing.assert_array_equal(decode_image(content, bands), expected)
    if not kind.startswith("JPEG") and bands == 3:
        np.testing.assert_array_equal(expected, TURNS[orientation](values))


@pytest.mark.parametrize("kind", ["PNG eXIf before", "PNG eXIf behind"])
def test_masks_are_turned_like_their_images(kind):
    content = turned(kind, smooth(4, 6), 6)
    np.testing.assert_array_equal(decode_image(content, 3), np.rot90(smooth(4, 6), -1))


def test_a_png_is_not_decoded_to_know_its_size(monkeypatch):
    content = turned("PNG eXIf behind", noise(4, 6), 6)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_prepare", None)
    assert image_size(content) == (6, 4)
    assert EncodedImage(content, 3).height == 6


def test_windows_are_parts_of_the_whole():
    values = np.dstack([noise(20, 30), np.where(noise(20, 30)[..., 0] > 99, 255, 0)])
    raster = EncodedImage(encoded(values.astype(np.uint8)), 3)
    for window in (Window(0, 0, 20, 30), Window(3, 4, 5, 6), Window(19, 29, 1, 1)):
        actual = raster.read(window)
        np.testing.assert_array_equal(actual.values, values[window.slices][..., :3])
        np.testing.assert_array_equal(actual.valid, values[window.slices][..., 3] > 0)


def test_a_window_that_waits_does_not_keep_the_whole_image_in_memory():
    raster = EncodedImage(encoded(np.dstack([noise(20, 30), noise(20, 30)[..., :1] // 2])), 3)
    part = raster.read(Window(0, 0, 20, 10))
    assert part.values.base is None
    assert part.valid.base is None


def test_a_map_that_is_being_finished_does_not_keep_the_image_in_memory():
    raster = EncodedImage(encoded(noise(20, 30)), 3)
    whole(raster)
    held = weakref.ref(raster)
    to_source_grid = raster.on_source_grid
    del raster
    gc.collect()
    assert held() is None
    labels = np.ones((20, 30), np.uint8)
    assert to_source_grid(labels, 255) is labels


def test_encoded_bytes_are_given_back_once_they_are_decoded():
    content = encoded(noise(20, 30))
    before = sys.getrefcount(content)
    raster = EncodedImage(content, 3)
    assert sys.getrefcount(content) == before + 1
    whole(raster)
    assert sys.getrefcount(content) == before


@pytest.mark.parametrize(
    ("kind", "resize", "expected"),
    [
        ("PNG", None, 600 * DECODING_BYTES_PER_PIXEL),
        ("JPEG", None, 600 * DECODING_BYTES_PER_PIXEL),
        ("WEBP", None, 600 * 18),
        ("PNG", (7, 11), (600 + 77) * DECODING_BYTES_PER_PIXEL),
    ],
)
def test_the_bytes_held_are_those_of_decoding_scaling_and_the_file(kind, resize, expected):
    content = encoded(noise(20, 30), kind)
    raster = EncodedImage(content, 3, resize=resize)
    assert raster.held_bytes == expected + len(content)
    whole(raster)
    assert raster.held_bytes == expected + len(content)


def test_many_threads_decode_an_image_once(monkeypatch):
    content, calls, start = encoded(smooth(), "JPEG"), [], threading.Barrier(8)

    def counting(*arguments):
        calls.append(threading.get_ident())
        return decode_pixels(*arguments)

    monkeypatch.setattr(images, "decode_pixels", counting)
    raster = EncodedImage(content, 3)

    def read(number):
        start.wait()
        return raster.read(Window(number, 2 * number, 100, 80)).values

    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(read, range(8)))
    assert len(calls) == 1
    expected = decode_image(content, 3)
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(part, expected[number:][:100, 2 * number :][:, :80])


def test_the_greatest_number_of_pixels_holds_for_turned_images_and_before_decoding():
    content = turned("PNG eXIf behind", noise(10, 20), 6)
    assert EncodedImage(content, 3, max_pixels=200).height == 20
    with pytest.raises(
        InputError, match="20x10 pixels exceed the limit of 199: raise --max_pixels"
    ):
        EncodedImage(content, 3, max_pixels=199)


def test_the_greatest_number_of_pixels_is_that_of_the_file_not_of_what_it_is_scaled_to():
    content = encoded(noise(10, 20))
    raster = EncodedImage(content, 3, max_pixels=200, resize=(100, 100))
    assert whole(raster).shape == (100, 100, 3)
    with pytest.raises(InputError, match="exceed the limit of 199"):
        EncodedImage(content, 3, max_pixels=199, resize=(1, 1))
