"""Charts, as far as arithmetic can tell."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from segmodel.errors import ConfigurationError
from segmodel.reports.charts import (
    most_frequent,
    write_confusion,
    write_curves,
    write_laid_over,
)
from segmodel.reports.documents import read_history
from tests.fakes import CLASSES
from tests.segmodel.scored_runs import history_lines

HOSTILE = ["$a^{$", "_hidden", "\u6c34\u9762", "two\nlines", "x" * 300]


def is_picture(path) -> bool:
    with Image.open(path) as image:
        return image.format == "PNG" and np.asarray(image.convert("L")).std() > 1


@pytest.mark.parametrize("classes", [1, 2, 5, 13, 41])
def test_a_matrix_of_any_size_is_drawn_whatever_classes_are_called(tmp_path, classes):
    names = (HOSTILE + [f"class {n}" for n in range(classes)])[:classes]
    write_confusion(tmp_path / "confusion.png", np.eye(classes, dtype=np.int64) * 7, names)
    assert is_picture(tmp_path / "confusion.png")


def test_a_matrix_without_a_pixel_is_drawn(tmp_path):
    write_confusion(tmp_path / "confusion.png", np.zeros((2, 2), np.int64), ["a", "b"])
    assert is_picture(tmp_path / "confusion.png")


def test_of_many_classes_the_40_with_the_most_pixels_are_shown_in_their_order():
    matrix = np.diag(np.arange(50))
    assert most_frequent(matrix).tolist() == list(range(10, 50))
    assert most_frequent(np.eye(40, dtype=int)).tolist() == list(range(40))


@pytest.mark.parametrize("steps", [(), (10,), (10, 20, 30)])
def test_curves_are_drawn_from_no_validation_on(tmp_path, steps):
    scores = {"mean_iou": None, "pixel_accuracy": 0.5, "iou": dict.fromkeys(CLASSES.names, 0.5)}
    write_curves(tmp_path / "curves.png", history_lines(scores, steps), CLASSES)
    assert is_picture(tmp_path / "curves.png")


def test_runs_of_different_classes_and_lengths_are_laid_over_each_other(tmp_path):
    scores = {"mean_iou": 0.5, "iou": {"a": 0.4, "b": None}}
    runs = {name: history_lines(scores, range(1, 3 + n)) for n, name in enumerate(HOSTILE)}
    write_laid_over(tmp_path / "curves.png", runs, ["a", "b", "c"])
    assert is_picture(tmp_path / "curves.png")


def test_a_class_without_a_score_in_any_run_gets_no_panel(tmp_path):
    def size_of(iou):
        write_laid_over(tmp_path / "c.png", {"a": history_lines({"iou": iou})}, ["a", "b", "c"])
        with Image.open(tmp_path / "c.png") as image:
            return image.size

    assert size_of({"a": 0.5, "b": None}) == size_of({"a": 0.5})
    assert size_of({"a": 0.5, "b": 0.0})[0] > size_of({"a": 0.5})[0]


def test_a_missing_matplotlib_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'beamseg\[train\]'"):
        write_confusion(tmp_path / "confusion.png", np.eye(2, dtype=int), ["a", "b"])


def test_the_last_line_of_a_history_may_be_torn_but_no_other(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1}\n{"ste')
    assert read_history(path) == [{"step": 1}]
    path.write_text('{"ste\n{"step": 2}\n')
    with pytest.raises(ConfigurationError, match="line 1 is not JSON"):
        read_history(path)
    with pytest.raises(ConfigurationError, match=r"none\.jsonl: cannot be read"):
        read_history(tmp_path / "none.jsonl")
