"""Polygons of scenes that are traced in blocks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipelines.layers.polygons.measures import WholeAreas
from pipelines.layers.tracing import cells, joins, scenes, trace_files
from pipelines.layers.tracing.blocks import LabelBlock, trace_block
from pipelines.layers.tracing.scenes import scene_polygons
from pipelines.layers.tracing.trace_files import (
    POLYGONS,
    TraceFiles,
    polygon_rows,
    write_corners,
    write_pieces,
    write_rows,
)
from segmodel.errors import DamagedError
from segmodel.tiling.windows import Window
from tests.examples import examples

NODATA = 255
TRANSFORM = Affine(0.5, 0, 600000, 0, -0.5, 5000000)
label_maps = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([0, 1, NODATA]),
    fill=st.nothing(),
)


def traced(labels: np.ndarray, side: int, folder: Path, max_corners: int = 1000) -> pa.Table:
    """All polygons of a label map that is traced in blocks."""
    windows = list(Window(0, 0, *labels.shape).subdivide(side, side))
    padded = np.pad(labels, 1, constant_values=NODATA)
    files = []
    for number, window in enumerate(windows):
        rows, columns = window.slices
        rimmed = padded[rows.start : rows.stop + 2, columns.start : columns.stop + 2]
        areas = WholeAreas.of(0.25)
        confidence = (np.indices(labels.shape).sum(axis=0) % 256).astype(np.uint8)[window.slices]
        block = LabelBlock(window, labels.shape[1], rimmed, NODATA, areas, confidence=confidence)
        found = trace_block(block, max_corners)
        file = TraceFiles(*(str(folder / f"{number}.{name}") for name in TraceFiles._fields))
        shapes = found.rings.geometries(TRANSFORM)
        write_rows(file.polygons, polygon_rows(found.heads, np.zeros(len(shapes)), shapes))
        write_pieces(file.pieces, found.pieces)
        write_corners(file.corners, found.pieces.keys)
        files.append(file)
    batches = scene_polygons(windows, files, labels.shape, TRANSFORM, max_corners)
    return pa.Table.from_batches(batches, POLYGONS)


def burned(table: pa.Table, shape: tuple[int, int]) -> list[list[int]]:
    """The polygons as a label map."""
    out = np.full(shape, NODATA, np.uint8)
    polygons = shapely.from_wkb(table["geometry"].to_numpy())
    assert shapely.is_valid(polygons).all()
    for polygon, label in zip(polygons, table["label"].to_pylist(), strict=True):
        rasterio.features.rasterize([(polygon, label)], out=out, transform=TRANSFORM)
    return out.tolist()


def normalized(table: pa.Table) -> pa.Table:
    shapes = shapely.normalize(shapely.from_wkb(table["geometry"].to_numpy()))
    place = table.schema.get_field_index("geometry")
    return table.set_column(place, "geometry", pa.array(shapely.to_wkb(shapes), pa.binary()))


@pytest.fixture
def small_steps(monkeypatch):
    """Cells, batches and groups so small that few pixels need several of each."""
    monkeypatch.setattr(cells, "CELL_PX", 4)
    monkeypatch.setattr(scenes, "_GROUP_CORNERS", 12)
    monkeypatch.setattr(scenes, "_ROWS", 2)
    monkeypatch.setattr(trace_files, "_BATCH_ROWS", 2)
    monkeypatch.setattr(trace_files, "_BATCH_CORNERS", 5)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("max_corners", [4, 10, 1000])
def test_any_blocks_give_the_same_polygons_row_by_row(max_corners):
    @settings(max_examples=examples(25), deadline=None)
    @given(labels=label_maps, side=st.integers(1, 7))
    def check(labels, side):
        with tempfile.TemporaryDirectory() as folder:
            whole = traced(labels, 100, Path(folder), max_corners)
            actual = traced(labels, side, Path(folder), max_corners)
        assert normalized(actual) == normalized(whole)
        assert burned(actual, labels.shape) == labels.tolist()
        corners = shapely.get_num_coordinates(shapely.from_wkb(whole["geometry"].to_numpy()))
        rings = 1 + shapely.get_num_interior_rings(shapely.from_wkb(whole["geometry"].to_numpy()))
        assert (corners - rings <= max_corners).all()

    check()


def test_rows_are_by_first_pixel_and_measures_those_of_the_whole_component(tmp_path):
    labels = np.array([[0, 0, 1], [1, 0, 1], [1, 0, 0]], np.uint8)
    found = traced(labels, 2, tmp_path)
    areas = [WholeAreas.of(0.25).exact(np.array(row)) for row in measures(found, "area")]
    assert found["first"].to_pylist() == [0, 2, 3]
    assert found["label"].to_pylist() == [0, 1, 1]
    assert found["pixels"].to_pylist() == [5, 2, 2]
    assert areas == [1.25, 0.5, 0.5]
    assert found["confidence"].to_pylist() == [0 + 1 + 2 + 3 + 4, 2 + 3, 1 + 2]


def measures(table: pa.Table, name: str) -> list[tuple[int, int]]:
    columns = (table[f"{name}_{part}"].to_pylist() for part in ("high", "low"))
    return list(zip(*columns, strict=True))


def test_parts_of_a_large_component_share_its_first_pixel_and_are_numbered(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "CELL_PX", 2)
    found = traced(np.zeros((2, 5), np.uint8), 5, tmp_path, max_corners=3 + 1)
    assert found["part"].to_pylist() == [0]
    labels = np.zeros((3, 5), np.uint8)
    labels[1, 1] = 1
    found = traced(labels, 5, tmp_path, max_corners=6)
    assert found["first"].to_pylist() == [0] * 6 + [6]
    assert found["part"].to_pylist() == [*range(6), 0]
    assert found["pixels"].to_pylist() == [14] * 6 + [1]


def test_blocks_that_do_not_fit_each_other_are_damaged(tmp_path):
    labels = np.zeros((2, 4), np.uint8)
    traced(labels, 2, tmp_path)
    windows = list(Window(0, 0, 2, 4).subdivide(2, 2))
    files = [
        TraceFiles(*(str(tmp_path / f"{n}.{name}") for name in TraceFiles._fields)) for n in (0, 1)
    ]
    other = traced(np.arange(4, dtype=np.uint8).reshape(2, 2), 2, tmp_path)
    assert len(other) == 4
    with pytest.raises(DamagedError, match="run the same command again"):
        joins.JoinedPieces.of(windows, files)
