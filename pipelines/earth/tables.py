"""Measured areas beside those of GSHHG, as text."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio

from pipelines.earth import imagery
from pipelines.geodesy.ground import GroundGrid
from pipelines.run.areas import by_rows, measure
from segmodel.labels.confusion import Scores, confusion_matrix

KM2 = 1e6


def read_totals(areas_csv: Path) -> dict[str, float]:
    """Ground area in m² by class, `nodata`, `failed`, `total` and `footprint`."""
    with areas_csv.open(encoding="utf-8", newline="") as stream:
        return {row["class"]: float(row["area_m2"]) for row in csv.DictReader(stream)}


def whole_earth(measured: dict[str, float]) -> Iterator[str]:
    """Lines of the first table."""
    reference = imagery.reference_areas_m2()
    classes = math.fsum(measured[name] for name in imagery.CLASSES.names)
    yield f"{'class':<8}{'km² measured':>16}{'km² in GSHHG':>16}{'difference':>12}{'share':>9}"
    for name in imagery.CLASSES.names:
        value, truth = measured[name], reference[name]
        yield (
            f"{name:<8}{value / KM2:>16,.0f}{truth / KM2:>16,.0f}"
            f"{value / truth - 1:>+12.2%}{value / classes:>9.2%}"
        )
    yield f"{'nodata':<8}{measured['nodata'] / KM2:>16,.0f}"
    total, earth = measured["total"], math.fsum(reference.values())
    yield f"{'total':<8}{total / KM2:>16,.0f}{earth / KM2:>16,.0f}"


def held_out(labels: np.ndarray) -> Iterator[str]:
    """Lines of the second table: longitudes that training has not seen.

    Args:
        labels: `(2700, 5400)` label map of the scene.
    """
    names = imagery.CLASSES.names
    truth_areas = imagery.reference_areas_m2(imagery.HELD_OUT)
    areas = _areas_m2(labels, imagery.HELD_OUT)
    scores = held_out_scores(labels)
    yield f"{'class':<8}{'km² measured':>16}{'km² in GSHHG':>16}{'difference':>12}{'IoU':>9}"
    for name, iou in zip(names, scores.iou, strict=True):
        difference = areas[name] / truth_areas[name] - 1
        yield (
            f"{name:<8}{areas[name] / KM2:>16,.0f}{truth_areas[name] / KM2:>16,.0f}"
            f"{difference:>+12.2%}{'-' if iou is None else format(iou, '.3f'):>9}"
        )


def held_out_scores(labels: np.ndarray) -> Scores:
    """Scores of a label map of the scene on the longitudes that training has not seen."""
    truth = imagery.reference_labels().astype(np.int16)
    matrix = sum(
        confusion_matrix(truth[:, a:b], labels[:, a:b], len(imagery.CLASSES.ids))
        for a, b in imagery.HELD_OUT
    )
    return Scores.of(np.asarray(matrix))


def _areas_m2(labels: np.ndarray, columns: tuple[tuple[int, int], ...]) -> dict[str, float]:
    height, width = imagery.HEIGHT, imagery.WIDTH
    grid = GroundGrid.of(imagery.global_transform(height, width), imagery.CRS, height, width)
    row_areas = grid.pixel_areas_m2(0, 0, height, 1)
    part = np.concatenate([labels[:, a:b] for a, b in columns], axis=1)
    tally = measure(part, imagery.CLASSES, by_rows(row_areas))
    return {entry.name: float(tally.area_m2[str(entry.id)]) for entry in imagery.CLASSES.classes}


def read_labels(path: Path) -> np.ndarray:
    """The label map of the scene."""
    with rasterio.open(path) as source:
        return source.read(1)
