"""Images that ask for more than they give, and decoders that are short of memory."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from segmodel.errors import InputError
from segmodel.images import decoders
from segmodel.images.decoders import jpeg_scans, webp_size
from segmodel.images.encoded import EncodedImage, decode_image
from tests.segmodel.pictures import encoded, exif, noise, smooth

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
    monkeypatch.setattr(decoders.simplejpeg, "decode_jpeg_header", pytest.fail)
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
    monkeypatch.setattr(decoders.np, "empty", exhausted)
    with pytest.raises(MemoryError):
        decode_image(content, 3)


def test_a_jpeg_without_memory_is_not_taken_for_broken(monkeypatch):
    def short(*arguments, **options):
        raise ValueError("Insufficient memory (case 4)")

    monkeypatch.setattr(decoders.simplejpeg, "decode_jpeg", short)
    with pytest.raises(MemoryError, match="case 4"):
        decode_image(encoded(smooth(), "JPEG"), 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_note_without_memory_is_not_taken_for_broken(monkeypatch, kind):
    content = encoded(Image.fromarray(noise()), kind, exif=exif(6))
    monkeypatch.setattr(decoders, "_orientation", exhausted)
    with pytest.raises(MemoryError):
        EncodedImage(content, 3)
