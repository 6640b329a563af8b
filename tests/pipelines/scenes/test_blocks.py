"""Blocks of scenes: each pixel in one, whole windows, whole strips, and little computed twice."""

from __future__ import annotations

import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from pipelines.formats.work import ReadOptions
from pipelines.scenes.blocks import (
    BLOCK_PX,
    MAX_BLOCKS,
    MAX_SIDE_PX,
    block_windows,
    model_grid,
    model_window,
    planned_blocks,
)
from segmodel.errors import ConfigurationError, GroundError
from segmodel.rasters.grid import Grid
from segmodel.rasters.header import Band, Header
from segmodel.rasters.opening import CACHE_BYTES
from segmodel.tiling.windows import Layout, Window, computed_pixels, core_side
from tests.examples import examples
from tests.pipelines.corpus import small_blocks

UTM = CRS.from_epsg(32633)
TILES = (512, 512)


def header(height: int, width: int, stored=TILES, bands: int = 3, **fields) -> Header:
    """A scene with pixels of 10 m that is stored in tiles or strips."""
    place = {"transform": Affine(10, 0, 300000, 0, -10, 6e6), "crs": UTM} | fields
    grid = Grid(height, width, place["transform"], place["crs"])
    dtype = fields.get("dtype", "uint8")
    parts = tuple(Band(n, dtype, "", None, 1.0, 0.0) for n in range(1, bands + 1))
    return Header(grid, parts, "none", None, None, stored, None, None, ())


def assert_tile(blocks: list[Window], height: int, width: int) -> None:
    """Blocks are a grid, row by row, whose rows and columns cover the scene once."""
    rows = sorted({(block.row, block.height) for block in blocks})
    columns = sorted({(block.column, block.width) for block in blocks})
    assert blocks == [Window(r, c, h, w) for r, h in rows for c, w in columns]
    for axis, length in ((rows, height), (columns, width)):
        assert [start for start, _ in axis] == [0, *(sum(part) for part in axis[:-1])]
        assert sum(axis[-1]) == length


layouts = st.builds(
    lambda stride, cores, halo: Layout(stride * cores, halo, stride),
    stride=st.sampled_from([1, 4, 32]),
    cores=st.sampled_from([8, 20, 64]),
    halo=st.integers(0, 40),
)
kinds = st.sampled_from(["tiles", "strips of 1", "strips of 16"])


def stored_as(kind: str, width: int) -> tuple[int, int]:
    return TILES if kind == "tiles" else (int(kind.split()[-1]), width)


@settings(deadline=None)
@given(layout=layouts, height=st.integers(1, 30_000), width=st.integers(1, 30_000), kind=kinds)
def test_blocks_cover_a_scene_once_on_multiples_of_the_stride(layout, height, width, kind):
    blocks = list(
        block_windows(header(height, width, stored_as(kind, width)), layout, ReadOptions())
    )
    assert_tile(blocks, height, width)
    for block in blocks:
        assert (block.row % layout.stride_px, block.column % layout.stride_px) == (0, 0)
        assert model_window(block, None, layout.stride_px) is block


@settings(deadline=None, max_examples=examples(60))
@given(
    layout=layouts,
    height=st.integers(1, 9000),
    width=st.integers(1, 9000),
    gsd=st.sampled_from([1.3, 4.0, 10.0, 13.0, 100.0, 150.0]),
    kind=kinds,
)
def test_blocks_of_a_resampled_scene_cover_it_once_and_are_covered(
    layout, height, width, gsd, kind
):
    if height * width / gsd**2 > 10**6:
        height = max(1, height // 20)
    reading = ReadOptions(resample_to=gsd)
    scene = header(height, width, stored_as(kind, width))
    grid = model_grid(scene, reading)
    blocks = list(block_windows(scene, layout, reading))
    assert_tile(blocks, height, width)
    for block in blocks[:50]:
        area = model_window(block, grid, layout.stride_px)
        assert (area.row % layout.stride_px, area.column % layout.stride_px) == (0, 0)
        own = grid.labelled_window(area)
        assert own.row <= block.row
        assert own.column <= block.column
        assert own.row + own.height >= block.row + block.height
        assert own.column + own.width >= block.column + block.width


@settings(deadline=None)
@given(layout=layouts, height=st.integers(1, 30_000), width=st.integers(1, 30_000))
def test_blocks_are_whole_windows_so_that_none_is_smaller_for_their_sake(layout, height, width):
    rows, columns = core_side(height, layout), core_side(width, layout)
    for block in block_windows(header(height, width), layout, ReadOptions()):
        assert block.height % rows == 0 or block.row + block.height == height
        assert block.width % columns == 0 or block.column + block.width == width
        assert max(block.height, block.width) <= max(BLOCK_PX, layout.window_px)


def computed_per_kept(side: int, layout: Layout, stored=TILES) -> float:
    raster = Window(0, 0, side, side)
    scene = header(side, side, stored)
    computed = sum(
        computed_pixels(raster, block, layout)
        for block in block_windows(scene, layout, ReadOptions())
    )
    return computed / side**2


@pytest.mark.parametrize("side", [4097, 8192, 8193, 10_980, 20_000])
@pytest.mark.parametrize(("stored", "most"), [("tiles", 1.2), ("strips of 16", 1.25)])
def test_large_scenes_compute_little_more_than_they_keep(side, stored, most):
    layout = Layout(2048, 96, 32)
    assert 1 < computed_per_kept(side, layout, stored_as(stored, side)) <= most


def test_an_8192_scene_with_a_halo_of_96_computes_1_145_pixels_per_pixel_kept():
    # Rows and columns of four windows, of which two have one halo, and two have two.
    expected = ((2 * (2048 + 96) + 2 * (2048 + 192)) / 8192) ** 2
    assert computed_per_kept(8192, Layout(2048, 96, 32)) == expected
    assert expected < 1.2


@pytest.mark.parametrize("stored", ["tiles", "strips of 16"])
def test_blocks_of_rectangular_windows_compute_what_the_whole_scene_would(stored):
    layout = Layout(2432, 64, 32, rectangular=True)
    # Four windows along one axis and three along the other.
    expected = (8192 + 6 * 64) * (8192 + 4 * 64) / 8192**2
    assert computed_per_kept(8192, layout, stored_as(stored, 8192)) == expected


@pytest.mark.parametrize("rows", [1, 16])
def test_rectangular_windows_of_strips_are_no_higher_than_what_gdal_keeps(rows):
    layout = Layout(1024, 0, 32, rectangular=True)
    scene = header(9000, 5000, (rows, 5000))
    blocks = list(block_windows(scene, layout, ReadOptions()))
    assert {(block.column, block.width, block.height > 1024) for block in blocks} == {
        (0, 5000, False)
    }


@pytest.mark.parametrize(("height", "width"), [(20_000, 10_980), (9000, 5000), (3000, 30_000)])
def test_a_scene_in_strips_has_blocks_of_its_whole_width(height, width):
    for rows in (1, 16):
        blocks = list(
            block_windows(header(height, width, (rows, width)), Layout(2048, 96, 32), ReadOptions())
        )
        assert {(block.column, block.width) for block in blocks} == {(0, width)}


@pytest.mark.parametrize(
    ("bands", "dtype", "size"), [(3, "uint8", 3), (4, "uint16", 8), (4, "float32", 16)]
)
def test_the_strips_of_a_row_of_windows_fit_in_what_gdal_keeps(bands, dtype, size):
    layout, wide = Layout(2048, 96, 32), 0
    for width in range(4200, 60_000, 900):
        scene = header(20_000, width, (16, width), bands, dtype=dtype)
        for block in block_windows(scene, layout, ReadOptions()):
            if block.width == width:
                wide += 1
                rows = core_side(block.height, layout) + 2 * layout.aligned_halo_px
                assert (rows + 2 * 16) * width * size <= CACHE_BYTES
    assert wide > 50


@pytest.mark.parametrize(
    ("stored", "width", "fixed"),
    [(TILES, 10_980, None), ((16, 4096), 4096, None), ((16, 10_980), 10_980, 512)],
)
def test_other_scenes_have_square_blocks(stored, width, fixed):
    layout = Layout(256 if fixed else 2048, 0, 32, fixed_px=fixed)
    blocks = list(block_windows(header(12_000, width, stored), layout, ReadOptions()))
    assert max(block.width for block in blocks) <= BLOCK_PX
    assert max(block.height for block in blocks) <= BLOCK_PX


def test_tests_can_ask_for_small_blocks_of_whole_windows(monkeypatch):
    small_blocks(monkeypatch, 64)
    layout = Layout(32, 0, 32)
    for stored in (TILES, (16, 130)):
        blocks = list(block_windows(header(100, 130, stored), layout, ReadOptions()))
        assert {block.width for block in blocks} <= {64, 66, 32, 34, 2}
        assert_tile(blocks, 100, 130)


@pytest.mark.parametrize("gsd", [10 / 16 * 0.99, 160 * 1.01])
def test_a_ground_sample_distance_too_far_away_is_refused(gsd):
    with pytest.raises(ConfigurationError, match=r"more than 16 times coarser or finer"):
        model_grid(header(100, 100), ReadOptions(resample_to=gsd), "in/a.tif")


def test_a_scene_of_unknown_pixel_size_cannot_be_resampled():
    with pytest.raises(ConfigurationError, match=r"^in/a.tif: --resample_to needs to know"):
        model_grid(header(100, 100, crs=None), ReadOptions(resample_to=10.0), "in/a.tif")


def test_a_scene_in_a_local_system_cannot_be_resampled():
    local = CRS.from_wkt('LOCAL_CS["site plan",UNIT["metre",1]]')
    with pytest.raises(GroundError, match=r"^in/a.tif: "):
        model_grid(header(100, 100, crs=local), ReadOptions(resample_to=10.0), "in/a.tif")


def test_without_resampling_there_is_no_other_grid():
    assert model_grid(header(100, 100), ReadOptions()) is None


@pytest.mark.parametrize(("gsd", "expected"), [(10.0, 100), (5.0, 200), (20.0, 50), (30.0, 33)])
def test_the_grid_of_the_model_has_the_size_of_the_ratio(gsd, expected):
    # Pixels of 10 m on the map are 10 m on the ground to one part in a thousand.
    grid = model_grid(header(100, 100), ReadOptions(resample_to=gsd))
    assert grid.source_size == (100, 100)
    assert grid.model_size == (expected, expected)


def test_scenes_in_degrees_have_another_ratio_for_rows_and_columns():
    degrees = {"transform": Affine(0.001, 0, 10, 0, -0.001, 60.05), "crs": CRS.from_epsg(4326)}
    height, width = model_grid(
        header(100, 100, **degrees), ReadOptions(resample_to=50.0)
    ).model_size
    assert (height, width) == (223, 112)


@pytest.mark.parametrize(
    ("height", "width", "reading"),
    [
        (2_000_000_000, 2_000_000_000, ReadOptions()),
        (1, BLOCK_PX * MAX_BLOCKS + 1, ReadOptions()),
        (MAX_SIDE_PX + 1, 1, ReadOptions()),
        (BLOCK_PX * 256, BLOCK_PX * 257, ReadOptions(resample_to=0.625)),
        (BLOCK_PX * 1024, BLOCK_PX * 1025, ReadOptions(resample_to=100.0)),
    ],
)
def test_a_scene_of_too_many_blocks_has_none_and_says_how_to_cut_it(height, width, reading):
    scene, layout = header(height, width), Layout(2048, 96, 32)
    assert planned_blocks(scene, layout, reading) == []
    with pytest.raises(ConfigurationError, match=r"most of one scene: cut it .*-srcwin") as caught:
        next(block_windows(scene, layout, reading))
    assert caught.value.code == "too_many_pixels"


def test_the_largest_scene_has_blocks():
    scene = header(BLOCK_PX * 1024, BLOCK_PX * 1024)
    first = next(block_windows(scene, Layout(2048, 0, 32), ReadOptions()))
    assert first == Window(0, 0, BLOCK_PX, BLOCK_PX)
