"""Labels of web tiles are nearest samples of label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling

from pipelines.layers.tiles import nearest
from pipelines.layers.tiles.mercator import WORLD_M, extent_of
from pipelines.layers.tiles.nearest import SampledMap, add_nearest
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window
from tests.pipelines.grounds import WORLD

NODATA = 255
PLACES = {
    "utm": ("EPSG:32633", Affine(10, 0, 300_003, 0, -10, 6e6)),
    "rotated": ("EPSG:32633", Affine(8.66, 5, 300_000, 5, -8.66, 6e6)),
    "south up": ("EPSG:32733", Affine(10, 0, 500_003, 0, 10, 4e6)),
    "degrees": ("EPSG:4326", Affine(1e-4, 0, 10, 0, -1e-4, 50)),
    "another datum": ("EPSG:31467", Affine(9, 0, 3_500_003, 0, -9, 5.4e6)),
    "antimeridian": ("EPSG:32660", Affine(500, 0, 700_000, 0, -500, 2e6)),
    "pole": ("EPSG:3413", Affine(4000, 0, -700_000, 0, -4000, 700_000)),
}


def write_labels(path: Path, labels: np.ndarray, place) -> tuple[str, Grid]:
    crs, transform = place
    height, width = labels.shape
    profile = {"count": 1, "dtype": labels.dtype.name, "crs": crs, "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, **profile) as target:
        target.write(labels, 1)
    return str(path), Grid(height, width, transform, CRS.from_user_input(crs))


def nearest_of(window: Window, zoom: int, *maps: tuple[str, Grid]) -> np.ndarray:
    found = np.full((window.height, window.width), NODATA, np.uint8)
    for uri, grid in maps:
        add_nearest(found, window, zoom, SampledMap(uri, grid, NODATA))
    return found


def noise(height: int, width: int) -> np.ndarray:
    labels = np.random.default_rng(3).integers(0, 7, (height, width)).astype(np.uint8)
    labels[: height // 4, : width // 4] = NODATA
    return labels


def sampled(labels: np.ndarray, place, window: Window, zoom: int) -> np.ndarray:
    """What lies under each pixel centre, by pyproj alone, without interpolation."""
    crs, transform = place
    step = WORLD_M / (256 << zoom)
    x = (window.column + np.arange(window.width) + 0.5) * step - WORLD
    y = WORLD - (window.row + np.arange(window.height) + 0.5) * step
    x, y = Transformer.from_crs("EPSG:3857", crs, always_xy=True).transform(*np.meshgrid(x, y))
    inverse = ~transform
    columns = np.floor(inverse.a * x + inverse.b * y + inverse.c)
    rows = np.floor(inverse.d * x + inverse.e * y + inverse.f)
    height, width = labels.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    found = np.full(inside.shape, NODATA, np.uint8)
    found[inside] = labels[rows[inside].astype(int), columns[inside].astype(int)]
    return found


def all_around(grid: Grid, zoom: int) -> list[Window]:
    """The windows of a map, with what is next to them."""
    side = Window(0, 0, 256 << zoom, 256 << zoom)
    found = extent_of(grid).windows(zoom)
    grown = (Window(w.row - 9, w.column - 9, w.height + 18, w.width + 18) for w in found)
    return [window.intersection(side) for window in grown]


@pytest.mark.parametrize("name", PLACES)
def test_each_pixel_is_the_nearest_sample_and_none_is_lost(tmp_path, name):
    labels = noise(300, 400)
    placed = write_labels(tmp_path / "labels.tif", labels, PLACES[name])
    zoom = extent_of(placed[1]).zoom
    seen = np.zeros(256, int)
    for window in all_around(placed[1], zoom):
        found = nearest_of(window, zoom, placed)
        expected = sampled(labels, PLACES[name], window, zoom)
        np.testing.assert_array_equal(found, expected)
        seen += np.bincount(found.ravel(), minlength=256)
    # No pixel of the tiles is coarser, so that there are as many as in the map, or more.
    assert (seen[:7] > 0.9 * np.bincount(labels.ravel(), minlength=256)[:7]).all()


def test_a_zoom_far_above_the_map_reads_it_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(nearest, "READ_PIXELS", 1000)
    sizes = []
    read = nearest._read
    monkeypatch.setattr(nearest, "_read", lambda *at: sizes.append(at[-1].pixels) or read(*at))
    labels = noise(300, 400)
    placed = write_labels(tmp_path / "labels.tif", labels, PLACES["utm"])
    (window,) = all_around(placed[1], 9)
    found = nearest_of(window, 9, placed)
    np.testing.assert_array_equal(found, sampled(labels, PLACES["utm"], window, 9))
    assert max(sizes) <= 1000


@pytest.mark.parametrize("name", ["utm", "rotated", "degrees"])
def test_a_zoom_above_the_map_shows_nearest_samples_of_an_overview(tmp_path, monkeypatch, name):
    labels = noise(603, 1201)
    uri, grid = write_labels(tmp_path / "labels.tif", labels, PLACES[name])
    with rasterio.open(uri, "r+") as target:
        target.build_overviews([2, 4, 8], Resampling.mode)
    sizes = []
    read = nearest._read
    monkeypatch.setattr(nearest, "_read", lambda *at: sizes.append(at[-1].pixels) or read(*at))
    deepest = extent_of(grid).zoom
    # Pixels of a zoom are up to twice as large as those of its overview.
    for above, level in ((0, None), (1, None), (2, 0), (3, 1), (4, 2), (5, 2)):
        zoom = deepest - above
        (window,) = all_around(grid, zoom)
        found = np.full((window.height, window.width), NODATA, np.uint8)
        add_nearest(found, window, zoom, SampledMap(uri, grid, NODATA, by_overviews=True))
        with rasterio.open(uri, **({} if level is None else {"overview_level": level})) as source:
            expected = sampled(source.read(1), (PLACES[name][0], source.transform), window, zoom)
        np.testing.assert_array_equal(found, expected)
    assert sizes.pop() <= 151 * 76


def test_where_the_first_map_has_nodata_the_next_one_shows(tmp_path):
    place = ("EPSG:3857", Affine(WORLD_M / 256, 0, -WORLD, 0, -WORLD_M / 256, WORLD))
    first, second = np.full((2, 256, 256), NODATA, np.uint8)
    first[:, :128] = 1
    second[128:] = 2
    maps = [
        write_labels(tmp_path / f"{number}.tif", labels, place)
        for number, labels in enumerate((first, second))
    ]
    world = Window(0, 0, 256, 256)
    expected = np.where(first == 1, 1, second)
    np.testing.assert_array_equal(nearest_of(world, 0, *maps), expected)
    expected = np.where(second == 2, 2, first)
    np.testing.assert_array_equal(nearest_of(world, 0, *maps[::-1]), expected)
