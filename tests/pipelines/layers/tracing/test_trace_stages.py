"""Polygons of whole runs, traced in units."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine

from pipelines.layers.end import part_path
from pipelines.layers.launch import check_layers, prepare_layers
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import DoStageUnit, Layer, LayerEnd, StageWork
from pipelines.layers.tracing.stages import COUNTED_M2, Tracing, class_totals
from pipelines.run import plan
from pipelines.run.plan import WorkUnit
from tests.pipelines.corpus import (
    DEGREES,
    UTM,
    pixels,
    tree,
    write_model_folder,
    write_scene,
)
from tests.pipelines.counted_scenes import holes, parts_of
from tests.pipelines.layers.made_layers import make
from tests.pipelines.scene_runs import Finished, run_scenes

PLACES = {
    "north-up": UTM,
    "south-up": (UTM[0], Affine(10, 0, 300000, 0, 10, 6_000_000)),
    "rotated": (UTM[0], Affine(9, 3, 300000, 3, -9, 6_000_000)),
    "degrees": DEGREES,
    "no-crs": (None, UTM[1]),
}
CLASSES = ("dark", "middle", "bright")


def layer(**changes) -> Layer:
    tracing = Tracing(**changes)
    return Layer("polygons", lambda options: tracing, Tracing.stages, partial(summed, tracing))


def summed(tracing: Tracing, work: StageWork) -> LayerEnd:
    files = [output for _, commit in work.commits() for output in commit.outputs]
    return LayerEnd(files, {"classes": class_totals(work.stage(tracing.scenes))})


def made(run: Finished) -> dict:
    """What the summary of layers says of it."""
    document = json.loads((run.root / "layers" / part_path("polygons")).read_bytes())
    return document["summary"]


def by_class(run: Finished, name: str) -> list[float]:
    """What the summary says of the classes of `CLASSES`."""
    rows = {row["class"]: row for row in made(run)["classes"]}
    return [rows[found][name] for found in CLASSES]


def rows_of(run: Finished) -> pa.Table:
    """The rows of all scenes."""
    paths = sorted(made(run)["files"])
    return pa.concat_tables(pq.read_table(run.root / "layers" / path) for path in paths)


def columns(rows: pa.Table, name: str, labels: Iterable[int] = (0, 3, 7)) -> list[float]:
    """Sums of a column by class, each component counted once."""
    values, ids = rows[name].to_numpy(), rows["class_id"].to_numpy()
    once = rows["part"].to_numpy() == 0
    return [float(values[once & (ids == label)].sum()) for label in labels]


@pytest.mark.parametrize("max_vertices", [100, 1_000_000])
def test_polygons_burned_again_are_the_label_maps_and_sum_to_the_table(tmp_path, max_vertices):
    for number, (name, place) in enumerate(PLACES.items()):
        values, valid = pixels(70, 60, number), holes(70, 60, number, 0.05)
        write_scene(tmp_path / "in" / f"{name}.tif", values, place, mask=valid)
    model = write_model_folder(tmp_path / "model")
    run = run_scenes(tmp_path / "run", model, tmp_path / "in", confidence=True)
    summary = make(run.root, layer(side=40, max_vertices=max_vertices))
    assert summary["exit_status"] == 0
    rows = rows_of(run)
    for name in PLACES:
        check_map(run, rows.filter(pa.compute.equal(rows["scene"], f"in/{name}.tif")), name)
    placed = rows.filter(pa.compute.not_equal(rows["scene"], "in/no-crs.tif"))
    table = {row["class"]: row for row in run.rows("areas.csv")}
    area = [float(table[name]["area_m2"]) for name in CLASSES]
    assert columns(rows, "pixels") == [int(table[name]["pixels"]) for name in CLASSES]
    assert by_class(run, "pixels") == columns(rows, "pixels")
    assert by_class(run, "area_m2") == pytest.approx(area, rel=1e-13)
    assert columns(placed, "area_m2") == pytest.approx(area, rel=1e-12)
    assert rows.column_names[-1] == "maxy"


def check_map(run: Finished, rows: pa.Table, name: str) -> None:
    """Rows of a scene are its label map."""
    with rasterio.open(run.root / "labels" / "in" / f"{name}.tif") as source:
        labels, transform = source.read(1), source.transform
    with rasterio.open(run.root / "confidence" / "in" / f"{name}.tif") as source:
        confidence = source.read(1)
    shapes = shapely.from_wkb(rows["geometry"].to_numpy())
    assert shapely.is_valid(shapes).all()
    assert shapely.area(shapes).sum() == pytest.approx(
        (labels != 255).sum() * abs(transform.determinant)
    )
    assert shapely.is_ccw(shapely.get_exterior_ring(shapes)).all()
    burned = np.full(labels.shape, 255, np.uint8)
    found = zip(shapes, rows["class_id"].to_pylist(), strict=True)
    rasterio.features.rasterize(found, out=burned, transform=transform)
    assert np.array_equal(burned, labels)
    first = rows.slice(0, 1).to_pylist()[0]
    row, column = np.argwhere(labels != 255)[0].tolist()
    assert first["component"] == f"in/{name}.tif#{row},{column}"
    assert (first["class_id"], first["part"]) == (labels[row, column], 0)
    means = columns(rows.append_column("sum", weighted(rows)), "sum")
    sums = [confidence[labels == label].sum() / 255 for label in (0, 3, 7)]
    assert means == pytest.approx(sums)


def weighted(rows: pa.Table) -> pa.ChunkedArray:
    return pa.compute.multiply(rows["confidence"], rows["pixels"].cast(pa.float64()))


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory) -> Finished:
    """A run over scenes that share ground, which counts once; not to be changed."""
    folder = tmp_path_factory.mktemp("overlapping")
    inputs, _ = parts_of(folder, [(0, 0), (40, 30), (90, 10)])
    model = write_model_folder(folder / "model")
    return run_scenes(folder / "run", model, inputs, overlap="first")


@pytest.fixture
def run(overlapping, tmp_path) -> Finished:
    """A copy of the run."""
    return copied(overlapping, tmp_path / "run")


def copied(found: Finished, root: Path) -> Finished:
    run = replace(found.work.run, root=str(shutil.copytree(found.root, root)))
    return replace(found, work=replace(found.work, run=run))


def test_what_counts_in_the_scene_sums_to_the_table_that_counts_ground_once(run):
    make(run.root, layer(side=50))
    rows = rows_of(run)
    area = [run.area_m2[name] for name in CLASSES]
    assert by_class(run, COUNTED_M2) == pytest.approx(area, rel=1e-13)
    assert columns(rows, COUNTED_M2) == pytest.approx(area, rel=1e-12)
    assert sum(columns(rows, "area_m2")) > sum(area)


def results(run: Path) -> dict[str, bytes]:
    return {n: c for n, c in tree(run / "layers").items() if n.endswith((".arrow", ".parquet"))}


@pytest.mark.parametrize("units", [1, 9, 13])
def test_an_interrupted_layer_goes_on_to_the_same_bytes(run, tmp_path, units):
    whole = copied(run, tmp_path / "whole")
    make(whole.root, layer(side=70))
    done = 0
    prepared = prepare_layers(check_layers(str(run.root), LayersOptions(), [layer(side=70)]))
    for stage, found in prepared.stages:
        for unit in plan.read_units(found.work.run.plan, WorkUnit):
            if done < units:
                DoStageUnit(stage.action)(unit, found.work)
            done += 1
    assert len(results(run.root)) < len(results(whole.root))
    make(run.root, layer(side=70))
    assert results(run.root) == results(whole.root)


def test_any_side_of_blocks_gives_the_same_rows(run):
    found = []
    for side in (1000, 33):
        make(run.root, layer(side=side))
        found.append(normalized(rows_of(run)))
    assert found[0] == found[1]


def normalized(rows: pa.Table) -> list[dict]:
    found = rows.to_pylist()
    for row in found:
        row["geometry"] = shapely.normalize(shapely.from_wkb(row["geometry"])).wkb
    return found


def test_a_label_map_that_is_damaged_costs_the_scenes_that_share_its_ground(run):
    path = next((run.root / "labels" / "in").glob("1.tif"))
    with rasterio.open(path) as source:
        start = int(source.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", 1))
    content = path.read_bytes()
    path.write_bytes(content[:start] + bytes(len(content) - start))
    summary = make(run.root, layer(side=70))
    assert (summary["exit_status"], summary["failed_images"]) == (3, 3)
