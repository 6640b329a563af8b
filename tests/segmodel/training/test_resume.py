"""A run that was interrupted ends with the same weights as one that was not."""

from __future__ import annotations

import pytest

from tests.segmodel.made_runs import (
    assert_equal_weights,
    fit_run,
    history,
    narrow,
)

# Dropout, averages, random crops and augmentation: all have a state, as batch statistics have.
AT_ONCE = narrow(
    {"fc_layers": True, "fc_channels": 4},
    validate_every=3,
    checkpoint_every=2,
    ema=0.9,
    class_balance=0.5,
    loss={"cross_entropy": 1.0, "dice": 0.5},
)
BATCH_NORM = narrow({"backbone": "mobilenet_v2", "width": 0.1}, checkpoint_every=2)
# Killed at the end of one stage, before the next has saved its beginning, and in the last.
STAGES = narrow(
    {"variant": "fcn-8s"},
    steps=9,
    stages=("fcn-32s", "fcn-16s", "fcn-8s"),
    checkpoint_every=2,
    optimizer="sgd",
)
HALF_PRECISION = narrow(steps=3, checkpoint_every=2, precision="mixed_float16")


@pytest.mark.parametrize(
    ("config", "stops"),
    [
        pytest.param(AT_ONCE, (3,), id="at once"),
        pytest.param(STAGES, (3, 8), id="stages"),
        pytest.param(HALF_PRECISION, (3,), id="half precision"),
        pytest.param(BATCH_NORM, (3,), id="batch statistics"),
    ],
)
def test_weights_and_history_are_those_of_a_run_that_was_not_interrupted(tmp_path, config, stops):
    copies = {stop: tmp_path / f"killed after {stop}" for stop in stops}
    expected, _ = fit_run(config, tmp_path / "whole", copies)

    for stop, folder in copies.items():
        actual, logged = fit_run(config, folder)
        assert 1 < logged.steps[0] <= stop
        assert history(folder) == history(tmp_path / "whole")
        assert_equal_weights(actual, expected)


def test_a_run_that_was_killed_after_its_last_step_is_only_exported(tmp_path):
    config = narrow(steps=2, checkpoint_every=1)
    expected, _ = fit_run(config, tmp_path)
    actual, logged = fit_run(config, tmp_path)
    assert logged.steps == []
    assert logged.lines == ["resuming after step 2"]
    assert_equal_weights(actual, expected)


def test_a_checkpoint_of_another_run_is_not_gone_on_with(tmp_path):
    config = narrow(checkpoint_every=1)
    fit_run(config, tmp_path / "one", {3: tmp_path / "two"})
    _, logged = fit_run(config, tmp_path / "two", identity="another")
    assert logged.steps == [1, 2, 3, 4]
    assert [line["step"] for line in history(tmp_path / "two")] == [2, 4]
