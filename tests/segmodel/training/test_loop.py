"""A network that learns step by step: devices, precision, averages, time, losses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from segmodel.errors import ConfigurationError, TrainingError
from segmodel.networks.network import build_network
from segmodel.savedmodel.export import export_savedmodel
from segmodel.savedmodel.keras_model import KerasModel
from segmodel.savedmodel.predictor import Predictor
from segmodel.training.loop import StepTimer, check_loss, device_strategy
from segmodel.training.losses import loss_weights
from segmodel.training.release import draft_contract
from segmodel.training.trainer import TrainingRun, network_configuration
from tests import forked
from tests.end_to_end.conftest import ROOT, environment
from tests.segmodel.made_pairs import halves
from tests.segmodel.made_runs import assert_equal_weights, fit_run, history, narrow, values
from tests.segmodel.tiny_learner import BATCH, batches, learner, losses_of

PRECISIONS = ("mixed_float16", "mixed_bfloat16")


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory) -> dict:
    """What training on two devices found, in another process."""
    folder = tmp_path_factory.mktemp("devices")
    script = [sys.executable, "-m", "tests.segmodel.two_devices", str(folder)]
    done = forked.run(
        script, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    # Strategies have a lot to say of themselves.
    assert "tensorflow:" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_two_devices_learn_what_one_learns(two_devices):
    runs = two_devices["runs"]
    assert runs["steps"] == [1, 2, 3, 4]
    np.testing.assert_allclose(*runs["losses"], rtol=1e-4)
    assert runs["apart"] < 1e-4


def test_a_run_on_two_devices_goes_on_from_its_checkpoint(two_devices):
    runs = two_devices["runs"]
    assert runs["resumed_apart"] == 0
    assert runs["histories"][0] == runs["histories"][1]


def test_batch_statistics_and_every_precision_learn_on_two_devices(two_devices):
    for precision, losses in two_devices["batch_norm"].items():
        assert losses[-1] < losses[0] / 2, (precision, losses)


def test_what_cannot_be_shared_is_refused(two_devices):
    refused = two_devices["refused"]
    assert refused["unknown"] == "training.devices: GPU:7 is not there: CPU:0, CPU:1"
    assert refused["odd"] == "training.batch must be a multiple of 2 devices, got 3"
    assert refused["twice"] == "training.devices must be different, got CPU:1, CPU:1"
    assert (two_devices["one"], two_devices["none"]) == (1, 1)


def test_one_device_by_name_learns_what_the_default_learns():
    named, default = learner(narrow(devices=("CPU:0",))), learner(narrow())
    np.testing.assert_allclose(losses_of(named, 3), losses_of(default, 3), rtol=1e-4)


def test_an_unknown_device_is_refused():
    with pytest.raises(ConfigurationError, match=r"training\.devices: TPU:0 is not there: CPU:0"):
        device_strategy(narrow(devices=("TPU:0",)).training)


def test_the_state_is_all_that_changes_in_a_step():
    tiny = learner(narrow(ema=0.5, precision="mixed_float16"))
    before = [np.asarray(one).copy() for one in tiny.state]
    expected = [*tiny.network.variables, *tiny.optimizer.variables, *tiny.average.variables]
    assert [id(one) for one in tiny.state] == [id(one) for one in expected]
    losses_of(tiny, 1)
    changed = [
        getattr(one, "path", one.name)
        for one, old in zip(tiny.state, before, strict=True)
        if not np.array_equal(np.asarray(one), old)
    ]
    for part in ("conv2d", "moving_mean", "moving_variance", "iteration", "Variable"):
        assert any(part in name for name in changed), (part, changed)


def test_what_is_validated_is_the_average_and_what_learns_is_not():
    tiny = learner(narrow(ema=0.9, batch=BATCH))
    losses_of(tiny, 5)
    own = {name: value.copy() for name, value in values(tiny.network).items()}
    averages = [np.asarray(one).copy() for one in tiny.average.variables]
    with tiny.averaged() as network:
        for value, average in zip(values(network).values(), averages, strict=True):
            np.testing.assert_array_equal(value, average)
    for name, value in values(tiny.network).items():
        np.testing.assert_array_equal(value, own[name])
    assert not np.array_equal(averages[0], next(iter(own.values())))


def test_without_averages_the_weights_themselves_are_validated():
    tiny = learner(narrow())
    assert tiny.average is None
    with tiny.averaged() as network:
        assert network is tiny.network


def test_the_learning_rate_follows_the_schedule():
    tiny = learner(narrow(warmup_steps=2, schedule="poly", poly_power=1.0, learning_rate=1e-2))
    rates = [tiny.learning_rate]
    for images, truth in batches(3):
        tiny.step(images, truth)
        rates.append(tiny.learning_rate)
    expected = [0.0, 0.5e-2, 1e-2, 17 / 18 * 1e-2]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_class_weights_reach_the_loss():
    ((images, truth),) = batches(1)
    one_class = tf.zeros_like(truth)
    plain = learner(narrow()).step(images, one_class)
    assert learner(narrow(), (3.0, 1.0)).step(images, truth) != pytest.approx(
        learner(narrow(), (1.0, 1.0)).step(images, truth), rel=1e-4
    )
    # Weights are shares: where one class is alone, its weight changes nothing.
    assert learner(narrow(), (3.0, 1.0)).step(images, one_class) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("word", ["median_frequency", "inverse_log"])
def test_a_word_for_class_weights_is_resolved_by_the_data(tmp_path, monkeypatch, word):
    found = []
    begin = TrainingRun._start_stage

    def kept(self, *arguments):
        found.append(self._weights)
        return begin(self, *arguments)

    monkeypatch.setattr(TrainingRun, "_start_stage", kept)
    fit_run(narrow(class_weights=word, steps=1), tmp_path)
    counts = np.array([[(pair.indices == n).sum() for n in (0, 1)] for pair in halves(4, 0)])
    assert found == [loss_weights(word, counts)]
    assert found[0][0] != found[0][1]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_half_precision_learns(precision):
    losses = losses_of(learner(narrow(precision=precision)), 8)
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_half_precision_learned_is_exported_in_full_precision(tmp_path, precision):
    config = narrow({"variant": "fcn-16s"}, precision=precision, steps=2)
    half = build_network(network_configuration(config))
    assert half(np.zeros((1, 32, 32, 3), np.float32)).dtype == tf.float32
    assert half.get_layer("block1_conv1").compute_dtype == precision.removeprefix("mixed_")

    network, logged = fit_run(config, tmp_path / "run")

    assert all(map(math.isfinite, logged.losses))
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    contract = draft_contract(config, network_configuration(config), network, 4)
    export_savedmodel(network, contract, tmp_path / "model", measure_memory=False)
    graph = (tmp_path / "model" / "saved_model.pb").read_bytes()
    assert half_types(graph) == set()
    predictor = Predictor.load(tmp_path / "model")
    image = halves(1, 9)[0].image
    expected = KerasModel(network, contract).labels(image[None])[0]
    np.testing.assert_array_equal(predictor.segment(image), expected)


def half_types(content: bytes) -> set[int]:
    """Types of half precision that operations of a SavedModel compute in."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    half = {tf.float16.as_datatype_enum, tf.bfloat16.as_datatype_enum}
    (graph,) = SavedModel.FromString(content).meta_graphs
    nodes = [*graph.graph_def.node]
    for function in graph.graph_def.library.function:
        nodes += function.node_def
    return {value.type for node in nodes for value in node.attr.values() if value.type in half}


def test_the_same_seed_gives_the_same_weights_and_another_others(tmp_path):
    config = narrow({"variant": "fcn-16s", "fc_layers": True, "fc_channels": 4}, ema=0.5)
    one, logged = fit_run(config, tmp_path / "one")
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from tests.segmodel.made_runs import fit_run, narrow, values\n"
        'config = narrow({"variant": "fcn-16s", "fc_layers": True, "fc_channels": 4}, ema=0.5)\n'
        "network, logged = fit_run(config, Path(sys.argv[1]))\n"
        'np.savez(sys.argv[1] + ".npz", **values(network))\n'
    )
    command = [sys.executable, "-c", script, str(tmp_path / "other")]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, timeout=200)
    again, _ = fit_run(config, tmp_path / "again")
    assert_equal_weights(again, one)
    with np.load(tmp_path / "other.npz") as other:
        assert sorted(other.files) == sorted(values(one))
        for path, value in values(one).items():
            np.testing.assert_array_equal(other[path], value, err_msg=path)
    assert history(tmp_path / "other") == history(tmp_path / "one")

    other_seed = replace(config, training=replace(config.training, seed=1))
    reseeded, others = fit_run(other_seed, tmp_path / "new")
    assert others.losses != logged.losses
    assert not np.array_equal(
        values(reseeded)["block1_conv1/kernel"], values(one)["block1_conv1/kernel"]
    )


def test_time_that_is_waited_for_data_is_told_from_that_of_steps():
    def slow():
        for number in range(3):
            time.sleep(0.05)
            yield number

    clock = StepTimer()
    for _ in clock.timed(slow()):
        with clock.measured():
            time.sleep(0.02)
        # Validation, which is neither.
        time.sleep(0.1)
    seconds, waited = clock.read()
    assert 0.15 <= waited < seconds
    assert 0.06 <= seconds - waited < 0.2
    assert clock.read() == (0.0, 0.0)


def test_a_run_counts_waiting_and_leaves_validation_out(tmp_path, monkeypatch):
    from segmodel.pairs.crops import CropSampler

    crop, validate = CropSampler.crop, TrainingRun._validate

    def slow_crop(self, number):
        time.sleep(0.2)
        return crop(self, number)

    def slow_validate(self, *arguments):
        time.sleep(5)
        return validate(self, *arguments)

    monkeypatch.setattr(CropSampler, "crop", slow_crop)
    monkeypatch.setattr(TrainingRun, "_validate", slow_validate)
    started = time.monotonic()
    fit_run(narrow(validate_every=2), tmp_path)
    took = time.monotonic() - started
    lines = history(tmp_path, clock=True)
    assert sum(line["seconds"] for line in lines) < took - 10
    assert lines[0]["waited_seconds"] >= 0.2
    assert all(0 <= line["waited_seconds"] <= line["seconds"] for line in lines)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_names_its_batch(loss):
    check_loss(0.5, 3, lambda: "never")
    with pytest.raises(TrainingError, match=rf"the loss is {loss} at step 3: .* in batch\.npz"):
        check_loss(loss, 3, lambda: "batch.npz")
