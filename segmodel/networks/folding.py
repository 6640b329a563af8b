"""A Keras network as it is served: what is linear before and after a convolution is in its weights.

Weights are computed in the graph from the variables of the network, which stay what they are.
Where these are constants, so are the weights, and TensorFlow fuses bias and activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from segmodel.networks.network import Preprocessing

_KINDS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Conv2DTranspose)
# Sides of images that layers are asked for, in strides: enough for kernels without padding.
_COUNTS = 8, 9


@dataclass(frozen=True)
class FoldedLayer:
    """A convolution with its neighbours folded in.

    Args:
        layer: The convolution.
        preprocessing: What stands before it, of which it takes over factors and order of bands.
        padding: Zeros before it, which are those that it adds itself with `same`.
        normalization: What stands behind it, all of which it takes over.
    """

    layer: keras.layers.Layer
    preprocessing: Preprocessing | None
    padding: keras.layers.ZeroPadding2D | None
    normalization: keras.layers.BatchNormalization | None

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        """What all of them give of `(batch, height, width, channels)`."""
        kernel = tf.convert_to_tensor(self.layer.kernel)
        bias = tf.convert_to_tensor(self.layer.bias) if self.layer.use_bias else None
        if self.preprocessing is not None:
            kernel = kernel[:, :, ::-1] if self.preprocessing.reverse else kernel
            kernel *= tf.constant(self.preprocessing.scale, tf.float32)[:, None]
        if self.normalization is not None:
            factor, shift = _affine(self.normalization)
            kernel *= _by_filter(self.layer, factor)
            bias = shift if bias is None else bias * factor + shift
        outputs = self._convolved(inputs, kernel)
        return self.layer.activation(outputs if bias is None else tf.nn.bias_add(outputs, bias))

    def _convolved(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The linear part of the convolution with another kernel."""
        layer = self.layer
        if isinstance(layer, keras.layers.Conv2DTranspose):
            return keras.ops.conv_transpose(
                inputs,
                kernel,
                layer.strides,
                layer.padding,
                layer.output_padding,
                dilation_rate=layer.dilation_rate,
            )
        sides = layer.padding.upper() if self.padding is None else "SAME"
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            strides = (1, *layer.strides, 1)
            return tf.nn.depthwise_conv2d(
                inputs, kernel, strides, sides, dilations=layer.dilation_rate
            )
        return tf.nn.conv2d(inputs, kernel, layer.strides, sides, dilations=layer.dilation_rate)


def _affine(normalization: keras.layers.BatchNormalization) -> tuple[tf.Tensor, tf.Tensor]:
    """Factor and shift of each channel that normalization is in use, `(channels,)` float32."""
    factor = tf.math.rsqrt(normalization.moving_variance + normalization.epsilon)
    if normalization.scale:
        factor *= normalization.gamma
    shift = -normalization.moving_mean * factor
    return factor, shift + normalization.beta if normalization.center else shift


def _by_filter(layer: keras.layers.Layer, factor: tf.Tensor) -> tf.Tensor:
    """A factor of each output channel, as it multiplies the kernel."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return tf.reshape(factor, (-1, layer.depth_multiplier))
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return factor[:, None]
    return factor


def served_function(
    network: keras.Function, dtype: str, stride: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """What a network gives, with fewer operations.

    Folded into a convolution are batch normalization behind it, and before it zeros and the factors
    of preprocessing: where the layers follow each other alone, and compute in float32. All others
    are called as they are. The mean is still subtracted, as zeros that a convolution adds at the
    border stand for it.

    Args:
        network: Functional model of Keras.
        dtype: Sample type of raw values; those that it cannot exceed are not clipped to.
        stride: Height and width of what the network sees are multiples of this.

    Returns:
        Function of `(batch, height, width, bands)` float32 raw values, whose outputs are those of
        the network but for rounding.
    """
    folded = {one.layer: one for one in folded_layers(network, stride)}
    centred = {one.preprocessing for one in folded.values()}
    replaced = {part for one in folded.values() for part in (one.padding, one.normalization)}

    def operation(layer: Any) -> Any:
        if layer in folded:
            return lambda inputs, **_: folded[layer](inputs)
        if layer in centred:
            return lambda images, **_: layer.centre(images, dtype)
        if layer in replaced:
            return lambda inputs, **_: inputs
        return layer

    kind = network.inputs[0].dtype
    return lambda values: network._run_through_graph(tf.cast(values, kind), operation)


def folded_layers(network: keras.Function, stride: int) -> Iterator[FoldedLayer]:
    """Convolutions of a network that take over a neighbour, with their neighbours.

    Args:
        network: Functional model of Keras.
        stride: Height and width of what the network sees are multiples of this.
    """
    following = _following(network)
    before = {after: layer for layer, after in following.items()}
    for layer in network.operations:
        if type(layer) not in _KINDS or not _is_plain(layer):
            continue
        first, last = before.get(layer), following.get(layer)
        padding = None
        if type(first) is keras.layers.ZeroPadding2D:
            padding = first if _is_same(first, layer, _sides(network, first, stride)) else None
            first = before.get(first)
        is_scaled = isinstance(first, Preprocessing) and type(layer) is keras.layers.Conv2D
        preprocessing = first if is_scaled and layer.groups == 1 else None
        is_linear = layer.activation is keras.activations.linear
        is_normalized = type(last) is keras.layers.BatchNormalization and _is_plain(last)
        normalization = last if is_linear and is_normalized else None
        if preprocessing or padding or normalization:
            yield FoldedLayer(layer, preprocessing, padding, normalization)


def _is_same(
    padding: keras.layers.ZeroPadding2D, layer: keras.layers.Layer, sides: Iterable[int]
) -> bool:
    """Whether zeros before a convolution are those of TensorFlow's padding SAME.

    Args:
        padding: The zeros.
        layer: The convolution.
        sides: Heights and widths that the zeros are added to.
    """
    if type(layer) is keras.layers.Conv2DTranspose or layer.padding != "valid":
        return False
    if tuple(layer.dilation_rate) != (1, 1) or not _is_plain(padding):
        return False
    totals = [kernel - step for kernel, step in zip(layer.kernel_size, layer.strides, strict=True)]
    same = [(total // 2, total - total // 2) for total in totals]
    are_whole = all(side % step == 0 for side in sides for step in layer.strides)
    return are_whole and min(totals) >= 0 and [*map(tuple, padding.padding)] == same


def _sides(network: keras.Function, layer: keras.layers.Layer, stride: int) -> list[int]:
    """Heights and widths that a layer gets, for images of several sizes if the network takes them.

    Sides are linear in those of the image, so what divides those of two divides all.
    """
    taken = keras.Model(network.inputs, layer.input).compute_output_shape
    shapes = [
        [1, *(side or count * stride for side in network.inputs[0].shape[1:])] for count in _COUNTS
    ]
    return [side for shape in shapes for side in taken(shape)[1:3]]


def _following(network: keras.Function) -> dict[Any, Any]:
    """For each layer whose output only one layer takes, that layer; each of them is called once."""
    takers: dict[int, list[Any]] = {id(tensor): [None] for tensor in network.outputs}
    once = {}
    for layer in network.operations:
        for node in layer._inbound_nodes:
            for tensor in node.input_tensors:
                takers.setdefault(id(tensor), []).append(layer)
        if len(layer._inbound_nodes) == 1:
            once[layer] = takers.setdefault(id(layer._inbound_nodes[0].outputs[0]), [])
    return {
        layer: taken[0] for layer, taken in once.items() if len(taken) == 1 and taken[0] in once
    }


def _is_plain(layer: keras.layers.Layer) -> bool:
    """Whether a layer computes in float32, and channels are the last axis."""
    is_last = getattr(layer, "axis", -1) in (-1, 3)
    is_last = is_last and getattr(layer, "data_format", "channels_last") == "channels_last"
    return bool(is_last and layer.compute_dtype == "float32")
