"""Several SavedModels, or several views of one, as one SavedModel: the mean of probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf

from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.export import export_savedmodel
from segmodel.savedmodel.folder import read_contract
from segmodel.savedmodel.merge import core_px, merge_contracts
from segmodel.savedmodel.predictor import Predictor
from segmodel.savedmodel.views import Orientation, Views, resize_taps

# Log of the least normal float32: of a class that no model thinks possible.
_LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)


class Member(Predictor):
    """A SavedModel as a part of a graph."""

    def probability_map(self, images: tf.Tensor) -> tf.Tensor:
        """Softmax of a batch of raw values of the contract's dtype."""
        return self._signatures["probabilities"](images=images)["probabilities"]

    @property
    def owner(self) -> object:
        """What was loaded, with all that the signatures need."""
        return self._owner

    @property
    def variables(self) -> list[tf.Variable]:
        """Weights, in the order of the signature."""
        return list(cast(Any, self._signatures["probabilities"]).variables)


class _Part(NamedTuple):
    """A member, and its channels in the order of the ensemble, or None if that is its own."""

    member: Member
    channels: list[int] | None


class Ensemble(tf.Module):
    """Log of the mean probability over models and views, as a function of raw pixels.

    Symmetric to the last bit: with flips or turns, an image that is flipped or turned gives the
    same probabilities, flipped or turned.

    Args:
        members: With contracts that `merge_contracts` joined.
        contract: What it gave.
        views: How each member sees an image.
    """

    def __init__(self, members: Sequence[Member], contract: Contract, views: Views) -> None:
        super().__init__()
        self.contract, self.views = contract, views
        parts = [_Part(m, _channels(m.contract.classes, contract.classes)) for m in members]
        looks = [self._look(part, scale) for scale in views.scales for part in parts]
        # Behind a lambda, as TensorFlow would save each as a function of its own.
        self._looks, self._members = (lambda: looks), len(parts)
        # Saved and counted by these names; the owners hold what is no variable, such as tables.
        self.member_variables = [member.variables for member in members]
        self.member_owners = [member.owner for member in members]

    @tf.autograph.experimental.do_not_convert
    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Float32 raw values, sides multiples of the stride, to logits at full resolution."""
        total: list[tf.Tensor] = []
        for look in self._looks():
            seen = _sum_of_views(look, values, self.views.orientations, total)
            total = [tf.add_n([*total, seen])]
        mean = total[0] / (self.views.count * self._members)
        return tf.math.log(tf.maximum(mean, _LEAST_PROBABILITY))

    def _look(self, part: _Part, scale: Fraction) -> Callable[[tf.Tensor], tf.Tensor]:
        """Probabilities by one member at one scale, on the grid of the image."""
        dtype = tf.as_dtype(self.contract.dtype)

        def look(values: tf.Tensor) -> tf.Tensor:
            seen = resize(values, scale)
            seen = tf.cast(tf.round(seen), dtype) if dtype.is_integer else seen
            probabilities = part.member.probability_map(seen)
            if part.channels is not None:
                probabilities = tf.gather(probabilities, part.channels, axis=-1)
            return resize(probabilities, 1 / scale)

        # Once in the graph, whatever the number of orientations: 48 copies of a network of three
        # layers took TensorFlow 20 seconds to make ready.
        spec = tf.TensorSpec((None, None, None, len(self.contract.bands)))
        return tf.function(
            look,
            input_signature=[spec],
            autograph=False,
            experimental_attributes={"_noinline": True},
        )


def _sum_of_views(
    look: Callable[[tf.Tensor], tf.Tensor],
    values: tf.Tensor,
    orientations: Sequence[Orientation],
    after: list[tf.Tensor],
) -> tf.Tensor:
    """Sum of probabilities over orientations, half by half: see `Views.orientations`."""
    if len(orientations) > 1:
        middle = len(orientations) // 2
        one = _sum_of_views(look, values, orientations[:middle], after)
        return one + _sum_of_views(look, values, orientations[middle:], [one])
    # One view after the other, or all of them would be in memory at a time.
    with tf.control_dependencies(after):
        seen = tf.identity(values)
    # Turned first and scaled then, as a resize gives other last bits for a mirrored image.
    return orient_back(look(orient(seen, orientations[0])), orientations[0])


def orient(images: tf.Tensor, orientation: Orientation) -> tf.Tensor:
    """A batch of images, turned and mirrored."""
    turned = _turn(images, orientation.quarters)
    return tf.reverse(turned, [2]) if orientation.mirrored else turned


def orient_back(images: tf.Tensor, orientation: Orientation) -> tf.Tensor:
    """The inverse of `orient`."""
    turned = tf.reverse(images, [2]) if orientation.mirrored else images
    return _turn(turned, -orientation.quarters % 4)


def _turn(images: tf.Tensor, quarters: int) -> tf.Tensor:
    """Turned against the clock; `tf.image.rot90` puts all four cases in the graph."""
    if quarters == 0:
        return images
    if quarters == 2:
        return tf.reverse(images, [1, 2])
    # Transposed, columns become rows; then what was on the right stands on top.
    return tf.reverse(tf.transpose(images, [0, 2, 1, 3]), [1 if quarters == 1 else 2])


def resize(images: tf.Tensor, scale: Fraction) -> tf.Tensor:
    """A batch of float32 images whose sides give integers when scaled; see `resize_taps`.

    Beyond the border stands the nearest pixel. Each value is the same whatever else is in the
    image, to the last bit, so that windows see what the whole image sees.
    """
    if scale == 1:
        return images
    first, weights = resize_taps(scale)
    for axis in (1, 2):
        size = tf.shape(images)[axis]
        place = tf.range(size * scale.numerator // scale.denominator)
        phase = place % scale.numerator
        begin = place // scale.numerator * scale.denominator + tf.gather(first, phase)
        shape = [-1 if n == axis else 1 for n in range(4)]
        taps = [
            tf.gather(images, tf.clip_by_value(begin + t, 0, size - 1), axis=axis)
            * tf.reshape(tf.gather(weights[:, t], phase), shape)
            for t in range(weights.shape[1])
        ]
        images = tf.add_n(taps)
    return images


def load_ensemble(
    models: Sequence[str], views: Views, name: str | None = None, trust: bool = False
) -> Ensemble:
    """Load models, and make one function with one contract of them.

    Args:
        models: SavedModel folders with contracts.
        views: How each sees an image.
        name: Of the ensemble; made of those of the models if None.
        trust: Whether to load models whose operations touch files.

    Raises:
        ConfigurationError: If there is nothing to average, a model is given twice, or a scale does
            not fit the models' strides.
        ContractError: If the models differ in what they take or give; names field and models.
        ExportError: If a model's operations touch files and it is not trusted.
    """
    if len(models) * views.count < 2:
        raise ConfigurationError(
            "an ensemble needs two models, or one with flips, turns or several scales"
        )
    contract = merge_contracts({model: read_contract(model) for model in models}, views)
    members = [Member.load(model, trust) for model in models]
    prints = [member.fingerprint for member in members]
    for number, model in enumerate(models):
        if prints[number] in prints[:number]:
            same = models[prints.index(prints[number])]
            raise ConfigurationError(f"{model} is the same model as {same}: give it once")
    data = [
        {
            "name": member.contract.name,
            "architecture": member.contract.architecture,
            "fingerprint": member.fingerprint,
        }
        for member in members
    ]
    contract = dataclasses.replace(
        contract, name=name or contract.name, training_data={"members": data}
    )
    return Ensemble(members, contract, views)


def export_ensemble(
    ensemble: Ensemble,
    path: str | Path,
    samples: Sequence[np.ndarray] = (),
    measure_memory: bool = True,
) -> Contract:
    """Write an ensemble as a SavedModel; returns its contract.

    Args:
        ensemble: See `load_ensemble`.
        path: As in `export_savedmodel`.
        samples: Images to measure the halo on; without any it follows from those of the models.
        measure_memory: As in `export_savedmodel`.

    Raises:
        ConfigurationError: If no sample is large enough to be cut, or the folder holds other files.
        ExportError: If the SavedModel gives other labels than the ensemble in memory.
    """
    core = core_px(ensemble.contract.stride)
    if samples and not any(max(sample.shape[:2]) > core for sample in samples):
        raise ConfigurationError(
            f"samples: none is larger than {core} pixels, so there is no seam to measure the halo "
            f"at: give larger images, or none"
        )
    return export_savedmodel(ensemble, ensemble.contract, path, samples, measure_memory)


def _channels(own: ClassTable, common: ClassTable) -> list[int] | None:
    """Score channels of a model in the order of the ensemble; None if that is their own."""
    channels = [own.ids.index(number) for number in common.ids]
    return None if channels == sorted(channels) else channels
