"""Lines of a training run's history."""

from __future__ import annotations

import json

import numpy as np

from segmodel.labels.confusion import Scores
from segmodel.training.history import History, Validation

NAMES = ("sea", "land")


def validation(step: int) -> Validation:
    return Validation(step, "fcn-8s", 0.5, 0.001, (10.0, 0.5), Scores.of(np.diag([3, 0])))


def test_a_line_says_what_absent_classes_lack_and_how_long_steps_waited(tmp_path):
    history = History(tmp_path / "history.jsonl", NAMES, 0)
    history.write(validation(20))
    (line,) = (tmp_path / "history.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert found["step"] == 20
    assert (found["stage"], found["seconds"], found["waited_seconds"]) == ("fcn-8s", 10.0, 0.5)
    assert found["scores"]["iou"] == {"sea": 1.0, "land": None}
    assert validation(20).log_line(NAMES) == (
        "step 20  loss 0.5000  mean IoU 1.000  sea 1.000  land -  "
        "(10 s, 5.0% of it waiting for data)"
    )


def test_lines_after_the_step_where_a_run_goes_on_are_dropped_and_so_is_a_cut_one(tmp_path):
    path = tmp_path / "history.jsonl"
    history = History(path, NAMES, 0)
    for step in (10, 20, 30):
        history.write(validation(step))
    path.write_text(path.read_text() + '{"step": 40, "los')

    History(path, NAMES, 20).write(validation(25))

    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20, 25]


def test_a_new_run_starts_without_lines(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 5}\n')
    History(path, NAMES, 0)
    assert path.read_text() == ""
