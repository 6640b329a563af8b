"""Which bytes of a GeoTIFF GDAL reads: those of blocks that a window touches, once."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from pipelines.rasters import tiff_blocks
from pipelines.rasters.tiff_blocks import BlockReads
from segmodel.tiling.windows import Window
from tests.pipelines.corpus import pixels, write_scene

TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}


@pytest.fixture
def extents(tmp_path):
    """Blocks by number in the file, as windows need them one after another."""
    opened = []

    def listed(windows, size=(150, 200), indexes=(1, 2, 3), **profile):
        path = write_scene(tmp_path / "a.tif", pixels(*size), **profile)
        source = rasterio.open(path)
        opened.append(source)
        reads = BlockReads(source)
        found = [list(reads.extents(Window(*window), indexes)) for window in windows]
        begin = min(start for part in found for start, _ in part)
        ((length,),) = [{end - start for part in found for start, end in part}]
        return [[(start - begin) // length for start, _ in part] for part in found], length

    yield listed
    for source in opened:
        source.close()


def test_blocks_that_a_window_touches_are_read_and_those_of_earlier_windows_are_not(extents):
    found, length = extents([(0, 0, 65, 64), (0, 63, 65, 2), (149, 199, 1, 1)], **TILED)
    assert length == 64 * 64 * 3
    assert found == [[0, 4], [1, 5], [11]]


def test_bands_that_stand_one_behind_the_other_have_blocks_of_their_own(extents):
    found, length = extents([(0, 64, 1, 1)], indexes=(1, 3), interleave="band", **TILED)
    assert length == 64 * 64
    # Of 12 blocks a band, and the first that is read is number 1.
    assert found == [[0, 24]]


def test_strips_are_blocks_too(extents):
    found, length = extents([(10, 7, 20, 1), (25, 0, 10, 9)], size=(160, 200), blockysize=10)
    assert length == 10 * 200 * 3
    assert found == [[0, 1], [2]]


def test_what_gdal_has_no_room_to_keep_is_read_anew(extents, monkeypatch):
    monkeypatch.setattr(tiff_blocks, "CACHE_BYTES", 2 * 64 * 64 * 3)
    windows = [(0, 0, 1, 64), (0, 64, 1, 64), (0, 0, 1, 64), (0, 128, 1, 64), (0, 64, 1, 64)]
    found, _ = extents(windows, **TILED)
    assert found == [[0], [1], [], [2], [1]]


def test_blocks_that_are_not_stored_are_not_read(tmp_path):
    profile = {"driver": "GTiff", "height": 64, "width": 128, "count": 1, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 5e6)}
    with rasterio.open(
        tmp_path / "a.tif", "w", **profile, **place, **TILED, SPARSE_OK=True
    ) as target:
        target.write(np.ones((1, 64, 64), np.uint8), window=rasterio.windows.Window(64, 0, 64, 64))
    with rasterio.open(tmp_path / "a.tif") as source:
        first, second = BlockReads(source).extents(Window(0, 0, 64, 128), (1,))
    assert first == (0, 0)
    assert second[1] - second[0] == 64 * 64
