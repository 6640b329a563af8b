"""Training steps of a network, on one device or several."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache

import keras
import numpy as np
import tensorflow as tf

from segmodel.errors import ConfigurationError, TrainingError
from segmodel.training.configuration import Configuration, TrainingConfig
from segmodel.training.losses import build_loss
from segmodel.training.optimization import MovingAverage, apply_gradients, build_optimizer


def device_strategy(config: TrainingConfig) -> tf.distribute.Strategy:
    """How a batch is shared: mirrored over several devices, or one device alone.

    Args:
        config: Devices and batch of the run.

    Returns:
        A strategy of `tf.distribute`.

    Raises:
        ConfigurationError: If a device is not there, or the batch cannot be dealt evenly.
    """
    present = [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices()]
    devices = list(config.devices) or [name for name in present if name.startswith("GPU:")]
    for name in devices:
        if name not in present:
            raise ConfigurationError(f"training.devices: {name} is not there: {', '.join(present)}")
    if len(set(devices)) != len(devices):
        raise ConfigurationError(f"training.devices must be different, got {', '.join(devices)}")
    if not devices:
        return tf.distribute.get_strategy()
    if len(devices) == 1:
        return tf.distribute.OneDeviceStrategy(f"/{devices[0]}")
    if config.batch % len(devices):
        raise ConfigurationError(
            f"training.batch must be a multiple of {len(devices)} devices, got {config.batch}"
        )
    return _mirrored(tuple(devices))


@cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """One strategy for all runs of a process.

    A second one would number its reductions as the first did, and TensorFlow takes those of one
    number for one reduction, of one shape.
    """
    return tf.distribute.MirroredStrategy([f"/{name}" for name in devices])


class Learner:
    """A network with its loss, optimizer and moving averages.

    Args:
        build: Function that makes the network.
        config: Settings of the run.
        class_weights: Weight of each class in the loss; all alike if empty.
        steps: Number of steps of the stage, for the schedule.
        strategy: Strategy of `tf.distribute`, from `device_strategy`.
    """

    def __init__(
        self,
        build: Callable[[], keras.Model],
        config: Configuration,
        class_weights: Sequence[float],
        steps: int,
        strategy: tf.distribute.Strategy,
    ) -> None:
        training = config.training
        self.strategy = strategy
        with strategy.scope():
            self.network = build()
            self.optimizer = build_optimizer(training, steps)
            self.optimizer.build(self.network.trainable_variables)
            self.average = MovingAverage(self.network, training.ema) if training.ema else None
        self._loss = build_loss(training, class_weights)
        self._run = tf.function(self._on_all_devices)

    def step(self, images: tf.Tensor, truth: tf.Tensor) -> float:
        """Move the weights by one batch.

        Args:
            images: `(batch, crop, crop, bands)` float32 raw values.
            truth: `(batch, crop, crop)` int16 class indices, or `IGNORED`.

        Returns:
            Loss of the batch, the mean over the devices.
        """
        return float(self._run(images, truth))

    def _on_all_devices(self, images: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        losses = self.strategy.run(self._on_one_device, args=(images, truth))
        return self.strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, axis=None)

    def _on_one_device(self, images: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        weights = self.network.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(truth, self.network(images, training=True))
            scaled = self.optimizer.scale_loss(loss)
        apply_gradients(self.optimizer, tape.gradient(scaled, weights), weights)
        return loss

    def update_average(self, step: int) -> None:
        """Take the weights into the moving average, once after each step.

        Args:
            step: Number of the step in its stage, from 0.
        """
        if self.average is not None:
            self.average.update(step)

    @contextmanager
    def averaged(self) -> Iterator[keras.Model]:
        """The network as it is validated and exported: with averaged weights if there are any."""
        with self.average.swapped() if self.average is not None else nullcontext():
            yield self.network

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(np.asarray(self.optimizer.learning_rate))

    @property
    def state(self) -> list[tf.Variable]:
        """All variables that the next step depends on."""
        averages = self.average.variables if self.average is not None else []
        return [*self.network.variables, *self.optimizer.variables, *averages]

    def distributed(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Batches as the strategy gives them to the devices."""
        if self.strategy.num_replicas_in_sync == 1:
            return batches
        return self.strategy.experimental_distribute_dataset(batches)


class StepTimer:
    """Measures the time of steps, and the part of it in which they waited for data."""

    def __init__(self) -> None:
        self._seconds = self._waited_seconds = 0.0

    def timed(self, batches: tf.data.Dataset) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Pass batches on, and measure how long each takes to arrive.

        Raises:
            TrainingError: If a crop cannot be cut, such as from a file that is gone by now.
        """
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            try:
                batch = next(iterator, None)
            except tf.errors.OpError as error:
                # What Python raised inside the graph, without the graph and the traceback.
                reason = re.sub(r"^.*?\w+Error: ", "", error.message.partition("\nTraceback")[0])
                if "allocate" in reason:
                    reason = f"{reason}: lower training.batch or training.crop"
                raise TrainingError(f"a crop cannot be cut: {reason}") from error
            if batch is None:
                return
            waited = time.perf_counter() - start
            self._seconds += waited
            self._waited_seconds += waited
            yield batch

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add the time of the block."""
        start = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - start

    def read(self) -> tuple[float, float]:
        """Seconds since the last call, and those of them that were spent waiting for data."""
        times = self._seconds, self._waited_seconds
        self._seconds = self._waited_seconds = 0.0
        return times


def check_loss(loss: float, step: int, keep: Callable[[], str]) -> None:
    """Stop a run whose loss is no number.

    Args:
        loss: Loss of a step.
        step: Number of the step.
        keep: Function that saves the batch and returns the name of the file.

    Raises:
        TrainingError: If the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} at step {step}: its images and masks are in {keep()}; lower "
            f"training.learning_rate, or look there for values that are out of range"
        )
