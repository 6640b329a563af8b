"""Web tiles of finished runs: the archive, read by the package `pmtiles`."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from pmtiles.reader import MemorySource, Reader, all_tiles
from rasterio.transform import array_bounds
from rasterio.warp import transform_bounds

from pipelines.layers.launch import check_layers, prepare_layers
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import DoStageUnit
from pipelines.layers.tiles import coverage, pyramid, tile_stages
from pipelines.layers.tiles.mercator import extent_of
from pipelines.layers.tiles.tile_stages import TILES
from pipelines.run import plan
from pipelines.run.plan import WorkUnit
from segmodel.errors import ConfigurationError, TransientError
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window
from tests.fakes import BRIGHT, DARK, MIDDLE, contract
from tests.pipelines.corpus import pixels, write_model_folder, write_scene
from tests.pipelines.counted_scenes import holes, parts_of, place
from tests.pipelines.layers.made_layers import make
from tests.pipelines.layers.tiles.test_nearest import sampled
from tests.pipelines.scene_runs import run_scenes

CLASSES = contract().classes
NODATA = CLASSES.nodata
POLE = ("EPSG:3413", Affine(10, 0, -320, 0, -10, 320))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run over two scenes that overlap, of 128 x 128 and 128 x 118 pixels of 10 m."""
    folder = tmp_path_factory.mktemp("tiled")
    inputs, _ = parts_of(folder, [(0, 0), (40, 30)])
    model = write_model_folder(folder / "model")
    return run_scenes(folder / "run", model, inputs, overlap="first").root


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def tile(run: Path | str, form: str = "png", max_zoom: int | None = None, **more) -> dict:
    """Make web tiles; what the summary says of them."""
    return make(run, TILES, options=LayersOptions(tiles=form, max_zoom=max_zoom), **more)


def archive(run: Path) -> bytes:
    return (run / "layers" / "labels.pmtiles").read_bytes()


def labels_of(image: bytes) -> np.ndarray:
    """Labels of a tile, by the colours of the classes; refuses all other colours."""
    values = np.asarray(Image.open(io.BytesIO(image)).convert("RGBA")).astype(int)
    found = np.full(values.shape[:2], -1)
    found[values[..., 3] == 0] = NODATA
    for entry in CLASSES.classes:
        found[(values == (*entry.color, 255)).all(axis=-1)] = entry.id
    assert (found >= 0).all()
    return found


def mosaic(content: bytes, zoom: int, window: Window) -> np.ndarray:
    """Labels of a window of a zoom, put together from the tiles of an archive."""
    found = np.full((window.height, window.width), NODATA)
    for (z, x, y), image in all_tiles(MemorySource(content)):
        part = Window(256 * y, 256 * x, 256, 256).intersection(window)
        if z == zoom and part.pixels:
            inner = part.relative_to(Window(256 * y, 256 * x, 256, 256)).slices
            found[part.relative_to(window).slices] = labels_of(image)[inner]
    return found


def placed_labels(run: Path) -> list[tuple[np.ndarray, tuple, Grid]]:
    """Label maps of a run with their places, in order of priority."""
    found = []
    for path in sorted((run / "labels").rglob("*.tif")):
        with rasterio.open(path) as source:
            grid = Grid(source.height, source.width, source.transform, source.crs)
            found.append((source.read(1), (source.crs.to_wkt(), source.transform), grid))
    return found


def expected_labels(run: Path, zoom: int, window: Window) -> np.ndarray:
    """Nearest samples of all label maps, the first that has one."""
    found = np.full((window.height, window.width), NODATA)
    for labels, at, _ in placed_labels(run):
        nearest = sampled(labels, at, window, zoom)
        found = np.where(found == NODATA, nearest, found)
    return found


def around(run: Path, zoom: int) -> Window:
    """Pixels of a zoom that the first label map may have, and what is around them."""
    (window,) = extent_of(placed_labels(run)[0][2]).windows(zoom)
    margin = 512
    return Window(
        window.row - margin,
        window.column - margin,
        window.height + 2 * margin,
        window.width + 2 * margin,
    )


@pytest.mark.parametrize("form", ["png", "webp"])
def test_the_deepest_zoom_is_the_nearest_sample_of_the_label_maps(run, form):
    summary = tile(run, form)
    header = Reader(MemorySource(archive(run))).header()
    zoom = header["max_zoom"]
    # 10 m at 54° N are 17 m of the Web Mercator; zoom 13 has 19 m.
    assert zoom == 14
    window = around(run, zoom)
    expected = expected_labels(run, zoom, window)
    np.testing.assert_array_equal(mosaic(archive(run), zoom, window), expected)
    assert {DARK, MIDDLE, BRIGHT, NODATA} == set(np.unique(expected))
    assert summary["exit_status"] == 0
    found = summary["layers"]["tiles"]
    assert found["files"] == ["labels.pmtiles", "map.html"]
    assert (found["max_zoom"], found["bytes"]) == (14, len(archive(run)))
    assert header["clustered"]
    assert header["tile_type"].name == form.upper()


def test_each_zoom_has_the_label_of_the_deepest_zoom_at_the_middle_of_its_pixels(run):
    tile(run)
    deepest, content = 14, archive(run)
    window = around(run, deepest)
    labels = expected_labels(run, deepest, window)
    seen = set()
    for (zoom, x, y), image in all_tiles(MemorySource(content)):
        step = 1 << (deepest - zoom)
        down, across = ((256 * at + np.arange(256)) * step + step // 2 for at in (y, x))
        rows, columns = down - window.row, across - window.column
        expected = np.full((256, 256), NODATA)
        here = ((rows >= 0) & (rows < window.height))[:, None] & (
            (columns >= 0) & (columns < window.width)
        )
        grid = np.meshgrid(rows, columns, indexing="ij")
        expected[here] = labels[grid[0][here], grid[1][here]]
        np.testing.assert_array_equal(labels_of(image), expected)
        seen.add(zoom)
    header = Reader(MemorySource(content)).header()
    assert seen == set(range(header["min_zoom"], 15))
    assert header["min_zoom"] < 8


def test_classes_colours_areas_and_bounds_are_in_the_archive(run):
    tile(run)
    reader = Reader(MemorySource(archive(run)))
    rows = (run / "areas.csv").read_text().splitlines()[1:4]
    areas = [float(row.split(",")[4]) for row in rows]
    assert reader.metadata()["classes"] == [
        {"id": c.id, "name": c.name, "color": "#" + bytes(c.color).hex().upper(), "area_m2": area}
        for c, area in zip(CLASSES.classes, areas, strict=True)
    ]
    header = reader.header()
    found = [header[f"{side}_e7"] / 1e7 for side in ("min_lon", "min_lat", "max_lon", "max_lat")]
    edges = [
        transform_bounds(grid.crs, 4326, *array_bounds(grid.height, grid.width, grid.transform))
        for _, _, grid in placed_labels(run)
    ]
    ends = [
        side(edge)
        for side, edge in zip((min, min, max, max), zip(*edges, strict=True), strict=True)
    ]
    assert found == pytest.approx(ends, abs=1e-6)


def test_another_deepest_zoom_is_a_nearest_sample_too(run):
    for zoom in (9, 15):
        summary = tile(run, max_zoom=zoom)
        assert summary["layers"]["tiles"]["max_zoom"] == zoom
        window = around(run, zoom)
        expected = expected_labels(run, zoom, window)
        np.testing.assert_array_equal(mosaic(archive(run), zoom, window), expected)


@pytest.mark.parametrize("killed_after", [2, 7])
def test_units_in_any_order_and_interrupted_give_the_same_bytes(
    run, tmp_path, monkeypatch, killed_after
):
    monkeypatch.setattr(pyramid, "ZOOMS_PER_TIER", 2)
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    tile(whole, max_zoom=15)
    options = LayersOptions(tiles="png", max_zoom=15)
    prepared = prepare_layers(check_layers(str(run), options, [TILES]))
    done = 0
    for stage, found in prepared.stages:
        for unit in [*plan.read_units(found.work.run.plan, WorkUnit)][::-1]:
            if done < killed_after:
                DoStageUnit(stage.action)(unit, found.work)
                done += 1
    threads = ["--direct_running_mode=multi_threading", "--direct_num_workers=3"]
    summary = tile(run, max_zoom=15, words=threads)
    assert summary["this_attempt"]["units_skipped"] == killed_after
    assert summary["units"] > killed_after + 3
    assert archive(run) == archive(whole)


def test_tiles_of_another_format_replace_the_archive(run):
    tile(run)
    png = archive(run)
    tile(run, "webp")
    tile(run)
    assert archive(run) == png


def test_a_label_map_that_cannot_be_read_is_told_and_the_others_are_drawn(run):
    tile(run)
    whole = archive(run)
    path = run / "labels" / "in" / "1.tif"
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes(len(content) - 1000))
    shutil.rmtree(run / "layers")
    summary = tile(run, budget=1)
    assert (summary["exit_status"], summary["failed_images"]) == (0, 1)
    assert {failure["uri"] for failure in summary["first_failures"]} == {"in/1.tif"}
    path.write_bytes(content)
    window = around(run, 14)
    labels, at, _ = placed_labels(run)[0]
    np.testing.assert_array_equal(mosaic(archive(run), 14, window), sampled(labels, at, window, 14))
    assert tile(run)["failed_images"] == 0
    assert archive(run) == whole


def test_a_run_without_a_place_on_the_map_of_the_world_is_refused(tmp_path):
    write_scene(tmp_path / "in" / "a.tif", pixels(64, 64), POLE)
    model = write_model_folder(tmp_path / "model")
    root = run_scenes(tmp_path / "run", model, tmp_path / "in").root
    with pytest.raises(ConfigurationError, match=r"--tiles: no label map has a place on the Earth"):
        tile(root)


def test_a_zoom_of_too_many_tiles_is_refused_with_one_that_is_possible(run, monkeypatch):
    monkeypatch.setattr(coverage, "MAX_PIXELS", 1_000_000)
    with pytest.raises(ConfigurationError) as refused:
        tile(run, max_zoom=24)
    found = re.fullmatch(
        r"--tiles: label maps have .*e\+11 pixels at zoom 24, and at most 1e\+06 are drawn: give "
        r"--max_zoom (\d+), or less",
        str(refused.value),
    )
    possible = int(found[1])
    assert tile(run, max_zoom=possible)["exit_status"] == 0
    with pytest.raises(ConfigurationError, match=f"--max_zoom {possible}, or less"):
        tile(run, max_zoom=possible + 1)


def test_what_no_tile_shows_is_told(tmp_path, caplog):
    write_scene(tmp_path / "in" / "a.tif", pixels(64, 64), place(), mask=holes(64, 64, 1))
    write_scene(tmp_path / "in" / "pole.tif", pixels(64, 64), POLE)
    model = write_model_folder(tmp_path / "model")
    root = run_scenes(tmp_path / "run", model, tmp_path / "in").root
    assert tile(root)["exit_status"] == 0
    assert "1 label map without a place between 85.05° S and N in no tile, such as in/pole.tif" in (
        caplog.text
    )


def test_an_error_that_passes_leaves_the_unit_for_next_time(run, monkeypatch):
    def fail(*arguments):
        raise TransientError("the store is down")

    with monkeypatch.context() as patch:
        patch.setattr(tile_stages, "add_nearest", fail)
        assert tile(run)["exit_status"] == 4
    assert not (run / "layers" / "labels.pmtiles").exists()
    assert tile(run)["exit_status"] == 0


def test_tiles_of_a_run_in_a_store_lie_in_the_store(run, client):
    tile(run)
    expected = archive(run)
    shutil.rmtree(run / "layers")
    client.put_all(run, "gs://bucket/run")
    assert tile("gs://bucket/run")["exit_status"] == 0
    assert client.objects["gs://bucket/run/layers/labels.pmtiles"] == expected
