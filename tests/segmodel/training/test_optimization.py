"""Optimizers, schedules, weight decay, clipping, the moving average; on one device and on two."""

from __future__ import annotations

import math
import os
import sys

import numpy as np
import pytest

from segmodel.training.configuration import TrainingConfig
from tests import forked

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

PLAIN = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.0}
PLAIN |= {"schedule": "constant", "warmup_steps": 0, "learning_rate": 0.5}


def rates(steps: int, **changes) -> list[float]:
    """The learning rate of each step, and what is left after the last."""
    from segmodel.training.optimization import build_optimizer

    settings = {"learning_rate": 2.0, "warmup_steps": 4, "poly_power": 0.5} | changes
    schedule = build_optimizer(TrainingConfig(**settings), steps)._learning_rate
    return [float(schedule(tf.constant(step, tf.int64))) for step in range(steps + 1)]


def network() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            keras.layers.Conv2D(3, 1, name="beta_score"),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.DepthwiseConv2D(1),
        ]
    )


def moved(config: TrainingConfig, gradient: float, steps: int = 1) -> dict[str, float]:
    """Weights of `network`, all 2 before, after steps with the same gradient everywhere."""
    from segmodel.training.optimization import apply_gradients, build_optimizer

    model, optimizer = network(), build_optimizer(config, 10)
    for weight in model.trainable_variables:
        weight.assign(tf.fill(weight.shape, 2.0))
    gradients = [tf.fill(weight.shape, gradient) for weight in model.trainable_variables]
    for _ in range(steps):
        apply_gradients(optimizer, gradients, model.trainable_variables)
    return {weight.path: float(weight.numpy().ravel()[0]) for weight in model.trainable_variables}


def test_the_rate_rises_from_0_to_the_greatest_over_the_warm_up():
    for schedule in ("cosine", "poly", "constant"):
        assert rates(12, schedule=schedule)[:5] == pytest.approx([0, 0.5, 1, 1.5, 2])


def test_cosine_falls_to_0_after_the_last_step():
    expected = [1 + math.cos(math.pi * step / 8) for step in range(9)]
    assert rates(12, schedule="cosine")[4:] == pytest.approx(expected, abs=1e-6)


def test_poly_falls_to_0_after_the_last_step():
    expected = [2 * (1 - step / 8) ** 0.5 for step in range(9)]
    assert rates(12, schedule="poly")[4:] == pytest.approx(expected, abs=1e-6)


def test_constant_stays():
    assert rates(12, schedule="constant")[4:] == [2.0] * 9


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_a_stage_shorter_than_the_warm_up_still_trains(schedule):
    assert rates(3, schedule=schedule, warmup_steps=100) == pytest.approx([0, 1, 2, 0], abs=1e-6)
    assert rates(1, schedule=schedule, warmup_steps=100) == pytest.approx([2, 0], abs=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_beyond_the_last_step_the_rate_stays_0(schedule):
    from segmodel.training.optimization import WarmupThenDecay

    after = WarmupThenDecay(1.0, 10, 2, schedule, 0.9)(1000)
    assert float(after) == pytest.approx(0, abs=1e-7)


def test_a_schedule_is_rebuilt_from_its_configuration():
    from segmodel.training.optimization import WarmupThenDecay

    schedule = WarmupThenDecay(1.0, 10, 2, "poly", 0.9)
    again = WarmupThenDecay.from_config(schedule.get_config())
    assert [float(again(step)) for step in range(11)] == [
        float(schedule(step)) for step in range(11)
    ]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_is_decoupled_and_leaves_out_biases_and_batch_normalization(optimizer):
    config = TrainingConfig(**PLAIN | {"optimizer": optimizer, "weight_decay": 0.1})
    weights = moved(config, gradient=0.0)
    kernels = {path for path in weights if path.endswith("kernel")}
    assert len(kernels) == 2
    assert len(weights) == 6
    for path, weight in weights.items():
        expected = 2.0 * (1 - 0.5 * 0.1) if path in kernels else 2.0
        assert weight == pytest.approx(expected, rel=1e-6), path


def test_sgd_decay_does_not_enter_the_momentum():
    config = TrainingConfig(**PLAIN | {"momentum": 0.9, "weight_decay": 0.1})
    weights = moved(config, gradient=0.0, steps=3)
    kernel = next(weight for path, weight in weights.items() if path.endswith("kernel"))
    assert kernel == pytest.approx(2.0 * 0.95**3, rel=1e-6)


def test_without_decay_and_limit_sgd_moves_by_rate_times_gradient():
    assert list(moved(TrainingConfig(**PLAIN), 0.25).values()) == [2 - 0.5 * 0.25] * 6


def test_the_norm_of_all_gradients_together_is_limited():
    count = sum(weight.shape.num_elements() for weight in network().trainable_variables)
    weights = moved(TrainingConfig(**PLAIN | {"clip_norm": 3.0}), gradient=100.0)
    assert list(weights.values()) == pytest.approx([2 - 0.5 * 3.0 / math.sqrt(count)] * 6)
    below = moved(TrainingConfig(**PLAIN | {"clip_norm": 3.0}), gradient=0.125)
    assert list(below.values()) == pytest.approx([2 - 0.5 * 0.125] * 6)


def test_half_precision_scales_the_loss_and_leaves_out_steps_that_overflow():
    from segmodel.training.optimization import apply_gradients, build_optimizer

    optimizer = build_optimizer(TrainingConfig(**PLAIN, precision="mixed_float16"), 10)
    weight = keras.Variable([1.0, 2.0], name="kernel")
    optimizer.build([weight])
    scale = float(optimizer.scale_loss(1.0))
    assert scale > 1
    apply_gradients(optimizer, [tf.constant([scale, 0.0])], [weight])
    assert weight.numpy().tolist() == [0.5, 2.0]
    apply_gradients(optimizer, [tf.constant([math.inf, 0.0])], [weight])
    assert weight.numpy().tolist() == [0.5, 2.0]
    assert float(optimizer.scale_loss(1.0)) == scale / 2


def test_other_precisions_leave_the_loss_as_it_is():
    from segmodel.training.optimization import build_optimizer

    for precision in ("float32", "mixed_bfloat16"):
        optimizer = build_optimizer(TrainingConfig(precision=precision), 10)
        assert float(optimizer.scale_loss(1.5)) == 1.5


def test_the_moving_average_is_that_of_numpy_with_a_warm_start():
    from segmodel.training.optimization import MovingAverage

    model, rng = network(), np.random.default_rng(0)
    average = MovingAverage(model, 0.3)
    expected = [weight.numpy() for weight in model.weights]
    update = tf.function(average.update)
    for step in range(6):
        for weight in model.weights:
            weight.assign(rng.normal(size=weight.shape))
        update(tf.constant(step, tf.int64))
        decay = min(0.3, (1 + step) / (10 + step))
        expected = [
            decay * old + (1 - decay) * weight.numpy()
            for old, weight in zip(expected, model.weights, strict=True)
        ]
    assert len(average.variables) == len(model.weights) == 8
    for actual, value in zip(average.variables, expected, strict=True):
        np.testing.assert_allclose(actual.numpy(), value, rtol=1e-5, atol=1e-6)
    assert update.experimental_get_tracing_count() == 1


def test_averages_are_in_the_network_inside_and_its_own_weights_after_even_on_errors():
    from segmodel.training.optimization import MovingAverage

    model = network()
    average = MovingAverage(model, 0.9)
    for weight in model.weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    average.update(0)
    own = [weight.numpy() for weight in model.weights]
    averages = [variable.numpy() for variable in average.variables]

    def same(actual, expected) -> bool:
        return all(np.array_equal(a.numpy(), e) for a, e in zip(actual, expected, strict=True))

    with average.swapped():
        assert same(model.weights, averages)
    assert same(model.weights, own)
    assert same(average.variables, averages)
    with pytest.raises(RuntimeError, match="inside"), average.swapped():
        raise RuntimeError("inside")
    assert same(model.weights, own)
    assert same(average.variables, averages)


def test_a_restarted_average_is_the_weights_of_now_and_does_not_follow_them():
    from segmodel.training.optimization import MovingAverage

    model = network()
    average = MovingAverage(model, 0.9)
    for weight in model.weights:
        weight.assign(tf.fill(weight.shape, 3.0))
    average.restart()
    for weight in model.weights:
        weight.assign_add(tf.ones_like(weight))
    assert all((variable.numpy() == 3.0).all() for variable in average.variables)


def test_averages_come_back_from_a_checkpoint(tmp_path):
    from segmodel.training.optimization import MovingAverage

    model = network()
    average = MovingAverage(model, 0.9)
    average.variables[0].assign_add(tf.ones_like(average.variables[0]))
    path = tf.train.Checkpoint(average=average.variables).save(tmp_path / "state")
    again = MovingAverage(network(), 0.9)
    tf.train.Checkpoint(average=again.variables).restore(path).assert_consumed()
    for first, second in zip(average.variables, again.variables, strict=True):
        np.testing.assert_array_equal(first, second)


TWO_DEVICES = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from segmodel.training.optimization import MovingAverage, apply_gradients, build_optimizer
from segmodel.training.configuration import TrainingConfig

PRECISION = "{precision}"


def network():
    keras.utils.set_random_seed(3)
    layers = [keras.Input((2,)), keras.layers.Dense(4), keras.layers.BatchNormalization()]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    for weight in model.trainable_variables:
        weight.assign(weight + 0.1)
    return model


def trained(strategy, shares):
    config = TrainingConfig(
        optimizer="{optimizer}", learning_rate=0.1, warmup_steps=0, schedule="constant",
        weight_decay=0.1, clip_norm=0.01, precision=PRECISION,
    )
    with strategy.scope():
        model = network()
        optimizer = build_optimizer(config, 10)
        optimizer.build(model.trainable_variables)
        average = MovingAverage(model, 0.5)

    def replica_step(x):
        with tf.GradientTape() as tape:
            # Batch statistics would differ between shares; gamma and beta are still trained.
            loss = tf.reduce_mean(model(x, training=False) ** 2)
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        apply_gradients(optimizer, gradients, model.trainable_variables)
        return loss

    @tf.function
    def step(x, number):
        loss = strategy.run(replica_step, (x,))
        average.update(number)
        return strategy.reduce("MEAN", loss, axis=None)

    for number in range(4):
        values = tf.split(tf.constant(x_all[number]), shares)
        given = strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group]
        )
        step(given, tf.constant(number))
    own = [weight.numpy() for weight in model.weights]
    averages = [variable.numpy() for variable in average.variables]
    with average.swapped():
        inside = [weight.numpy() for weight in model.weights]
        each = [
            [part.numpy() for part in strategy.experimental_local_results(weight.value)]
            for weight in model.weights
        ]
    after = [weight.numpy() for weight in model.weights]
    return own, averages, inside, each, after


x_all = np.random.default_rng(0).normal(size=(4, 8, 2)).astype(np.float32) * 5
two = trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), 2)
one = trained(tf.distribute.get_strategy(), 1)
for kind in (0, 1):
    for first, second in zip(one[kind], two[kind], strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-4, atol=1e-5)
own, averages, inside, each, after = two
assert all(len(parts) == 2 for parts in each)
for weight, average, swapped, parts, restored in zip(own, averages, inside, each, after):
    np.testing.assert_array_equal(swapped, average)
    np.testing.assert_array_equal(parts[0], average)
    np.testing.assert_array_equal(parts[1], average)
    np.testing.assert_array_equal(restored, weight)
assert any((average != weight).any() for average, weight in zip(averages, own))
print("alike")
"""


@pytest.mark.parametrize(
    ("optimizer", "precision"), [("sgd", "float32"), ("adamw", "float32"), ("sgd", "mixed_float16")]
)
def test_two_devices_move_the_weights_and_averages_as_one_does(optimizer, precision):
    program = TWO_DEVICES.replace("{optimizer}", optimizer).replace("{precision}", precision)
    run = forked.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stdout.endswith("alike\n"), run.stderr
