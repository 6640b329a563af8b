"""Stages, early stops, the best of all validations, and weights to start from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from segmodel.errors import BeamsegError
from segmodel.labels.classes import ClassTable, LabelClass
from segmodel.labels.confusion import Scores
from segmodel.networks.pretrained import read_weights
from segmodel.pairs.pairs import TrainingData
from segmodel.training.trainer import TrainingRun, train
from tests.segmodel.made_pairs import CLASSES, halves
from tests.segmodel.made_runs import DATA, fit_run, history, narrow, values

# Weights that do not move, so that all that changes between stages can be told.
STILL = {"learning_rate": 1e-30, "weight_decay": 0.0}


def scored(monkeypatch, found: list[int]) -> None:
    """Validations at which so many of 100 pixels of each class are right, one after another."""
    right = iter(found)

    def validate(self, model, contract):
        hits = next(right)
        return Scores.of(np.array([[hits, 100 - hits], [100 - hits, hits]])), {}

    monkeypatch.setattr(TrainingRun, "_validate", validate)


def kept(monkeypatch) -> list[dict[str, np.ndarray]]:
    """Weights of the network at every validation that was the best so far."""
    found: list[dict[str, np.ndarray]] = []
    keep = TrainingRun._keep_best

    def keep_best(self, network, scores, progress):
        before = progress.best_step
        keep(self, network, scores, progress)
        if progress.best_step != before:
            found.append(values(network))

    monkeypatch.setattr(TrainingRun, "_keep_best", keep_best)
    return found


def test_the_best_validation_gives_the_weights_and_not_the_last(tmp_path, monkeypatch):
    scored(monkeypatch, [20, 60, 60, 50])
    bests = kept(monkeypatch)

    network, _ = fit_run(narrow(validate_every=1), tmp_path)

    assert len(bests) == 2
    for path, value in values(network).items():
        np.testing.assert_array_equal(value, bests[1][path], err_msg=path)
    assert [line["scores"]["pixel_accuracy"] for line in history(tmp_path)] == [0.2, 0.6, 0.6, 0.5]


def test_the_last_weights_are_kept_if_asked_for_though_others_were_better(tmp_path, monkeypatch):
    scored(monkeypatch, [0.2, 0.6, 0.5, 0.1])
    last = []
    keep = TrainingRun._keep_best

    def keep_best(self, network, scores, progress):
        keep(self, network, scores, progress)
        last[:] = [values(network)]

    monkeypatch.setattr(TrainingRun, "_keep_best", keep_best)
    network, logged = fit_run(narrow(validate_every=1, keep="last", ema=0.5), tmp_path)
    assert logged.steps == [1, 2, 3, 4]
    for path, value in values(network).items():
        np.testing.assert_array_equal(value, last[0][path], err_msg=path)


def test_a_class_that_truth_lacks_does_not_choose_the_weights(tmp_path, monkeypatch):
    """One wrong pixel of it is an IoU of 0, which halves the mean of two classes."""
    matrices = iter([[[60, 40], [0, 0]], [[80, 20], [0, 0]], [[70, 0], [0, 0]], [[50, 0], [0, 0]]])

    def validate(self, model, contract):
        return Scores.of(np.array(next(matrices))), {}

    monkeypatch.setattr(TrainingRun, "_validate", validate)
    bests = kept(monkeypatch)
    fit_run(narrow(validate_every=1), tmp_path)
    assert len(bests) == 3
    means = [line["scores"]["mean_iou"] for line in history(tmp_path)]
    assert means == [0.3, 0.4, 1.0, 1.0]


def test_training_ends_after_so_many_validations_without_a_better_one(tmp_path, monkeypatch):
    scored(monkeypatch, [20, 30, 30, 10])
    _, logged = fit_run(narrow(steps=9, validate_every=1, patience=2), tmp_path)
    assert logged.steps == [1, 2, 3, 4]
    assert logged.lines[-1] == "no better validation for 2: stage ends"
    # And it stays ended.
    _, again = fit_run(narrow(steps=9, validate_every=1, patience=2), tmp_path)
    assert again.steps == []


def test_a_stage_that_ends_early_goes_on_to_the_next(tmp_path, monkeypatch):
    scored(monkeypatch, [90, 30, 10, 20, 10])
    bests = kept(monkeypatch)
    config = narrow(
        {"variant": "fcn-16s"},
        steps=6,
        stages=("fcn-32s", "fcn-16s"),
        validate_every=1,
        patience=1,
    )

    network, logged = fit_run(config, tmp_path)

    assert logged.steps == [1, 2, 4, 5, 6]
    found = [(line["step"], line["stage"]) for line in history(tmp_path)]
    expected = [(1, "fcn-32s"), (2, "fcn-32s")] + [(step, "fcn-16s") for step in (4, 5, 6)]
    assert found == expected
    # The best of the last stage, though the first had a better one.
    assert "score_16/kernel" in bests[-1]
    np.testing.assert_array_equal(values(network)["score_16/kernel"], bests[-1]["score_16/kernel"])


def test_each_stage_begins_with_the_weights_of_the_last(tmp_path, monkeypatch):
    bests = kept(monkeypatch)
    config = narrow(
        {"variant": "fcn-8s"},
        steps=3,
        stages=("fcn-32s", "fcn-16s", "fcn-8s"),
        validate_every=1,
        **STILL,
    )
    network, logged = fit_run(config, tmp_path)
    begun = [line.split()[0] for line in logged.lines if "weights; " in line]
    assert begun == ["fcn-32s", "fcn-16s", "fcn-8s"]
    first, last = bests[0], values(network)
    assert not {"score_16/kernel", "upsample_32/kernel"} & set(first)
    for path, value in first.items():
        np.testing.assert_allclose(last[path], value, atol=1e-6, err_msg=path)
    # What is new begins with scores of 0, so that nothing of what was learned is lost.
    for path in ("score_16/kernel", "score_16/bias", "score_8/kernel", "score_8/bias"):
        np.testing.assert_allclose(last[path], 0, atol=1e-6, err_msg=path)


def test_the_averages_of_one_stage_are_where_the_next_begins(tmp_path, monkeypatch):
    bests = kept(monkeypatch)
    config = narrow(
        {"variant": "fcn-16s"},
        steps=2,
        stages=("fcn-32s", "fcn-16s"),
        validate_every=1,
        ema=0.9,
        schedule="constant",
        warmup_steps=0,
        optimizer="sgd",
        learning_rate=1e-4,
        weight_decay=0.0,
    )
    fit_run(config, tmp_path)
    # One step of such a rate is far less than a forgotten average would be.
    for path in ("block1_conv1/kernel", "score_32/kernel"):
        np.testing.assert_allclose(bests[1][path], bests[0][path], atol=1e-3, err_msg=path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run."""
    output = tmp_path_factory.mktemp("stages") / "first"
    train(narrow({"variant": "fcn-16s"}, steps=6, learning_rate=0.01, ema=0.5), DATA, output)
    return output


def started(tmp_path, trained, model: dict, classes: ClassTable = CLASSES):
    """The first weights of a run that begins with those of another, and what it told."""
    config = narrow({"variant": "fcn-16s"} | model, steps=1, validate_every=1, **STILL)
    network, logged = fit_run(replace(config, classes=classes), tmp_path / "second")
    return values(network), logged


@pytest.mark.parametrize("part", ["", "model"])
def test_a_run_with_the_same_classes_begins_with_the_scores_of_the_other(tmp_path, trained, part):
    path = trained / part
    found, logged = started(tmp_path, trained, {"init_from": str(path)})
    assert logged.lines[0] == f"weights of {path.name}; 0 start anew"
    expected = read_weights(trained)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
    first = history(tmp_path / "second")[0]["scores"]["mean_iou"]
    best = max(line["scores"]["mean_iou"] for line in history(trained))
    assert first == pytest.approx(best, abs=1e-3)


def test_score_layers_of_other_classes_start_anew(tmp_path, trained):
    classes = ClassTable((LabelClass(1, "warm", (9, 9, 9)), LabelClass(2, "cold", (8, 8, 8))))
    found, logged = started(tmp_path, trained, {"init_from": str(trained)}, classes)
    expected = read_weights(trained)
    assert logged.lines[0] == "weights of first; 5 start anew"
    for name, value in expected.items():
        if not name.startswith(("score_", "upsample_")):
            np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
    assert not np.allclose(found["score_32/kernel"], expected["score_32/kernel"])
    assert np.abs(found["score_16/kernel"]).max() > 0


def test_a_coarser_stage_may_begin_with_a_finer_model(tmp_path, trained):
    found, logged = started(tmp_path, trained, {"init_from": str(trained), "variant": "fcn-32s"})
    assert logged.lines[0] == "weights of first; 0 start anew"
    assert not [name for name in found if name.startswith("score_16")]


def test_a_path_without_a_model_is_refused_and_the_right_one_may_follow(tmp_path, trained):
    config = narrow({"init_from": str(tmp_path / "none")}, steps=1)
    with pytest.raises(BeamsegError, match="none") as error:
        train(config, DATA, tmp_path / "run")
    assert "model that beamseg exported, or the output folder of a finished" in str(error.value)
    wider = replace(config.model, init_from=str(trained), width=0.1, variant="fcn-16s")
    with pytest.raises(BeamsegError, match="weights to start from"):
        train(replace(config, model=wider), DATA, tmp_path / "run")
    data = TrainingData(halves(2, 0), halves(1, 1))
    model = replace(config.model, init_from=str(trained))
    steps = fit_run(replace(config, model=model), tmp_path / "run", data=data)[1].steps
    assert steps == [1]
