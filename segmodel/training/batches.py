"""Training crops as batches, read and changed ahead of the step that asks for them."""

from __future__ import annotations

import tensorflow as tf

from segmodel.pairs.crops import CropSampler
from segmodel.training.augment import augment
from segmodel.training.configuration import Configuration

# Batches that are ready before they are asked for.
AHEAD = 2


def training_batches(
    sampler: CropSampler, config: Configuration, first_step: int, steps: int
) -> tf.data.Dataset:
    """One augmented batch for each step; which one depends on the seed and the step alone.

    Args:
        sampler: Sampler of crops of the training pairs.
        config: Settings of the run: batch, crop, augmentation and seed.
        first_step: Number of the first step; a resumed run has done those before it.
        steps: Number of the step after the last.

    Returns:
        Batches of images `(batch, crop, crop, bands)` float32 in raw units, and truth
        `(batch, crop, crop)` int16 class indices.
    """
    training = config.training
    bands = len(config.model.bands)

    def load(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, truth = tf.numpy_function(
            lambda n: sampler.crop(int(n)), [number], [config.model.dtype, tf.int16]
        )
        image.set_shape((None, None, bands))
        truth.set_shape((None, None))
        seed = tf.stack([training.seed, tf.cast(number, tf.int32)])
        limits = config.model.limits
        return augment(image, truth, seed, training.crop, config.augmentation, limits)

    numbers = tf.data.Dataset.range(first_step * training.batch, steps * training.batch)
    crops = numbers.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    options = tf.data.Options()
    # The model has the cores; more threads for one operation only take them from it.
    options.threading.max_intra_op_parallelism = 1
    batched = crops.batch(training.batch, drop_remainder=True).prefetch(AHEAD)
    return batched.with_options(options)
