"""Mosaics: each pixel shows where it counts, and areas are those of the table."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rio_cogeo.cogeo import cog_validate

from pipelines.commands import layers as command
from pipelines.layers.launch import check_layers, prepare_layers
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import DoStageUnit
from pipelines.layers.tiles import mosaic
from pipelines.layers.tiles.mosaic_grid import MosaicGrid
from pipelines.run import plan
from segmodel.errors import ConfigurationError
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window
from tests.fakes import CLASSES, brightness_labels
from tests.pipelines.corpus import (
    UTM,
    pixels,
    read_band,
    spoil_strip,
    tree,
    write_model_folder,
    write_scene,
)
from tests.pipelines.counted_scenes import THREE, expected_once, parts_of, place
from tests.pipelines.scene_runs import Finished, run_scenes

DATES = ["2026:03:01 00:00:00", "2026:01:01 00:00:00", "2026:02:01 00:00:00"]


def segmented(tmp_path: Path, **options) -> Finished:
    model = write_model_folder(tmp_path / "model")
    return run_scenes(tmp_path / "run", model, tmp_path / "in", **options)


def made(run: Finished, *words: str, status: int = 0) -> dict:
    """What the summary says of the mosaic."""
    assert command.run([str(run.root), "--mosaic", *words]) == status
    return json.loads((run.root / "layers" / "summary.json").read_bytes())["layers"]["mosaic"]


@pytest.mark.parametrize(
    ("rule", "order", "cell"),
    [("first", [0, 1, 2], "500"), ("newest", [0, 2, 1], "100000"), ("first", [0, 1, 2], "370")],
)
def test_each_pixel_shows_where_it_counts_and_areas_are_those_of_the_table(
    tmp_path, monkeypatch, rule, order, cell
):
    monkeypatch.setattr(mosaic, "BLOCK_PX", 48)
    _, parts = parts_of(tmp_path, THREE, DATES)
    run = segmented(tmp_path, overlap=rule)
    found = made(run, "--cell", cell)
    shown = expected_once(parts, order)[2]
    np.testing.assert_array_equal(read_band(run.root / "layers" / "mosaic.vrt"), shown)
    assert found["mosaics"][0]["resampling"] is None
    for row in found["classes"]:
        assert row["pixels"] == run.pixels[row["class"]] > 0
        assert row["area_m2"] == pytest.approx(run.area_m2[row["class"]], rel=1e-12)


@pytest.mark.parametrize(
    "turned",
    [
        Affine.translation(60, 110) @ Affine.scale(1, -1),
        Affine.translation(120, 50) @ Affine.scale(-1, 1),
        Affine(0, -1, 140, 1, 0, 50),
        Affine(0, 1, 60, -1, 0, 130),
    ],
    ids=["south_up", "west_right", "by_90_degrees", "by_270_degrees"],
)
def test_a_scene_on_the_grid_shows_its_pixels_whichever_way_it_is_turned(tmp_path, turned):
    write_scene(tmp_path / "in" / "a.tif", pixels(80, 90))
    values = pixels(60, 50, seed=1)
    write_scene(tmp_path / "in" / "b.tif", values, (UTM[0], UTM[1] @ turned))
    run = segmented(tmp_path, overlap="first")
    found = made(run)
    assert found["mosaics"][0]["resampling"] is None
    expected = np.full((200, 200), 255)
    for row, column in np.ndindex(60, 50):
        x, y = turned @ (column + 0.5, row + 0.5)
        expected[int(y), int(x)] = brightness_labels(values)[row, column]
    expected[:80, :90] = brightness_labels(pixels(80, 90))
    shown = read_band(run.root / "layers" / "mosaic.vrt")
    np.testing.assert_array_equal(shown, expected[: shown.shape[0], : shown.shape[1]])
    assert {row["class"]: row["pixels"] for row in found["classes"]} == {
        name: run.pixels[name] for name in ("dark", "middle", "bright")
    }


def test_files_of_a_mosaic_begin_at_multiples_of_the_cell(tmp_path):
    write_scene(tmp_path / "in" / "a.tif", pixels(100, 130), place(-20, 10))
    run = segmented(tmp_path)
    made(run, "--cell", "1000")
    folder = run.root / "layers" / "mosaic" / "EPSG-32633"
    bounds = {}
    for path in folder.glob("*.tif"):
        with rasterio.open(path) as source:
            bounds[path.stem] = tuple(source.bounds)
    assert bounds == {
        "299000_5999000": (299800, 5999000, 300000, 5999900),
        "300000_5999000": (300000, 5999000, 301000, 5999900),
        "301000_5999000": (301000, 5999000, 301100, 5999900),
        "299000_5998000": (299800, 5998900, 300000, 5999000),
        "300000_5998000": (300000, 5998900, 301000, 5999000),
        "301000_5998000": (301000, 5998900, 301100, 5999000),
    }


def test_a_file_of_a_mosaic_is_a_cog_with_palette_names_and_overviews_of_classes(tmp_path):
    write_scene(tmp_path / "in" / "a.tif", pixels(600, 700))
    run = segmented(tmp_path)
    about = made(run)
    (path,) = (run.root / "layers" / "mosaic").rglob("*.tif")
    assert cog_validate(path, quiet=True)[0]
    with rasterio.open(path) as source:
        assert source.colormap(1)[7] == (*CLASSES.classes[2].color, 255)
        assert source.nodata == 255
        assert source.tags()["CLASS_7"] == "bright"
        assert source.overviews(1) == [2]
        assert set(np.unique(source.read(1, out_shape=(300, 350)))) <= {0, 3, 7, 255}
    assert (run.root / "layers" / "mosaic.qml").read_bytes().count(b'label="bright"') == 1
    beside = ET.parse(f"{path}.aux.xml")
    assert "bright" in [name.text for name in beside.iter("Category")]
    areas = [float(row.findall("F")[-1].text) for row in beside.iter("Row")]
    assert areas == [row["area_m2"] for row in about["classes"]]


def test_scenes_off_the_grid_are_nearest_and_the_summary_says_so(tmp_path):
    values = pixels(90, 80)
    write_scene(tmp_path / "in" / "a.tif", values[:40, :40])
    turned = UTM[1] @ Affine.translation(60.3, 10.2) @ Affine.rotation(20)
    write_scene(tmp_path / "in" / "b.tif", values[:, :60], (UTM[0], turned))
    run = segmented(tmp_path)
    found = made(run)
    assert found["mosaics"][0]["resampling"] == "nearest"
    with rasterio.open(run.root / "layers" / "mosaic.vrt") as source:
        shown, transform = source.read(1), source.transform
    # Of each pixel, the one of the label map that its centre lies in.
    expected = np.full(shown.shape, 255)
    for labels, way in (
        (brightness_labels(values[:, :60]), turned),
        (brightness_labels(values[:40, :40]), UTM[1]),
    ):
        for row, column in np.ndindex(*shown.shape):
            x, y = ~way @ (transform @ (column + 0.5, row + 0.5))
            if 0 <= x < labels.shape[1] and 0 <= y < labels.shape[0]:
                expected[row, column] = labels[int(y), int(x)]
    np.testing.assert_array_equal(shown, expected)


def test_each_reference_system_has_a_mosaic_and_scenes_without_one_have_none(tmp_path):
    write_scene(tmp_path / "in" / "a.tif", pixels(40, 40))
    write_scene(tmp_path / "in" / "b.tif", pixels(30, 50, 1), ("EPSG:32632", UTM[1]))
    write_scene(tmp_path / "in" / "c.tif", pixels(30, 50, 2), (None, UTM[1]))
    run = segmented(tmp_path)
    found = made(run)
    assert found["files"] == ["mosaic-EPSG-32632.vrt", "mosaic-EPSG-32633.vrt"]
    for name, path in (("a", "mosaic-EPSG-32633.vrt"), ("b", "mosaic-EPSG-32632.vrt")):
        expected = run.labels(f"in/{name}.tif")
        np.testing.assert_array_equal(read_band(run.root / "layers" / path), expected)


def test_a_mosaic_of_a_reference_system_that_the_run_has_lost_is_removed(tmp_path):
    write_scene(tmp_path / "in" / "a.tif", pixels(40, 40))
    west = write_scene(tmp_path / "in" / "b.tif", pixels(30, 50, 1), ("EPSG:32632", UTM[1]))
    run = segmented(tmp_path)
    made(run)
    west.unlink()
    run = segmented(tmp_path, gone="prune")
    made(run)
    layers = run.root / "layers"
    assert {path.name for path in (layers / "mosaic").rglob("*.tif")} == {"300000_5900000.tif"}
    assert {path.name for path in layers.glob("mosaic*.*")} == {"mosaic.vrt", "mosaic.qml"}
    assert {path.name for path in (layers / ".beamseg" / "mosaic").iterdir()} == {
        "EPSG-32633",
        "summary.json",
    }


def test_a_mosaic_of_many_files_has_an_index_that_gdal_opens_as_the_same_map(tmp_path, monkeypatch):
    tmp_path = tmp_path / "marks!;?"
    write_scene(tmp_path / "in" / "a.tif", pixels(90, 130))
    run = segmented(tmp_path)
    made(run, "--cell", "500")
    layers = run.root / "layers"
    names = {path.name for path in layers.glob("mosaic*.*")}
    assert names == {"mosaic.vrt", "mosaic.qml"}

    monkeypatch.setattr(mosaic, "MAX_VRT_FILES", 5)
    assert made(run, "--cell", "500")["files"] == ["mosaic.gti.gpkg"]
    names = {path.name for path in layers.glob("mosaic*.*")}
    assert names == {"mosaic.gti.gpkg", "mosaic.gti.qml"}
    with rasterio.open(layers / "mosaic.gti.gpkg") as source:
        assert (source.driver, source.nodata, source.colormap(1)[7][:3]) == (
            "GTI",
            255,
            CLASSES.classes[2].color,
        )
        assert source.transform == UTM[1]
        np.testing.assert_array_equal(source.read(1), run.labels("in/a.tif"))
    before = (layers / "mosaic.gti.gpkg").read_bytes()
    made(run, "--cell", "500")
    assert (layers / "mosaic.gti.gpkg").read_bytes() == before


def test_without_a_reference_system_there_is_no_mosaic(tmp_path):
    write_scene(tmp_path / "in" / "c.tif", pixels(30, 50, 2), (None, UTM[1]))
    run = segmented(tmp_path)
    with pytest.raises(ConfigurationError, match=r"no label map of .* with --crs"):
        made(run)
    assert not (run.root / "layers").exists()


def test_a_label_map_that_cannot_be_read_is_left_out_and_told(tmp_path, capsys):
    parts_of(tmp_path, THREE)
    run = segmented(tmp_path, overlap="first")
    expected = read_band(run.root / "labels.vrt")
    path = run.root / "labels" / "in" / "1.tif"
    content = path.read_bytes()
    spoil_strip(path, 0)
    made(run, status=3)
    assert "failed: in/1.tif: " in capsys.readouterr().err
    shown = read_band(run.root / "layers" / "mosaic.vrt")
    np.testing.assert_array_equal(shown[:30, :128], expected[:30, :128])
    assert not np.array_equal(shown, expected)
    path.write_bytes(content)
    made(run)
    np.testing.assert_array_equal(read_band(run.root / "layers" / "mosaic.vrt"), expected)


def test_an_interrupted_mosaic_goes_on_to_the_same_bytes_and_another_cell_leaves_none(tmp_path):
    parts_of(tmp_path, THREE)
    run = segmented(tmp_path)
    asked = LayersOptions(mosaic=True, cell=500.0)
    ((stage, found),) = prepare_layers(check_layers(str(run.root), asked)).stages
    units = list(plan.read_units(found.work.run.plan, plan.WorkUnit))
    assert len(units) == 16
    for unit in units[3:6]:
        DoStageUnit(stage.action)(unit, found.work)
    begun = tree(run.root / "layers" / "mosaic")
    made(run, "--cell", "500")
    whole = tree(run.root / "layers" / "mosaic")
    assert begun.items() < whole.items()
    made(run, "--cell", "800")
    made(run, "--cell", "500")
    assert tree(run.root / "layers" / "mosaic") == whole


def test_a_cell_that_nobody_chose_has_neither_too_many_pixels_nor_too_few():
    tiny = Grid(10, 10, Affine(0.1, 0, 0, 0, -0.1, 0), rasterio.CRS.from_epsg(32633))
    assert MosaicGrid.of([tiny], None).cell == 6250.0
    for cell, side in ((200000.0, "2e\\+06"), (0.7, "7"), (1e-9, "1e-08")):
        with pytest.raises(ConfigurationError, match=rf"--cell .* {side} in EPSG-32633: "):
            MosaicGrid.of([tiny], cell)
    assert MosaicGrid.of([tiny], 0.8).cell == 0.8
    for step, cell in ((0.001, 3.0), (0.01, 24.0), (1 / 15, 192.0)):
        degrees = Grid(10, 10, Affine(step, 0, 0, 0, -step, 0), rasterio.CRS.from_epsg(4326))
        assert MosaicGrid.of([degrees], None).cell == cell
    feet = Grid(10, 10, Affine(10, 0, 0, 0, -10, 0), rasterio.CRS.from_epsg(2263))
    assert MosaicGrid.of([feet], None).cell == pytest.approx(328083.3333)


@pytest.mark.parametrize(
    ("window", "names"),
    [
        (Window(-3, -3, 6, 6), {"-10_-10": 9, "-10_0": 9, "0_-10": 9, "0_0": 9}),
        (Window(0, 0, 10, 10), {"0_-10": 100}),
        (Window(9, 10, 2, 1), {"10_-10": 1, "10_-20": 1}),
    ],
)
def test_cells_share_out_every_pixel_once(window, names):
    first = Grid(10, 10, Affine(1, 0, 0, 0, -1, 0), rasterio.CRS.from_epsg(32633))
    found = {name: part.pixels for name, part in MosaicGrid.of([first], 10.0).cells(window)}
    assert found == names
    assert sum(found.values()) == window.pixels


def test_the_cell_is_for_mosaics():
    with pytest.raises(ConfigurationError, match="--cell is the side of the files of --mosaic"):
        command.run(["run", "--cell", "5"])
