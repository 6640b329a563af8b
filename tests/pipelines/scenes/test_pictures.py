"""Pictures of scenes: colours by the names of bands, own percentiles, and where the area is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import CRS

from pipelines.formats.interface import Thumbnail
from pipelines.formats.work import ReadOptions
from pipelines.geodesy.polygons import Polygons
from pipelines.rasters.header import read_header
from pipelines.run.plan import InputFile
from pipelines.run.polygons import AOI, store
from pipelines.scenes.files import scene_paths
from pipelines.scenes.pictures import scene_thumbnail
from tests.fakes import contract
from tests.pipelines.corpus import UTM, make_work, write_scene
from tests.pipelines.raster_kinds import PALETTE, write_alpha, write_palette

SIDE = 64
NODATA = -9999.0


def picture_of(path: Path, run: Path, aoi: Polygons | None = None, **fields) -> Thumbnail:
    """The picture of a scene that is labelled with the number of its column."""
    reading = ReadOptions(aoi=None if aoi is None else aoi.digest)
    work = make_work(run, contract=contract(**fields), reading=reading)
    store(work.run, AOI, aoi)
    file = InputFile(str(path), path.parent.name, path.name, path.stat().st_size, "1")
    grid = read_header(str(path)).grid
    labels = np.broadcast_to(np.arange(grid.width) % 200, (grid.height, grid.width))
    write_scene(run / scene_paths(file).labels, labels[..., None].astype(np.uint8))
    return scene_thumbnail(file, work, SIDE)


def named(path: Path, *names: str) -> Path:
    with rasterio.open(path, "r+") as target:
        target.descriptions = names
    return path


def model_of(bands: tuple[str, ...], dtype: str, top: float) -> dict:
    fill = (0.0,) * len(bands)
    return {"bands": bands, "dtype": dtype, "value_range": (0.0, top), "nodata_fill": fill}


def ramp(top: float, dtype: type) -> np.ndarray:
    """`(64, 64)` values that rise by rows."""
    return np.linspace(0, top, SIDE * SIDE).reshape(SIDE, SIDE).astype(dtype)


@pytest.mark.parametrize("names", [("nir", "red", "green", "blue"), ("b8", "b4", "b3", "b2")])
def test_colours_are_found_by_the_names_of_the_model_or_of_the_file(tmp_path, names):
    rising = ramp(3000, np.uint16)
    values = np.dstack([rising * 0, rising, rising[::-1], rising * 0 + 7])
    path = write_scene(tmp_path / "a.tif", values, photometric="minisblack")
    named(path, "nir", "red", "green", "blue")
    image = picture_of(path, tmp_path / "run", **model_of(names, "uint16", 10000.0)).image
    assert image[0, 0].tolist() == [0, 255, 0]
    assert image[-1, -1].tolist() == [255, 0, 0]
    assert image[SIDE // 2, 0, :2].tolist() == pytest.approx([128, 126], abs=4)


def test_without_names_the_first_three_bands_of_the_model_are_seen_and_one_is_grey(tmp_path):
    rising = ramp(1, np.float32)
    values = np.dstack([rising, rising[::-1], rising, rising * 0])
    path = write_scene(tmp_path / "a.tif", values, photometric="minisblack")
    image = picture_of(path, tmp_path / "run", **model_of(("a", "b", "c", "d"), "float32", 9)).image
    assert image[-1, -1].tolist() == [255, 0, 255]
    grey = write_scene(tmp_path / "b.tif", values[..., :1])
    image = picture_of(grey, tmp_path / "run", **model_of(("vv",), "float32", 9.0)).image
    assert image[-1, -1].tolist() == [255] * 3


def test_nodata_and_nan_are_empty_and_no_part_of_the_percentiles(tmp_path):
    rising = ramp(0.3, np.float32)
    rising[:8], rising[20, 20] = NODATA, np.nan
    path = write_scene(tmp_path / "a.tif", rising[..., None], nodata=NODATA)
    tile = picture_of(path, tmp_path / "run", **model_of(("vv",), "float32", 1.0))
    expected = np.isfinite(rising) & (rising != NODATA)
    np.testing.assert_array_equal(tile.valid, expected)
    low, high = np.percentile(rising[expected], (2, 98))
    scaled = np.clip((rising - low) / (high - low), 0, 1) * 255
    difference = np.abs(tile.image[..., 0].astype(float) - scaled)[expected]
    assert difference.max() <= 0.51


def test_photographs_are_shown_as_they_are(tmp_path):
    values = np.random.default_rng(0).integers(60, 90, (SIDE, SIDE, 3), dtype=np.uint8)
    valid = np.ones((SIDE, SIDE), bool)
    valid[10:20] = False
    tile = picture_of(write_alpha(tmp_path / "a.tif", values, valid), tmp_path / "run")
    np.testing.assert_array_equal(tile.image, values)
    np.testing.assert_array_equal(tile.valid, valid)


def test_a_palette_gives_its_colours(tmp_path):
    numbers = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 2 + 1
    path = write_palette(tmp_path / "a.tif", numbers.astype(np.uint8))
    tile = picture_of(path, tmp_path / "run")
    assert tile.image[0, 0].tolist() == list(PALETTE[1][:3])
    assert tile.image[0, 1].tolist() == list(PALETTE[2][:3])


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_constant_scene_is_shown_by_the_range_of_the_model(tmp_path, dtype):
    path = write_scene(tmp_path / "a.tif", np.full((SIDE, SIDE, 1), 50, dtype))
    fields = model_of(("vv",), np.dtype(dtype).name, 100.0)
    assert picture_of(path, tmp_path / "run", **fields).image[3, 3].tolist() == [128] * 3


def square(left: int, top: int, side: int) -> Polygons:
    """A square of the scene, by its pixels."""
    places = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
    corners = [UTM[1] @ place for place in places]
    wkb = bytes(shapely.to_wkb(shapely.Polygon(corners)))
    return Polygons(CRS(UTM[0]).to_wkt(), ("a",), (wkb,))


@pytest.mark.parametrize(
    ("left", "top", "side", "columns"),
    [(100, 40, 100, (95, 205)), (180, 60, 2, (149, 213)), (250, 150, 80, (246, 300))],
)
def test_the_area_of_interest_is_zoomed_to(tmp_path, left, top, side, columns):
    values = np.zeros((200, 300, 3), np.uint8)
    path = write_scene(tmp_path / "a.tif", values)
    tile = picture_of(path, tmp_path / "run", square(left, top, side))
    found = tile.labels[0].astype(int)
    assert abs(found[0] - columns[0] % 200) <= 4
    assert abs(found[-1] - (columns[1] - 1) % 200) <= 4


def test_large_scenes_are_read_at_a_few_pixels_for_each_of_the_picture(tmp_path):
    values = np.zeros((900, 600, 3), np.uint8)
    values[:, 300:] = 200
    tile = picture_of(write_scene(tmp_path / "a.tif", values), tmp_path / "run")
    assert tile.image.shape == (64, 42, 3)
    assert (tile.image[:, :20] == 0).all()
    assert (tile.image[:, 23:] == 200).all()
