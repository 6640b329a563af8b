"""Cloud Optimized GeoTIFFs as laid out by us, held against GDAL's own and its rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS
from rio_cogeo import cog_validate

from pipelines.rasters.cog import write_label_cog, write_shares_cog
from segmodel.rasters.grid import Grid
from segmodel.rasters.opening import silence_rasterio
from segmodel.tiling.windows import Window
from tests.fakes import CLASSES

CRS_32633, CRS_4326 = CRS.from_epsg(32633), CRS.from_epsg(4326)
NORTH_UP = Affine(10, 0, 300000, 0, -10, 6_000_000)
TAGS = {"MADE_BY": "test", "TIFFTAG_DATETIME": "2020:01:02 03:04:05"}
GRIDS = {
    "projected": Grid(1024, 1536, NORTH_UP, CRS_32633),
    "geographic": Grid(1024, 512, Affine(1e-4, 0, 10, 0, -1e-4, 50), CRS_4326),
    "rotated": Grid(600, 520, Affine(8.66, 5, 3e5, 5, -8.66, 6e6), CRS_32633),
    "without a place": Grid(520, 1040, Affine.identity(), None),
    "of odd sides": Grid(1029, 1035, NORTH_UP, CRS_32633),
    "with a side that is odd": Grid(1028, 515, NORTH_UP, CRS_32633),
    "of a few columns": Grid(5001, 6, NORTH_UP, CRS_32633),
    "of one row": Grid(1, 1300, NORTH_UP, CRS_32633),
    "of one tile": Grid(100, 90, NORTH_UP, CRS_32633),
}


def labels(grid: Grid) -> np.ndarray:
    values = np.array([*CLASSES.ids, CLASSES.nodata], np.uint8)
    return np.random.default_rng(0).choice(values, (grid.height, grid.width))


def write(path: Path, grid: Grid, bands: int) -> Path:
    """A label map, or one of shares with so many bands."""
    silence_rasterio()
    whole = Window(0, 0, grid.height, grid.width)
    if bands == 0:
        write_label_cog(str(path), grid, [(whole, labels(grid))], CLASSES, TAGS)
    else:
        shape = (grid.height, grid.width, bands)
        shares = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        names = [f"class {number}" for number in range(bands)]
        write_shares_cog(str(path), grid, [(whole, shares)], names, TAGS)
    return path


def copied_by_gdal(path: Path, bands: int) -> Path:
    """The same as GDAL lays it out, with overviews that are its own."""
    copy = path.with_name("gdal.tif")
    options = {"compress": "deflate", "level": 6, "blocksize": 512}
    options |= {
        "overviews": "ignore_existing",
        "overview_resampling": "average" if bands else "mode",
    }
    with rasterio.open(path) as source:
        rasterio.shutil.copy(source, copy, driver="COG", **options)
    return copy


@pytest.mark.parametrize("bands", [0, 3])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_map_has_the_bytes_that_gdal_gives_it(tmp_path, grid, bands):
    path = write(tmp_path / "ours.tif", grid, bands)
    gdal = copied_by_gdal(path, bands).read_bytes()
    assert len(gdal) == path.stat().st_size
    assert path.read_bytes() == gdal


@pytest.mark.parametrize(("most", "head"), [(2_000_000_000, b"II*\0"), (0, b"II+\0")])
@pytest.mark.parametrize("size", [(1, 1), (512, 513), (1101, 1301)])
def test_a_validator_of_cogs_finds_nothing_to_say(tmp_path, monkeypatch, size, most, head):
    monkeypatch.setattr("pipelines.rasters.cog.MAX_TIFF_BYTES", most)
    grid = Grid(*size, NORTH_UP, CRS_32633)
    path = write(tmp_path / "a.tif", grid, bands=0)
    assert path.read_bytes()[:4] == head
    assert cog_validate(path, strict=True) == (True, [], [])
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(1), labels(grid))
        assert source.transform == NORTH_UP


@pytest.mark.parametrize("sides", [(512, 512), (512, 1536), (1024, 1024), (2048, 512)])
def test_the_bytes_do_not_depend_on_the_blocks_that_a_map_is_written_in(tmp_path, sides):
    grid = Grid(1100, 1300, NORTH_UP, CRS_32633)
    values, path = labels(grid), tmp_path / "blocks.tif"
    parts = Window(0, 0, 1100, 1300).subdivide(*sides)
    blocks = ((part, values[part.slices]) for part in parts)
    write_label_cog(str(path), grid, blocks, CLASSES, TAGS)
    assert path.read_bytes() == write(tmp_path / "whole.tif", grid, bands=0).read_bytes()
