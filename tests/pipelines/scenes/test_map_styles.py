"""What QGIS shows of the classes: styles of the mosaics of a run, tables of its label maps."""

from __future__ import annotations

import csv
import hashlib
import math
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import pytest
import rasterio.shutil

from segmodel.labels.qgis_styles import raster_style
from tests.fakes import CLASSES
from tests.pipelines.corpus import (
    DEGREES,
    UTM,
    pixels,
    small_blocks,
    write_model_folder,
    write_scene,
)
from tests.pipelines.scene_runs import run_scenes


def styles(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*.qml"))


def test_each_mosaic_has_a_style_of_its_name_until_the_run_is_begun_again(tmp_path):
    model = write_model_folder(tmp_path / "model")
    scenes = [
        write_scene(tmp_path / folder / "a.tif", pixels(64, 64), place)
        for folder, place in (("utm", UTM), ("degrees", DEGREES))
    ]
    run = run_scenes(tmp_path / "run", model, *scenes)
    assert styles(run.root) == ["labels-EPSG-32633.qml", "labels-EPSG-4326.qml"]
    for name in styles(run.root):
        content = (run.root / name).read_bytes()
        assert content == raster_style(CLASSES)
        assert run.summary["files"][name] == hashlib.sha256(content).hexdigest()

    again = run_scenes(tmp_path / "run", model, scenes[0], gone="prune")
    assert styles(again.root) == ["labels.qml"]


def attributes(path: Path, folder: Path) -> list[dict[str, str]]:
    """Rows of the attribute table of a label map, as GDAL has read it into a VRT."""
    rasterio.shutil.copy(path, folder / "copy.vrt", driver="VRT")
    table = ET.parse(folder / "copy.vrt").find(".//GDALRasterAttributeTable")
    columns = [column.findtext("Name") for column in table.findall("FieldDefn")]
    return [
        dict(zip(columns, (cell.text for cell in row), strict=True)) for row in table.findall("Row")
    ]


def test_attribute_tables_have_the_areas_that_the_table_of_the_run_adds_up(tmp_path, monkeypatch):
    small_blocks(monkeypatch, 64)
    model = write_model_folder(tmp_path / "model")
    scenes = [
        write_scene(tmp_path / "in" / "blocks.tif", pixels(100, 150), UTM),
        write_scene(tmp_path / "in" / "one.tif", pixels(40, 50, 1), DEGREES),
    ]
    run = run_scenes(tmp_path / "run", model, *scenes)
    areas = defaultdict(list)
    for scene in scenes:
        for row in attributes(run.root / "labels" / "in" / scene.name, tmp_path):
            areas[row["Value"]].append(float(row["area_m2"]))
    with (run.root / "areas.csv").open(newline="") as stream:
        expected = {row["class_id"]: float(row["area_m2"]) for row in csv.DictReader(stream)}
    for value, parts in areas.items():
        assert math.fsum(parts) == pytest.approx(expected[value], rel=1e-12)
    assert [*areas] == ["0", "3", "7"]


def test_without_a_place_an_attribute_table_has_no_area(tmp_path):
    scene = write_scene(tmp_path / "in" / "a.tif", pixels(40, 50), (None, UTM[1]))
    run = run_scenes(tmp_path / "run", write_model_folder(tmp_path / "model"), scene)
    rows = attributes(run.root / "labels" / "in" / "a.tif", tmp_path)
    assert {*rows[0]} == {"Value", "Class", "R", "G", "B", "A", "Count"}
