"""Pages of a Parquet column, held against a limit before Arrow takes memory for them.

Arrow asks for a column from its first byte to its last, piece by piece, and inflates a page when it
has all of it. Here the pieces pass by before, so that headers cost neither requests nor memory.

Source: PageHeader in parquet.thrift of apache/parquet-format; compact protocol of Apache Thrift.
"""

import io
from contextlib import suppress
from typing import IO, Any

from segmodel.errors import FailureCode, InputError

# Each takes 20 microseconds. Writers put thousands of rows, or 1 MB, in a page.
MAX_PAGES = 1 << 18
# What is read of a header that does not end in the piece; Arrow reads no longer one.
_HEADER_BYTES = (1 << 16, 16 << 20)
# What is passed over in a header, each in a microsecond; no writer has more than ten.
_MAX_PARTS = 1 << 10
_MAX_DEPTH = 8
# Fields of a header by their number: type, sizes, structs that begin with the number of values.
_TYPE, _INFLATED, _STORED, _KINDS = 1, 2, 3, (5, 7, 8)
# The type of a page that Arrow copies.
_DICTIONARY = 2
# Types of fields: with a value in their own byte, one byte, whole numbers, and others.
_FLAGS, _BYTE, _NUMBERS, _NUMBER, _DOUBLE, _BINARY = (1, 2), 3, (4, 5, 6), 5, 7, 8
_LISTS, _MAP, _STRUCT = (9, 10), 11, 12


class PageStream(io.RawIOBase):
    """A stream from which Arrow reads the pages of one column, and nothing else.

    Args:
        stream: The file.
        most: Bytes that the pages of a row may take.
        value_bytes: What each value of a page takes beside the bytes of the page: 0 where a row has
            one value.
    """

    def __init__(self, stream: IO[bytes], most: int, value_bytes: int) -> None:
        self._stream, self._most, self._value_bytes = stream, most, value_bytes
        self._header: int | None = None
        self._pages = self._bytes = 0

    def begin_column(self) -> None:
        """What is read next are the pages of the column in a group of rows."""
        self._header, self._pages = None, 0
        self.begin_row()

    def begin_row(self) -> None:
        """What is read next is for another row."""
        self._bytes = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As that of a stream."""
        return self._stream.seek(offset, whence)

    def read(self, size: int = -1, /) -> bytes:
        """As that of a stream.

        Raises:
            InputError: If a page has more bytes than the limit, or the header of one is corrupt.
        """
        place = self._stream.tell()
        piece = self._stream.read(size)
        self._check(place, piece)
        # A header may have been read beyond the piece.
        self._stream.seek(place + len(piece))
        return piece

    def _check(self, place: int, piece: bytes) -> None:
        """Go from header to header as far as they begin in a piece of the file."""
        if self._header is None:
            self._header = place
        while self._header < place + len(piece):
            page, length = self._header_at(self._header, piece, self._header - place)
            inflated, stored = page.get(_INFLATED, -1), page.get(_STORED, -1)
            if inflated < 0 or stored < 0:
                raise _corrupt()
            values = max((page[kind].get(1, 0) for kind in _KINDS if kind in page), default=0)
            copies = 2 if page.get(_TYPE) == _DICTIONARY else 1
            self._count(copies * max(inflated, stored) + self._value_bytes * values)
            self._header += length + stored

    def _count(self, page_bytes: int) -> None:
        self._pages, self._bytes = self._pages + 1, self._bytes + page_bytes
        if self._pages > MAX_PAGES:
            raise InputError(
                f"a column has more than {MAX_PAGES} pages: write larger ones (pyarrow: "
                f"data_page_size)",
                code=FailureCode.TOO_LARGE,
            )
        if self._bytes > self._most:
            raise InputError(
                f"a row needs pages of {self._bytes} bytes, and the limit is {self._most}: write "
                f"pages of few rows (pyarrow: write_batch_size=1, row_group_size=100, "
                f"compression='none', use_dictionary=False), or raise --memory and --max_pixels",
                code=FailureCode.TOO_LARGE,
            )

    def _header_at(self, place: int, piece: bytes, begin: int) -> tuple[dict[int, Any], int]:
        """Fields and length of a header at a place of the file, which is `begin` in the piece."""
        if begin < 0:
            raise _corrupt()
        with suppress(IndexError):
            return _header_in(piece, begin)
        # It goes on behind the piece.
        for most in _HEADER_BYTES:
            self._stream.seek(place)
            with suppress(IndexError):
                return _header_in(self._stream.read(most), 0)
        raise _corrupt()


def _corrupt() -> InputError:
    return InputError("the header of a page is corrupt", code=FailureCode.CORRUPT_SHARD)


def _header_in(content: bytes, begin: int) -> tuple[dict[int, Any], int]:
    """Fields and length of a header; an `IndexError` says that it goes on behind the content."""
    header = _Header(content, begin)
    return header.fields(), header.place - begin


class _Header:
    """A struct, read as Arrow does: what has another type than it should have is no field."""

    def __init__(self, content: bytes, place: int) -> None:
        self._bytes, self.place, self._parts = content, place, 0

    def fields(self, depth: int = 0) -> dict[int, Any]:
        """Numbers of 32 bits, and structs in it; all else is passed over."""
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            field = (field + step if step else self._number()) % (1 << 16)
            if kind == _NUMBER:
                found[field] = self._number()
            elif kind == _STRUCT:
                found[field] = self._struct(depth + 1)
            elif kind not in _FLAGS:
                self._skip(kind, depth + 1)
        return found

    def _struct(self, depth: int) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise _corrupt()
        return self.fields(depth)

    def _skip(self, kind: int, depth: int) -> None:
        """Pass over a value; a flag in a list takes a byte of its own."""
        self._parts += 1
        if self._parts > _MAX_PARTS or depth > _MAX_DEPTH:
            raise _corrupt()
        if kind == _STRUCT:
            self.fields(depth)
        elif kind == _BINARY:
            self._pass(self._varint())
        elif kind in _NUMBERS:
            self._varint()
        elif kind in (*_FLAGS, _BYTE):
            self._pass(1)
        elif kind == _DOUBLE:
            self._pass(8)
        elif kind in _LISTS:
            head = self._byte()
            self._skip_items(self._varint() if head >> 4 == 15 else head >> 4, (head & 15,), depth)
        elif kind == _MAP:
            count = self._varint()
            head = self._byte() if count else 0
            self._skip_items(count, (head >> 4, head & 15), depth)
        else:
            raise _corrupt()

    def _skip_items(self, count: int, kinds: tuple[int, ...], depth: int) -> None:
        for _ in range(count):
            for kind in kinds:
                self._skip(kind, depth + 1)

    def _pass(self, count: int) -> None:
        self.place += count
        if self.place > len(self._bytes):
            raise IndexError

    def _byte(self) -> int:
        self._pass(1)
        return self._bytes[self.place - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise _corrupt()

    def _number(self) -> int:
        """A number of 32 bits with sign, which is the lowest bit."""
        value = self._varint() % (1 << 32)
        return value >> 1 ^ -(value & 1)
