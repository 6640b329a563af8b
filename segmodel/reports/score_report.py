"""Scores as tables for people, as CSV and as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segmodel.evaluation.evaluate import Evaluation
from segmodel.labels.classes import ClassTable
from segmodel.labels.confusion import Scores
from segmodel.reports.charts import write_confusion

PER_CLASS = {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall"}
OVERALL = {
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_f1": "mean F1",
}

Document = Mapping[str, Any]


def write_scores(folder: str | Path, evaluation: Evaluation, classes: ClassTable) -> None:
    """Write `scores.json`, `scores.csv` and `confusion.png`.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    folder, document = Path(folder), score_document(evaluation, classes)
    (folder / "scores.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    with (folder / "scores.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(_csv_rows(document))
    write_confusion(folder / "confusion.png", evaluation.matrix, classes.names)


def score_document(evaluation: Evaluation, classes: ClassTable) -> dict[str, Any]:
    """Scores of the whole set and of each image, as `scores.json` holds them.

    What is absent is null. `confusion` has the order of `classes`; rows are truth.
    """
    images = []
    for image in evaluation.per_image:
        scores = image.scores
        images.append(
            {
                "name": image.name,
                "mean_iou": scores.mean_iou,
                "pixel_accuracy": scores.pixel_accuracy,
                "pixels": int(image.pixels.sum()),
            }
        )
    pixels = np.sum(evaluation.matrix, axis=1).tolist()
    return {
        **evaluation.scores.to_json(classes.names),
        "pixels": dict(zip(classes.names, pixels, strict=True)),
        "classes": list(classes.names),
        "confusion": evaluation.matrix.tolist(),
        "images": images,
    }


def score_markdown(document: Document) -> str:
    """Scores of the whole set and of each class, as Markdown."""
    overall = [["score", "value"]]
    overall += [[label, decimal(document[key])] for key, label in OVERALL.items()]
    return f"{markdown_table(overall)}\n\n{markdown_table(_class_rows(document))}"


def scores_table(rows: Mapping[str, Scores], names: Sequence[str]) -> str:
    """Mean IoU and the IoU of each class of several sets, one below the other.

    Args:
        rows: Scores by name of the set.
        names: Of the classes.

    >>> print(scores_table({"east": Scores.of(np.array([[3, 1], [0, 4]]))}, ["sea", "land"]))
          mean IoU    sea   land
    east     0.775  0.750  0.800
    """
    table = [["", "mean IoU", *names]]
    for name, scores in rows.items():
        table.append([name, *(decimal(value) for value in (scores.mean_iou, *scores.iou))])
    return text_table(table)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width: the first to the left, the others to the right.

    >>> print(text_table([["class", "IoU"], ["sea", "0.512"]]))
    class    IoU
    sea    0.512
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown_table(rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    r"""A Markdown table whose first row is its head; numbers but in the first column to the right.

    >>> print(markdown_table([["class", "IoU"], ["a|b", "0.512"]]))
    | class | IoU |
    | --- | ---: |
    | a\|b | 0.512 |
    """
    lines = [f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows]
    others = ["---:" if numbers else "---"] * (len(rows[0]) - 1)
    lines.insert(1, f"| {' | '.join(['---', *others])} |")
    return "\n".join(lines)


def escaped(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    >>> escaped("a_b|<c>")
    'a\\_b\\|\\<c\\>'
    """
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#$" else letter for letter in plain)


def decimal(value: float | None) -> str:
    """A score with three digits; what is absent is a hyphen.

    >>> decimal(0.51249), decimal(None)
    ('0.512', '-')
    """
    return "-" if value is None else f"{value:.3f}"


def _class_rows(document: Document) -> list[list[str]]:
    rows = [["class", *PER_CLASS.values(), "true pixels"]]
    for name in document["classes"]:
        values = [decimal(document[key][name]) for key in PER_CLASS]
        rows.append([name, *values, f"{document['pixels'][name]:,}"])
    return rows


def _csv_rows(document: Document) -> list[list[Any]]:
    """One row for each class and one for all; empty where there is no score."""
    rows: list[list[Any]] = [["class", *PER_CLASS, "true_pixels", "pixel_accuracy"]]
    rows[0].append("frequency_weighted_iou")
    for name in document["classes"]:
        values = [document[key][name] for key in PER_CLASS]
        rows.append([name, *values, document["pixels"][name], None, None])
    means = [document["mean_iou"], document["mean_f1"], None, None]
    total = sum(document["pixels"].values())
    overall = [document["pixel_accuracy"], document["frequency_weighted_iou"]]
    rows.append(["(all)", *means, total, *overall])
    return rows
