"""Label maps as Cloud Optimized GeoTIFFs that GIS programs show right."""

from __future__ import annotations

import errno
import os
import resource
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from pipelines.rasters.cog import read_block, write_block, write_label_cog, write_shares_cog
from pipelines.scenes.files import StoredBlock, pieces_of
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window
from tests.fakes import BRIGHT, CLASSES, DARK, MIDDLE

TRANSFORM = Affine(10, 0, 300000, 0, -10, 6_000_000)
HEIGHT, WIDTH = 1100, 1300
WIDE = ClassTable((LabelClass(300, "much", (1, 2, 3)), LabelClass(2, "little", (4, 5, 6))))


def grid(height: int = HEIGHT, width: int = WIDTH, transform: Affine = TRANSFORM) -> Grid:
    return Grid(height, width, transform, CRS.from_epsg(32633))


def noise(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    values = np.array([DARK, MIDDLE, BRIGHT, 255], np.uint8)
    return np.random.default_rng(0).choice(values, (height, width))


def write(path: Path, values: np.ndarray, windows=None, classes=CLASSES, place=None) -> Path:
    windows = windows or [Window(0, 0, *values.shape)]
    blocks = ((window, values[window.slices]) for window in windows)
    write_label_cog(str(path), place or grid(*values.shape), blocks, classes, {"MADE_BY": "test"})
    return path


@pytest.fixture(scope="module")
def label_map(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("cog") / "labels.tif", noise())


def test_pixels_and_place_are_those_that_were_given(label_map):
    with rasterio.open(label_map) as source:
        np.testing.assert_array_equal(source.read(1), noise())
        assert source.crs == CRS.from_epsg(32633)
        assert source.transform == TRANSFORM
        assert (source.count, source.dtypes) == (1, ("uint8",))


def test_the_file_is_a_tiled_cloud_optimized_geotiff(label_map):
    with rasterio.open(label_map) as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert source.block_shapes == [(512, 512)]
        assert source.profile["tiled"] is True
        assert source.compression.name == "deflate"


def test_nodata_palette_names_and_provenance_are_inside(label_map):
    with rasterio.open(label_map) as source:
        assert source.nodata == 255
        assert source.colorinterp == (ColorInterp.palette,)
        colors = source.colormap(1)
        assert colors[255] == (0, 0, 0, 0)
        for entry in CLASSES.classes:
            assert colors[entry.id] == (*entry.color, 255)
            assert source.tags()[f"CLASS_{entry.id}"] == entry.name
        assert source.tags()["MADE_BY"] == "test"
        assert source.descriptions == ("label",)


def test_nodata_is_masked_and_class_zero_is_not(label_map):
    with rasterio.open(label_map) as source:
        np.testing.assert_array_equal(source.dataset_mask() > 0, noise() != 255)


def test_class_names_stand_beside_the_file_by_value(label_map):
    root = ET.parse(f"{label_map}.aux.xml").getroot()
    names = [entry.text or "" for entry in root.iter("Category")]
    assert names == ["dark", "", "", "middle", "", "", "", "bright"]
    assert root.find("PAMRasterBand").get("band") == "1"


def test_gdal_reads_an_attribute_table_with_the_pixels_of_each_class(label_map, tmp_path):
    # rasterio shows no tables; a VRT that GDAL makes of the file holds what GDAL has read.
    rasterio.shutil.copy(label_map, tmp_path / "copy.vrt", driver="VRT")
    table = ET.parse(tmp_path / "copy.vrt").find(".//GDALRasterAttributeTable")
    columns = [column.findtext("Name") for column in table.findall("FieldDefn")]
    assert columns == ["Value", "Class", "R", "G", "B", "A", "Count"]
    rows = [[cell.text for cell in row] for row in table.findall("Row")]
    counts = [str(np.count_nonzero(noise() == value)) for value in (DARK, MIDDLE, BRIGHT)]
    assert rows == [
        ["0", "dark", "10", "10", "80", "255", counts[0]],
        ["3", "middle", "90", "160", "70", "255", counts[1]],
        ["7", "bright", "240", "230", "200", "255", counts[2]],
    ]
    usages = [column.findtext("Usage") for column in table.findall("FieldDefn")]
    # Value, name, red, green, blue, alpha and number of pixels, in the words of GDAL.
    assert usages == ["5", "2", "6", "7", "8", "9", "1"]


def test_overviews_hold_class_ids_and_nothing_between(label_map):
    with rasterio.open(label_map) as source:
        factors = source.overviews(1)
    assert factors == [2, 4]
    for level in range(len(factors)):
        with rasterio.open(label_map, overview_level=level) as overview:
            values = overview.read(1)
        assert set(np.unique(values)) <= {DARK, MIDDLE, BRIGHT, 255}
        assert values.shape == (-(-HEIGHT // factors[level]), -(-WIDTH // factors[level]))


def test_overviews_show_the_most_frequent_class(tmp_path):
    values = np.full((1024, 1024), BRIGHT, np.uint8)
    values[::4, ::4] = DARK
    path = write(tmp_path / "a.tif", values)
    with rasterio.open(path, overview_level=0) as overview:
        assert (overview.read(1) == BRIGHT).all()


def test_overviews_never_show_a_class_between_two_others(tmp_path):
    # The mean colour of dark and bright is nearest to that of middle.
    values = np.full((1024, 1024), DARK, np.uint8)
    values[:, ::2] = BRIGHT
    with rasterio.open(write(tmp_path / "a.tif", values), overview_level=0) as overview:
        assert set(np.unique(overview.read(1))) <= {DARK, BRIGHT}
    wide = np.where(values == DARK, 2, 300).astype(np.uint16)
    path = write(tmp_path / "b.tif", wide, classes=WIDE)
    with rasterio.open(path, overview_level=0) as overview:
        assert set(np.unique(overview.read(1))) <= {2, 300}


@pytest.mark.parametrize("side", [384, 512, 800])
def test_blocks_that_do_not_line_up_with_tiles_are_put_where_they_belong(tmp_path, side):
    values = noise()
    windows = [
        Window(row, column, min(side, HEIGHT - row), min(side, WIDTH - column))
        for row in range(0, HEIGHT, side)
        for column in range(0, WIDTH, side)
    ]
    path = write(tmp_path / "a.tif", values, windows)
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(1), values)


def stored_blocks(folder: Path, values: np.ndarray) -> list[StoredBlock]:
    """Blocks of 384 pixels on disk."""
    blocks = []
    for row in range(0, HEIGHT, 384):
        for column in range(0, WIDTH, 384):
            window = Window(row, column, min(384, HEIGHT - row), min(384, WIDTH - column))
            path = str(folder / f"{row}-{column}.tif")
            write_block(path, grid(), window, values[window.slices])
            blocks.append(StoredBlock(window, path))
    return blocks


@pytest.mark.parametrize("missing", [set(), {0}, {5}, {11}, {2, 3, 6}, set(range(12))])
@pytest.mark.parametrize("rows", [1, 100, 384, 512, HEIGHT, 2 * HEIGHT])
def test_a_block_without_labels_is_nodata_pixel_by_pixel(tmp_path, missing, rows):
    values = noise()
    blocks = stored_blocks(tmp_path, values)
    expected = values.copy()
    for number in missing:
        expected[blocks[number].window.slices] = 254
    blocks = [block for number, block in enumerate(blocks) if number not in missing]
    if rows == 1:
        blocks = [block for block in blocks if block.window.row == 0]
        strips = pieces_of(blocks, grid(3, WIDTH), rows, np.array([254], np.uint8))
        expected = expected[:3]
    else:
        strips = pieces_of(blocks, grid(), rows, np.array([254], np.uint8))
    found = list(strips)
    actual = np.zeros(expected.shape, np.uint8)
    written = np.zeros(expected.shape, int)
    for window, part in found:
        assert (window.row % rows, window.column % rows) == (0, 0)
        assert part.shape == (window.height, window.width, 1)
        actual[window.slices] = part[..., 0]
        written[window.slices] += 1
    np.testing.assert_array_equal(actual, expected)
    assert (written == 1).all()


def test_strips_have_the_dtype_that_is_asked_for_also_without_any_block():
    ((window, values),) = pieces_of([], grid(3, 7), 512, np.array([65535], np.uint16))
    assert window == Window(0, 0, 3, 7)
    assert values.dtype == np.uint16
    assert (values == 65535).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 513), (512, 512)])
def test_maps_of_any_size_can_be_written(tmp_path, height, width):
    values = noise(height, width)
    with rasterio.open(write(tmp_path / "a.tif", values)) as source:
        np.testing.assert_array_equal(source.read(1), values)


def test_a_rotated_grid_keeps_its_place(tmp_path):
    rotated = Affine(8.66, 5, 3e5, 5, -8.66, 6e6)
    path = write(tmp_path / "a.tif", noise(50, 60), place=grid(50, 60, rotated))
    with rasterio.open(path) as source:
        assert source.transform.almost_equals(rotated)


def test_class_ids_of_sixteen_bits_are_written_as_they_are(tmp_path):
    values = np.full((600, 600), 2, np.uint16)
    values[:300], values[:9, :9] = 300, 65535
    path = write(tmp_path / "a.tif", values, classes=WIDE)
    with rasterio.open(path) as source:
        assert (source.dtypes, source.nodata) == (("uint16",), 65535)
        np.testing.assert_array_equal(source.read(1), values)
        assert source.tags()["CLASS_300"] == "much"
    names = [e.text or "" for e in ET.parse(f"{path}.aux.xml").getroot().iter("Category")]
    assert (len(names), names[2], names[300]) == (301, "little", "much")


def test_nothing_but_the_map_and_its_names_is_left(tmp_path):
    write(tmp_path / "a.tif", noise(20, 20))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "a.tif.aux.xml"]


def test_the_same_labels_give_the_same_bytes(tmp_path):
    values = noise(700, 700)
    windows = [Window(0, 0, 384, 700), Window(384, 0, 316, 700)]
    one = write(tmp_path / "one.tif", values, windows).read_bytes()
    assert write(tmp_path / "two.tif", values, windows).read_bytes() == one


def test_confidence_keeps_its_scale_so_that_255_reads_as_one(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = tmp_path / "a.tif"
    write_shares_cog(
        str(path), grid(16, 16), [(Window(0, 0, 16, 16), values)], ["confidence"], {"A": "b"}
    )
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(1), values)
        assert source.scales == (pytest.approx(1 / 255, rel=1e-12),)
        assert source.tags()["A"] == "b"
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_a_block_is_a_geotiff_at_its_own_place(tmp_path):
    path, values = tmp_path / "b.tif", noise(64, 96)
    write_block(str(path), grid(), Window(128, 32, 64, 96), values)
    np.testing.assert_array_equal(read_block(str(path)), values)
    with rasterio.open(path) as source:
        assert source.transform == TRANSFORM @ Affine.translation(32, 128)
        assert source.crs == CRS.from_epsg(32633)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing beyond so many bytes of a file fails, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_a_block(path: Path) -> None:
    write_block(str(path), grid(), Window(0, 0, 600, 600), noise(600, 600))


@pytest.mark.parametrize("make", [lambda path: write(path, noise(600, 600)), write_a_block])
def test_a_file_is_whole_or_an_error_wherever_the_disk_is_full(tmp_path, capfd, make):
    make(tmp_path / "whole.tif")
    whole, too_large = (tmp_path / "whole.tif").read_bytes(), os.strerror(errno.EFBIG)
    # What GDAL writes when it closes a file are its last bytes.
    for missing in (1, 20_000, len(whole) - 10):
        with largest_file(len(whole) - missing), pytest.raises(OSError, match=too_large):
            make(tmp_path / "cut.tif")
        assert [*tmp_path.glob("cut.tif.*")] == []
    make(tmp_path / "again.tif")
    assert (tmp_path / "again.tif").read_bytes() == whole
    assert capfd.readouterr().err == ""
