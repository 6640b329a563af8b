"""A raster and its overviews, each a tiled GeoTIFF, laid out as one Cloud Optimized GeoTIFF.

Tiles are copied as they are compressed. Directories come first, then the tiles of the smallest
overview, and those of the raster at the end, each level row by row.

Source: TIFF 6.0, section 2, and BigTIFF; "Header ghost area" of GDAL's page of the COG driver.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

import numpy as np

from segmodel.rasters.directories import BIG_TIFF, TiffForm

_GHOST = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_SUBFILE_TYPE, _TILE_OFFSETS, _TILE_BYTES = 254, 324, 325
# Size, bits, compression, colour, bands, tiles, nodata: what an overview is decoded and shown by.
_OF_PIXELS = frozenset({256, 257, 258, 259, 262, 277, 284, 317, 320, 322, 323, 338, 339, 42113})
_LONG, _LONG8 = 4, 16
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_NUMBERS = {3: "<u2", _LONG: "<u4", _LONG8: "<u8"}
# Of the bytes before a tile, which say how many it has, and of its last ones, repeated after it.
_AROUND = 4
# What tags point to stands in this order, and then by their numbers, as the COG driver of GDAL has
# it: so a map has the bytes that GDAL 3.10 gives it.
_FIRST = (258, 320, 338, 339, 306, 305, 42112, 42113)


class _Tag(NamedTuple):
    kind: int
    values: int
    content: bytes


class _Level(NamedTuple):
    """A raster or an overview.

    Args:
        tags: Its tags, but those of its tiles.
        sizes: Bytes of its tiles, row by row; int64.
        offsets: Places of their first bytes in a file; int64.
    """

    tags: Mapping[int, _Tag]
    sizes: np.ndarray
    offsets: np.ndarray

    @property
    def overview(self) -> "_Level":
        """The same without what only the raster that it is an overview of has to say."""
        tags = {number: tag for number, tag in self.tags.items() if number in _OF_PIXELS}
        return self._replace(tags=tags | {_SUBFILE_TYPE: _Tag(_LONG, 1, struct.pack("<I", 1))})


def write_optimized(path: str, names: Sequence[str]) -> None:
    """Write a Cloud Optimized GeoTIFF.

    Args:
        path: File to write.
        names: Files of the raster and of its overviews, each half as large as the one before: all
            of them TIFFs or all BigTIFFs, with numbers in little-endian order, and tiles of one
            size that hold all bands.
    """
    with ExitStack() as stack:
        streams = [stack.enter_context(open(name, "rb")) for name in names]
        forms = [_form_of(stream) for stream in streams]
        levels = [_level_of(*pair) for pair in zip(streams, forms, strict=True)]
        levels = [levels[0], *(level.overview for level in levels[1:])]
        with open(path, "wb") as target:
            target.write(_head(levels, forms[0].version))
            for stream, level in reversed([*zip(streams, levels, strict=True)]):
                for offset, size in zip(level.offsets.tolist(), level.sizes.tolist(), strict=True):
                    stream.seek(offset)
                    tile = stream.read(size)
                    target.write(struct.pack("<I", size) + tile + tile[-_AROUND:])


def _form_of(stream: BinaryIO) -> TiffForm:
    """How a file writes numbers."""
    form = TiffForm.of(stream.read(16))
    assert form is not None
    return form


def _level_of(stream: BinaryIO, form: TiffForm) -> _Level:
    """The raster of the first directory of a file."""
    tags = dict(_tags(stream, form))
    sizes, offsets = (
        np.frombuffer(tag.content, _NUMBERS[tag.kind]).astype(np.int64)
        for tag in (tags.pop(_TILE_BYTES), tags.pop(_TILE_OFFSETS))
    )
    return _Level(tags, sizes, offsets)


def _tags(stream: BinaryIO, form: TiffForm) -> Iterator[tuple[int, _Tag]]:
    """Tags of the first directory of a file, by their number."""
    head, entry = _structs(form.version)
    stream.seek(form.first)
    (count,) = head.unpack(stream.read(head.size))
    for number, kind, values, content in entry.iter_unpack(stream.read(count * entry.size)):
        size = values * _WIDTHS[kind]
        if size > len(content):
            stream.seek(int.from_bytes(content, "little"))
            content = stream.read(size)
        yield number, _Tag(kind, values, content[:size])


def _structs(version: int) -> tuple[struct.Struct, struct.Struct]:
    """How the number of tags of a directory is written, and each of them."""
    names = ("<Q", "<HHQ8s") if version == BIG_TIFF else ("<H", "<HHI4s")
    return struct.Struct(names[0]), struct.Struct(names[1])


def _head(levels: Sequence[_Level], version: int) -> bytes:
    """All of a file that stands before its tiles."""
    # What it says of places does not change its length.
    directories, arrays = _directories(levels, version, 0)
    placed, place = [], len(directories) + len(arrays)
    for level in reversed(levels):
        ends = place + np.cumsum(level.sizes + 2 * _AROUND)
        placed.append(level._replace(offsets=ends - level.sizes - _AROUND))
        place = int(ends[-1])
    return b"".join(_directories(placed[::-1], version, len(directories)))


def _directories(levels: Sequence[_Level], version: int, arrays_at: int) -> tuple[bytes, bytes]:
    """The header, the ghost area and all directories; then the places and sizes of their tiles.

    So a reader has all directories in the first bytes of a file, however many tiles it has.

    Args:
        levels: The raster and its overviews.
        version: That of a TIFF, or of a BigTIFF.
        arrays_at: Place of the second part in the file.
    """
    ghost = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n%b" % (len(_GHOST), _GHOST)
    if version == BIG_TIFF:
        size, head = 8, b"II" + struct.pack("<HHH", version, 8, 0)
    else:
        size, head = 4, b"II" + struct.pack("<H", version)
    first = _even(len(head) + size + len(ghost))
    head = (head + first.to_bytes(size, "little") + ghost).ljust(first, b"\0")
    arrays = b""
    for level in levels:
        is_last, places = level is levels[-1], (len(head), arrays_at + len(arrays))
        directory, of_tiles = _directory(level, version, places, is_last)
        head, arrays = head + directory, arrays + of_tiles
    return head, arrays


def _directory(
    level: _Level, version: int, places: tuple[int, int], is_last: bool
) -> tuple[bytes, bytes]:
    """A directory with the values that its tags point to; apart, those of its tiles.

    Args:
        level: What the directory is of.
        version: That of a TIFF, or of a BigTIFF.
        places: Places of both parts in the file.
        is_last: Whether no directory follows this one.
    """
    head, entry = _structs(version)
    kind, room = (_LONG8, 8) if version == BIG_TIFF else (_LONG, 4)
    tags = dict(level.tags)
    for number, numbers in ((_TILE_OFFSETS, level.offsets), (_TILE_BYTES, level.sizes)):
        tags[number] = _Tag(kind, len(numbers), numbers.astype(_NUMBERS[kind]).tobytes())
    behind = places[0] + head.size + len(tags) * entry.size + room
    values, arrays, places_of = b"", b"", dict[int, int]()
    for number in sorted(tags, key=_rank):
        content = tags[number].content
        if len(content) > room and number in (_TILE_OFFSETS, _TILE_BYTES):
            places_of[number] = places[1] + len(arrays)
            arrays += content
        elif len(content) > room:
            places_of[number] = behind + len(values)
            values += content.ljust(_even(len(content)), b"\0")
    entries = head.pack(len(tags))
    for number, tag in sorted(tags.items()):
        place = places_of.get(number)
        content = tag.content if place is None else place.to_bytes(room, "little")
        entries += entry.pack(number, tag.kind, tag.values, content)
    following = 0 if is_last else behind + len(values)
    return entries + following.to_bytes(room, "little") + values, arrays


def _rank(number: int) -> tuple[int, int]:
    """Where the value of a tag stands among others."""
    return (_FIRST.index(number) if number in _FIRST else len(_FIRST)), number


def _even(size: int) -> int:
    """The next even number: directories and values begin at one."""
    return size + size % 2
