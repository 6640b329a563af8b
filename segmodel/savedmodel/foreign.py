"""A SavedModel of others as a function from raw pixels to logits, and as a model of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from segmodel.errors import ConfigurationError, ExportError
from segmodel.safety.loading import error_line
from segmodel.savedmodel.preprocessing import apply_steps
from segmodel.savedmodel.signatures import Endpoint, NamedTensor, count_true
from segmodel.savedmodel.wrap_settings import INPUT_LAYOUTS, OUTPUT_LAYOUTS, WrapConfig

# The least normal float32, in place of a probability of 0.
_MIN_PROBABILITY = float(np.finfo(np.float32).tiny)
# Logit of the class that a network gives as a label, where the others have 0: certain.
_LABEL_LOGIT = 100.0

# Function of a batch in the network's own layout and dtype: all outputs by name.
Call = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]


def check_axes(tensor: NamedTensor, layout: str, key: str, others: Sequence[str]) -> None:
    """Refuse a layout that has another number of axes than the tensor.

    Args:
        tensor: Input or output.
        layout: Letters of its axes.
        key: Key of the description, for errors.
        others: Layouts that are possible, to suggest.

    Raises:
        ConfigurationError: Names the key, the tensor and the remedy.
    """
    if tensor.shape is None or len(tensor.shape) == len(layout):
        return
    fitting = [other for other in others if len(other) == len(tensor.shape)]
    remedy = f"write one of {', '.join(fitting)}" if fitting else "there is none that fits"
    raise ConfigurationError(
        f"{key}: {layout} has {len(layout)} axes, {tensor} has {len(tensor.shape)}: {remedy}"
    )


class ForeignModel(tf.Module):
    """A SavedModel of others as a function from raw pixels to logits at full resolution.

    Args:
        loaded: SavedModel as TensorFlow loaded it.
        endpoint: What of it is called.
        source: Input for the image.
        target: Output with the scores.
        config: How it is called.

    Raises:
        ConfigurationError: If the description does not fit the SavedModel; names the key.
        ExportError: If the network cannot be called.
    """

    def __init__(
        self,
        loaded: Any,
        endpoint: Endpoint,
        source: NamedTensor,
        target: NamedTensor,
        config: WrapConfig,
    ) -> None:
        super().__init__()
        self._config, self.source, self.target = config, source, target
        self._check_input()
        self._check_output()
        call = self._caller(loaded, endpoint)
        # Behind a lambda, as TensorFlow would save what it holds as an attribute.
        self._call: Call = lambda batch: call(batch)
        self._keep_resources(loaded, call)

    @property
    def fixed_size(self) -> int | None:
        """Side of the only window that the network takes, by its signature; None for any.

        Raises:
            ConfigurationError: If it takes only images that are not square.
        """
        if self.source.shape is None:
            return None
        layout = self._config.input.layout
        height, width = (self.source.shape[layout.index(axis)] for axis in "HW")
        if height is None and width is None:
            return None
        if None not in (height, width) and height != width:
            raise ConfigurationError(
                f"input.name: {self.source} takes images of {height}x{width} pixels only, and "
                f"windows are square: export it with another size, or with an open one"
            )
        return (height or width or 0) - 2 * self._config.output.margin

    @tf.autograph.experimental.do_not_convert
    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Float32 raw values `(batch, height, width, bands)` to `(batch, height, width, classes)`.

        Height and width are multiples of the stride.
        """
        batch = self._prepared(values)
        outputs = self._in_batches(batch)
        scores = tf.cast(_to_nhwc(outputs, self._config.output.layout), tf.float32)
        if self._config.output.channels:
            scores = tf.gather(scores, self._config.output.channels, axis=-1)
        return self._to_logits(self._resized(scores, tf.shape(values)[1:3]))

    def raw_output(self, values: np.ndarray) -> np.ndarray:
        """The output for a batch of raw values `(batch, height, width, channels)`, not resized."""
        outputs = self._in_batches(self._prepared(tf.constant(values, tf.float32)))
        found: np.ndarray = _to_nhwc(outputs, self._config.output.layout).numpy()
        return found

    def _check_input(self) -> None:
        source, layout = self.source, self._config.input.layout
        dtype = tf.as_dtype(source.dtype)
        if not (dtype.is_floating or dtype.is_integer):
            raise ConfigurationError(
                f"input.name: {source} takes {source.dtype}, and only numbers are fed: choose a "
                f"signature that takes decoded images"
            )
        check_axes(source, layout, "input.layout", INPUT_LAYOUTS)
        channels = source.shape[layout.index("C")] if source.shape else None
        count = len(self._config.input_bands)
        sides = [source.shape[layout.index(axis)] for axis in "HW"] if source.shape else []
        if channels is None and count in sides and None in sides:
            raise ConfigurationError(
                f"input.layout: by {layout}, {source} has a side of {count} pixels, the number of "
                f"bands: write the layout whose C has {count}"
            )
        if channels not in (None, count):
            key = "input.bands" if self._config.input.bands else "model.bands"
            hint = ""
            if source.shape is not None and count in source.shape:
                hint = f"; or input.layout is not {layout}"
            raise ConfigurationError(
                f"{key}: {count} bands are named ({', '.join(self._config.input_bands)}), and "
                f"{source} takes {channels} by input.layout {layout}: name {channels}{hint}"
            )

    def _check_output(self) -> None:
        target, output, classes = self.target, self._config.output, self._config.classes
        check_axes(target, output.layout, "output.layout", OUTPUT_LAYOUTS)
        if output.kind == "labels":
            return
        if tf.as_dtype(target.dtype).is_integer:
            raise ConfigurationError(
                f"output.kind: {target} gives whole numbers, which are no {output.kind}: write "
                f'"labels" if they are class ids, or choose another output'
            )
        found = 1 if "C" not in output.layout else None
        if target.shape is not None and "C" in output.layout:
            found = target.shape[output.layout.index("C")]
        if output.channels and found is not None and max(output.channels) >= found:
            raise ConfigurationError(
                f"output.channels: {target} has {found} channels, and {max(output.channels)} is "
                f"named: they count from 0"
            )
        found = len(output.channels) or found
        needed = len(classes.ids)
        if found is not None and found != needed and (found, needed) != (1, 2):
            hint = "" if output.channels else ", or name those that are scores in output.channels"
            raise ConfigurationError(
                f"classes: {needed} are named, and {target} gives {found} scores: name {found}"
                f"{hint}"
            )

    def _prepared(self, values: tf.Tensor) -> tf.Tensor:
        """Raw values as the network takes them, `NHWC`, of its dtype."""
        config = self._config
        fill = tf.constant(config.model.fill, tf.float32)
        if config.input.bands:
            order = [config.model.bands.index(band) for band in config.input.bands]
            values, fill = tf.gather(values, order, axis=-1), tf.gather(fill, order)
        if margin := config.output.margin:
            pads = [[0, 0], [margin, margin], [margin, margin], [0, 0]]
            inside = tf.pad(tf.ones_like(values[..., :1], tf.bool), pads)
            values = tf.where(inside, tf.pad(values, pads), fill)
        steps, dtype = config.input.preprocessing, tf.as_dtype(self.source.dtype)
        prepared = apply_steps(steps, values)
        if config.model.dtype == "float32" and steps:
            # Integers have limits, which were tried; a float may be what the steps have no
            # value of, and it would spread through convolutions.
            prepared = tf.where(tf.math.is_finite(prepared), prepared, apply_steps(steps, fill))
        if dtype.is_integer:
            return tf.saturate_cast(tf.round(prepared), dtype)
        return tf.cast(prepared, dtype)

    def _in_batches(self, images: tf.Tensor) -> tf.Tensor:
        """The output for images `NHWC` of the network's dtype, in calls of as many as it takes."""
        layout = self._config.input.layout
        size = 1 if "N" not in layout else self._config.savedmodel.batch
        if size is None and self.source.shape is not None:
            size = self.source.shape[layout.index("N")]
        if size is None:
            return self._call_one(images)
        count = tf.shape(images)[0]
        groups = (count + size - 1) // size
        images = tf.pad(images, [[0, groups * size - count], [0, 0], [0, 0], [0, 0]])
        shape = tf.concat([[groups, size], tf.shape(images)[1:]], 0)
        images = tf.reshape(images, shape)
        # One call after the other, as memory holds one.
        dtype = tf.as_dtype(self.target.dtype)
        given = tf.map_fn(self._call_one, images, fn_output_signature=dtype, parallel_iterations=1)
        given = tf.reshape(given, tf.concat([[groups * size], tf.shape(given)[2:]], 0))
        return given[:count]

    def _call_one(self, images: tf.Tensor) -> tf.Tensor:
        """The output of one call for images `NHWC`, in its own layout but with a batch."""
        layout, output = self._config.input.layout, self._config.output.layout
        bands = len(self._config.input_bands)
        images = tf.reshape(images, tf.concat([tf.shape(images)[:3], [bands]], 0))
        if "N" not in layout:
            images = images[0]
        order = [("NHWC" if "N" in layout else "HWC").index(axis) for axis in layout]
        images = tf.transpose(images, order) if order != sorted(order) else images
        if self.source.shape is not None:
            images = tf.ensure_shape(images, self.source.shape)
        given = self._call(images)[self.target.name]
        return given if "N" in output else given[None]

    def _resized(self, scores: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Scores at the resolution of the input."""
        output = self._config.output
        if output.resolution == 1:
            return scores
        method = "nearest" if output.kind == "labels" else output.resize
        return tf.image.resize(scores, size, method, antialias=output.resolution > 1)

    def _to_logits(self, scores: tf.Tensor) -> tf.Tensor:
        """Logits of all classes, of what the network gives at full resolution."""
        kind, classes = self._config.output.kind, self._config.classes
        count = len(classes.ids)
        if kind == "labels":
            ids = tf.constant(classes.ids, tf.float32)
            return tf.cast(tf.equal(tf.round(scores[..., :1]), ids), tf.float32) * _LABEL_LOGIT
        if scores.shape[-1] == 1 and count == 2:
            if kind == "logits":
                return tf.concat([tf.zeros_like(scores), scores], -1)
            scores = tf.concat([1 - scores, scores], -1)
        scores = tf.ensure_shape(scores, (None, None, None, count))
        if kind == "probabilities":
            return tf.math.log(tf.maximum(scores, _MIN_PROBABILITY))
        return scores

    def _caller(self, loaded: Any, endpoint: Endpoint) -> Call:
        """The call of the signature or function with constants in place."""
        if endpoint.is_function:
            return self._function_caller(getattr(loaded, endpoint.name), endpoint.outputs)
        signature = loaded.signatures[endpoint.name]
        others = [tensor for tensor in endpoint.inputs if tensor.name != self.source.name]
        given = {tensor.name: self._constant(tensor) for tensor in others}

        def call(batch: tf.Tensor) -> Mapping[str, tf.Tensor]:
            outputs: Mapping[str, tf.Tensor] = signature(**given | {self.source.name: batch})
            return outputs

        return call

    def _function_caller(self, function: Any, outputs: Sequence[NamedTensor]) -> Call:
        variants = [one.structured_input_signature for one in function.concrete_functions]
        chosen = min(variants, key=lambda variant: count_true(tf.nest.flatten(variant)))

        def argument(value: Any, batch: tf.Tensor) -> Any:
            if not isinstance(value, tf.TensorSpec):
                return value
            if value.name == self.source.name:
                return batch
            shape = None if value.shape.rank is None else tuple(value.shape.as_list())
            return self._constant(NamedTensor(value.name, value.dtype.name, shape))

        def call(batch: tf.Tensor) -> Mapping[str, tf.Tensor]:
            values, named = tf.nest.map_structure(lambda one: argument(one, batch), chosen)
            given = tf.nest.flatten(function(*values, **named))
            return {one.name: tensor for one, tensor in zip(outputs, given, strict=True)}

        return call

    def _constant(self, tensor: NamedTensor) -> tf.Tensor:
        """The value of a further input, of its type and shape."""
        value = self._config.savedmodel.constants[tensor.name]
        shape = [size or 1 for size in tensor.shape or ()]
        try:
            return tf.constant(value, tensor.dtype, shape)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"savedmodel.constants: {value!r} does not fit the input {tensor}"
            ) from error

    def _keep_resources(self, loaded: Any, call: Call) -> None:
        """Hold what the network's graph refers to, so that it is saved with this object."""
        spec = tf.TensorSpec(self.source.shape, self.source.dtype)
        concrete = tf.function(call, input_signature=[spec], autograph=False)
        try:
            graph = concrete.get_concrete_function()
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise ExportError(f"the network cannot be called: {error_line(error)}") from error
        self.model_variables = list(graph.variables)
        handles = [t for t in graph.captured_inputs if t.dtype == tf.resource]
        # Of what is no variable, such as a table, only the whole object is an owner.
        if len(handles) > len(self.model_variables):
            self.owner = loaded


def _to_nhwc(tensor: tf.Tensor, layout: str) -> tf.Tensor:
    """A tensor with a batch, in the order batch, height, width, channels."""
    axes = layout if "N" in layout else f"N{layout}"
    if "C" not in axes:
        return tensor[..., None]
    order = [axes.index(axis) for axis in "NHWC"]
    return tensor if order == sorted(order) else tf.transpose(tensor, order)
