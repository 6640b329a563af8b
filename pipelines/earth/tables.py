"""Measured areas beside those of GSHHG, as text."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio

from pipelines.accuracy.assessment import Assessment
from pipelines.earth import imagery
from pipelines.geodesy.ground import GroundGrid
from pipelines.run.areas import by_rows, measure
from segmodel.labels.confusion import Scores, confusion_matrix

KM2 = 1e6

Areas = dict[str, float]


def read_totals(areas_csv: Path) -> Areas:
    """Ground area in m² by class, `nodata`, `failed`, `total` and `footprint`."""
    with areas_csv.open(encoding="utf-8", newline="") as stream:
        return {row["class"]: float(row["area_m2"]) for row in csv.DictReader(stream)}


def whole_earth(measured: Areas) -> Iterator[str]:
    """Lines of the first table."""
    reference = imagery.reference_areas_m2()
    classes = math.fsum(measured[name] for name in imagery.CLASSES.names)
    shares = [f"{measured[name] / classes:.2%}" for name in imagery.CLASSES.names]
    yield from _class_lines(measured, reference, "share", shares)
    yield f"{'nodata':<8}{measured['nodata'] / KM2:>16,.0f}"
    total, earth = measured["total"], math.fsum(reference.values())
    yield f"{'total':<8}{total / KM2:>16,.0f}{earth / KM2:>16,.0f}"


def held_out(labels: np.ndarray) -> Iterator[str]:
    """Lines of the second table: longitudes that training has not seen.

    Args:
        labels: `(2700, 5400)` label map of the scene.
    """
    scores = ["-" if iou is None else f"{iou:.3f}" for iou in held_out_scores(labels).iou]
    reference = imagery.reference_areas_m2(imagery.HELD_OUT)
    return _class_lines(_areas_m2(labels, imagery.HELD_OUT), reference, "IoU", scores)


def _class_lines(
    measured: Areas, reference: Areas, heading: str, values: Sequence[str]
) -> Iterator[str]:
    yield f"{'class':<8}{'km² measured':>16}{'km² in GSHHG':>16}{'difference':>12}{heading:>9}"
    for name, last in zip(imagery.CLASSES.names, values, strict=True):
        area, truth = measured[name], reference[name]
        areas = f"{area / KM2:>16,.0f}{truth / KM2:>16,.0f}{area / truth - 1:>+12.2%}"
        yield f"{name:<8}{areas}{last:>9}"


def estimated(assessment: Assessment) -> Iterator[str]:
    """Lines of the third table: areas that a sample gives, with their intervals.

    Args:
        assessment: Of a sample whose classes are those of the scene.
    """
    reference = imagery.reference_areas_m2()
    level = f"{100 * assessment.intervals.level:.0f} % interval"
    yield f"{'class':<8}{'km² measured':>16}{'km² estimated':>16}{level:>28}{'km² in GSHHG':>16}"
    found = zip(assessment.whole.map_areas_m2, assessment.whole.estimates.areas, strict=True)
    for name, (measured, area) in zip(imagery.CLASSES.names, found, strict=True):
        low, high = (f"{(limit or 0) / KM2:,.0f}" for limit in (area.low, area.high))
        numbers = f"{(measured or 0) / KM2:>16,.0f}{(area.value or 0) / KM2:>16,.0f}"
        yield f"{name:<8}{numbers}{f'{low} to {high}':>28}{reference[name] / KM2:>16,.0f}"


def held_out_scores(labels: np.ndarray) -> Scores:
    """Scores of a label map of the scene on the longitudes that training has not seen."""
    truth = imagery.reference_labels().astype(np.int16)
    matrix = sum(
        confusion_matrix(truth[:, a:b], labels[:, a:b], len(imagery.CLASSES.ids))
        for a, b in imagery.HELD_OUT
    )
    return Scores.of(np.asarray(matrix))


def _areas_m2(labels: np.ndarray, columns: tuple[tuple[int, int], ...]) -> Areas:
    height, width = imagery.HEIGHT, imagery.WIDTH
    grid = GroundGrid.of(imagery.global_transform(height, width), imagery.CRS, height, width)
    row_areas = grid.pixel_areas_m2(0, 0, height, 1)
    part = np.concatenate([labels[:, a:b] for a, b in columns], axis=1)
    tally = measure(part, imagery.CLASSES, by_rows(row_areas))
    return {entry.name: float(tally.area_m2[str(entry.id)]) for entry in imagery.CLASSES.classes}


def read_labels(path: Path) -> np.ndarray:
    """The label map of the scene."""
    with rasterio.open(path) as source:
        labels: np.ndarray = source.read(1)
        return labels
