"""Images that ask for more than they give, and decoders that are short of memory."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segmodel.errors import FailureCode, InputError
from segmodel.images import jpeg, orientation, png, webp
from segmodel.images import tiff as tiff_module
from segmodel.images.encoded import EncodedImage, decode_image
from segmodel.images.jpeg import check_jpeg_scans, jpeg_scans
from segmodel.images.limits import MAX_PIXELS
from segmodel.images.orientation import stated_orientation
from segmodel.images.webp import webp_size
from tests.segmodel.pictures import COLOUR, chunk, encoded, exif, noise, png_file, smooth

SCAN = b"\xff\xda"


def tiff(side: int, twice: int | None = None) -> bytes:
    """One of 16x16 pixels in a tile of `side`; `twice` is what its header says of it again."""
    data = zlib.compress(bytes(side * side))
    sides = [(322, side), (323, side)]
    if twice is not None:
        sides = [(322, side), (322, twice), (323, side), (323, twice)]
    count = 10 + len(sides)
    begin = 8 + 2 + 12 * count + 4
    tags = [(256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (284, 1), *sides]
    tags += [(324, begin), (325, len(data)), (339, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, count) + entries + bytes(4) + data


def test_a_tile_larger_than_the_limit_is_refused_before_it_is_decoded():
    assert decode_image(tiff(64), 1, max_pixels=64 * 64).shape == (16, 16, 1)
    with pytest.raises(InputError, match="tiles of 80x80 pixels, above the limit of 4096"):
        EncodedImage(tiff(80), 1, max_pixels=64 * 64)


def test_a_tiff_that_states_a_tag_twice_is_refused():
    with pytest.raises(InputError, match="truncated or corrupt TIFF: its header contradicts"):
        EncodedImage(tiff(64, twice=16), 1, max_pixels=32 * 32)


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    whole = encoded(smooth(), "JPEG", progressive=True)
    last = whole.rindex(SCAN)
    return whole[:last] + whole[last:-2] * count + whole[-2:]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(monkeypatch):
    usual = jpeg_scans(with_scans(1), 0)
    assert usual == 10
    assert jpeg_scans(with_scans(200), 128) == usual + 199
    assert jpeg_scans(encoded(smooth(), "JPEG") + SCAN * 200, 0) == 1
    monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg_header", pytest.fail)
    with pytest.raises(InputError, match="more than 128 scans"):
        decode_image(with_scans(200), 3)


@pytest.mark.parametrize("options", [{"progressive": True}, {"exif": exif(6)}, {}])
def test_what_looks_like_scans_beside_the_picture_does_no_harm(options):
    whole = encoded(smooth(), "JPEG", **options)
    notes = b"\xff\xed" + struct.pack(">H", 2 + 2000) + SCAN * 1000
    content = whole[:2] + notes + whole[2:] + SCAN * 1000
    np.testing.assert_array_equal(decode_image(content, 3), decode_image(whole, 3))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 40)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_the_size_of_a_webp_is_that_of_its_header(size, mode, lossless):
    values = noise(*size, bands=len(mode))
    content = encoded(values, "WEBP", lossless=lossless, exif=exif(1) if size[0] > 1 else b"")
    assert webp_size(content) == size[::-1]
    with pytest.raises(InputError, match="pixels exceed the limit"):
        decode_image(content, 3, max_pixels=size[0] * size[1] - 1)


def test_what_is_no_webp_has_no_size():
    whole = encoded(noise(), "WEBP", lossless=True)
    for content in (b"", whole[:25], whole[:12] + b"ABCD" + whole[16:], whole[:20] + bytes(20)):
        assert webp_size(content) is None


def exhausted(*arguments, **options):
    raise MemoryError


def test_a_webp_without_memory_for_its_canvases_is_not_taken_for_broken(monkeypatch):
    content = encoded(noise(), "WEBP")[:-9]
    with pytest.raises(InputError, match="cannot be decoded"):
        decode_image(content, 3)
    monkeypatch.setattr(webp.np, "empty", exhausted)
    with pytest.raises(MemoryError):
        decode_image(content, 3)


def test_a_jpeg_without_memory_is_not_taken_for_broken(monkeypatch):
    def short(*arguments, **options):
        raise ValueError("Insufficient memory (case 4)")

    monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg", short)
    with pytest.raises(MemoryError, match="case 4"):
        decode_image(encoded(smooth(), "JPEG"), 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_note_without_memory_is_not_taken_for_broken(monkeypatch, kind):
    content = encoded(Image.fromarray(noise()), kind, exif=exif(6))
    monkeypatch.setattr(orientation, "read_tags", exhausted)
    with pytest.raises(MemoryError):
        EncodedImage(content, 3)


def directory(entries: list[tuple[int, int, int, int]], order: str = "<") -> bytes:
    """A TIFF header and its first directory: number, type, count and value of each tag."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    packed = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return mark + struct.pack(f"{order}IH", 8, len(entries)) + packed + bytes(4)


def traced_peak(run) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


SHARED = directory([(tag, 7, 1 << 20, 8) for tag in range(274)] + [(274, 3, 1, 6)]) + bytes(1 << 20)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_tags_of_a_note_that_share_their_bytes_take_no_memory(kind):
    content = encoded(Image.fromarray(noise(4, 6)), kind, exif=b"Exif\0\0" + SHARED)
    opened = []
    assert traced_peak(lambda: opened.append(EncodedImage(content, 3))) < 16 * len(SHARED)
    assert (opened[0].height, opened[0].width) == (6, 4)


def test_tags_of_a_tiff_that_share_their_bytes_take_no_memory():
    whole = tiff(64)
    begin = 10 + 12 * struct.unpack_from("<H", whole, 8)[0]
    entries = [struct.unpack_from("<HHII", whole, place) for place in range(10, begin, 12)]
    tags = directory([*entries, *((tag, 7, 1 << 20, 8) for tag in range(40000, 40200))])
    content = tags + bytes(1 << 20)
    assert traced_peak(lambda: EncodedImage(content, 1)) < 1 << 20
    assert EncodedImage(content, 1).height == 16
    with pytest.raises(InputError, match="tags of the TIFF share their bytes") as caught:
        decode_image(content, 1)
    assert caught.value.code == FailureCode.UNSUPPORTED


@given(
    st.sampled_from("<>"),
    st.lists(
        st.tuples(
            st.sampled_from([1, 273, 274, 274, 275]),
            st.integers(0, 17),
            st.integers(0, 5),
            st.integers(0, 9) | st.integers(0, 100) | st.integers(0, (1 << 32) - 1),
        ),
        max_size=6,
    ),
    st.integers(0, 90),
)
def test_a_turn_is_read_of_any_note_as_pillow_reads_it(order, entries, kept):
    note = (directory(entries, order) + bytes(range(1, 20)))[: 8 + kept]
    block = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        block.load(b"Exif\0\0" + note)
        expected = block.get(274, 1)
    assert stated_orientation(b"Exif\0\0" + note, b"") == (
        expected if isinstance(expected, int) else 1
    )


def bomb(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


def test_what_a_png_holds_beside_its_pixels_is_not_inflated(monkeypatch):
    values = noise(4, 6)
    rows = [row.tobytes() for row in values]
    notes = [chunk(b"iCCP", b"a\0\0" + bomb(1 << 24)), chunk(b"zTXt", b"a\0\0" + bomb(1 << 24))]
    content = png_file((6, 4), 8, COLOUR, rows, *map(b"".join, (notes, notes[1:])))
    np.testing.assert_array_equal(decode_image(content, 3), values)


def test_a_png_of_any_number_of_chunks_of_pixels_is_decoded_up_to_a_limit(monkeypatch):
    values = noise(4, 6)
    rows = [row.tobytes() for row in values]
    content = png_file((6, 4), 8, COLOUR, rows, chunk(b"IDAT", b"") * 500, chunk(b"IDAT", b""))
    np.testing.assert_array_equal(decode_image(content, 3), values)
    monkeypatch.setattr(png, "MAX_PARTS", 504)
    assert decode_image(content, 3).shape == (4, 6, 3)
    monkeypatch.setattr(png, "MAX_PARTS", 503)
    with pytest.raises(InputError, match="the PNG has chunks, and more than") as caught:
        decode_image(content, 3)
    assert caught.value.code == FailureCode.UNSUPPORTED


def test_a_jpeg_of_too_many_segments_is_refused(monkeypatch):
    whole = encoded(smooth(), "JPEG")
    notes = whole[:2] + b"\xff\xfe\0\2" * 500 + whole[2:]
    np.testing.assert_array_equal(decode_image(notes, 3), decode_image(whole, 3))
    monkeypatch.setattr(jpeg, "MAX_SEGMENTS", 500)
    with pytest.raises(InputError, match="the JPEG has segments, and more than") as caught:
        decode_image(notes, 3)
    assert caught.value.code == FailureCode.UNSUPPORTED


def test_filling_between_the_segments_of_a_jpeg_is_passed_over_once():
    whole = encoded(smooth(), "JPEG")
    filled = whole[:2] + b"\xff" * 300_000 + whole[2:]
    np.testing.assert_array_equal(decode_image(filled, 3), decode_image(whole, 3))
    with pytest.raises(InputError):
        decode_image(whole[:3] + b"\xff" * 300_000 + b"\0" + whole[3:], 3)


@pytest.mark.parametrize(("pixels", "most"), [(1, 128), (MAX_PIXELS, 12), (4 * MAX_PIXELS, 3)])
def test_the_more_pixels_a_jpeg_has_the_fewer_scans_it_may_have(pixels, most):
    assert jpeg_scans(with_scans(1), 0) == 10
    if most > 9:
        check_jpeg_scans(with_scans(most - 9), pixels)
    with pytest.raises(InputError, match=f"more than {most} scans") as caught:
        check_jpeg_scans(with_scans(max(1, most - 8)), pixels)
    assert caught.value.code == FailureCode.UNSUPPORTED


def test_a_tiff_of_too_many_strips_is_refused(monkeypatch):
    content = encoded(noise(30, 2), "TIFF", tiffinfo={278: 1})
    monkeypatch.setattr(tiff_module, "MAX_PARTS", 30)
    np.testing.assert_array_equal(decode_image(content, 3), noise(30, 2))
    monkeypatch.setattr(tiff_module, "MAX_PARTS", 29)
    with pytest.raises(InputError, match="the TIFF has strips or tiles, and more than") as caught:
        decode_image(content, 3)
    assert caught.value.code == FailureCode.UNSUPPORTED


def test_strips_of_a_tiff_that_share_more_bytes_than_they_have_pixels_are_refused():
    whole = tiff(64)
    place = whole.index(struct.pack("<HHI", 325, 4, 1)) + 8
    more = whole[:place] + struct.pack("<I", 20_000) + whole[place + 4 :] + bytes(30_000)
    with pytest.raises(InputError, match="its strips or tiles have more bytes than pixels"):
        decode_image(more, 1)
