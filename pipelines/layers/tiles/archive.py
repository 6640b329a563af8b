"""Tiles as one PMTiles archive, version 3, written in one go from parts.

Source: PMTiles Version 3 Specification, https://github.com/protomaps/PMTiles.
"""

import gzip
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple, cast

import numpy as np
from pmtiles.tile import (
    Compression,
    Entry,
    HeaderDict,
    TileType,
    serialize_directory,
    serialize_header,
    tileid_to_zxy,
)

from pipelines.layers.tiles.tile_parts import TilePart
from pipelines.storage.threads import in_order

HEADER_BYTES = 127
# Header and root directory are within the first 16 KiB of an archive.
ROOT_BYTES = (16 << 10) - HEADER_BYTES
# Entries of a leaf directory; more where the root would have more leaves than it has room for.
LEAF_ENTRIES = 4096
MAX_LEAVES = 1000
# Contents that are remembered, so that those that come again are stored once.
REMEMBERED = 1 << 18
TILE_TYPES = {"png": TileType.PNG, "webp": TileType.WEBP}


@dataclass(frozen=True)
class StoredRange:
    """Tiles of one zoom in one part: those of its index from `first` up to `last`."""

    part: TilePart
    index: np.ndarray
    first: int
    last: int

    @property
    def rows(self) -> np.ndarray:
        """What the index says of them."""
        return self.index[self.first : self.last]

    def contents(self) -> Iterator[tuple[np.void, bytes]]:
        """What the index says of each, and the encoded tile; all are read at once."""
        images = self.part.read_images(self.index, self.first, self.last)
        return zip(self.rows, images, strict=True)


# All ranges of an archive in order of their tiles; made anew for each of the two times of reading.
Ranges = Callable[[], Iterable[StoredRange]]


@dataclass(frozen=True)
class ArchiveHead:
    """What an archive says of itself.

    Args:
        form: Format of the tiles, of `TILE_TYPES`.
        max_zoom: Deepest zoom.
        bounds: West, south, east and north in degrees.
        metadata: What viewers show, such as classes and colours.
    """

    form: str
    max_zoom: int
    bounds: tuple[float, float, float, float]
    metadata: dict[str, Any]


class ArchiveCounts(NamedTuple):
    """What an archive has: tiles, those that are stored, bytes, and zooms with tiles."""

    tiles: int
    stored: int
    bytes: int
    min_zoom: int
    max_zoom: int


class _Layout:
    """Gives tiles their place in an archive, each content once.

    What is remembered depends on the order of tiles alone, so that a second pass over them finds
    the same.
    """

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self.offset = self.tiles = self.contents = 0
        self.first: int | None = None

    def place(self, row: np.void) -> tuple[int, bool]:
        """Where a tile of an index is, and whether it is stored now."""
        digest, length = row["digest"].tobytes(), int(row["length"])
        self.tiles += 1
        self.first = int(row["id"]) if self.first is None else self.first
        known = self._places.get(digest)
        if known is not None:
            return known, False
        found, self.offset, self.contents = self.offset, self.offset + length, self.contents + 1
        if len(self._places) < REMEMBERED:
            self._places[digest] = found
        return found, True


def write_archive(
    stream: IO[bytes], ranges: Ranges, tiles: int, head: ArchiveHead
) -> ArchiveCounts:
    """Write an archive; one leaf directory and the tiles of one range are in memory at a time.

    Args:
        stream: File of the archive.
        ranges: All tiles, in order of their numbers.
        tiles: How many they are.
        head: What the archive says of itself.

    Returns:
        How many tiles there are, and how many are stored.
    """
    layout = _Layout()
    with tempfile.TemporaryFile() as leaf_stream:
        root, count = _write_directories(leaf_stream, _entries(ranges(), layout), tiles)
        leaf_bytes = leaf_stream.tell()
        metadata = gzip.compress(json.dumps(head.metadata).encode(), mtime=0)
        header = _header(head, layout) | {"tile_entries_count": count}
        start = HEADER_BYTES
        for name, length in (
            ("root", len(root)),
            ("metadata", len(metadata)),
            ("leaf_directory", leaf_bytes),
            ("tile_data", layout.offset),
        ):
            header |= {f"{name}_offset": start, f"{name}_length": length}
            start += length
        stream.write(serialize_header(cast(HeaderDict, header)))
        stream.write(root + metadata)
        leaf_stream.seek(0)
        shutil.copyfileobj(leaf_stream, stream)
    for content in _contents(ranges(), _Layout()):
        stream.write(content)
    zooms = header["min_zoom"], header["max_zoom"]
    return ArchiveCounts(layout.tiles, layout.contents, start, *zooms)


def _entries(ranges: Iterable[StoredRange], layout: _Layout) -> Iterator[Entry]:
    """Entries of the directories; what follows with the same content is one run."""
    entry = None
    for found in ranges:
        for row in found.rows:
            number, length = int(row["id"]), int(row["length"])
            offset, _ = layout.place(row)
            if entry is None:
                entry = Entry(number, offset, length, 1)
            elif (number, offset) == (entry.tile_id + entry.run_length, entry.offset):
                entry.run_length += 1
            else:
                yield entry
                entry = Entry(number, offset, length, 1)
    if entry is not None:
        yield entry


def _contents(ranges: Iterable[StoredRange], layout: _Layout) -> Iterator[bytes]:
    """What is stored, in order."""
    for found in ranges:
        for row, image in found.contents():
            _, is_new = layout.place(row)
            if is_new:
                yield image


def _write_directories(
    leaf_stream: IO[bytes], entries: Iterable[Entry], most: int
) -> tuple[bytes, int]:
    """Write leaf directories, if one directory is not enough.

    Args:
        leaf_stream: File of the leaf directories.
        entries: All entries, in order.
        most: How many they may be.

    Returns:
        The root directory, and the number of entries.
    """
    size = max(LEAF_ENTRIES, -(-most // MAX_LEAVES))
    root: list[Entry] = []
    held: list[Entry] = []
    count = 0

    def flush() -> None:
        content = serialize_directory(held)
        root.append(Entry(held[0].tile_id, leaf_stream.tell(), len(content), 0))
        leaf_stream.write(content)
        held.clear()

    for entry in entries:
        if len(held) == size:
            flush()
        held.append(entry)
        count += 1
    if not root:
        alone = serialize_directory(held)
        if len(alone) <= ROOT_BYTES:
            return alone, count
    if held:
        flush()
    return serialize_directory(root), count


def _header(head: ArchiveHead, layout: _Layout) -> dict[str, Any]:
    min_zoom = head.max_zoom if layout.first is None else tileid_to_zxy(layout.first)[0]
    west, south, east, north = (round(degrees * 1e7) for degrees in head.bounds)
    return {
        "version": 3,
        "addressed_tiles_count": layout.tiles,
        "tile_contents_count": layout.contents,
        "clustered": True,
        "internal_compression": Compression.GZIP,
        "tile_compression": Compression.NONE,
        "tile_type": TILE_TYPES[head.form],
        "min_zoom": min_zoom,
        "max_zoom": head.max_zoom,
        "min_lon_e7": west,
        "min_lat_e7": south,
        "max_lon_e7": east,
        "max_lat_e7": north,
        "center_zoom": min_zoom,
        "center_lon_e7": round((west + east) / 2),
        "center_lat_e7": round((south + north) / 2),
    }


def zoom_ranges(zoom: int, parts: Iterable[TilePart]) -> Iterator[StoredRange]:
    """Tiles of a zoom, part by part.

    Args:
        zoom: Zoom.
        parts: All parts that have tiles of it, in order of their tiles.
    """
    limits = [_first_id(zoom), _first_id(zoom + 1)]
    for part, index in in_order(lambda part: (part, part.read_index()), parts):
        first, last = np.searchsorted(index["id"], limits).tolist()
        if first < last:
            yield StoredRange(part, index, first, last)


def _first_id(zoom: int) -> int:
    """Number of the first tile of a zoom: all tiles of the zooms before it.

    >>> [_first_id(zoom) for zoom in range(4)]
    [0, 1, 5, 21]
    """
    return ((1 << 2 * zoom) - 1) // 3
