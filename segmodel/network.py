"""Fully convolutional networks after Long, Shelhamer and Darrell (2015).

FCN-32s scores the coarsest features and upsamples once; FCN-16s and -8s add the scores of finer
features before they upsample on. FCN-4s goes one step further by the same rule, for maps whose
objects are small beside the stride, such as coastlines and streets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from segmodel.backbones import Backbone, find_backbone
from segmodel.errors import ConfigurationError
from segmodel.receptive_field import Reach

VARIANTS = {"fcn-32s": 32, "fcn-16s": 16, "fcn-8s": 8, "fcn-4s": 4}

# With Keras's own momentum of 0.999 the statistics lag hundreds of steps behind the weights.
BATCH_NORM_MOMENTUM = 0.9


# Layers


@keras.saving.register_keras_serializable("beamseg")
class Preprocessing(keras.layers.Layer):
    """Raw pixel values to what the backbone was trained on.

    Args:
        mean: Subtracted from each band, in raw units.
        scale: Multiplied with the difference, for each band.
        reverse: Whether the order of bands is turned round afterwards.
    """

    def __init__(self, mean: list[float], scale: list[float], reverse: bool, **kwargs):
        super().__init__(**kwargs)
        self.mean, self.scale, self.reverse = list(mean), list(scale), bool(reverse)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """`(batch, height, width, bands)` of any dtype to float32 of the same shape."""
        scaled = (tf.cast(images, tf.float32) - self.mean) * self.scale
        return tf.reverse(scaled, axis=[-1]) if self.reverse else scaled

    def get_config(self) -> dict:
        """Arguments, for Keras."""
        own = {"mean": self.mean, "scale": self.scale, "reverse": self.reverse}
        return super().get_config() | own


@keras.saving.register_keras_serializable("beamseg")
class BilinearUpsampling(keras.layers.Layer):
    """The last upsampling of the paper, fixed to bilinear interpolation."""

    def __init__(self, factor: int, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, scores: tf.Tensor) -> tf.Tensor:
        """`(batch, height, width, classes)` to `factor` times the height and width."""
        shape = tf.shape(scores)
        size = shape[1:3] * self.factor
        return tf.image.resize(scores, size, method="bilinear")

    def get_config(self) -> dict:
        """Arguments, for Keras."""
        return super().get_config() | {"factor": self.factor}


def bilinear_kernel(factor: int, classes: int) -> np.ndarray:
    """Weights of a transposed convolution that interpolates each class by itself.

    Returns:
        `(2 * factor, 2 * factor, classes, classes)` float32, for an even factor.

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

    Input `(batch, height, width, bands)` float32 with height and width multiples of 32;
    output `(batch, height, width, classes)` float32 logits.

    Raises:
        ConfigurationError: If the backbone's weights cannot be used.
    """
    backbone = find_backbone(config.backbone)
    images = keras.Input((None, None, config.bands), name="images")
    mean, scale = preprocessing(config)
    prepared = Preprocessing(mean, scale, _reverses(backbone, config), name="preprocessing")(images)
    features = _backbone_features(backbone, config, prepared)

    skips = [s for s in reversed(backbone.skips) if s[0] >= VARIANTS[config.variant]]
    stride, scores = 0, None
    for stride, layer in skips:
        score = keras.layers.Conv2D(config.classes, 1, name=f"score_{stride}")(features[layer])
        if scores is None:
            scores = score
        else:
            scores = keras.layers.Add(name=f"fuse_{stride}")([_upsample_twice(scores), score])
    logits = BilinearUpsampling(stride, name="logits")(scores)
    return keras.Model(images, logits, name=f"{config.variant}-{config.backbone}")


def _upsample_twice(scores):
    """Doubled by a transposed convolution that starts as bilinear interpolation and learns on."""
    classes = scores.shape[-1]
    kernel = keras.initializers.Constant(bilinear_kernel(2, classes))
    return keras.layers.Conv2DTranspose(
        classes, 4, strides=2, padding="same", use_bias=False, kernel_initializer=kernel
    )(scores)


def _backbone_features(backbone: Backbone, config: NetworkConfig, prepared) -> dict:
    """Tensors of the backbone by layer name, with weights loaded."""
    options = {"alpha": config.width} if backbone.has_width else {}
    try:
        model = backbone.build(
            input_tensor=prepared, include_top=False, weights=config.weights_source(), **options
        )
    except (ValueError, OSError) as error:
        raise ConfigurationError(
            f"backbone_weights {config.backbone_weights!r} cannot be loaded into "
            f"{config.backbone}: {error}"
        ) from error
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
    return {layer.name: layer.output for layer in model.layers}


def preprocessing(config: NetworkConfig) -> tuple[list[float], list[float]]:
    """Mean and scale of each band in raw units.

    With the three bands of ImageNet, as its networks were trained; otherwise the middle and half
    the width of the value range, which gives -1..1.
    """
    low, high = config.value_range
    if config.bands == 3:
        backbone = find_backbone(config.backbone)
        unit = (high - low) / 255
        return [low + m * unit for m in backbone.mean], [backbone.scale / unit] * 3
    return [(low + high) / 2] * config.bands, [2 / (high - low)] * config.bands


def _reverses(backbone: Backbone, config: NetworkConfig) -> bool:
    return backbone.reverse and config.bands == 3


def reach(network: keras.Model) -> Reach:
    """Which input pixels an output pixel of `network` can see.

    Raises:
        ConfigurationError: If the network has a layer whose reach is not known.
    """
    reaches = {id(network.inputs[0]): Reach()}
    for layer in network.layers:
        for node in layer._inbound_nodes:
            sources = [reaches[id(t)] for t in node.input_tensors if id(t) in reaches]
            if not sources:
                continue
            joined = sources[0]
            for other in sources[1:]:
                joined = joined.join(other)
            reaches[id(node.outputs[0])] = _after(layer, joined)
    return reaches[id(network.outputs[0])]


def _after(layer: keras.layers.Layer, source: Reach) -> Reach:
    """Reach behind one layer; sizes are even before every stride of 2, as inputs are padded."""
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


_POINTWISE = (
    keras.layers.InputLayer,
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.Activation,
    keras.layers.Dropout,
    keras.layers.Add,
    keras.layers.Concatenate,
    Preprocessing,
)


# Configuration


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that determines the architecture.

    Args:
        classes: Number of classes.
        variant: One of `VARIANTS`.
        backbone: One of `segmodel.backbones.BACKBONES`.
        backbone_weights: `none`, `imagenet` (downloaded by Keras) or the path of a weights file.
        width: Width multiplier, for backbones that have one.
        bands: Number of input bands.
        value_range: Least and greatest raw pixel value.

    Raises:
        ConfigurationError: If a value is not possible.
    """

    classes: int
    variant: str = "fcn-8s"
    backbone: str = "mobilenet_v2"
    backbone_weights: str = "none"
    width: float = 1.0
    bands: int = 3
    value_range: tuple[float, float] = (0.0, 255.0)

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            known = ", ".join(VARIANTS)
            raise ConfigurationError(f"variant must be one of {known}, got {self.variant!r}")
        backbone = find_backbone(self.backbone)
        if not 0 < self.width < math.inf:
            raise ConfigurationError(f"width must be positive, got {self.width}")
        if self.width != 1.0 and not backbone.has_width:
            raise ConfigurationError(f"backbone {self.backbone} has no width, got {self.width}")
        if self.classes < 1 or self.bands < 1 or self.value_range[0] >= self.value_range[1]:
            raise ConfigurationError(f"classes, bands and value_range must be positive: {self}")
        if self.bands != 3 and self.backbone_weights != "none":
            raise ConfigurationError(
                f"backbone_weights need 3 bands, got {self.bands}: set backbone_weights = 'none'"
            )

    @property
    def stride(self) -> int:
        """Height and width of what the network sees are multiples of this."""
        return find_backbone(self.backbone).stride

    def weights_source(self) -> str | None:
        """What `keras.applications` takes as `weights`."""
        return None if self.backbone_weights == "none" else self.backbone_weights
