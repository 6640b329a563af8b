"""Scenes to count: small ones, with holes, zones over them, and lines as tables have them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from pipelines.cli.values import FailureBudget
from tests.fakes import BRIGHT, DARK, MIDDLE, brightness_labels
from tests.pipelines.corpus import (
    UTM,
    pixels,
    read_band,
    spoil_strip,
    write_scene,
)
from tests.pipelines.scene_runs import PARTS, Finished

NAMES = {DARK: "dark", MIDDLE: "middle", BRIGHT: "bright", 255: "nodata"}
ANY = FailureBudget(1000, None)


def place(column: float = 0, row: float = 0) -> tuple[str, Affine]:
    """On the grid of UTM, so many pixels from its origin."""
    return UTM[0], UTM[1] @ Affine.translation(column, row)


def box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """A rectangle in pixels of the grid of UTM, as a polygon in UTM."""
    (west, north), (east, south) = UTM[1] @ (left, top), UTM[1] @ (right, bottom)
    return shapely.box(west, south, east, north)


def holes(height: int, width: int, seed: int, share: float = 0.2) -> np.ndarray:
    """Where pixels are valid: neither in specks nor in a corner."""
    valid = np.random.default_rng(seed).random((height, width)) >= share
    valid[: height // 4, : width // 3] = False
    return valid


def lines(labels: np.ndarray, chosen: np.ndarray | None = None) -> dict[str, int]:
    """Pixels by line of a table."""
    values, counts = np.unique(labels if chosen is None else labels[chosen], return_counts=True)
    return {NAMES[int(v)]: int(n) for v, n in zip(values, counts, strict=True)}


# Zones


def one_scene(tmp_path: Path, height: int = 150, width: int = 130) -> tuple[Path, np.ndarray]:
    """A scene with nodata, and the labels that it must get."""
    values, valid = pixels(height, width), holes(height, width, 1)
    path = write_scene(tmp_path / "in" / "a.tif", values, mask=valid)
    return path, np.where(valid, brightness_labels(values), 255)


def cells(height: int, width: int, seed: int) -> list[tuple[str, shapely.Polygon]]:
    """Zones of any shape that tile more than a scene, as names and polygons in pixels."""
    random = np.random.default_rng(seed)
    points = shapely.MultiPoint(random.uniform([0, 0], [width, height], (12, 2)))
    around = shapely.box(-9, -9, width + 9, height + 9)
    found = shapely.voronoi_polygons(points, extend_to=around.buffer(99)).geoms
    return [(f"zone {n}", shapely.intersection(cell, around)) for n, cell in enumerate(found)]


def to_ground(shape, crs: str):
    """From pixels of the grid of UTM to a CRS."""
    way = Transformer.from_crs(UTM[0], crs, always_xy=True)

    def move(points):
        x, y = UTM[1] @ points.T
        return np.column_stack(way.transform(x, y))

    return shapely.transform(shape, move)


@dataclass(frozen=True)
class Part:
    """A scene on the common grid: where it is, and what must be in its label map."""

    column: int
    row: int
    labels: np.ndarray
    failed: np.ndarray


def parts_of(tmp_path: Path, places, dates=None, failing=()) -> tuple[Path, list[Part]]:
    """Scenes `0.tif`, `1.tif` ... at columns and rows of one grid, each with nodata of its own."""
    found = []
    for number, (column, row) in enumerate(places):
        height, width = 128, 128 - 10 * number
        values, valid = pixels(height, width, number), holes(height, width, number)
        path = tmp_path / "in" / f"{number}.tif"
        extra = {"compress": "deflate", "blockysize": 64} if number in failing else {}
        write_scene(path, values, place(column, row), mask=valid, **extra)
        if dates is not None:
            with rasterio.open(path, "r+") as target:
                target.update_tags(TIFFTAG_DATETIME=dates[number])
        failed = np.zeros(valid.shape, bool)
        if number in failing:
            spoil_strip(path, 1)
            failed[64:] = True
        labels = np.where(valid & ~failed, brightness_labels(values), 255)
        found.append(Part(column, row, labels, failed))
    return tmp_path / "in", found


def expected_once(parts: list[Part], order: list[int]) -> tuple[dict, dict, np.ndarray]:
    """Pixels by line, pixels of each scene that count in which other one, and the map of all."""
    height = max(part.row + part.labels.shape[0] for part in parts)
    width = max(part.column + part.labels.shape[1] for part in parts)
    rank = np.full((len(parts), height, width), 99)
    labels = np.full((len(parts), height, width), 255)
    for number, part in enumerate(parts):
        at = np.s_[
            part.row : part.row + part.labels.shape[0],
            part.column : part.column + part.labels.shape[1],
        ]
        state = np.where(part.failed, 2, np.where(part.labels == 255, 1, 0))
        rank[number][at] = state * len(parts) + order.index(number)
        labels[number][at] = part.labels
    winner, least = rank.argmin(axis=0), rank.min(axis=0)
    shown = np.take_along_axis(labels, winner[None], 0)[0]
    is_failed = (least >= 2 * len(parts)) & (least < 99)
    by_line = lines(shown, (least < 99) & ~is_failed)
    by_line["failed"] = int(is_failed.sum())
    elsewhere = {}
    for one, other in itertools.permutations(range(len(parts)), 2):
        count = int(((rank[one] < 99) & (winner == other)).sum())
        if count:
            elsewhere[f"in/{one}.tif", f"in/{other}.tif"] = count
    by_line["elsewhere"] = sum(elsewhere.values())
    return dict.fromkeys(PARTS, 0) | by_line, elsewhere, np.where(is_failed, 255, shown)


def check_once(run: Finished, parts: list[Part], order: list[int]) -> None:
    """Tables and map are what the order of precedence makes of the scenes."""
    by_line, elsewhere, shown = expected_once(parts, order)
    assert {line: run.pixels[line] for line in PARTS} == by_line
    found = {
        (row["scene"], row["counted_in"]): int(row["pixels"]) for row in run.rows("overlaps.csv")
    }
    assert found == elsewhere
    assert run.pixels["footprint"] == run.pixels["total"] == sum(p.labels.size for p in parts)
    summed = math.fsum(run.area_m2[line] for line in PARTS)
    assert summed == pytest.approx(run.area_m2["footprint"], rel=1e-9)
    areas = math.fsum(float(row["area_m2"]) for row in run.rows("overlaps.csv"))
    assert areas == pytest.approx(run.area_m2["elsewhere"], rel=1e-9)
    np.testing.assert_array_equal(read_band(run.root / "labels.vrt"), shown)
    assert run.verified()[1] == []


TWO = [(0, 0), (40, 30)]
THREE = [(0, 0), (40, 30), (20, 70)]
