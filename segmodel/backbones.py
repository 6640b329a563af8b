"""Backbones of `keras.applications`: their skip layers, strides and preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras

from segmodel.errors import ConfigurationError


@dataclass(frozen=True)
class Backbone:
    """What the network builder must know of a classification network.

    Args:
        build: Makes the network without its top from `input_tensor`, `weights` and options.
        skips: Name of the last layer at each stride, as (stride, layer name), fine to coarse.
        mean: What is subtracted from bands scaled to 0..255, red, green, blue.
        scale: What the difference is multiplied with.
        reverse: Whether the first convolution expects blue, green, red.
        has_width: Whether the family has a width multiplier.
    """

    build: Callable[..., keras.Model]
    skips: tuple[tuple[int, str], ...]
    mean: tuple[float, float, float]
    scale: float
    reverse: bool
    has_width: bool = False

    @property
    def stride(self) -> int:
        """Stride of the coarsest layer."""
        return self.skips[-1][0]


# Means of ImageNet as `keras.applications.imagenet_utils` subtracts them in its "caffe" mode.
_IMAGENET_MEAN = (123.68, 116.779, 103.939)

BACKBONES: dict[str, Backbone] = {
    "vgg16": Backbone(
        build=keras.applications.VGG16,
        skips=(
            (4, "block2_pool"),
            (8, "block3_pool"),
            (16, "block4_pool"),
            (32, "block5_pool"),
        ),
        mean=_IMAGENET_MEAN,
        scale=1.0,
        reverse=True,
    ),
    "resnet50": Backbone(
        build=keras.applications.ResNet50,
        skips=(
            (4, "conv2_block3_out"),
            (8, "conv3_block4_out"),
            (16, "conv4_block6_out"),
            (32, "conv5_block3_out"),
        ),
        mean=_IMAGENET_MEAN,
        scale=1.0,
        reverse=True,
    ),
    "mobilenet_v2": Backbone(
        build=keras.applications.MobileNetV2,
        skips=(
            (4, "block_3_expand_relu"),
            (8, "block_6_expand_relu"),
            (16, "block_13_expand_relu"),
            (32, "out_relu"),
        ),
        mean=(127.5, 127.5, 127.5),
        scale=1 / 127.5,
        reverse=False,
        has_width=True,
    ),
}


def find_backbone(name: str) -> Backbone:
    """The backbone of this name.

    Raises:
        ConfigurationError: If there is none.
    """
    if name not in BACKBONES:
        known = ", ".join(sorted(BACKBONES))
        raise ConfigurationError(f"backbone must be one of {known}, got {name!r}")
    return BACKBONES[name]
