"""Backbones with fewer or more channels in every layer."""

from __future__ import annotations

import keras


def scaled_channels(channels: int, width: float) -> int:
    """Channels times width, as a multiple of 8 and at least 8.

    >>> scaled_channels(64, 0.25), scaled_channels(64, 0.3), scaled_channels(16, 0.1)
    (16, 16, 8)
    >>> scaled_channels(24, 0.5)
    16
    """
    return max(8, 8 * int(channels * width / 8 + 0.5))


def scale_width(model: keras.Model, width: float) -> keras.Model:
    """A new network with the layers of `model`, by name, and other channels; weights are random.

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
