"""Several SavedModels, or several views of one, as one SavedModel: the mean of probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import tensorflow as tf

from segmodel.errors import ConfigurationError, ContractError
from segmodel.labels.classes import ClassTable
from segmodel.savedmodel.contract import Contract, MeasuredHalo
from segmodel.savedmodel.export import export_savedmodel
from segmodel.savedmodel.folder import read_contract
from segmodel.savedmodel.halo import Measuring, usual_core_px
from segmodel.savedmodel.predictor import Predictor
from segmodel.savedmodel.views import Orientation, Views, resize_taps

# Fields of contracts that all models of an ensemble share.
_EQUAL = ("bands", "dtype", "value_range", "nodata_fill", "fixed_window")
# The least normal float32, for a class that no model thinks possible.
_MIN_PROBABILITY = float(np.finfo(np.float32).tiny)

# Function of a batch of raw values.
Probabilities = Callable[[tf.Tensor], tf.Tensor]


class Ensemble(tf.Module):
    """Log of the mean probability over models and views, as a function of raw pixels.

    Symmetric to the last bit: with flips or turns, an image that is flipped or turned gives the
    same probabilities, flipped or turned.

    Args:
        members: Models, whose contracts fit together.
        contract: Contract of the ensemble, from `merge_contracts`.
        views: Views of an image that each model labels.
    """

    def __init__(self, members: Sequence[Predictor], contract: Contract, views: Views) -> None:
        super().__init__()
        self.contract, self.views = contract, views
        parts = [(m, _channels(m.contract.classes, contract.classes)) for m in members]
        functions = [self._on_scale(*part, scale) for scale in views.scales for part in parts]
        # Behind a lambda, as TensorFlow would save each as a function of its own.
        self._functions: Callable[[], list[Probabilities]] = lambda: functions
        self._members = len(parts)
        # Saved and counted by these names; the owners hold what is no variable, such as tables.
        self.member_variables = [list(m.signatures["probabilities"].variables) for m in members]
        self.member_owners = [member.owner for member in members]

    @tf.autograph.experimental.do_not_convert
    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Float32 raw values, sides multiples of the stride, to logits at full resolution."""
        total: list[tf.Tensor] = []
        for function in self._functions():
            part = _sum_of_views(function, values, self.views.orientations, total)
            total = [tf.add_n([*total, part])]
        mean = total[0] / (self.views.count * self._members)
        return tf.math.log(tf.maximum(mean, _MIN_PROBABILITY))

    def _on_scale(
        self, member: Predictor, channels: list[int] | None, scale: Fraction
    ) -> Probabilities:
        """Function of raw values: probabilities by one member at one scale, on the image's grid."""
        dtype = tf.as_dtype(self.contract.dtype)

        # Exported models hold this function under its name.
        def look(values: tf.Tensor) -> tf.Tensor:
            scaled = resize(values, scale)
            scaled = tf.cast(tf.round(scaled), dtype) if dtype.is_integer else scaled
            probabilities = member.signatures["probabilities"](images=scaled)["probabilities"]
            if channels is not None:
                probabilities = tf.gather(probabilities, channels, axis=-1)
            return resize(probabilities, 1 / scale)

        # Once in the graph, whatever the number of orientations: 48 copies of a network of three
        # layers took TensorFlow 20 seconds to make ready.
        spec = tf.TensorSpec((None, None, None, len(self.contract.bands)))
        function: Probabilities = tf.function(
            look,
            input_signature=[spec],
            autograph=False,
            experimental_attributes={"_noinline": True},
        )
        return function


def _sum_of_views(
    function: Probabilities,
    values: tf.Tensor,
    orientations: Sequence[Orientation],
    after: list[tf.Tensor],
) -> tf.Tensor:
    """Sum of probabilities over orientations, half by half: see `Views.orientations`."""
    if len(orientations) > 1:
        middle = len(orientations) // 2
        one = _sum_of_views(function, values, orientations[:middle], after)
        return one + _sum_of_views(function, values, orientations[middle:], [one])
    # One view after the other, or all of them would be in memory at a time.
    with tf.control_dependencies(after):
        image = tf.identity(values)
    # Turned first and scaled then, as a resize gives other last bits for a mirrored image.
    return orient_back(function(orient(image, orientations[0])), orientations[0])


def orient(images: tf.Tensor, orientation: Orientation) -> tf.Tensor:
    """A batch `(batch, height, width, channels)` of images, turned and mirrored."""
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
    # Transposed, columns become rows; then the right side is the top.
    return tf.reverse(tf.transpose(images, [0, 2, 1, 3]), [1 if quarters == 1 else 2])


def resize(images: tf.Tensor, scale: Fraction) -> tf.Tensor:
    """A batch of images, resized by `resize_taps`; pixels beyond the border are the nearest inside.

    Each value is the same whatever else is in the image, to the last bit, so that windows get the
    labels of the whole image.

    Args:
        images: `(batch, height, width, channels)` float32 whose sides give integers when scaled.
        scale: Factor of height and width.
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


def merge_contracts(contracts: Mapping[str, Contract], views: Views) -> Contract:
    """The contract of an ensemble.

    Args:
        contracts: Contracts of the models, by names for errors.
        views: Views of an image that each model labels.

    Raises:
        ConfigurationError: If a scale does not fit the models.
        ContractError: If the models differ in what they take or give; names field and models.
    """
    members = list(contracts.values())
    first = members[0]
    for field in _EQUAL:
        _check_equal(field, {name: getattr(member, field) for name, member in contracts.items()})
    _check_classes({name: member.classes for name, member in contracts.items()})
    stride = views.stride(member.stride for member in members)
    if first.fixed_window is not None:
        _check_fixed(first.fixed_window, stride, views)
    fields = [member.receptive_field for member in members]
    sides = [field // 2 for field in fields if field is not None]
    halo = views.context_px(max(member.halo.pixels for member in members))
    if first.fixed_window is None:
        halo = -(-halo // stride) * stride
    name = "ensemble of " + ", ".join(member.name for member in members)
    count = f"{len(members)} model{'s' if len(members) > 1 else ''}"
    return dataclasses.replace(
        first,
        name=name if len(members) > 1 else f"{first.name}, {views.count} views",
        architecture=f"mean of {count}, {views}",
        stride=stride,
        receptive_field=2 * views.context_px(max(sides)) + 1 if None not in fields else None,
        halo=MeasuredHalo(halo, usual_core_px(stride), None),
        gsd_range_m=_shared_gsd_range(contracts),
        bytes_per_pixel=None,
        parameters=None,
        calibration=None,
        training_data={},
        # Scores of the models are not those of their mean.
        metrics={},
        versions={},
        sizes=None,
    )


def _check_equal(field: str, values: Mapping[str, object]) -> None:
    (name, expected), *others = values.items()
    for other, value in others:
        if value != expected:
            raise ContractError(
                f"{field}: must be the same in all models of an ensemble: {name} has {expected}, "
                f"{other} has {value}; leave one of them out"
            )


def _check_classes(tables: Mapping[str, ClassTable]) -> None:
    (name, table), *others = tables.items()
    expected = set(zip(table.ids, table.names, strict=True))
    for other, found in others:
        entries = set(zip(found.ids, found.names, strict=True))
        for there, missing, only in ((name, other, expected - entries),
                                     (other, name, entries - expected)):  # fmt: skip
            if only:
                named = ", ".join(f"{number} {text!r}" for number, text in sorted(only)[:5])
                raise ContractError(
                    f"classes: must be the same in all models of an ensemble: {named} of {there} "
                    f"is not in {missing}; train them with one class table"
                )


def _check_fixed(fixed_window: int, stride: int, views: Views) -> None:
    if views.scales != (Fraction(1),):
        raise ConfigurationError(
            f"scales: the models take windows of {fixed_window} pixels only: leave scales out"
        )
    if fixed_window % stride:
        raise ContractError(
            f"fixed_window: {fixed_window} is no multiple of {stride}, the stride that the models "
            f"have in common: leave one of them out"
        )


def _shared_gsd_range(contracts: Mapping[str, Contract]) -> tuple[float, float] | None:
    """Ground sample distances in metres that all models were made for; None for any."""
    ranges = {name: c.gsd_range_m for name, c in contracts.items() if c.gsd_range_m is not None}
    if not ranges:
        return None
    low = max(least for least, _ in ranges.values())
    high = min(most for _, most in ranges.values())
    if low > high:
        given = ", ".join(f"{name} {a:g} to {b:g} m" for name, (a, b) in ranges.items())
        raise ContractError(
            f"gsd_range_m: there is none that all models were made for: {given}; leave one out"
        )
    return low, high


def load_ensemble(
    models: Sequence[str], views: Views, name: str | None = None, trust: bool = False
) -> Ensemble:
    """Load models as one function with one contract.

    Args:
        models: SavedModel folders with contracts.
        views: Views of an image that each model labels.
        name: Name of the ensemble; made of the names of the models if None.
        trust: Whether to load models that `refuse_unsafe` refuses.

    Raises:
        ConfigurationError: If there is nothing to average, a model is given twice, or a scale does
            not fit the models' strides.
        ContractError: If the models differ in what they take or give; names field and models.
        ExportError: If a model could do more than compute, and is not trusted.
    """
    if len(models) * views.count < 2:
        raise ConfigurationError(
            "an ensemble needs two models, or one with --flips, --turns or several --scales"
        )
    contract = merge_contracts({model: read_contract(model) for model in models}, views)
    members = [Predictor.load(model, trust) for model in models]
    seen: dict[str, str] = {}
    for model, member in zip(models, members, strict=True):
        if (same := seen.get(member.fingerprint)) is not None:
            raise ConfigurationError(f"{model} is the same model as {same}: give it once")
        seen[member.fingerprint] = model
    data = [
        {"name": m.contract.name, "architecture": m.contract.architecture}
        | {"fingerprint": m.fingerprint}
        for m in members
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
    measuring: Measuring | None = None,
) -> Contract:
    """Write an ensemble as a SavedModel; returns its contract.

    Args:
        ensemble: Ensemble from `load_ensemble`.
        path: Folder to write, as in `export_savedmodel`.
        samples: Images to measure the halo on; without any it follows from those of the models.
        measure_memory: Whether to measure memory, as in `export_savedmodel`.
        measuring: Time limit and log of the measurement, as in `export_savedmodel`.

    Raises:
        ConfigurationError: If no sample is large enough to be cut, or the folder holds other files.
        ExportError: If the SavedModel gives other labels than the ensemble in memory.
    """
    core = usual_core_px(ensemble.contract.stride)
    if samples and not any(max(sample.shape[:2]) > core for sample in samples):
        raise ConfigurationError(
            f"samples: none is larger than {core} pixels, so there is no seam to measure the halo "
            f"at: give larger images, or none"
        )
    contract = ensemble.contract
    return export_savedmodel(ensemble, contract, path, samples, measure_memory, measuring)


def _channels(classes: ClassTable, target: ClassTable) -> list[int] | None:
    """Score channels of a model in the order of the ensemble; None if they are in that order."""
    channels = [classes.ids.index(number) for number in target.ids]
    return None if channels == sorted(channels) else channels
