"""Batches of training crops, augmented in the graph; image and truth are moved alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from segmodel.pairs.crops import CropSampler
from segmodel.training.configuration import AugmentationConfig, Configuration

# Where the number of each change is among the numbers of a crop, so that a change that is switched
# on leaves the others as they were. The gains of the bands come last.
_MIRROR, _UPSET, _TRANSPOSE, _BRIGHTNESS, _CONTRAST, _BLUR, _NOISE, _GAINS = range(8)

# Of a Gaussian, 0.3 % is further out than this many standard deviations.
_BLUR_REACH = 3.0


def augment(
    image: tf.Tensor,
    truth: tf.Tensor,
    seed: tf.Tensor,
    crop: int,
    config: AugmentationConfig,
    value_range: tuple[float, ...],
) -> tuple[tf.Tensor, tf.Tensor]:
    """A crop that is resized, mirrored, turned, blurred and re-lit.

    Args:
        image: `(side, side, bands)` raw values; `side` is `crop` where `config.scale` is 1.
        truth: `(side, side)` class indices, or `IGNORED`.
        seed: `(2,)` int32; the same seed gives the same crop.
        crop: Side of the result in pixels.
        config: Greatest changes; a change that is 0 there has no operation in the graph.
        value_range: Least and greatest raw value, to which the result is clipped.

    Returns:
        Image `(crop, crop, bands)` float32, and truth `(crop, crop)` of its dtype.
    """
    bands = image.shape[-1]
    low, high = value_range
    drawn = tf.random.stateless_uniform((_GAINS + bands,), seed)
    image, truth = _moved(image, truth[..., None], drawn, config)
    if tuple(config.scale) != (1.0, 1.0):
        image, truth = _resized(image, truth, crop)
    image = tf.ensure_shape(tf.cast(image, tf.float32), (crop, crop, bands))
    truth = tf.ensure_shape(truth, (crop, crop, 1))
    if config.blur:
        image = _blurred(image, drawn[_BLUR] * config.blur, config.blur)
    image = _lit(image, drawn, config, (low, high))
    if config.noise:
        # The stream of `seed` itself is taken by the numbers above.
        noise = tf.random.stateless_normal(
            (crop, crop, bands), tf.random.experimental.stateless_fold_in(seed, 1)
        )
        image += noise * (drawn[_NOISE] * config.noise * (high - low))
    return tf.clip_by_value(image, low, high), truth[..., 0]


def _moved(
    image: tf.Tensor, truth: tf.Tensor, drawn: tf.Tensor, config: AugmentationConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """One of two ways to lie by flips, of all eight by quarter turns, each as likely.

    A quarter turn is a transposition and a mirroring.
    """

    def change(number: int, move: Callable[[tf.Tensor], tf.Tensor]) -> None:
        nonlocal image, truth
        still = (image, truth)
        image, truth = tf.cond(
            drawn[number] < 0.5, lambda: (move(still[0]), move(still[1])), lambda: still
        )

    if config.flips or config.quarter_turns:
        change(_MIRROR, lambda raster: tf.reverse(raster, [1]))
    if config.quarter_turns:
        change(_UPSET, lambda raster: tf.reverse(raster, [0]))
        change(_TRANSPOSE, lambda raster: tf.transpose(raster, (1, 0, 2)))
    return image, truth


def _resized(image: tf.Tensor, truth: tf.Tensor, crop: int) -> tuple[tf.Tensor, tf.Tensor]:
    """To `crop` pixels a side; both methods have pixel centres at halves, so edges agree."""

    def resize() -> tuple[tf.Tensor, tf.Tensor]:
        return (
            tf.image.resize(image, (crop, crop), "bilinear", antialias=True),
            tf.image.resize(truth, (crop, crop), "nearest"),
        )

    moved: tuple[tf.Tensor, tf.Tensor] = tf.cond(
        tf.shape(image)[0] == crop, lambda: (tf.cast(image, tf.float32), truth), resize
    )
    return moved


def _blurred(image: tf.Tensor, sigma: tf.Tensor, greatest: float) -> tf.Tensor:
    """Each band under a Gaussian, rows and columns one after the other."""
    crop, _, bands = image.shape
    # A reflection cannot be longer than the image less its edge.
    radius = min(math.ceil(_BLUR_REACH * greatest), crop - 1)
    distances = tf.range(-radius, radius + 1, dtype=tf.float32)
    # Under a hundredth of a pixel the neighbours have no weight, and division stays safe.
    sigma = tf.maximum(sigma, 0.01)
    weights = tf.nn.softmax(-tf.square(distances / sigma) / 2)
    kernel = tf.repeat(weights[:, None], bands, axis=1)
    padded = tf.pad(image, [[radius, radius], [radius, radius], [0, 0]], "REFLECT")[None]
    strides = (1, 1, 1, 1)
    rows = tf.nn.depthwise_conv2d(padded, kernel[:, None, :, None], strides, "VALID")
    return tf.nn.depthwise_conv2d(rows, kernel[None, :, :, None], strides, "VALID")[0]


def _lit(
    image: tf.Tensor, drawn: tf.Tensor, config: AugmentationConfig, limits: tuple[float, float]
) -> tf.Tensor:
    """Bands with gains of their own, then contrast, then brightness, as one linear change."""
    low, high = limits
    slope, offset, middle = 1.0, 0.0, (low + high) / 2
    if config.color:
        slope = 1 + _signed(drawn[_GAINS:], config.color)
        offset = low * (1 - slope)
    if config.contrast:
        gain = 1 + _signed(drawn[_CONTRAST], config.contrast)
        slope, offset = slope * gain, offset * gain + middle * (1 - gain)
    if config.brightness:
        offset += _signed(drawn[_BRIGHTNESS], config.brightness) * (high - low)
    if config.color or config.contrast:
        image *= slope
    return image + offset if config.color or config.contrast or config.brightness else image


def _signed(drawn: tf.Tensor, limit: float) -> tf.Tensor:
    """Numbers in 0..1 to -limit..limit."""
    return (2 * drawn - 1) * limit


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
    training, model = config.training, config.model

    def load(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, truth = tf.numpy_function(
            lambda n: sampler.crop(int(n)), [number], [model.dtype, tf.int16]
        )
        image.set_shape((None, None, len(model.bands)))
        truth.set_shape((None, None))
        seed = tf.stack([training.seed, tf.cast(number, tf.int32)])
        return augment(image, truth, seed, training.crop, config.augmentation, model.limits)

    numbers = tf.data.Dataset.range(first_step * training.batch, steps * training.batch)
    crops = numbers.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    options = tf.data.Options()
    # The model has the cores; more threads for one operation only take them from it.
    options.threading.max_intra_op_parallelism = 1
    batched = crops.batch(training.batch, drop_remainder=True).prefetch(AHEAD)
    return batched.with_options(options)
