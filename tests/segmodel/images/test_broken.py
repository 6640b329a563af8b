"""Encoded images of which bytes are missing or turned: refused, never guessed."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from segmodel.errors import InputError
from segmodel.images.encoded import (
    EncodedImage,
    decode_image,
    decode_pixels,
    image_size,
)
from segmodel.images.limits import MAX_PIXELS
from segmodel.tiling.windows import Window
from tests.segmodel.pictures import (
    COLOUR,
    GREY,
    SIGNATURE,
    by_pillow,
    chunk,
    encoded,
    exif,
    exif_chunk,
    noise,
    png_file,
    smooth,
)

PARTS = [share / 100 for share in range(0, 100, 5)]
JPEGS = {
    "4:2:0": {"quality": 75},
    "4:4:4": {"quality": 95, "subsampling": "4:4:4"},
    # Of one that ends exactly between two scans nothing is missing by its own account.
    "progressive": {"quality": 80, "progressive": True},
    "restarts": {"quality": 75, "restart_marker_rows": 1},
    "turned": {"quality": 75, "exif": exif(6)},
}
END_OF_JPEG = b"\xff\xd9"


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", JPEGS)
def test_a_part_of_a_jpeg_is_refused_with_and_without_an_end_mark(kind, part, bands):
    whole = encoded(smooth(), "JPEG", **JPEGS[kind])
    cut = whole[: int(len(whole) * part)]
    for content in (cut, cut + END_OF_JPEG):
        with pytest.raises(InputError):
            decode_image(content, bands)


def test_a_grey_jpeg_with_an_end_mark_put_behind_half_of_it_is_refused():
    whole = encoded(smooth()[..., :1], "JPEG")
    with pytest.raises(InputError, match="truncated or corrupt JPEG"):
        decode_image(whole[: len(whole) // 2] + END_OF_JPEG, 1)


def test_a_cmyk_jpeg_with_an_end_mark_put_behind_half_of_it_is_refused():
    inks = np.dstack([smooth(), smooth()[..., :1]])
    whole = encoded(Image.frombytes("CMYK", (230, 200), inks.tobytes()), "JPEG")
    with pytest.raises(InputError, match="truncated or corrupt JPEG"):
        decode_image(whole[: len(whole) // 2] + END_OF_JPEG, 3)


def test_bytes_behind_the_end_of_an_image_do_no_harm():
    for kind in ("JPEG", "PNG"):
        whole = encoded(smooth(), kind)
        np.testing.assert_array_equal(decode_image(whole + b"\0" * 99, 3), by_pillow(whole, "RGB"))


def test_a_jpeg_of_which_pillow_and_libjpeg_see_other_sizes_is_refused_before_decoding():
    whole = encoded(smooth(16, 16), "JPEG")
    begin = whole.index(b"\xff\xc0")
    length = struct.unpack(">H", whole[begin + 2 : begin + 4])[0]
    frame = bytearray(whole[begin : begin + 2 + length])
    frame[5:9] = struct.pack(">HH", 60000, 60000)
    # Behind two frame headers, Pillow believes the last and libjpeg stops.
    with pytest.raises(InputError):
        decode_image(whole[:begin] + bytes(frame) + whole[begin:], 3)


@pytest.mark.parametrize("missing", range(1, 13))
def test_a_png_is_refused_if_any_byte_of_its_end_mark_is_missing(missing):
    with pytest.raises(InputError, match="truncated or corrupt PNG"):
        decode_image(encoded(noise())[:-missing], 3)


def test_a_png_is_refused_if_any_byte_of_it_is_turned():
    whole = encoded(noise(3, 4))
    assert decode_image(whole, 3).shape == (3, 4, 3)
    for place in range(len(SIGNATURE), len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 1 << place % 8
        with pytest.raises(InputError):
            decode_image(bytes(broken), 3)


@pytest.mark.parametrize("bit", range(8))
def test_a_png_is_refused_if_a_bit_of_its_pixels_is_turned(bit):
    whole = encoded(smooth())
    places = range(whole.index(b"IDAT") + 4, len(whole) - 16, 97)
    for place in places:
        broken = bytearray(whole)
        broken[place] ^= 1 << bit
        with pytest.raises(InputError, match=r"checksum of chunk b'IDAT' does not match"):
            decode_image(bytes(broken), 3)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_png_whose_rows_end_early_is_refused_though_all_checksums_match(rows):
    content = png_file((3, 3), 8, GREY, [b"\1\2\3"] * rows)
    with pytest.raises(InputError, match=r"rows are missing|image file is truncated"):
        decode_image(content, 1)


def test_a_png_whose_last_rows_are_black_is_no_broken_one():
    for depth, color, row in ((1, GREY, b"\0"), (8, COLOUR, b"\0" * 9), (16, GREY, b"\0" * 6)):
        content = png_file((3, 3), depth, color, [row] * 3)
        assert decode_image(content, 3).tolist() == [[[0, 0, 0]] * 3] * 3


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (5, 3), (8, 8), (17, 9), (40, 33)])
def test_an_interlaced_png_is_whole_with_all_of_its_passes_and_not_with_less(size):
    width, height = size
    starts = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    rows = []
    for column, row, across, down in [*starts, (0, 1, 1, 2)]:
        columns = len(range(column, width, across))
        rows += [b"\0" * columns] * (len(range(row, height, down)) if columns else 0)
    fields = struct.pack(">IIBBBBB", width, height, 8, GREY, 0, 0, 1)

    def file(kept: int) -> bytes:
        pixels = zlib.compress(b"".join(b"\0" + row for row in rows[:kept]))
        parts = [chunk(b"IHDR", fields), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
        return SIGNATURE + b"".join(parts)

    assert decode_image(file(len(rows)), 1).shape == (height, width, 1)
    for kept in range(len(rows)):
        with pytest.raises(InputError, match=r"rows are missing|image file is truncated"):
            decode_image(file(kept), 1)


@pytest.mark.parametrize("kind", ["WEBP", "WEBP lossless", "TIFF", "TIFF deflate", "TIFF lzw"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_webp_or_tiff_is_refused(kind, part):
    options = {
        "WEBP lossless": {"lossless": True},
        "TIFF deflate": {"compression": "tiff_adobe_deflate"},
        "TIFF lzw": {"compression": "tiff_lzw"},
    }
    whole = encoded(smooth(), kind.split()[0], **options.get(kind, {}))
    with pytest.raises(InputError):
        decode_image(whole[: int(len(whole) * part)], 3)


@pytest.mark.parametrize("missing", [1, 2, 8])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
def test_the_last_bytes_of_an_image_are_missed(kind, missing):
    with pytest.raises(InputError):
        decode_image(encoded(smooth(), kind)[:-missing], 3)


@pytest.mark.parametrize("content", [b"\xff\xd8\xff", SIGNATURE, b"II*\0", b"RIFF\0\0\0\0WEBPVP8 "])
def test_a_file_that_has_no_more_than_its_mark_is_refused(content):
    for bands in (0, 3):
        with pytest.raises(InputError, match="cannot be decoded"):
            decode_image(content, bands)


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_png_with_a_corrupt_turn_is_refused_when_it_is_opened(place):
    broken = bytearray(exif_chunk(6))
    broken[-1] ^= 1
    content = png_file((2, 1), 8, GREY, [b"\1\2"], **{place: bytes(broken)})
    with pytest.raises(InputError, match=r"checksum .*eXIf"):
        EncodedImage(content, 1)
    assert image_size(content) is None


def test_an_exif_block_that_is_none_is_refused_when_the_image_is_opened():
    block = chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")
    content = png_file((2, 1), 8, GREY, [b"\1\2"], before=block)
    try:
        raster = EncodedImage(content, 1)
    except InputError:
        return
    assert raster.read(Window(0, 0, 1, 2)).values.tolist() == [[[1], [2]]]


def test_pillows_own_limit_of_pixels_has_no_say(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind in ("JPEG", "PNG", "WEBP"):
        content = encoded(smooth(20, 30), kind)
        assert decode_image(content, 3).shape == (20, 30, 3)
        assert image_size(content) == (20, 30)
        with pytest.raises(InputError, match="30x20 pixels exceed the limit of 599"):
            decode_image(content, 3, max_pixels=599)


def test_more_pixels_than_pillow_allows_are_decoded_where_the_user_allows_them():
    side = 13378
    assert side**2 > MAX_PIXELS
    row = zlib.compress(b"\0" * (1 + -(-side // 8)) * side)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, GREY, 0, 0, 0))
    content = SIGNATURE + header + chunk(b"IDAT", row) + chunk(b"IEND", b"")
    with pytest.raises(InputError, match=r"13378x13378 pixels exceed .*: raise --max_pixels"):
        EncodedImage(content, 1)
    assert EncodedImage(content, 1, max_pixels=side**2).height == side
    actual = decode_pixels(content, 1, max_pixels=side**2)
    assert actual.values.shape == (side, side, 1)
    assert not actual.values.any()


def test_every_error_of_a_hostile_header_is_one_of_the_input():
    whole = encoded(noise(3, 4))
    for kind in (b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"zTXt"):
        for body in (b"", b"\0", b"\xff" * 13, b"\0" * 300):
            content = whole[:33] + chunk(kind, body) + whole[33:]
            try:
                actual = decode_image(content, 3)
            except InputError:
                continue
            assert actual.shape == (3, 4, 3)
    with pytest.raises(InputError):
        decode_image(png_file((0, 5), 8, COLOUR, [b""] * 5), 3)


def test_what_is_read_before_an_error_is_not_a_result():
    raster = EncodedImage(encoded(smooth(), "JPEG")[:-2000], 3)
    for _ in range(2):
        with pytest.raises(InputError, match="truncated or corrupt JPEG"):
            raster.read(Window(0, 0, 8, 8))


def test_an_image_that_is_none_is_refused_when_it_is_opened():
    for content in (b"", b"text", io.BytesIO(encoded(smooth(), "BMP")).getvalue()):
        with pytest.raises(InputError):
            EncodedImage(content, 3)
