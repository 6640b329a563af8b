"""Fully convolutional networks after Long, Shelhamer and Darrell (2015).

FCN-32s scores the coarsest features and upsamples once; FCN-16s and -8s add the scores of finer
features before they upsample on. FCN-4s goes one step further by the same rule, for maps whose
objects are small beside the stride, such as coastlines and streets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from segmodel.errors import ConfigurationError
from segmodel.networks.backbones import (
    IMAGENET_BANDS,
    band_means,
    build_backbone,
    find_backbone,
    load_imagenet,
)
from segmodel.networks.receptive_field import ReceptiveField
from segmodel.networks.variants import PRECISIONS, VARIANTS, check_word

FC6_KERNEL_PX = 7
FC_DROPOUT = 0.5


# Layers


@keras.saving.register_keras_serializable("beamseg")
class Preprocessing(keras.layers.Layer):
    """Raw pixel values to what the backbone was trained on.

    Args:
        mean: Mean of each band in raw units, which is subtracted.
        scale: Factor of the difference, for each band.
        reverse: Whether to reverse the order of bands afterwards.
        limits: Least and greatest raw value, to which values are clipped: training never shows any
            beyond, so outliers of 16 bits or of float images would be far from all it knows.
    """

    def __init__(
        self,
        mean: list[float],
        scale: list[float],
        reverse: bool,
        limits: tuple[float, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mean, self.scale, self.reverse = list(mean), list(scale), bool(reverse)
        self.limits = tuple(limits) if limits else None

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """`(batch, height, width, bands)` of any dtype to float32 of the same shape."""
        scaled = self.centre(images) * self.scale
        return tf.reverse(scaled, axis=[-1]) if self.reverse else scaled

    def centre(self, images: tf.Tensor, dtype: str = "float32") -> tf.Tensor:
        """Raw values as float32, clipped to the limits, less the mean of each band.

        Args:
            images: `(batch, height, width, bands)` of any dtype.
            dtype: Sample type that the values came from: they are not clipped where it holds none
                beyond the limits.
        """
        values = tf.cast(images, tf.float32)
        if self.limits and not _is_within(dtype, self.limits):
            values = tf.clip_by_value(values, *self.limits)
        # By one number rather than by one of each band: several times faster.
        return values - (self.mean[0] if len(set(self.mean)) == 1 else self.mean)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the layer, with which Keras makes it again."""
        names = ("mean", "scale", "reverse", "limits")
        config: dict[str, Any] = super().get_config()
        return config | {name: getattr(self, name) for name in names}


def _is_within(dtype: str, limits: tuple[float, ...]) -> bool:
    """Whether all values of a sample type are within limits.

    >>> _is_within("uint8", (0.0, 255.0)), _is_within("float32", (0.0, 255.0))
    (True, False)
    """
    if not np.issubdtype(np.dtype(dtype), np.integer):
        return False
    return bool(limits[0] <= np.iinfo(dtype).min and np.iinfo(dtype).max <= limits[1])


@keras.saving.register_keras_serializable("beamseg")
class BilinearUpsampling(keras.layers.Layer):
    """The last upsampling of the paper, fixed to bilinear interpolation.

    Args:
        factor: Factor of height and width.
        **kwargs: Arguments of every Keras layer.
    """

    def __init__(self, factor: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, scores: tf.Tensor) -> tf.Tensor:
        """`(batch, height, width, classes)` to `factor` times the height and width."""
        size = tf.shape(scores)[1:3] * self.factor
        return tf.image.resize(scores, size, method="bilinear")

    def get_config(self) -> dict[str, Any]:
        """Arguments of the layer, with which Keras makes it again."""
        config: dict[str, Any] = super().get_config()
        return config | {"factor": self.factor}


def bilinear_kernel(factor: int, classes: int) -> np.ndarray:
    """Weights of a transposed convolution that interpolates each class by itself.

    Args:
        factor: Factor of height and width; even.
        classes: Number of classes.

    Returns:
        `(2 * factor, 2 * factor, classes, classes)` float32.

    >>> bilinear_kernel(2, 1)[0, :, 0, 0].tolist()
    [0.0625, 0.1875, 0.1875, 0.0625]
    """
    size = 2 * factor
    line = 1 - np.abs(np.arange(size) - (size - 1) / 2) / factor
    kernel = np.zeros((size, size, classes, classes), np.float32)
    kernel[:, :, range(classes), range(classes)] = np.outer(line, line)[..., None]
    return kernel


# Functional model


def build_network(config: NetworkConfig) -> keras.Model:
    """A network from raw pixel values to one score per class.

    Layers have the same names in every variant, so that weights can be transferred from one to
    another: `score_32` scores features of stride 32, `upsample_32` doubles their resolution,
    `fuse_16` adds those of stride 16.

    Args:
        config: Configuration of the network.

    Returns:
        Model from `(batch, height, width, bands)` float32, height and width multiples of the
        stride, to `(batch, height, width, classes)` float32 logits.

    Raises:
        ConfigurationError: If the backbone's weights cannot be used.
    """
    with _precision(config.precision):
        model = _backbone(config)
        tensors = {layer.name: layer.output for layer in model.layers}
        backbone = find_backbone(config.backbone)
        features = {stride: tensors[layer] for stride, layer in backbone.skips}
        if config.fc_layers:
            features[backbone.stride] = _fully_connected(features[backbone.stride], config)
        logits = _score(features, config)
        return keras.Model(model.inputs[0], logits, name=f"{config.variant}-{config.backbone}")


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Layers made inside compute in this precision; those before and after do not."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _backbone(config: NetworkConfig) -> keras.Model:
    """From raw pixel values to the coarsest features, with weights loaded."""
    images = keras.Input((None, None, len(config.bands)), name="images")
    mean, scale = preprocessing(config)
    reverse = find_backbone(config.backbone).reverse
    # Raw values beyond 65504 are infinite in float16.
    prepare = Preprocessing(
        mean, scale, reverse, config.value_range, name="preprocessing", dtype="float32"
    )
    prepared = prepare(images)
    model = build_backbone(config.backbone, config.width, prepared)
    if config.backbone_weights != "none":
        load_imagenet(model, config.backbone, config.width, config.backbone_weights, config.bands)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = config.batch_norm_momentum
    return model


def _fully_connected(features: keras.KerasTensor, config: NetworkConfig) -> keras.KerasTensor:
    """The paper's fc6 and fc7 as convolutions, padded so that the grid of features stays."""
    kinds, channels = keras.layers, config.fc_channels
    for name, kernel in (("fc6", FC6_KERNEL_PX), ("fc7", 1)):
        convolution = kinds.Conv2D(channels, kernel, padding="same", activation="relu", name=name)
        features = kinds.Dropout(FC_DROPOUT, name=f"{name}_dropout")(convolution(features))
    return features


def _score(features: dict[int, keras.KerasTensor], config: NetworkConfig) -> keras.KerasTensor:
    """Logits from features by stride; in float32, as sums of scores need its precision."""
    kinds, classes = keras.layers, config.classes
    kernel = keras.initializers.Constant(bilinear_kernel(2, classes))
    strides = [s for s in sorted(features, reverse=True) if s >= VARIANTS[config.variant]]
    scores = None
    for stride in strides:
        score = kinds.Conv2D(classes, 1, name=f"score_{stride}", dtype="float32")
        fine = score(features[stride])
        if scores is not None:
            fuse = kinds.Add(name=f"fuse_{stride}", dtype="float32")
            # Starts as bilinear interpolation and learns on.
            upsample = kinds.Conv2DTranspose(
                classes,
                4,
                strides=2,
                padding="same",
                use_bias=False,
                kernel_initializer=kernel,
                name=f"upsample_{2 * stride}",
                dtype="float32",
            )
            fine = fuse([upsample(scores), fine])
        scores = fine
    return BilinearUpsampling(strides[-1], name="logits", dtype="float32")(scores)


def preprocessing(config: NetworkConfig) -> tuple[list[float], list[float]]:
    """Mean and scale of each band in raw units.

    The value range becomes 0..255 and then what the backbone was trained on, the mean by the rule
    in `segmodel.networks.backbones`; so a network does not change its input with its weights.
    """
    low, high = config.value_range
    backbone = find_backbone(config.backbone)
    unit = (high - low) / 255
    means = band_means(config.bands, backbone.mean)
    return [low + m * unit for m in means], [backbone.scale / unit] * len(means)


def nodata_fill(config: NetworkConfig, dtype: str) -> tuple[float, ...]:
    """The raw value of each band nearest to the one that preprocessing turns into 0.

    Args:
        config: Configuration of the network.
        dtype: Sample type of raw values; for integers the value is rounded.

    Returns:
        `(bands,)` floats.
    """
    whole = np.issubdtype(np.dtype(dtype), np.integer)
    return tuple(float(round(m)) if whole else m for m in preprocessing(config)[0])


# Receptive field


def receptive_field(network: keras.Model) -> ReceptiveField | None:
    """Which input pixels an output pixel of a network can see.

    Args:
        network: Functional model of Keras.

    Returns:
        The receptive field along one axis; None if an output pixel sees the whole image, as the
        network has global context, such as squeeze-and-excite.

    Raises:
        ConfigurationError: If the network has a layer of a kind that is not known here.
    """
    fields: dict[int, ReceptiveField | None] = {id(network.inputs[0]): ReceptiveField()}
    for layer in network.layers:
        for node in layer._inbound_nodes:
            sources = [fields[id(t)] for t in node.input_tensors if id(t) in fields]
            if sources:
                known = [source for source in sources if source is not None]
                merged = reduce(ReceptiveField.join, known) if len(known) == len(sources) else None
                fields[id(node.outputs[0])] = _after(layer, merged)
    return fields[id(network.outputs[0])]


def _after(layer: keras.layers.Layer, source: ReceptiveField | None) -> ReceptiveField | None:
    """Receptive field after a layer; sizes are even before strides of 2, as inputs are padded."""
    if source is None or isinstance(layer, _GLOBAL):
        return None
    kinds = keras.layers
    for name in ("kernel_size", "strides", "dilation_rate", "pool_size"):
        if len(set(getattr(layer, name, ()))) > 1:
            raise ConfigurationError(f"reach of layer {layer.name!r} differs between its axes")
    if isinstance(layer, kinds.Conv2DTranspose) and layer.padding == "same":
        return source.transpose(layer.kernel_size[0], layer.strides[0])
    if type(layer) in (kinds.Conv2D, kinds.DepthwiseConv2D):
        kernel, stride, dilation = layer.kernel_size[0], layer.strides[0], layer.dilation_rate[0]
    elif isinstance(layer, (kinds.MaxPooling2D, kinds.AveragePooling2D)):
        kernel, stride, dilation = layer.pool_size[0], layer.strides[0], 1
    elif isinstance(layer, kinds.ZeroPadding2D):
        return source.pad(layer.padding[0][0])
    elif isinstance(layer, BilinearUpsampling):
        return source.interpolate(layer.factor)
    elif isinstance(layer, _POINTWISE):
        return source
    else:
        raise ConfigurationError(f"reach of layer {layer.name!r} ({type(layer).__name__}) unknown")
    before = max((kernel - 1) * dilation + 1 - stride, 0) // 2 if layer.padding == "same" else 0
    return source.convolve(kernel, stride, before, dilation)


_GLOBAL = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)

_POINTWISE = (
    keras.layers.InputLayer,
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.Activation,
    keras.layers.Dropout,
    keras.layers.Add,
    keras.layers.Multiply,
    keras.layers.Concatenate,
    Preprocessing,
)


# Configuration


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that determines the architecture, and where its weights start.

    Args:
        classes: Number of classes.
        variant: One of `VARIANTS`.
        backbone: One of `segmodel.networks.backbones.BACKBONES`.
        backbone_weights: `none`, `imagenet` (downloaded by Keras) or the path of a weights file.
        width: Multiplier of the channels of the backbone.
        fc_layers: Whether fc6 and fc7 of the paper follow the backbone.
        fc_channels: Channels of fc6 and fc7.
        bands: Names of the input bands, in order.
        value_range: Least and greatest raw pixel value.
        batch_norm_momentum: Momentum of batch normalization; with 0.999, Keras's own for
            MobileNetV2, statistics lag hundreds of steps behind the weights.
        precision: One of `PRECISIONS`; variables and logits are float32 in all of them.

    Raises:
        ConfigurationError: If a value is not possible.
    """

    classes: int
    variant: str = "fcn-8s"
    backbone: str = "mobilenet_v2"
    backbone_weights: str = "none"
    width: float = 1.0
    fc_layers: bool = False
    fc_channels: int = 4096
    bands: tuple[str, ...] = IMAGENET_BANDS
    value_range: tuple[float, float] = (0.0, 255.0)
    batch_norm_momentum: float = 0.9
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_word("variant", self.variant, VARIANTS)
        check_word("precision", self.precision, PRECISIONS)
        backbone = find_backbone(self.backbone)
        if not 0 < self.width < math.inf:
            raise ConfigurationError(f"width must be positive, got {self.width}")
        for name, count in (("classes", self.classes), ("fc_channels", self.fc_channels)):
            if count < 1:
                raise ConfigurationError(f"model.{name} must be at least 1, got {count}")
        if not self.bands or self.value_range[0] >= self.value_range[1]:
            raise ConfigurationError(
                f"bands must be names and value_range must rise, got {self.bands} and "
                f"{self.value_range}"
            )
        if not 0 <= self.batch_norm_momentum < 1:
            raise ConfigurationError(
                f"batch_norm_momentum must be in 0..1, got {self.batch_norm_momentum}"
            )
        if self.width != 1 and self.backbone_weights != "none" and not backbone.publishes_widths:
            raise ConfigurationError(
                f"backbone_weights {self.backbone_weights!r} of {self.backbone} exist for width 1 "
                f"only, got {self.width}: set width = 1.0 or backbone_weights = 'none'"
            )

    @property
    def stride(self) -> int:
        """Height and width of what the network sees are multiples of this."""
        return find_backbone(self.backbone).stride
