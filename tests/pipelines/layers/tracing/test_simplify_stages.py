"""`--simplify`: polygons of whole runs that share their edges, and the drift of each class."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Geod

from pipelines.commands.layers import run as layers_command
from pipelines.layers.launch import check_layers, prepare_layers
from pipelines.layers.options import LayersOptions
from pipelines.layers.polygons.parts import polygons_of
from pipelines.layers.stages import DoStageUnit, Layer
from pipelines.layers.tracing.drift import DriftTable
from pipelines.layers.tracing.polygon_layer import POLYGONS, PolygonSettings
from pipelines.layers.tracing.simplify_stages import Simplifying
from pipelines.layers.tracing.stages import Tracing
from pipelines.run import plan
from pipelines.run.plan import WorkUnit
from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable, LabelClass
from tests.pipelines.corpus import DEGREES, UTM, tree, write_model_folder, write_scene
from tests.pipelines.counted_scenes import holes
from tests.pipelines.layers.made_layers import make
from tests.pipelines.scene_runs import run_scenes

PLACES = {
    "degrees": DEGREES,
    "north-up": UTM,
    "no-crs": (None, UTM[1]),
    "south-up": (UTM[0], Affine(9, 3, 310000, 3, 9, 6_000_000)),
}
ATTRIBUTES = ["component", "class_id", "class", "pixels", "area_m2", "confidence"]


def labelled(folder: Path, names: list[str], **options) -> Path:
    """A run over scenes of broad stripes with ragged edges; its folder."""
    random = np.random.default_rng(7)
    for name in names:
        row, column = np.indices((60, 70))
        steps = (row + column // 2 + random.integers(0, 4, (60, 70))) // 12 % 3
        values = np.repeat((steps * 100 + 20).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
        valid = holes(60, 70, 3, 0.01)
        write_scene(folder / "in" / f"{name}.tif", values, PLACES[name], mask=valid)
    model = write_model_folder(folder / "model")
    return run_scenes(folder / "run", model, folder / "in", confidence=True, **options).root


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run over scenes of several reference systems; not to be changed."""
    return labelled(tmp_path_factory.mktemp("places"), [*PLACES])


@pytest.fixture(scope="module")
def placed(tmp_path_factory) -> Path:
    """A run over one scene; not to be changed."""
    return labelled(tmp_path_factory.mktemp("placed"), ["north-up"])


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def layer(side: int = 25, tolerance_px: float = 2, max_vertices: int = 1_000_000) -> Layer:
    tracing = Tracing("polygons", max_vertices, side)
    settings = PolygonSettings(("parquet",), True, tracing, Simplifying(tracing, tolerance_px))
    return replace(POLYGONS, settings=lambda options: settings)


def rows_of(run: Path, files: str, name: str) -> pa.Table:
    return pq.read_table(run / "layers" / files / "in" / f"{name}.tif.parquet")


def in_pixels(run: Path, name: str, rows: pa.Table) -> np.ndarray:
    """Polygons in pixels of the label map, and whether each vertex is a corner of pixels."""
    with rasterio.open(run / "labels" / "in" / f"{name}.tif") as source:
        back = ~source.transform

    def pixels(points: np.ndarray) -> np.ndarray:
        found = np.stack(back @ tuple(points.T), axis=-1)
        assert np.abs(found - np.rint(found)).max() < 1e-5
        return np.rint(found)

    return shapely.transform(polygons_of(rows), pixels)


@pytest.mark.parametrize("side", [25, 1000])
def test_simplified_polygons_are_a_coverage_of_the_same_components(run, side):
    summary = make(run, layer(side))

    assert summary["exit_status"] == 0
    assert summary["layers"]["polygons"]["files"] == [
        *("polygons/", "polygons_simplified/", "polygons_simplified.csv")
    ]
    for name in PLACES:
        exact, found = (rows_of(run, f, name) for f in ("polygons", "polygons_simplified"))
        assert found.select(ATTRIBUTES).equals(exact.select(ATTRIBUTES))
        shapes = polygons_of(found)
        assert shapely.coverage_is_valid(shapes)
        assert shapely.is_valid(shapes).all()
        assert shapely.is_ccw(shapely.get_exterior_ring(shapes)).all()
        assert shapely.get_num_coordinates(shapes).sum() < 0.7 * sum(
            shapely.get_num_coordinates(polygons_of(exact))
        )
        areas = shapely.area(in_pixels(run, name, found))
        assert areas.sum() == sum(exact["pixels"].to_pylist())


def test_the_drift_of_each_class_is_in_a_table_and_balances(run):
    summary = make(run, layer())

    with (run / "layers" / "polygons_simplified.csv").open(newline="") as stream:
        table = {row["class"]: row for row in csv.DictReader(stream)}
    assert [*table] == ["dark", "middle", "bright", "total"]
    exact, found = (
        pa.concat_tables(rows_of(run, files, name) for name in PLACES)
        for files in ("polygons", "polygons_simplified")
    )
    shapes = np.concatenate(
        [in_pixels(run, name, rows_of(run, "polygons_simplified", name)) for name in PLACES]
    )
    ids = np.array(found["class_id"])
    for class_id, name in ((0, "dark"), (3, "middle"), (7, "bright")):
        own, line = ids == class_id, table[name]
        pixels = int(np.array(exact["pixels"])[own].sum())
        area_m2 = np.nansum(np.array(exact["area_m2"])[own])
        drift_m2 = np.nansum(np.array(found["drift_m2"])[own])
        assert int(line["pixels"]) == pixels
        assert float(line["drift_px"]) == shapely.area(shapes[own]).sum() - pixels
        assert float(line["area_m2"]) == pytest.approx(area_m2, rel=1e-12)
        assert float(line["drift_m2"]) == pytest.approx(drift_m2, rel=1e-9)
        assert float(line["drift_percent"]) == pytest.approx(100 * drift_m2 / area_m2, rel=1e-9)
        assert abs(float(line["drift_px"])) > 0
    assert table["total"]["drift_px"] == "0.0"
    assert abs(float(table["total"]["drift_m2"])) < 1e-6 * float(table["total"]["area_m2"])
    notes = summary["layers"]["polygons"]["notes"]
    assert notes[0] == f"dark: {float(table['dark']['drift_percent']):+.3f} % of its area by " + (
        "--simplify"
    )
    drift = summary["layers"]["polygons"]["drift"]
    assert [entry["drift_px"] for entry in drift] == [
        float(table[entry["class"]]["drift_px"]) for entry in drift
    ]


def test_a_drift_that_rounds_to_nothing_has_no_minus():
    sums = {
        "polygon_pixels": {"0": 10, "1": 10},
        "grown_px": {"0": Fraction(1, 10**6)},
        "shrunk_px": {"1": Fraction(1, 10**6)},
    }
    classes = ClassTable((LabelClass(0, "dark", (0, 0, 0)), LabelClass(1, "bright", (9, 9, 9))))
    assert DriftTable(classes, sums).notes() == [
        "dark: +0.000 % of its area by --simplify",
        "bright: +0.000 % of its area by --simplify",
    ]


def test_drift_is_ground_on_the_ellipsoid(run):
    make(run, layer(side=1000))

    rows = rows_of(run, "polygons_simplified", "degrees")
    # Sides of pixels are parallels, and PROJ takes the shortest ways between vertices.
    shapes = shapely.segmentize(polygons_of(rows), 0.002)
    globe = Geod(ellps="WGS84")
    ground = np.array([abs(globe.geometry_area_perimeter(shape)[0]) for shape in shapes])
    expected = ground - np.array(rows["area_m2"])
    assert np.array(rows["drift_m2"]) == pytest.approx(expected, abs=1e-4 * expected.max())


def test_a_component_above_the_limit_stays_in_pieces(placed, tmp_path):
    run = Path(shutil.copytree(placed, tmp_path / "run"))
    make(run, layer(40, max_vertices=100))

    rows = rows_of(run, "polygons_simplified", "north-up")
    assert max(rows["part"].to_pylist()) > 0
    assert shapely.coverage_is_valid(polygons_of(rows))
    exact = rows_of(run, "polygons", "north-up")
    once = pa.compute.equal(exact["part"], 0)
    alone = pa.compute.equal(rows["part"], 0)
    assert rows.filter(alone)["component"].to_pylist() == (
        exact.filter(once)["component"].to_pylist()
    )


def results(run: Path) -> dict[str, bytes]:
    return {n: c for n, c in tree(run / "layers").items() if n.endswith((".arrow", ".parquet"))}


def test_an_interrupted_layer_goes_on_and_another_tolerance_traces_nothing(placed, tmp_path):
    run, whole = (Path(shutil.copytree(placed, tmp_path / name)) for name in ("run", "whole"))
    units = make(whole, layer(40))["units"]
    prepared = prepare_layers(check_layers(str(run), LayersOptions(), [layer(40)]))
    done = 0
    for stage, found in prepared.stages:
        for unit in plan.read_units(found.work.run.plan, WorkUnit):
            if done < units - 5:
                DoStageUnit(stage.action)(unit, found.work)
            done += 1
    make(run, layer(40))
    assert results(run) == results(whole)

    summary = make(run, layer(40, 1))

    # Four blocks and the scene are simplified, and its file is written.
    assert summary["this_attempt"]["units_skipped"] == units - (4 + 1 + 1)


def test_a_run_that_counts_ground_once_has_what_counts_beside_the_drift(tmp_path):
    run = labelled(tmp_path, ["north-up"], overlap="first")

    make(run, layer())

    rows = rows_of(run, "polygons_simplified", "north-up")
    assert rows["counted_m2"].equals(rows_of(run, "polygons", "north-up")["counted_m2"])
    assert {"counted_m2", "drift_m2"} < {*rows.column_names}


def test_simplify_needs_polygons_and_a_tolerance(capsys):
    with pytest.raises(ConfigurationError, match="--simplify makes polygons of --polygons simpler"):
        layers_command(["runs/may", "--simplify", "2"])
    with pytest.raises(ConfigurationError, match=r"--simplify must be from 0\.71, below"):
        layers_command(["runs/may", "--polygons", "fgb", "--simplify", "0"])
