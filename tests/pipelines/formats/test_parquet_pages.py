"""Headers of pages are read as Arrow reads them, also those that no writer writes."""

from __future__ import annotations

import io

import pytest

from pipelines.formats.parquet_pages import PageStream
from segmodel.errors import FailureCode, InputError

NUMBER, LONG, BINARY, LIST, MAP, STRUCT = 5, 6, 8, 9, 11, 12
DATA, DICTIONARY = 0, 2


def varint(number: int) -> bytes:
    packed = bytearray()
    while number > 127:
        packed.append(number & 127 | 128)
        number >>= 7
    return bytes([*packed, number])


def number(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def field(place: int, kind: int, content: bytes) -> bytes:
    """With its number in full, so that fields may have any order."""
    return bytes([kind]) + number(place) + content


def sizes(inflated: int, stored: int, kind: int = DATA) -> bytes:
    values = zip((1, 2, 3), (kind, inflated, stored), strict=True)
    return b"".join(field(place, NUMBER, number(value)) for place, value in values)


def check(content: bytes, most: int, value_bytes: int = 0, piece: int = -1) -> None:
    """Read a column, as Arrow does, piece by piece."""
    stream = PageStream(io.BytesIO(b"PAR1" + content), most, value_bytes)
    stream.begin_column()
    stream.seek(4)
    while stream.read(piece):
        pass


def refused(content: bytes, most: int, **options) -> tuple[FailureCode, str]:
    with pytest.raises(InputError) as caught:
        check(content, most, **options)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize("piece", [1, 2, 7, 40, -1])
@pytest.mark.parametrize(("inflated", "stored"), [(900, 30), (30, 900)])
def test_the_larger_size_of_a_page_counts_wherever_pieces_end(inflated, stored, piece):
    small = sizes(10, 10) + b"\0" + bytes(10)
    content = small + sizes(inflated, stored) + b"\0" + bytes(stored)
    check(content, 910, piece=piece)
    code, reason = refused(small * 2 + content, 899, piece=piece)
    assert code == FailureCode.TOO_LARGE
    assert "bytes, and the limit is 899: write pages of few rows" in reason


def test_pages_of_another_row_do_not_count():
    page = sizes(600, 2) + b"\0" + bytes(2)
    stream = PageStream(io.BytesIO(page * 2), 1000, 0)
    stream.begin_column()
    for _ in range(2):
        stream.begin_row()
        assert stream.read(len(page)) == page
    assert "needs pages of 1200 bytes" in refused(page * 2, 1000)[1]


def test_a_dictionary_counts_twice_as_arrow_copies_it():
    content = sizes(600, 2, DICTIONARY) + b"\0" + bytes(2)
    check(content, 1200)
    assert "needs pages of 1200 bytes" in refused(content, 1199)[1]


@pytest.mark.parametrize("place", [5, 8])
def test_values_of_a_list_count_beside_their_bytes(place):
    about = field(place, STRUCT, field(1, NUMBER, number(100)) + b"\0")
    content = sizes(50, 2) + about + b"\0" + bytes(2)
    check(content, 1650, value_bytes=16)
    assert "needs pages of 1650 bytes" in refused(content, 1649, value_bytes=16)[1]


@pytest.mark.parametrize(
    "other",
    [
        field(2, LONG, number(1)),
        field(2, BINARY, varint(3) + b"abc"),
        field(9, STRUCT, field(2, NUMBER, number(1)) + b"\0"),
        field(9, LIST, bytes([3 << 4 | NUMBER]) + number(1) * 3),
        field(9, LIST, bytes([15 << 4 | 1]) + varint(20) + bytes(20)),
        field(9, MAP, varint(2) + bytes([BINARY << 4 | 7]) + (varint(1) + b"k" + bytes(8)) * 2),
        field(9, MAP, varint(0)),
        field(9, 1, b"") + field(9, 3, b"\2"),
        field(9, BINARY, varint(70_000) + bytes(70_000)),
    ],
)
def test_what_is_no_size_is_passed_over(other):
    content = other + sizes(900, 5) + other + b"\0" + bytes(5)
    check(content * 2, 1800)
    for piece in (64, -1):
        assert "needs pages of 1800 bytes" in refused(content * 2, 1799, piece=piece)[1]


def test_numbers_have_32_bits_as_for_arrow():
    content = field(2, NUMBER, varint(1 << 40 | 1800)) + field(3, NUMBER, number(1)) + b"\0x"
    assert "needs pages of 900 bytes" in refused(content, 899)[1]
    wrapped = field(2 + (1 << 16), NUMBER, number(900)) + field(3, NUMBER, number(1)) + b"\0x"
    assert "needs pages of 900 bytes" in refused(wrapped, 899)[1]


@pytest.mark.parametrize(
    "header",
    [
        b"\0",
        field(2, NUMBER, number(9)) + b"\0",
        field(3, NUMBER, number(9)) + b"\0",
        sizes(-1, 9) + b"\0",
        sizes(9, -1) + b"\0",
        field(9, 13, b"") + sizes(9, 9) + b"\0",
        field(9, LIST, b"\0") + b"\xff" * 9,
        field(9, LIST, bytes([15 << 4 | 3]) + varint(1 << 30)) + bytes(5000),
        field(9, STRUCT, b"") * 50 + bytes(60),
        field(9, LIST, bytes([1 << 4 | LIST]) * 50) + bytes(60),
        field(9, NUMBER, b"\xff" * 11),
        sizes(9, 9),
    ],
)
def test_a_header_that_no_writer_writes_is_corrupt(header):
    assert refused(header, 100) == (FailureCode.CORRUPT_SHARD, "the header of a page is corrupt")
