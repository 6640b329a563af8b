"""Pixels of scenes by windows: as the file holds them, valid as GDAL has it, through one handle."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.formats.work import ReadOptions
from pipelines.geodesy.polygon_masks import ScenePolygons
from pipelines.geodesy.polygons import Polygons
from pipelines.rasters import reader
from pipelines.rasters.gdal import OPENER
from pipelines.rasters.header import read_header
from pipelines.rasters.reader import (
    ResampledRaster,
    SceneRaster,
    ground_grid,
    small_area,
)
from pipelines.scenes.blocks import block_windows, model_grid, model_window
from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.errors import InputError
from segmodel.rasters.bands import ModelBands
from segmodel.tiling.resampling import ModelGrid
from segmodel.tiling.windows import Layout, Window
from tests.examples import examples
from tests.fakes import BrightnessModel, brightness_labels, contract
from tests.pipelines.corpus import UTM, pixels, spoil_strip, write_scene
from tests.pipelines.raster_kinds import (
    PALETTE,
    write_alpha,
    write_mask_beside,
    write_masked_bands,
    write_mosaic,
    write_palette,
)

HEIGHT, WIDTH = 90, 110
VALUES = np.maximum(pixels(HEIGHT, WIDTH), 1)
VALID = np.random.default_rng(1).random((HEIGHT, WIDTH)) > 0.3
VALID[20:70, 30:80] = False
WHOLE = Window(0, 0, HEIGHT, WIDTH)
PART = Window(10, 20, 33, 47)


def raster_of(path: Path, aoi: ScenePolygons | None = None, **fields) -> SceneRaster:
    header = read_header(str(path))
    bands = ModelBands.of(header, contract(**fields), None, path.name)
    return SceneRaster(str(path), header, bands, aoi)


def made(kind: str, path: Path) -> Path:
    """A scene that is valid where `VALID` says so."""
    if kind == "values":
        return write_scene(path, np.where(VALID[..., None], VALUES, 0).astype(np.uint8), nodata=0)
    if kind == "alpha":
        return write_alpha(path, VALUES, VALID)
    if kind == "mask":
        return write_scene(path, VALUES, mask=VALID)
    if kind == "mask beside":
        return write_mask_beside(path, VALUES, VALID)
    if kind == "bands":
        return write_masked_bands(path.with_suffix(".vrt"), VALUES, np.dstack([VALID] * 3))
    return write_scene(path, VALUES)


@pytest.mark.parametrize("window", [WHOLE, PART, Window(89, 109, 1, 1)])
@pytest.mark.parametrize("kind", ["values", "alpha", "mask", "mask beside", "bands", "none"])
def test_pixels_are_valid_where_gdal_says_so(tmp_path, kind, window):
    path = made(kind, tmp_path / "a.tif")
    found = raster_of(path).read(window)
    with rasterio.open(path) as source:
        expected = source.dataset_mask()[window.slices] > 0
        values = np.moveaxis(source.read([1, 2, 3]), 0, -1)[window.slices]
    np.testing.assert_array_equal(found.values, values)
    if expected.all():
        assert found.valid is None
    else:
        np.testing.assert_array_equal(found.valid, expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float64"])
def test_samples_are_converted_to_the_type_of_the_model(tmp_path, dtype):
    path = write_scene(tmp_path / "a.tif", VALUES.astype(dtype))
    found = raster_of(path, dtype="float32", value_range=(0.0, 255.0)).read(WHOLE)
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, VALUES)


def test_a_pixel_is_valid_where_all_its_bands_are(tmp_path):
    by_band = np.random.default_rng(2).random(VALUES.shape) > 0.3
    path = write_masked_bands(tmp_path / "a.vrt", VALUES, by_band)
    np.testing.assert_array_equal(raster_of(path).read(WHOLE).valid, by_band.all(axis=-1))


def test_a_scene_is_opened_once_for_all_its_windows(tmp_path, monkeypatch):
    raster = raster_of(made("alpha", tmp_path / "a.tif"))
    opened = []
    original = OPENER.open
    monkeypatch.setattr(
        OPENER, "open", lambda uri, version: opened.append(uri) or original(uri, version)
    )
    windows = [Window(row, 0, 10, WIDTH) for row in range(0, HEIGHT, 10)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(raster.read, windows))
    np.testing.assert_array_equal(np.concatenate([part.values for part in parts]), VALUES)
    assert len(opened) == 1
    raster.close()
    raster.close()
    raster.read(PART)
    assert len(opened) == 2


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_after_a_tile_that_cannot_be_decoded_no_other_window_gets_what_is_not_there(
    tmp_path, interleave
):
    values = np.maximum(pixels(256, 512), 1)
    path = tmp_path / "a.tif"
    write_scene(path, values, compress="deflate", blockysize=16, interleave=interleave)
    spoil_strip(path, 1)
    raster = raster_of(path)
    windows = [Window(row, column, 64, 64) for row in (0, 64) for column in range(0, 512, 64)]

    def read(window):
        try:
            return raster.read(window).values
        except InputError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, windows * 3))
    for window, part in zip(windows * 3, found, strict=True):
        if window.row == 0:
            assert isinstance(part, InputError)
            assert str(part).startswith(f"pixels of {window} cannot be read: ")
        else:
            np.testing.assert_array_equal(part, values[window.slices])


@pytest.mark.parametrize(
    "transform",
    [
        Affine(10, 0, 300000, 0, 10, 5_999_000),
        Affine(8.66, 5, 3e5, 5, -8.66, 6e6),
        Affine(0, 10, 300000, 10, 0, 6e6),
    ],
)
def test_scenes_that_are_not_north_up_are_read_as_they_are_stored(tmp_path, transform):
    path = write_scene(tmp_path / "a.tif", VALUES, (UTM[0], transform), mask=VALID)
    raster = raster_of(path)
    assert raster.header.grid.transform.almost_equals(transform)
    found = raster.read(PART)
    np.testing.assert_array_equal(found.values, VALUES[PART.slices])
    np.testing.assert_array_equal(found.valid, VALID[PART.slices])


def test_a_mosaic_of_two_files_is_one_scene(tmp_path):
    raster = raster_of(write_mosaic(tmp_path / "a.vrt", VALUES, 41))
    np.testing.assert_array_equal(raster.read(WHOLE).values, VALUES)
    np.testing.assert_array_equal(raster.read(PART).values, VALUES[PART.slices])


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_a_jpeg_2000_without_loss_is_read_to_the_last_bit(tmp_path, kind):
    values = VALUES if kind == "uint8" else VALUES.astype(np.uint16) * 257
    path = tmp_path / "a.jp2"
    lossless = {"driver": "JP2OpenJPEG", "quality": "100", "reversible": "YES"}
    write_scene(path, values, **lossless)
    raster = raster_of(path, dtype=kind, value_range=(0.0, 65535.0))
    np.testing.assert_array_equal(raster.read(WHOLE).values, values)
    np.testing.assert_array_equal(raster.read(PART).values, values[PART.slices])
    assert raster.header.grid.transform == UTM[1]


def test_a_palette_is_read_as_its_colours(tmp_path):
    numbers = np.random.default_rng(0).integers(1, 4, (HEIGHT, WIDTH)).astype(np.uint8)
    numbers[:5] = 0
    path = write_palette(tmp_path / "a.tif", numbers, nodata=0)
    found = raster_of(path).read(WHOLE)
    colors = np.array([PALETTE[n][:3] for n in range(4)], np.uint8)
    np.testing.assert_array_equal(found.values[5:], colors[numbers][5:])
    np.testing.assert_array_equal(found.valid, numbers > 0)


def test_a_scene_without_an_area_of_interest_wants_all(tmp_path):
    raster = raster_of(made("none", tmp_path / "a.tif"))
    assert raster.wants(Window(0, 0, 1, 1))
    assert raster.read(PART).wanted is None
    assert (raster.held_bytes, raster.source_pixels) == (0, 0)
    labels = np.zeros((2, 2), np.uint8)
    assert raster.on_source_grid(labels, 255) is labels


def rectangle(grid, window: Window) -> ScenePolygons:
    """An area of interest of the pixels of a window."""
    import shapely

    corners = [
        grid.transform * (window.column + across * window.width, window.row + down * window.height)
        for across, down in ((0, 0), (1, 0), (1, 1), (0, 1))
    ]
    wkb = bytes(shapely.to_wkb(shapely.Polygon(corners)))
    ground = ground_grid(grid)
    return ScenePolygons.of(Polygons(ground.crs_wkt, ("area",), (wkb,)), ground)


def test_what_is_wanted_is_what_the_area_of_interest_covers(tmp_path):
    path = made("mask", tmp_path / "a.tif")
    raster = raster_of(path, rectangle(read_header(str(path)).grid, PART))
    wanted = np.zeros((HEIGHT, WIDTH), bool)
    wanted[PART.slices] = True
    found = raster.read(WHOLE)
    np.testing.assert_array_equal(found.wanted, wanted)
    np.testing.assert_array_equal(found.valid, VALID)
    assert raster.wants(Window(42, 66, 5, 5))
    assert not raster.wants(Window(43, 66, 5, 5))
    assert not raster.wants(Window(42, 67, 5, 5))


def scaled(path: Path, model: tuple[int, int], stride: int = 4, aoi=None, own: Window = WHOLE):
    scene = raster_of(path, aoi)
    grid = ModelGrid((HEIGHT, WIDTH), model)
    return ResampledRaster(scene, grid, own, model_window(own, grid, stride))


GRIDS = [(45, 55), (30, 37), (180, 220), (97, 101), (90, 110), (200, 40), (1, 1)]


@pytest.mark.parametrize("model", GRIDS)
def test_labels_of_a_scaled_scene_are_on_its_own_grid_and_nodata_is_exact(tmp_path, model):
    path = made("mask", tmp_path / "a.tif")
    raster = scaled(path, model)
    job = Job("a", lambda: raster, raster.area)
    (found,) = Engine(BrightnessModel(), Layout(512, 0, 4)).run([job])
    seen, valid = raster.grid.resample(VALUES, VALID, Window(0, 0, *model))
    labels = np.where(valid, brightness_labels(seen), 255)
    rows = (2 * np.arange(HEIGHT) + 1) * model[0] // (2 * HEIGHT)
    columns = (2 * np.arange(WIDTH) + 1) * model[1] // (2 * WIDTH)
    expected = np.where(VALID, labels[rows[:, None], columns], 255)
    np.testing.assert_array_equal(found.labels, expected)
    np.testing.assert_array_equal(found.labels == 255, ~VALID)


@settings(deadline=None, max_examples=examples(25))
@given(
    model=st.sampled_from(GRIDS),
    window=st.sampled_from([8, 16, 24, 64]),
    halo=st.integers(0, 9),
    data=st.data(),
)
def test_neither_windows_nor_blocks_show_in_a_scaled_scene(
    tmp_path_factory, model, window, halo, data
):
    path = tmp_path_factory.getbasetemp() / "scaled.tif"
    if not path.exists():
        made("mask", path)
    row, column = data.draw(st.integers(0, HEIGHT - 1)), data.draw(st.integers(0, WIDTH - 1))
    own = Window(
        row,
        column,
        data.draw(st.integers(1, HEIGHT - row)),
        data.draw(st.integers(1, WIDTH - column)),
    )
    whole, part = scaled(path, model), scaled(path, model, own=own)
    (expected,) = Engine(BrightnessModel(), Layout(512, 0, 4)).run(
        [Job("whole", lambda: whole, whole.area)]
    )
    (found,) = Engine(BrightnessModel(), Layout(window, halo, 4)).run(
        [Job("part", lambda: part, part.area)]
    )
    np.testing.assert_array_equal(found.labels, expected.labels[own.slices])


def test_a_number_that_is_none_does_not_spread_on_the_way_to_another_grid(tmp_path):
    values = VALUES.astype(np.float32)
    values[~VALID] = np.nan
    values[~VALID, 1] = 5
    path = write_scene(tmp_path / "a.tif", values)
    scene = raster_of(path, dtype="float32")
    grid = ModelGrid((HEIGHT, WIDTH), (45, 55))
    raster = ResampledRaster(scene, grid, WHOLE, Window(0, 0, 45, 55))
    found = raster.read(Window(0, 0, 45, 55))
    assert np.isfinite(found.values).all()
    expected, _ = grid.resample(VALUES.astype(np.float32), VALID, Window(0, 0, 45, 55))
    np.testing.assert_array_equal(found.values, expected)
    labels = raster.on_source_grid(np.zeros((45, 55), np.uint8), 255)
    np.testing.assert_array_equal(labels == 255, ~VALID)


def test_an_area_of_interest_is_exact_on_the_own_grid_of_a_scaled_scene(tmp_path):
    path = made("mask", tmp_path / "a.tif")
    raster = scaled(path, (30, 37), aoi=rectangle(read_header(str(path)).grid, PART))
    job = Job("a", lambda: raster, raster.area)
    (found,) = Engine(BrightnessModel(), Layout(8, 0, 4)).run([job])
    whole = scaled(path, (30, 37))
    (without,) = Engine(BrightnessModel(), Layout(8, 0, 4)).run(
        [Job("a", lambda: whole, whole.area)]
    )
    expected = np.full((HEIGHT, WIDTH), 255)
    expected[PART.slices] = without.labels[PART.slices]
    np.testing.assert_array_equal(found.labels, expected)


def test_blocks_of_a_scaled_scene_have_origins_on_the_stride_of_the_model(tmp_path):
    header = read_header(str(made("none", tmp_path / "a.tif")))
    reading, layout = ReadOptions(resample_to=17.0), Layout(8, 0, 4)
    grid = model_grid(header, reading)
    for block in block_windows(header, layout, reading):
        area = model_window(block, grid, 4)
        assert (area.row % 4, area.column % 4) == (0, 0)
        covered = grid.labelled_window(area)
        assert covered.row <= block.row
        assert covered.row + covered.height >= block.row + block.height


@pytest.mark.parametrize("overviews", [[], [2, 4]])
def test_a_picture_shows_all_of_a_scene_or_its_middle_where_all_would_be_too_much(
    tmp_path, monkeypatch, overviews
):
    monkeypatch.setattr(reader, "DECODED_FOR_PICTURE", 40 * 40)
    path = made("none", tmp_path / "a.tif")
    if overviews:
        with rasterio.open(path, "r+") as target:
            target.build_overviews(overviews)
    header = read_header(str(path))
    assert small_area(header, WHOLE) == (WHOLE if overviews else Window(25, 35, 40, 40))
    corner = Window(2, 3, 40, 50)
    assert small_area(header, corner) == (corner if overviews else Window(2, 8, 40, 40))


def test_a_broken_source_is_an_error_of_every_read_while_another_vrt_is_open(tmp_path):
    whole = write_mosaic(tmp_path / "a" / "whole.vrt", VALUES, 40)
    broken = write_mosaic(tmp_path / "b" / "broken.vrt", VALUES, 40)
    (tmp_path / "b" / "left.tif").write_bytes(b"no raster")
    bands = ModelBands.of(read_header(str(whole)), contract(), None, "a", "")
    with_whole = SceneRaster(str(whole), read_header(str(whole)), bands)
    np.testing.assert_array_equal(with_whole.read(WHOLE).values, VALUES)

    scene = SceneRaster(str(broken), read_header(str(whole)), bands)
    for _ in range(3):
        with pytest.raises(InputError, match="cannot be read"):
            scene.read(Window(0, 0, HEIGHT, 40))
    right = Window(0, 40, HEIGHT, WIDTH - 40)
    np.testing.assert_array_equal(scene.read(right).values, VALUES[:, 40:])
    with_whole.close()
    scene.close()
