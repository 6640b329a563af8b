"""Backbones of `keras.applications`: their skip layers, strides, preprocessing and weights.

They were trained on red, green and blue and take any bands. The rule: a band called red, green or
blue takes its own filters; every other band takes the mean of the three. Three bands without one
of these names are read as red, green, blue in order. All filters are multiplied by 3 / bands, so
that activations keep their magnitude. What is subtracted from a band before follows the same rule.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np

from segmodel.errors import ConfigurationError
from segmodel.networks.variants import check_word

STRIDES = (4, 8, 16, 32)
# Most characters of an error of Keras, which lists all that it tried.
MAX_CHARACTERS = 250


IMAGENET_BANDS = ("red", "green", "blue")


def imagenet_sources(bands: Sequence[str]) -> tuple[int | None, ...]:
    """For each band its position in `IMAGENET_BANDS`, or None for the mean of the three.

    Args:
        bands: Names of the bands, in order.

    >>> imagenet_sources(["blue", "green", "red", "nir"])
    (2, 1, 0, None)
    >>> imagenet_sources(["a", "b", "c"])
    (0, 1, 2)
    """
    names = [band.lower() for band in bands]
    known = [IMAGENET_BANDS.index(n) if n in IMAGENET_BANDS else None for n in names]
    if len(known) == 3 and known == [None] * 3:
        return 0, 1, 2
    return tuple(known)


def band_means(bands: Sequence[str], means: Sequence[float]) -> tuple[float, ...]:
    """Mean that is subtracted from each band.

    Args:
        bands: Names of the bands, in order.
        means: Means of red, green and blue.

    >>> band_means(["blue", "nir"], [1.0, 2.0, 6.0])
    (6.0, 3.0)
    """
    middle = sum(means) / 3
    return tuple(middle if s is None else means[s] for s in imagenet_sources(bands))


def band_filters(bands: Sequence[str], kernel: np.ndarray) -> np.ndarray:
    """Filters of the first convolution for these bands.

    Args:
        bands: Names of the bands, in order.
        kernel: `(height, width, 3, filters)` filters of red, green and blue.

    Returns:
        `(height, width, bands, filters)` of the same dtype.

    >>> band_filters(["nir", "red"], np.float32([[[[2], [4], [6]]]]))[0, 0, :, 0].tolist()
    [6.0, 3.0]
    """
    mean = kernel.mean(axis=2)
    filters = [mean if s is None else kernel[:, :, s] for s in imagenet_sources(bands)]
    return (np.stack(filters, axis=2) * (3 / len(bands))).astype(kernel.dtype)


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
    check_word("model.backbone", name, BACKBONES)
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
    options = {"alpha": width} if backbone.publishes_widths else {}
    model = backbone.build(input_tensor=prepared, include_top=False, weights=None, **options)
    return model if options or width == 1 else scale_width(model, width)


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
