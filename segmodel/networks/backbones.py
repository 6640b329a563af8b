"""Backbones of `keras.applications`: their skip layers, strides, preprocessing and weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras

from segmodel.errors import ConfigurationError
from segmodel.networks.imagenet_bands import band_filters
from segmodel.networks.variants import check_word

STRIDES = (4, 8, 16, 32)
# Most characters of an error of Keras, which lists all that it tried.
MAX_CHARACTERS = 250


@dataclass(frozen=True)
class Backbone:
    """What the network builder must know of a classification network.

    Args:
        build: Function of `keras.applications` that makes the network.
        skips: Stride and name of the last layer at each stride, fine to coarse.
        mean: Mean of red, green and blue in 0..255, which is subtracted.
        scale: Factor of the difference.
        reverse: Whether the first convolution expects blue, green, red.
        publishes_widths: Whether there are ImageNet weights of other widths than 1; `build` then
            takes `alpha`.
    """

    build: Callable[..., keras.Model]
    skips: tuple[tuple[int, str], ...]
    mean: tuple[float, float, float]
    scale: float
    reverse: bool
    publishes_widths: bool = False

    @property
    def stride(self) -> int:
        """Stride of the coarsest layer."""
        return self.skips[-1][0]


def _skips(*layers: str) -> tuple[tuple[int, str], ...]:
    return tuple(zip(STRIDES, layers, strict=True))


def _caffe(build: Callable[..., keras.Model], *layers: str) -> Backbone:
    """Trained on blue, green, red minus the means of ImageNet, as VGG and the first ResNets."""
    mean = (123.68, 116.779, 103.939)
    return Backbone(build, _skips(*layers), mean, scale=1.0, reverse=True)


def _plus_minus_1(
    build: Callable[..., keras.Model], *layers: str, middle: float = 127.5, widths: bool = False
) -> Backbone:
    """Trained on the distance from the middle of 0..255, in -1..1."""
    mean = (middle, middle, middle)
    return Backbone(build, _skips(*layers), mean, 1 / middle, False, publishes_widths=widths)


def _vgg(build: Callable[..., keras.Model]) -> Backbone:
    return _caffe(build, "block2_pool", "block3_pool", "block4_pool", "block5_pool")


def _resnet(build: Callable[..., keras.Model], conv3: int, conv4: int) -> Backbone:
    """By the number of blocks in the third and fourth stage."""
    names = (2, 3), (3, conv3), (4, conv4), (5, 3)
    return _caffe(build, *(f"conv{stage}_block{block}_out" for stage, block in names))


def _resnet_v2(build: Callable[..., keras.Model], conv3: int, conv4: int) -> Backbone:
    """As `_resnet`; the last block of a stage halves, so what it takes is the last at its stride.

    Sums of a stage are normalized only where the next block begins, hence the preactivations.
    """
    names = (2, 3), (3, conv3), (4, conv4)
    layers = (f"conv{stage}_block{block}_preact_relu" for stage, block in names)
    return _plus_minus_1(build, *layers, "post_relu")


_models = keras.applications

BACKBONES: dict[str, Backbone] = {
    "vgg16": _vgg(_models.VGG16),
    "vgg19": _vgg(_models.VGG19),
    "resnet50": _resnet(_models.ResNet50, 4, 6),
    "resnet101": _resnet(_models.ResNet101, 4, 23),
    "resnet152": _resnet(_models.ResNet152, 8, 36),
    "resnet50_v2": _resnet_v2(_models.ResNet50V2, 4, 6),
    "resnet101_v2": _resnet_v2(_models.ResNet101V2, 4, 23),
    "resnet152_v2": _resnet_v2(_models.ResNet152V2, 8, 36),
    "mobilenet_v2": _plus_minus_1(
        _models.MobileNetV2,
        "block_3_expand_relu",
        "block_6_expand_relu",
        "block_13_expand_relu",
        "out_relu",
        widths=True,
    ),
    "efficientnet_v2_s": _plus_minus_1(
        partial(_models.EfficientNetV2S, include_preprocessing=False),
        "block2d_add",
        "block3d_add",
        "block5i_add",
        "top_activation",
        middle=128.0,
    ),
}


def find_backbone(name: str) -> Backbone:
    """The backbone of a name.

    Args:
        name: One of `BACKBONES`.

    Raises:
        ConfigurationError: If there is none.
    """
    check_word("backbone", name, BACKBONES)
    return BACKBONES[name]


def build_backbone(name: str, width: float, prepared: keras.KerasTensor) -> keras.Model:
    """A backbone without its top and with random weights.

    Args:
        name: One of `BACKBONES`.
        width: Factor of its channels.
        prepared: Tensor that it starts from: bands after preprocessing.

    Returns:
        Model from the inputs of `prepared` to the coarsest features.
    """
    backbone = find_backbone(name)
    if backbone.publishes_widths:
        return backbone.build(input_tensor=prepared, include_top=False, weights=None, alpha=width)
    model = backbone.build(input_tensor=prepared, include_top=False, weights=None)
    return model if width == 1 else scale_width(model, width)


def load_imagenet(
    model: keras.Model, name: str, width: float, weights: str, bands: Sequence[str]
) -> None:
    """Give a backbone weights of `keras.applications`, its first convolution by `band_filters`.

    Args:
        model: Model from `build_backbone` with the same name and width.
        name: Name of the backbone.
        width: Factor of its channels.
        weights: `imagenet` (downloaded by Keras) or the path of a file without top.
        bands: Names of the bands that the model takes.

    Raises:
        ConfigurationError: If there are no such weights, or they belong to another network.
    """
    backbone = find_backbone(name)
    trained = _trained(backbone, name, width, weights)
    convolution = next(n for n in trained.layers if type(n) is keras.layers.Conv2D)
    for layer in trained.layers:
        values = layer.get_weights()
        if not values:
            continue
        if layer is convolution:
            order = slice(None, None, -1 if backbone.reverse else 1)
            values[0] = band_filters(bands, values[0][:, :, order])[:, :, order]
        model.get_layer(layer.name).set_weights(values)


def _trained(backbone: Backbone, name: str, width: float, weights: str) -> keras.Model:
    """The network for red, green and blue with these weights."""
    options = {"alpha": width} if backbone.publishes_widths else {}
    # The side only decides the warnings of Keras; weights are those of any side.
    build = partial(backbone.build, include_top=False, input_shape=(224, 224, 3), **options)
    if weights != "imagenet" and not Path(weights).is_file():
        raise ConfigurationError(f"backbone_weights {weights}: no such file")
    try:
        with warnings.catch_warnings():
            # Keras warns of every layer before it raises.
            warnings.simplefilter("ignore")
            return build(weights=weights)
    # What Keras raises for a failed download is an Exception, for a file one of many kinds.
    except Exception as error:
        remedy = (
            "give the path of a file of keras.applications instead"
            if weights == "imagenet"
            else "it must hold the weights of this network of keras.applications, as .weights.h5 "
            "or .h5"
        )
        reason = " ".join(str(error).split())[:MAX_CHARACTERS]
        raise ConfigurationError(
            f"backbone_weights {weights} cannot be loaded into {name} with width {width:g}; "
            f"{remedy}, without top (include_top=False). Keras says: {reason}"
        ) from error


def scaled_channels(channels: int, width: float) -> int:
    """Number of channels times width, as a multiple of 8 and at least 8.

    >>> scaled_channels(64, 0.25), scaled_channels(64, 0.3), scaled_channels(16, 0.1)
    (16, 16, 8)
    >>> scaled_channels(24, 0.5)
    16
    """
    return max(8, 8 * int(channels * width / 8 + 0.5))


def scale_width(model: keras.Model, width: float) -> keras.Model:
    """A copy of a network with other numbers of channels and random weights.

    Args:
        model: Network of `keras.applications`.
        width: Factor of its channels.

    Depthwise convolutions and normalizations follow their input. Layers that are added or
    multiplied had equal channels before and have so again, as scaling depends on channels alone.
    """

    def scaled(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if type(layer) is keras.layers.Conv2D:
            config["filters"] = scaled_channels(layer.filters, width)
        elif isinstance(layer, keras.layers.Reshape):
            # In squeeze-and-excite: (1, 1, channels).
            config["target_shape"] = (*layer.target_shape[:-1], -1)
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=scaled)
