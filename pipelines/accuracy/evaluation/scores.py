"""Rows and documents of the scores of one confusion matrix, or of several."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from pipelines.accuracy.evaluation.comparison import ComparedCounts
from segmodel.evaluation.reliability import expected_calibration_error, reliability_table
from segmodel.labels.classes import ClassTable
from segmodel.labels.confusion import Scores

# What scores are given of, beside single images.
ALL, GROUP, ZONE = "all", "group", "zone"
MATRIX_SCHEMA = pa.schema(
    [
        pa.field("scope", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("pixels", pa.int64(), nullable=False),
        pa.field("area_m2", pa.float64()),
    ]
)
_OVERALL = ("pixel_accuracy", "mean_iou", "frequency_weighted_iou", "mean_f1")
_BY_CLASS = ("iou", "f1", "precision", "recall")
IMAGE_COLUMNS = (
    *("image", "kind", "group", "reference", "pixels", "unlabelled_pixels", "area_m2"),
    *(*_OVERALL, "mean_boundary_iou"),
)
CLASS_COLUMNS = (
    *("scope", "name", "class", "reference_pixels", "labelled_pixels"),
    *("reference_m2", "labelled_m2", *_BY_CLASS, "pixel_accuracy", "frequency_weighted_iou"),
    *("boundary_iou", *(f"{name}_by_area" for name in _BY_CLASS), "accuracy_by_area"),
)


def matrix_rows(
    scope: str, name: str, counts: ComparedCounts, classes: ClassTable
) -> Iterator[dict[str, Any]]:
    """Rows of the table of matrices: cells that are not 0; no label is nodata.

    Args:
        scope: What is counted: `all`, `group`, `zone` or `image`.
        name: Its name.
        counts: Its counts.
        classes: Class table of the run.
    """
    labels = [*classes.names, None]
    has_ground = counts.has_ground
    for (true, given), (pixels, area) in sorted(counts.cells.items()):
        yield {
            "scope": scope,
            "name": name,
            "reference": classes.names[true],
            "label": labels[given],
            "pixels": pixels,
            "area_m2": float(area) if has_ground else None,
        }


def image_row(counts: ComparedCounts, classes: ClassTable) -> dict[str, Any]:
    """What `images.csv` says of the counts of one image."""
    matrix, areas = counts.matrix, counts.matrix_m2
    scores = Scores.of(matrix[:, :-1])
    return {
        "pixels": int(matrix.sum()),
        "unlabelled_pixels": int(matrix[:, -1].sum()),
        "area_m2": areas.sum().item() if counts.has_ground else None,
        **{name: getattr(scores, name) for name in _OVERALL},
        "mean_boundary_iou": _mean_boundary_iou(counts),
    }


def class_rows(
    scope: str, name: str, counts: ComparedCounts, classes: ClassTable
) -> Iterator[dict[str, Any]]:
    """Rows of `scores.csv`: one for all classes together, then one for each class.

    Where there is nothing to score, a value is None, never 0.
    """
    matrix, areas = counts.matrix[:, :-1], counts.matrix_m2[:, :-1]
    has_ground = counts.has_ground
    scores, by_area = Scores.of(matrix), Scores.of(areas) if has_ground else None
    boundary = counts.boundary.iou if counts.boundary else (None,) * len(classes.names)
    yield {
        "scope": scope,
        "name": name,
        "class": "",
        "reference_pixels": int(matrix.sum()),
        "labelled_pixels": int(matrix.sum()),
        "reference_m2": areas.sum().item() if has_ground else None,
        "labelled_m2": areas.sum().item() if has_ground else None,
        "iou": scores.mean_iou,
        "f1": scores.mean_f1,
        "pixel_accuracy": scores.pixel_accuracy,
        "frequency_weighted_iou": scores.frequency_weighted_iou,
        "boundary_iou": _mean_boundary_iou(counts),
        "iou_by_area": by_area and by_area.mean_iou,
        "f1_by_area": by_area and by_area.mean_f1,
        "accuracy_by_area": by_area and by_area.pixel_accuracy,
    }
    for place, entry in enumerate(classes.names):
        yield {
            "scope": scope,
            "name": name,
            "class": entry,
            "reference_pixels": int(matrix[place].sum()),
            "labelled_pixels": int(matrix[:, place].sum()),
            "reference_m2": areas[place].sum().item() if has_ground else None,
            "labelled_m2": areas[:, place].sum().item() if has_ground else None,
            **{score: getattr(scores, score)[place] for score in _BY_CLASS},
            "boundary_iou": boundary[place],
            **{f"{s}_by_area": by_area and getattr(by_area, s)[place] for s in _BY_CLASS},
        }


def scores_document(
    scopes: Iterable[tuple[str, str, ComparedCounts]], classes: ClassTable
) -> dict[str, Any]:
    """What `scores.json` says of all, of groups and of zones."""
    document: dict[str, Any] = {"classes": list(classes.names)}
    for scope, name, counts in scopes:
        found = _scores_of(counts, classes)
        if scope == ALL:
            matrix, areas = counts.matrix[:, :-1], counts.matrix_m2[:, :-1]
            found |= {
                "matrix": matrix.tolist(),
                "matrix_m2": areas.tolist() if counts.has_ground else None,
                "reliability": _reliability(counts),
            }
            document[ALL] = found
        else:
            document.setdefault(f"{scope}s", {})[name] = found
    return document


def _scores_of(counts: ComparedCounts, classes: ClassTable) -> dict[str, Any]:
    matrix = counts.matrix
    areas = counts.matrix_m2[:, :-1] if counts.has_ground else None
    boundary = counts.boundary
    return {
        "pixels": int(matrix.sum()),
        "unlabelled_pixels": int(matrix[:, -1].sum()),
        "scores": Scores.of(matrix[:, :-1]).to_json(classes.names),
        "scores_by_area": None if areas is None else Scores.of(areas).to_json(classes.names),
        "mean_boundary_iou": _mean_boundary_iou(counts),
        "boundary_iou": boundary and dict(zip(classes.names, boundary.iou, strict=True)),
    }


def _mean_boundary_iou(counts: ComparedCounts) -> float | None:
    """Mean boundary IoU of the classes that have a boundary; None if there is none."""
    found = [] if counts.boundary is None else counts.boundary.iou
    present = [value for value in found if value is not None]
    return sum(present) / len(present) if present else None


def _reliability(counts: ComparedCounts) -> dict[str, Any] | None:
    if counts.confidence is None:
        return None
    return {
        "expected_calibration_error": expected_calibration_error(counts.confidence),
        "bins": [row._asdict() for row in reliability_table(counts.confidence)],
    }
