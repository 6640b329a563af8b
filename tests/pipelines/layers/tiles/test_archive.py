"""PMTiles archives, read by the package of that name."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pmtiles.reader import MemorySource, Reader, all_tiles
from pmtiles.tile import deserialize_directory, zxy_to_tileid

from pipelines.layers.tiles import archive
from pipelines.layers.tiles.archive import ArchiveHead, write_archive, zoom_ranges
from pipelines.layers.tiles.tile_parts import TilePart, index_file, write_images

HEAD = ArchiveHead("png", 2, (-10.0, -5.0, 20.5, 60.25), {"name": "labels", "classes": []})


def write_part(folder: Path, name: str, tiles: dict[tuple[int, int, int], bytes]) -> TilePart:
    part = TilePart(str(folder), name)
    with open(part.images, "wb") as stream:
        index = write_images(stream, sorted((zxy_to_tileid(*at), c) for at, c in tiles.items()))
    Path(part.index).write_bytes(index_file(index, np.zeros((256, 256), np.uint8)))
    return part


def archive_of(parts: list[TilePart], zooms: range, most: int) -> tuple[bytes, tuple]:
    def ranges():
        for zoom in zooms:
            yield from zoom_ranges(zoom, parts)

    stream = io.BytesIO()
    counts = write_archive(stream, ranges, most, HEAD)
    return stream.getvalue(), counts


def read_tiles(content: bytes) -> dict[tuple[int, int, int], bytes]:
    return dict(all_tiles(MemorySource(content)))


def test_an_archive_has_all_tiles_of_all_parts_each_content_once(tmp_path):
    one = {(1, 0, 0): b"a", (2, 0, 0): b"water", (2, 1, 0): b"b", (2, 1, 1): b""}
    other = {(1, 1, 0): b"c", (2, 2, 0): b"water", (2, 3, 0): b"dd"}
    parts = [write_part(tmp_path, "one", one), write_part(tmp_path, "other", other)]
    content, counts = archive_of(parts, range(3), 7)
    expected = {at: tile for at, tile in (one | other).items() if tile}
    assert read_tiles(content) == expected
    header = Reader(MemorySource(content)).header()
    assert counts == (6, 5, len(content), 1, 2)
    assert header["tile_data_length"] == sum(map(len, set(expected.values())))
    assert (header["addressed_tiles_count"], header["tile_contents_count"]) == (6, 5)
    assert header["clustered"]
    assert (header["min_zoom"], header["max_zoom"], header["center_zoom"]) == (1, 2, 1)
    names = ("min_lon_e7", "min_lat_e7", "max_lon_e7", "max_lat_e7", "center_lon_e7")
    degrees = (-10.0, -5.0, 20.5, 60.25, 5.25)
    assert [header[name] for name in names] == [round(at * 10**7) for at in degrees]
    assert Reader(MemorySource(content)).metadata() == HEAD.metadata
    # Header, root, metadata, leaves and tiles, one after the other.
    ends = header["tile_data_offset"] + header["tile_data_length"]
    assert (header["root_offset"], ends) == (127, len(content))


def test_tiles_that_follow_each_other_with_one_content_are_one_entry(tmp_path):
    parts = [write_part(tmp_path, "sea", {(2, x, y): b"sea" for x in range(4) for y in range(4)})]
    content, _ = archive_of(parts, range(3), 16)
    header = Reader(MemorySource(content)).header()
    assert (header["addressed_tiles_count"], header["tile_entries_count"]) == (16, 1)
    assert len(read_tiles(content)) == 16


@pytest.mark.parametrize("limit", ["LEAF_ENTRIES", "ROOT_BYTES"])
def test_an_archive_with_leaf_directories_has_the_same_tiles(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(archive, limit, 4)
    tiles = {(4, x, y): bytes([x, y]) for x in range(16) for y in range(16)}
    parts = [write_part(tmp_path, "all", tiles)]
    content, _ = archive_of(parts, range(5), 256)
    assert read_tiles(content) == tiles
    header = Reader(MemorySource(content)).header()
    assert header["leaf_directory_length"] > 0
    assert Reader(MemorySource(content)).get(4, 9, 11) == bytes([9, 11])


def test_a_root_has_room_for_the_leaves_of_any_number_of_tiles(monkeypatch):
    monkeypatch.setattr(archive, "LEAF_ENTRIES", 1)
    random = np.random.default_rng(0)
    # Numbers up to those of zoom 24, and offsets that compress badly.
    steps, offsets = random.integers(1, 1 << 37, (2, 4 * archive.MAX_LEAVES)).tolist()
    numbers = np.cumsum(steps).tolist()
    entries = (archive.Entry(*at, at[1] % 70_000, 1) for at in zip(numbers, offsets, strict=True))
    root, count = archive._write_directories(io.BytesIO(), entries, 4 * archive.MAX_LEAVES)
    assert count == 4 * archive.MAX_LEAVES
    assert len(deserialize_directory(root)) == archive.MAX_LEAVES
    assert len(root) <= archive.ROOT_BYTES


def test_contents_that_are_no_longer_remembered_are_stored_again(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "REMEMBERED", 1)
    tiles = {(1, 0, 0): b"first", (1, 0, 1): b"second", (1, 1, 0): b"second", (1, 1, 1): b"first"}
    content, counts = archive_of([write_part(tmp_path, "all", tiles)], range(2), 4)
    assert read_tiles(content) == tiles
    assert (counts.tiles, counts.stored) == (4, 3)
