"""Web tiles that are drawn when a page asks for them."""

from __future__ import annotations

import io
import shutil
from urllib.parse import unquote

import numpy as np
import pytest
from affine import Affine
from PIL import Image
from pmtiles.reader import MmapSource, Reader, all_tiles
from rasterio.crs import CRS

from pipelines.layers.maps import LabelMap
from pipelines.layers.view import drawn_tiles
from pipelines.layers.view.drawn_tiles import DrawnTiles
from pipelines.layers.view.placed_maps import PlacedMaps
from pipelines.layers.view.run_page import ViewedRun, viewed_run
from pipelines.layers.view.server import LEFT_OUT, Site
from pipelines.run.plan import InputFile
from segmodel.rasters.grid import Grid
from tests.pipelines.layers.view.conftest import CLASSES, SCENE

HOST = "localhost"


@pytest.fixture
def run(looked, tmp_path):
    """A copy of the run without layers."""
    return shutil.copytree(looked.root, tmp_path / "run", ignore=shutil.ignore_patterns("layers"))


@pytest.fixture(scope="module")
def viewed(looked) -> ViewedRun:
    return viewed_run(str(looked.root))


@pytest.fixture
def drawn(viewed) -> DrawnTiles:
    return DrawnTiles(viewed.placed, CLASSES)


def archived(looked) -> dict[tuple[int, int, int], bytes]:
    with (looked.root / "layers" / "labels.pmtiles").open("rb") as stream:
        return dict(all_tiles(Reader(MmapSource(stream)).get_bytes))


def deepest_tiles(looked, drawn: DrawnTiles) -> dict[tuple[int, int, int], bytes]:
    return {at: tile for at, tile in archived(looked).items() if at[0] == drawn.max_zoom}


def test_tiles_of_the_deepest_zoom_are_those_of_an_archive(looked, drawn):
    tiles = archived(looked)
    assert drawn.max_zoom == max(zoom for zoom, _, _ in tiles)
    expected = deepest_tiles(looked, drawn)
    assert len(expected) >= 2
    assert {at: drawn.tile(*at).content for at in expected} == expected
    # Beside them there is nothing.
    zoom, column, row = next(iter(expected))
    assert drawn.tile(zoom, column - 5, row).content == b""


def test_each_pixel_of_other_zooms_is_a_class_or_transparent(looked, drawn):
    colors = {(*entry.color, 255) for entry in CLASSES.classes} | {(0, 0, 0, 0)}
    for zoom in range(drawn.max_zoom - 3, drawn.max_zoom):
        shift = drawn.max_zoom - zoom
        for _, column, row in deepest_tiles(looked, drawn):
            tile = drawn.tile(zoom, column >> shift, row >> shift)
            values = np.asarray(Image.open(io.BytesIO(tile.content)).convert("RGBA"))
            assert {*map(tuple, values[values[..., 3] > 0].tolist())} <= colors


@pytest.mark.parametrize(("most", "expected"), [(4, 0), (2, 11), (1, 12)])
def test_a_zoom_with_too_many_label_maps_in_a_tile_is_not_drawn(monkeypatch, most, expected):
    monkeypatch.setattr(drawn_tiles, "MAX_MAPS", most)
    places = (Affine(0.00025, 0, 1 + number / 10, 0, -0.00025, 0.2) for number in range(4))
    grids = [Grid(400, 400, place, CRS.from_epsg(4326)) for place in places]
    maps = [LabelMap(InputFile("", "in", "a", 0, ""), None, grid, CLASSES) for grid in grids]
    drawn = DrawnTiles(PlacedMaps(maps), CLASSES)
    assert (drawn.min_zoom, drawn.max_zoom) == (expected, 13)
    if expected:
        with pytest.raises(IndexError):
            drawn.tile(expected - 1, 0, 0)


def test_what_was_drawn_is_kept_up_to_a_number_of_bytes(looked, viewed, monkeypatch):
    tiles = deepest_tiles(looked, DrawnTiles(viewed.placed, CLASSES))
    (first, content), (second, _), *_ = tiles.items()
    monkeypatch.setattr(drawn_tiles, "KEPT_BYTES", len(content) + 800)
    drawn = DrawnTiles(viewed.placed, CLASSES)
    read = []
    sampled = drawn._sampled
    monkeypatch.setattr(drawn, "_sampled", lambda *at: read.append(at) or sampled(*at))
    drawn.tile(*first)
    count = len(read)
    assert drawn.tile(*first).content == content
    assert len(read) == count
    drawn.tile(*second)
    count = len(read)
    assert drawn.tile(*first).content == content
    assert len(read) > count


def test_a_label_map_that_cannot_be_read_is_left_out_and_told(looked, run):
    site = Site(viewed_run(str(run)))
    drawn = DrawnTiles(viewed_run(str(run)).placed, CLASSES)
    path = run / "labels" / "in" / SCENE
    path.write_bytes(path.read_bytes()[:300] + bytes(path.stat().st_size - 300))
    tiles = deepest_tiles(looked, drawn)
    answers = [site.answer(f"/tile/{z}/{x}/{y}", HOST) for z, x, y in tiles]
    said = {unquote(at.headers[LEFT_OUT]) for at in answers if LEFT_OUT in at.headers}
    (text,) = said
    assert text.startswith(f"labels/in/{SCENE}: ")
    assert "beamseg verify" in text
    assert all(at.status == 200 for at in answers)
    assert any(at.length for at in answers if LEFT_OUT in at.headers)


PLACES = ["0/1/0", "99/0/0", "{zoom}/999999999/0", "1/2/3/4", "1/2", "-1/0/0"]


@pytest.mark.parametrize("place", PLACES)
def test_where_no_tile_is_there_is_no_page(run, place):
    viewed = viewed_run(str(run))
    site = Site(viewed)
    zoom = DrawnTiles(viewed.placed, CLASSES).max_zoom
    assert site.answer(f"/tile/{place.format(zoom=zoom)}", HOST).status == 404


def test_tiles_of_a_run_in_a_store_are_those_of_one_here(looked, run, drawn, client):
    client.put_all(run, "gs://bucket/run")
    site = Site(viewed_run("gs://bucket/run"))
    for (zoom, column, row), expected in deepest_tiles(looked, drawn).items():
        answer = site.answer(f"/tile/{zoom}/{column}/{row}", HOST)
        assert (answer.status, b"".join(answer.content)) == (200, expected)
    client.fails = lambda method, uri: uri.endswith("a.tif")
    above = zoom - drawn.min_zoom
    answer = site.answer(f"/tile/{drawn.min_zoom}/{column >> above}/{row >> above}", HOST)
    assert "the store is down" in unquote(answer.headers[LEFT_OUT])
