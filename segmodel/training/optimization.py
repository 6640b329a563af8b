"""Optimizers with their schedules, and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from segmodel.training.configuration import TrainingConfig

# Biases, and scale and shift of batch normalization; TensorFlow appends replica and output.
_WITHOUT_DECAY = r"(^|/)(bias|gamma|beta)(/replica_\d+)?(:\d+)?$"


@keras.saving.register_keras_serializable("beamseg")
class WarmupThenDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up from 0, then a cosine or a power down to 0, or a constant.

    The value is 0 after `steps` steps, so the last step still moves.

    Args:
        learning_rate: Greatest learning rate, at the end of the warm-up.
        steps: Number of all steps, those of the warm-up among them.
        warmup_steps: Steps of the warm-up; at most `steps - 1` of them are taken.
        schedule: `cosine`, `poly` or `constant`.
        power: Exponent of `poly`.
    """

    def __init__(
        self, learning_rate: float, steps: int, warmup_steps: int, schedule: str, power: float
    ):
        self.learning_rate, self.steps = learning_rate, steps
        self.warmup_steps = min(warmup_steps, steps - 1)
        self.schedule, self.power = schedule, power

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        left = tf.clip_by_value((self.steps - step) / (self.steps - self.warmup_steps), 0.0, 1.0)
        if self.schedule == "cosine":
            share = (1 - tf.cos(left * math.pi)) / 2
        elif self.schedule == "poly":
            share = tf.pow(left, self.power)
        else:
            share = tf.ones_like(left)
        if self.warmup_steps:
            share *= tf.minimum(step / self.warmup_steps, 1.0)
        return self.learning_rate * share

    def get_config(self) -> dict[str, Any]:
        """Arguments by name, with which Keras makes the schedule again."""
        names = ("learning_rate", "steps", "warmup_steps", "schedule", "power")
        return {name: getattr(self, name) for name in names}


def build_optimizer(config: TrainingConfig, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer of a stage, to be built under the scope of its strategy.

    Weight decay is decoupled from the gradient and leaves out biases and batch normalization. With
    `mixed_float16` the loss is to be given to `scale_loss` of the optimizer first, which leaves it
    as it is otherwise. Gradients are to be applied by `apply_gradients` below.

    Args:
        config: Settings of the run.
        steps: Optimizer steps of the stage.

    Returns:
        An optimizer whose schedule starts at 0.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019).
    """
    schedule = WarmupThenDecay(
        config.learning_rate, steps, config.warmup_steps, config.schedule, config.poly_power
    )
    # Keras clips what each replica gives to the sum: see `apply_gradients`.
    clip = config.clip_norm / tf.distribute.get_strategy().num_replicas_in_sync or None
    decay = config.weight_decay
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(
            schedule, momentum=config.momentum, weight_decay=decay or None, global_clipnorm=clip
        )
    else:
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=decay, global_clipnorm=clip)
    optimizer.exclude_from_weight_decay(var_names=[_WITHOUT_DECAY])
    if config.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def apply_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[keras.Variable],
) -> None:
    """Move weights by the mean of the gradients of all replicas.

    The mean is clipped, and looked through for infinities, as a whole. Keras by itself would sum
    gradients that each replica has clipped and judged alone.

    Args:
        optimizer: From `build_optimizer`, made under the scope of the same strategy.
        gradients: Gradients of the loss of this replica.
        variables: Variable of each gradient.
    """
    replica = tf.distribute.get_replica_context()
    count = replica.num_replicas_in_sync
    if count > 1:
        mean = replica.all_reduce(tf.distribute.ReduceOp.MEAN, list(gradients))
        # Keras sums what the replicas give, which is the same for all of them by now.
        gradients = [gradient / count for gradient in mean]
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


class MovingAverage:
    """Exponential moving average of all weights of a network, batch statistics among them.

    The first steps weigh more: the decay is `min(decay, (1 + step) / (10 + step))`, as in
    `tf.train.ExponentialMovingAverage`, so that the first weights are soon forgotten.

    A network under a `MirroredStrategy` is averaged from outside `strategy.run`, where its
    variables are read from the first replica and written to all of them. Moving statistics of
    batch normalization differ between replicas, because each has seen its own share: those of the
    first are averaged, and all replicas have them after `swapped()`.

    Args:
        network: Network whose weights are averaged; the average starts at them.
        decay: Share of the average that is kept at each step, in 0..1.
    """

    def __init__(self, network: keras.Model, decay: float) -> None:
        self._weights = [weight.value for weight in network.weights]
        self._decay = decay
        self.variables = [
            tf.Variable(tf.cast(weight, tf.float32), trainable=False) for weight in self._weights
        ]
        # One call for all: hundreds of small ones would take as long as a step of the network.
        self._follow = tf.function(self._move)

    def update(self, step: tf.Tensor | int) -> None:
        """Take in the weights after an optimizer step; may stand in a `tf.function`.

        Args:
            step: Number of the step, from 0.
        """
        self._follow(tf.cast(step, tf.float32))

    def _move(self, step: tf.Tensor) -> None:
        taken = 1 - tf.minimum(self._decay, (1 + step) / (10 + step))
        for average, weight in zip(self.variables, self._weights, strict=True):
            average.assign_add((tf.cast(weight, tf.float32) - average) * taken)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The network with the averages as its weights; afterwards with its own, bit by bit.

        Inside, `variables` hold the network's own weights, so that no third copy is needed: do not
        update or save them there.
        """
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def restart(self) -> None:
        """Begin anew with the weights that the network has now."""
        for average, weight in zip(self.variables, self._weights, strict=True):
            average.assign(tf.cast(weight, tf.float32))

    def _swap(self) -> None:
        for average, weight in zip(self.variables, self._weights, strict=True):
            # `tf.cast` to its own dtype would give the variable, which is about to change.
            own = tf.identity(weight)
            weight.assign(tf.cast(average, weight.dtype))
            average.assign(tf.cast(own, tf.float32))
