"""A run that was interrupted ends with the same weights as one that was not."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from segmodel.pairs import TrainingData
from segmodel.run_folder import RunFolder
from segmodel.survey import survey_pairs
from segmodel.trainer import Hooks, TrainingRun, network_configuration
from tests.segmodel.made_pairs import CLASSES, configuration, halves

DATA = TrainingData(halves(6, 0), halves(2, 1))
ALL_AT_ONCE = configuration(
    model={"variant": "fcn-8s", "fc_layers": True, "fc_channels": 16},
    steps=12,
    validate_every=5,
    checkpoint_every=4,
    ema=0.9,
    class_balance=0.5,
    loss={"cross_entropy": 1.0, "dice": 0.5},
)
STAGES = configuration(
    model={"variant": "fcn-8s"},
    steps=12,
    stages=("fcn-32s", "fcn-16s", "fcn-8s"),
    validate_every=4,
    checkpoint_every=3,
    optimizer="sgd",
    learning_rate=1e-2,
)


class Interrupted(Exception):
    """What a kill would be."""


def learn(config, folder, stop_after: int | None = None) -> keras.Model:
    def on_step(step: int, loss: float) -> None:
        if step == stop_after:
            raise Interrupted

    output = RunFolder(folder)
    output.begin("identity", {})
    survey = survey_pairs(DATA.training, CLASSES, False)
    network_config = network_configuration(config)
    run = TrainingRun(config, network_config, DATA, survey, output, Hooks(on_step=on_step))
    return run.learn("identity")


def lines(folder) -> list[dict]:
    found = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith("seconds")} for line in found]


@pytest.mark.parametrize(
    ("config", "stops"), [(ALL_AT_ONCE, (3, 6, 11)), (STAGES, (2, 5, 8))], ids=["once", "stages"]
)
def test_weights_and_history_are_those_of_a_run_that_was_not_interrupted(tmp_path, config, stops):
    expected = learn(config, tmp_path / "whole")

    for stop in stops:
        with pytest.raises(Interrupted):
            learn(config, tmp_path / "cut", stop)
    actual = learn(config, tmp_path / "cut")

    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    for one, other in zip(expected.weights, actual.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), err_msg=one.path)


def test_a_checkpoint_of_another_run_is_not_gone_on_with(tmp_path):
    with pytest.raises(Interrupted):
        learn(ALL_AT_ONCE, tmp_path / "run", 6)
    output = RunFolder(tmp_path / "run")
    survey = survey_pairs(DATA.training, CLASSES, False)
    steps: list[int] = []
    hooks = Hooks(on_step=lambda step, loss: steps.append(step))
    run = TrainingRun(ALL_AT_ONCE, network_configuration(ALL_AT_ONCE), DATA, survey, output, hooks)
    run.learn("another identity")
    assert steps[0] == 1
