"""Directories of TIFFs, held against bounds before GDAL opens the file.

GDAL goes through all of them, copies the value of each tag, and takes time that grows with the
square of overviews and metadata. So a file of tags that share their bytes would take all memory,
and one that is nothing but directories would take minutes.

Source: TIFF 6.0, section 2; BigTIFF has longer numbers in the same places.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Literal, NamedTuple

from segmodel.errors import FailureCode, InputError

# Where GDAL looks for the mask and the overviews of a raster, and for those of each other.
SIDECARS = (".msk", ".ovr", ".MSK", ".OVR", ".msk.ovr", ".ovr.msk")
# What GDAL and we read as a whole; of tables of 65,536 classes, programs write some.
AUXILIARY, MAX_AUXILIARY_BYTES = ".aux.xml", 1 << 24
# GDAL takes 2 s for so many of each.
MAX_PAGES, MAX_OVERVIEWS, MAX_ELEMENTS = 1 << 15, 1 << 10, 1 << 14
MAX_METADATA_BYTES = 1 << 24
# libtiff reads no directory of more.
_MAX_TAGS = 4096
TIFF, BIG_TIFF = 42, 43
_SUBFILE_TYPE, _SUBDIRECTORIES, _METADATA = 254, 330, 42112
_LOOKED_AT = frozenset({_SUBFILE_TYPE, _SUBDIRECTORIES, _METADATA})
_REDUCED_OR_MASK = 1 | 4
# Bytes of a value by its type, and the types of places and of what an overview is marked by.
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_WIDTHS |= dict.fromkeys((16, 17, 18), 8)
_NUMBERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_UNSET = "remove them (gdal_edit.py -unsetmd)"
# Names by which GDAL opens one directory of a file, or samples as they are stored.
_PART = re.compile(r"(?i)GTIFF_(?:RAW|DIR(?::off:(?P<place>\d+)|:\d+)):(?P<path>.+)")


@dataclass(frozen=True)
class TiffForm:
    """How a TIFF writes numbers, and where it begins.

    Args:
        order: Order of bytes, as `struct` and numpy call it.
        version: 42 for a TIFF, 43 for a BigTIFF; EXIF blocks may have others.
        first: Place of its first directory.
    """

    order: Literal["<", ">"]
    version: int
    first: int

    @classmethod
    def of(cls, head: bytes) -> TiffForm | None:
        """The form of a file; None if it does not begin as a TIFF.

        Args:
            head: Its first 16 bytes, or more.
        """
        if head[:2] not in (b"II", b"MM") or len(head) < 8:
            return None
        name: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        version = int.from_bytes(head[2:4], name)
        width = 8 if version == BIG_TIFF else 4
        first = int.from_bytes(head[width : 2 * width], name)
        return cls("<" if name == "little" else ">", version, first)

    @property
    def count_bytes(self) -> int:
        """Bytes of the number of tags of a directory."""
        return 8 if self.version == BIG_TIFF else 2

    @property
    def place_bytes(self) -> int:
        """Bytes of a place in the file, and of the number of values of a tag."""
        return 8 if self.version == BIG_TIFF else 4


def check_file(name: str) -> None:
    """Refuse a file of this machine, or one beside it, as `check_directories` does.

    Args:
        name: Its path, or GDAL's name for a part of it; what cannot be read is for GDAL to say.

    Raises:
        InputError: Says what there is too much of, and in which file beside it.
    """
    part = _PART.fullmatch(name)
    path, place = (name, None) if part is None else (part["path"], part["place"])
    size = 0
    with suppress(OSError, ValueError):
        size = os.stat(path + AUXILIARY).st_size
    check_auxiliary(size)
    for suffix in ("", *SIDECARS):
        try:
            with open(path + suffix, "rb") as stream:
                check_directories(stream, suffix)
                if place and not suffix:
                    check_directories(stream, suffix, int(place))
        except InputError:
            raise
        except (OSError, ValueError):
            continue


def check_auxiliary(size: int) -> None:
    """Refuse an `.aux.xml` file beside a raster that takes GDAL far more memory than it has bytes.

    Args:
        size: Its bytes.

    Raises:
        InputError: If there are more than `MAX_AUXILIARY_BYTES`.
    """
    if size > MAX_AUXILIARY_BYTES:
        raise InputError(
            f"the {AUXILIARY} file beside it has {size:,} bytes, more than the limit of "
            f"{MAX_AUXILIARY_BYTES:,}: write it anew, or remove it if it says nothing that counts",
            code=FailureCode.UNSUPPORTED,
        )


def check_directories(stream: BinaryIO, suffix: str = "", first: int | None = None) -> None:
    """Refuse a TIFF of which GDAL would make much more than it is.

    Args:
        stream: The file; what is no TIFF passes.
        suffix: What its name has more than that of the raster, for errors.
        first: Place of the first directory, or None for that of the header.

    Raises:
        InputError: Says what there is too much of.
    """
    # To go to the end empties the buffer of a stream, so that comes first.
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    form = TiffForm.of(stream.read(16))
    if form is not None and form.version in (TIFF, BIG_TIFF):
        name = f"the {suffix} file beside it" if suffix else "the TIFF"
        _Walk(stream, size, form, name).check(form.first if first is None else first)


class _Tag(NamedTuple):
    number: int
    kind: int
    size: int
    place: int


class _Walk:
    """From one directory of a file to the next, and what there was so far.

    Args:
        stream: The file.
        size: Bytes that it has.
        form: How it writes numbers.
        name: What errors call it.
    """

    def __init__(self, stream: BinaryIO, size: int, form: TiffForm, name: str) -> None:
        self._stream, self._size, self._form, self._name = stream, size, form, name
        count, place = ("Q", "Q") if form.place_bytes == 8 else ("H", "I")
        self._counts, self._places = (struct.Struct(form.order + code) for code in (count, place))
        self._entry = struct.Struct(f"{form.order}HH{place}{place}")
        self._value_bytes = self._overviews = self._elements = 0

    def check(self, first: int) -> None:
        """Refuse what is above the bounds; see `check_directories`."""
        place, seen = first, set[int]()
        while place and place not in seen:
            seen.add(place)
            self._limit(len(seen), MAX_PAGES, "pages")
            tags, following = self._directory(place)
            subfile_type = self._numbers(tags, _SUBFILE_TYPE)
            if place == first or any(kind & _REDUCED_OR_MASK for kind in subfile_type):
                self._check_overview(tags)
            # GDAL looks for overviews that the first directory names, and no other.
            if place == first:
                for overview in self._numbers(tags, _SUBDIRECTORIES):
                    self._check_overview(self._directory(overview)[0])
            place = following

    def _check_overview(self, tags: list[_Tag]) -> None:
        self._overviews += 1
        self._limit(self._overviews, MAX_OVERVIEWS, "overviews and masks")
        for tag in tags:
            if tag.number == _METADATA:
                self._limit(tag.size, MAX_METADATA_BYTES, "bytes of metadata", _UNSET)
                text = self._bytes(tag.place, tag.size)
                self._elements += text.count(b"<") - text.count(b"</")
        self._limit(self._elements, MAX_ELEMENTS, "items of metadata", _UNSET)

    def _directory(self, place: int) -> tuple[list[_Tag], int]:
        """Tags of a directory that are looked at, and the place of the next one, or 0."""
        begin = place + self._counts.size
        head = self._bytes(place, self._counts.size) if begin <= self._size else b""
        count = self._counts.unpack(head)[0] if len(head) == self._counts.size else _MAX_TAGS + 1
        if count > _MAX_TAGS:
            return [], 0
        entries = self._stream.read(count * self._entry.size)
        end = self._stream.read(self._places.size)
        tags, room = [], self._places.size
        whole = len(entries) // self._entry.size * self._entry.size
        for number, kind, values, value in self._entry.iter_unpack(entries[:whole]):
            begin += self._entry.size
            size = values * _WIDTHS.get(kind, 0)
            at = value if size > room else begin - room
            if at + size <= self._size:
                self._value_bytes += size
                if number in _LOOKED_AT:
                    tags.append(_Tag(number, kind, size, at))
        if self._value_bytes > self._size:
            raise InputError(
                f"tags of {self._name} share their bytes, as no program writes: write it anew "
                f"(gdal_translate)",
                code=FailureCode.UNSUPPORTED,
            )
        return tags, self._places.unpack(end)[0] if len(end) == self._places.size else 0

    def _numbers(self, tags: list[_Tag], number: int) -> Iterator[int]:
        """The numbers of a tag, as far as there may be overviews."""
        for tag in tags:
            if tag.number == number and tag.kind in _NUMBERS:
                item = struct.Struct(self._form.order + _NUMBERS[tag.kind])
                content = self._bytes(tag.place, min(tag.size, (MAX_OVERVIEWS + 1) * item.size))
                yield from (value for (value,) in item.iter_unpack(content))

    def _bytes(self, place: int, size: int) -> bytes:
        self._stream.seek(place)
        return self._stream.read(size)

    def _limit(
        self, found: int, most: int, what: str, remedy: str = "write it anew (gdal_translate)"
    ) -> None:
        if found > most:
            raise InputError(
                f"{self._name} has more than {most:,} {what}, as no program writes: {remedy}",
                code=FailureCode.UNSUPPORTED,
            )
