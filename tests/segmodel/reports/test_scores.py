"""Scores as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
from PIL import Image

from segmodel.evaluation.evaluate import Evaluation, ImageScore
from segmodel.reports.card import score_document, write_card, write_scores
from segmodel.reports.documents import escaped
from tests.fakes import CLASSES, contract
from tests.segmodel.scored_runs import made_run

MATRIX = np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]])
EVALUATION = Evaluation(MATRIX, (ImageScore.of("a/1.png", MATRIX),))


def test_the_document_keeps_absent_classes_as_null_and_the_whole_matrix():
    actual = score_document(EVALUATION, CLASSES)
    assert actual["iou"] == {"dark": 0.75, "middle": 0.0, "bright": None}
    assert actual["pixels"] == {"dark": 8, "middle": 0, "bright": 0}
    assert actual["classes"] == ["dark", "middle", "bright"]
    assert actual["confusion"] == MATRIX.tolist()
    image = {"name": "a/1.png", "mean_iou": 0.375, "pixel_accuracy": 0.75, "pixels": 8}
    assert actual["images"] == [image]
    json.dumps(actual, allow_nan=False)


def test_names_of_classes_are_no_formulas_in_the_table(tmp_path):
    classes = replace(
        CLASSES, classes=tuple(replace(entry, name=f"={entry.name}\n") for entry in CLASSES.classes)
    )
    write_scores(tmp_path, EVALUATION, classes)
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = [row["class"] for row in csv.DictReader(file)]
    assert rows == [r"'=dark\n", r"'=middle\n", r"'=bright\n", "(all)"]


def test_a_card_has_a_row_for_each_class(tmp_path):
    run = made_run(tmp_path / "run")
    write_scores(run, EVALUATION, CLASSES)
    write_card(run, contract())
    text = (run / "card.md").read_text()
    assert "| dark | 0.750 | 0.857 | 1.000 | 0.750 | 8 |" in text
    assert "| bright | - | - | - | - | 0 |" in text
    assert "| mean IoU | 0.375 |" in text


def test_names_cannot_break_a_markdown_table():
    assert escaped("a|b\nc<img>`x`") == "a\\|b c\\<img\\>\\`x\\`"


def test_files_are_written_whole(tmp_path):
    write_scores(tmp_path, EVALUATION, CLASSES)
    assert json.loads((tmp_path / "scores.json").read_text()) == score_document(EVALUATION, CLASSES)
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["dark", "middle", "bright", "(all)"]
    assert [row["iou"] for row in rows] == ["0.75", "0.0", "", "0.375"]
    assert rows[-1]["true_pixels"] == "8"
    assert rows[-1]["pixel_accuracy"] == "0.75"
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.format == "PNG"
