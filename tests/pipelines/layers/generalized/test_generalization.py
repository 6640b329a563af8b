"""Generalized label maps of whole runs, and tables that balance with those of the run."""

from __future__ import annotations

import csv
import math
import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import astuple
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy.ndimage import label

from pipelines.layers.generalized.generalization import (
    MINIMUM_AREA,
    MinimumArea,
    finish_generalization,
    moved_total,
    with_kept,
)
from pipelines.layers.generalized.generalize import PIECES, generalize_stages, generalized_map
from pipelines.layers.launch import check_layers, prepare_layers
from pipelines.layers.maps import LabelMaps
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import DoStageUnit, Layer
from pipelines.rasters.reader import ground_grid
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.plan import WorkUnit
from pipelines.storage import filesystem
from segmodel.errors import TransientError
from segmodel.rasters.grid import Grid
from tests.fakes import BRIGHT, DARK, MIDDLE
from tests.pipelines.corpus import DEGREES, UTM, pixels, tree, write_model_folder, write_scene
from tests.pipelines.counted_scenes import ANY, parts_of
from tests.pipelines.layers.generalized.test_mapping_unit import by_definition
from tests.pipelines.layers.made_layers import layer as bright
from tests.pipelines.layers.made_layers import make
from tests.pipelines.scene_runs import run_scenes

# 40 pixels of 10 m, some of which are a bit smaller than 100 m² on the ground.
UNIT_M2 = 4000.0
PARTS = ("dark", "middle", "bright", "nodata", "failed")
LINES = {DARK: "dark", MIDDLE: "middle", BRIGHT: "bright"}


def layer(side: int = 64, unit_m2: float = UNIT_M2) -> Layer:
    return Layer(
        "minimum_area",
        lambda options: MinimumArea(unit_m2),
        lambda settings, maps: generalize_stages(settings.unit_m2, maps, side),
        finish_generalization,
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def by_line(path: Path, column: str) -> dict[str, float]:
    """A column of a table of areas, by line."""
    return {row["class"]: float(row[column]) for row in rows(path)}


def matrix_sums(run: Path, column: str, end: str) -> dict[str, float]:
    """Sums of a column of the matrix by the class at an end, `from` or `to`."""
    found: dict[str, list[float]] = {}
    for row in rows(run / "layers" / "generalization.csv"):
        found.setdefault(row[f"{end}_class"], []).append(float(row[column]))
    return {line: math.fsum(values) for line, values in found.items()}


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(1)


def labels_and_areas(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a label map, and ground areas of its pixels in m²."""
    with rasterio.open(path) as source:
        labels, grid = source.read(1), Grid(*source.shape, source.transform, source.crs)
    areas = ground_grid(grid).pixel_areas_m2(*astuple(grid.window))
    return labels, np.broadcast_to(areas, labels.shape)


def generalize(run: Path, kind: Layer) -> dict:
    """Do what the command does, without an engine; what the summary says beside files."""
    prepared = prepare_layers(check_layers(str(run), LayersOptions(), [kind]))
    for stage, found in prepared.stages:
        for unit in plan.read_units(found.work.run.plan, WorkUnit):
            DoStageUnit(stage.action)(unit, found.work)
    (made,) = prepared.made
    return dict(made.finish(made.works[-1]).about)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run over two scenes that overlap, one of them half lost; not to be changed."""
    folder = tmp_path_factory.mktemp("generalized")
    inputs, _ = parts_of(folder, [(0, 0), (40, 30)], failing=[1])
    model = write_model_folder(folder / "model")
    return run_scenes(folder / "run", model, inputs, max_failures=ANY).root


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.mark.parametrize("side", [50, 64, 512])
def test_a_generalized_map_is_that_of_the_whole_scene_for_any_blocks(run, finished, side):
    generalize(run, layer(side))
    for name in ("0.tif", "1.tif"):
        labels, areas = labels_and_areas(run / "labels" / "in" / name)
        expected = by_definition(labels, areas, UNIT_M2)
        assert (expected != labels).sum() > 100
        assert np.array_equal(read(run / "layers" / "generalized" / "in" / name), expected)


def test_blocks_change_no_byte_of_maps_and_tables(run, finished, tmp_path):
    other = Path(shutil.copytree(finished, tmp_path / "other"))
    assert make(run, layer(64))["exit_status"] == 0
    generalize(other, layer(37))
    shown = [
        {n: c for n, c in tree(root / "layers").items() if "." in n and not n.startswith(".beam")}
        for root in (run, other)
    ]
    for name in ("summary.json", "failures.csv"):
        del shown[0][name]
    assert sorted(shown[0]) == [
        "areas_generalized.csv",
        "generalization.csv",
        *(f"generalized/in/{n}.tif{e}" for n in (0, 1) for e in ("", ".aux.xml")),
    ]
    assert shown[0] == shown[1]


def test_a_generalized_map_says_its_classes_and_its_unit(run):
    generalize(run, layer())
    paths = (run / folder / "in" / "0.tif" for folder in ("labels", "layers/generalized"))
    (before, names), (after, own_names) = (
        (rasterio.open(path), Path(f"{path}.aux.xml").read_bytes()) for path in paths
    )
    with before, after:
        assert after.tags() == before.tags() | {"BEAMSEG_MINIMUM_AREA_M2": "4000.0"}
        assert after.colormap(1) == before.colormap(1)
        assert (after.nodata, after.crs, after.transform) == (255, before.crs, before.transform)
        assert after.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    attributes = b"<GDALRasterAttributeTable"
    assert own_names.split(attributes)[0] == names.split(attributes)[0]


def test_attribute_tables_of_generalized_maps_add_up_to_the_generalized_areas(run):
    generalize(run, layer())
    found = dict.fromkeys(PARTS[:3], 0.0)
    for path in (run / "layers" / "generalized").rglob("*.aux.xml"):
        for row in ET.parse(path).iter("Row"):
            cells = [cell.text for cell in row]
            found[cells[1]] += float(cells[-1])
    assert found == pytest.approx(
        {line: by_line(run / "layers/areas_generalized.csv", "area_m2")[line] for line in found}
    )


def test_rows_of_the_matrix_are_the_areas_and_columns_the_generalized_areas(run):
    summary = generalize(run, layer())
    for end, table in (("from", "areas.csv"), ("to", "layers/areas_generalized.csv")):
        pixels, areas = (by_line(run / table, column) for column in ("pixels", "area_m2"))
        assert matrix_sums(run, "pixels", end) == {line: pixels[line] for line in PARTS}
        for line, area in matrix_sums(run, "area_m2", end).items():
            assert area == pytest.approx(areas[line], rel=1e-15)
    tables = ("areas.csv", "layers/areas_generalized.csv")
    before, after = (by_line(run / table, "area_m2") for table in tables)
    for line in ("nodata", "failed", "footprint"):
        assert after[line] == before[line]
    assert after["total"] == pytest.approx(before["total"], rel=1e-15)
    assert summary["balances_with"] == "areas.csv"


def test_generalized_areas_are_those_of_the_generalized_maps(run):
    generalize(run, layer())
    expected, areas = Counter(), {name: [] for name in LINES.values()}
    for path in (run / "layers" / "generalized" / "in").glob("*.tif"):
        labels, of_pixels = labels_and_areas(path)
        for value, name in LINES.items():
            expected[name] += int((labels == value).sum())
            areas[name] += of_pixels[labels == value].tolist()
    found = by_line(run / "layers" / "areas_generalized.csv", "pixels")
    assert {name: found[name] for name in expected} == expected
    found = by_line(run / "layers" / "areas_generalized.csv", "area_m2")
    for name, parts in areas.items():
        assert found[name] == pytest.approx(math.fsum(parts), rel=1e-12)


def test_what_keeps_its_class_below_the_unit_is_counted(run):
    stay = []
    below = generalize(run, layer())["unchanged"]
    for name in ("0.tif", "1.tif"):
        labels, areas = labels_and_areas(run / "labels" / "in" / name)
        after = read(run / "layers" / "generalized" / "in" / name)
        for value in LINES:
            ids, count = label(labels == value)
            for number in range(1, count + 1):
                where = ids == number
                if areas[where].sum() < UNIT_M2 and (after[where] == value).all():
                    stay.append(areas[where])
    assert len(stay) > 20
    assert (below["components"], below["pixels"]) == (len(stay), sum(map(len, stay)))
    assert below["area_m2"] == pytest.approx(sum(map(sum, stay)), rel=1e-12)


def test_ground_that_counts_once_is_generalized_in_every_scene(tmp_path):
    inputs, _ = parts_of(tmp_path, [(0, 0), (40, 30)])
    model = write_model_folder(tmp_path / "model")
    once = run_scenes(tmp_path / "once", model, inputs, overlap="first").root
    each = run_scenes(tmp_path / "each", model, inputs).root
    summary = generalize(once, layer())
    generalize(each, layer())
    for name in ("areas_generalized.csv", "generalization.csv"):
        assert (once / "layers" / name).read_bytes() == (each / "layers" / name).read_bytes()
    assert summary["balances_with"] == "label maps"


def test_geographic_scenes_are_measured_row_by_row(tmp_path):
    write_scene(tmp_path / "in" / "a.tif", pixels(90, 70, 3), DEGREES)
    run = run_scenes(tmp_path / "run", write_model_folder(tmp_path / "model"), tmp_path / "in").root
    unit = 20e6
    generalize(run, layer(32, unit))
    labels, areas = labels_and_areas(run / "labels" / "in" / "a.tif")
    expected = by_definition(labels, areas, unit)
    assert np.array_equal(read(run / "layers" / "generalized" / "in" / "a.tif"), expected)


def test_a_scene_without_ground_is_told_with_the_remedy(tmp_path):
    write_scene(tmp_path / "in" / "a.tif", pixels(90, 70, 3), (None, UTM[1]))
    run = run_scenes(tmp_path / "run", write_model_folder(tmp_path / "model"), tmp_path / "in").root
    summary = make(run, layer())
    assert (summary["exit_status"], summary["failed_images"]) == (3, 1)
    (failure,) = rows(run / "layers" / "failures.csv")
    assert failure["code"] == "bad_georeference"
    assert "or label it with --pixel_size" in failure["reason"]


def test_pixels_of_a_known_size_need_no_place(tmp_path):
    write_scene(tmp_path / "in" / "a.tif", pixels(90, 70, 3), (None, UTM[1]))
    model = write_model_folder(tmp_path / "model")
    run = run_scenes(tmp_path / "run", model, tmp_path / "in", pixel_size=3.0).root
    generalize(run, layer(32, 90.0))
    labels = read(run / "labels" / "in" / "a.tif")
    expected = by_definition(labels, np.full((90, 1), 9.0), 90.0)
    assert np.array_equal(read(run / "layers" / "generalized" / "in" / "a.tif"), expected)


@pytest.mark.parametrize("units", [3, 9])
def test_an_interrupted_pass_goes_on_to_the_same_bytes(run, finished, tmp_path, units):
    whole = Path(shutil.copytree(finished, tmp_path / "whole"))
    generalize(whole, layer())
    prepared = prepare_layers(check_layers(str(run), LayersOptions(), [layer()]))
    done = 0
    for stage, found in prepared.stages:
        for unit in plan.read_units(found.work.run.plan, WorkUnit):
            if done < units:
                DoStageUnit(stage.action)(unit, found.work)
                done += 1
    generalize(run, layer())
    expected, found = (
        {n: c for n, c in tree(root / "layers").items() if n.endswith((".csv", ".tif", ".npz"))}
        for root in (whole, run)
    )
    assert len(expected) == 2 + 2 + 8
    assert found == expected


def test_a_damaged_file_between_the_stages_is_made_again(run):
    prepared = prepare_layers(check_layers(str(run), LayersOptions(), [layer()]))
    (pieces, first), (scenes, second) = prepared.stages
    for unit in plan.read_units(first.work.run.plan, WorkUnit):
        DoStageUnit(pieces.action)(unit, first.work)
    path = next((run / "layers" / ".beamseg" / PIECES).glob("*.npz"))
    content = path.read_bytes()
    path.write_bytes(content[:50] + b"x" + content[51:])
    reports = [
        DoStageUnit(scenes.action)(unit, second.work)
        for unit in plan.read_units(second.work.run.plan, WorkUnit)
    ]
    assert sorted(report.incomplete for report in reports) == [0, 1]
    generalize(run, layer())
    assert path.read_bytes() == content


def test_another_unit_makes_other_maps(run):
    generalize(run, layer())
    first = read(run / "layers" / "generalized" / "in" / "0.tif")
    generalize(run, layer(unit_m2=300.0))
    assert (read(run / "layers" / "generalized" / "in" / "0.tif") != first).any()


def test_other_layers_find_the_generalized_map_of_their_unit(run):
    generalize(run, layer())
    prepared = prepare_layers(check_layers(str(run), LayersOptions(), [layer()]))
    maps = LabelMaps(prepared.made[0].works[-1].labelled)
    (reader,) = prepare_layers(check_layers(str(run), LayersOptions(), [bright()])).made
    for found in maps:
        generalized = generalized_map(found, UNIT_M2, reader.works[0])
        assert generalized.uri == str(run / "layers" / "generalized" / "in" / found.file.name)
        assert generalized.file.version == filesystem.sha256(generalized.uri)
        assert (generalized.key, generalized.grid) == (found.key, found.grid)
        with pytest.raises(TransientError, match="is not made yet"):
            generalized_map(found, 2 * UNIT_M2, reader.works[0])


def test_the_option_asks_for_the_layer():
    assert MINIMUM_AREA.settings(LayersOptions()) is None
    assert MINIMUM_AREA.settings(LayersOptions(minimum_area=50.0)) == MinimumArea(50.0)


def test_of_a_class_that_moved_as_a_whole_nothing_is_left_but_what_it_moved():
    total = Tally(
        pixels={"0": 3, "1": 2, "nodata": 1},
        ground_pixels={"0": 3, "1": 2, "nodata": 1},
        area_m2={"0": Fraction(31, 10), "1": Fraction(2), "nodata": Fraction(1)},
    )
    moves = with_kept(total, {("0", "1"): (3, Fraction(3))})
    assert moves == {
        ("0", "0"): (0, Fraction(0)),
        ("0", "1"): (3, Fraction(31, 10)),
        ("1", "1"): (2, Fraction(2)),
        ("nodata", "nodata"): (1, Fraction(1)),
    }
    assert moved_total(total, moves).area_m2 == {"0": 0.0, "1": 5.1, "nodata": 1.0}
    assert moved_total(total, moves).pixels == {"0": 0, "1": 5, "nodata": 1}
