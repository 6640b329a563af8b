"""A SavedModel of others and a description in TOML: a model folder that `segment` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from segmodel.errors import ConfigurationError, ContractError, ExportError
from segmodel.safety.loading import error_line, load_savedmodel
from segmodel.savedmodel.contract import Contract, MeasuredHalo
from segmodel.savedmodel.export import FIXED_WINDOW_PX, export_savedmodel
from segmodel.savedmodel.foreign import ForeignModel
from segmodel.savedmodel.halo import (
    CORE_PX,
    MAX_HALO_PX,
    MAX_STRIDE,
    HaloSample,
    Measuring,
    MeasuringClock,
    measure_sizes,
    usual_core_px,
)
from segmodel.savedmodel.preprocessing import check_steps
from segmodel.savedmodel.signatures import (
    Endpoint,
    NamedTensor,
    endpoints,
    meta_graph,
)
from segmodel.savedmodel.wrap_settings import SavedModelCall, WrapConfig

# Side of the window in which the output is looked at, and of what is smooth in a made image.
PROBE_PX, MADE_PX = 256, 16
# Probabilities may miss 0, 1 and a sum of 1 by so much.
ROUNDING = 0.01


def choose_endpoint(found: Sequence[Endpoint], config: WrapConfig, what: str) -> Endpoint:
    """The signature or function that a description names.

    Args:
        found: What the SavedModel offers.
        config: The description.
        what: Name of the SavedModel for errors.

    Raises:
        ConfigurationError: If there is no such signature; lists those that there are.
    """
    wanted = config.savedmodel.signature
    by_name = {endpoint.name: endpoint for endpoint in reversed(found)}
    if wanted in by_name:
        return by_name[wanted]
    is_default = wanted == SavedModelCall().signature
    # Makers of signatures often save their function too.
    only = [endpoint for endpoint in found if not endpoint.is_function] or found
    if is_default and len(only) == 1:
        return only[0]
    if not found:
        raise ConfigurationError(
            f"savedmodel.signature: {what} has nothing that can be called: export it again with "
            f"a signature"
        )
    known = "; ".join(map(str, found))
    raise ConfigurationError(
        f"savedmodel.signature: {what} has no {wanted!r}: name one of those that it has: {known}"
    )


def choose_input(endpoint: Endpoint, config: WrapConfig) -> NamedTensor:
    """The input that takes the image; all others must have constants.

    Raises:
        ConfigurationError: If there is no such input, or another one has no value; lists inputs.
    """
    known = ", ".join(map(str, endpoint.inputs)) or "none"
    constants, wanted = config.savedmodel.constants, config.input.name
    names = [tensor.name for tensor in endpoint.inputs]
    for name in constants:
        if name not in names or name == wanted:
            raise ConfigurationError(
                f"savedmodel.constants: {endpoint.name} has no further input {name!r}; "
                f"its inputs: {known}"
            )
    left = [tensor for tensor in endpoint.inputs if tensor.name not in constants]
    chosen = [tensor for tensor in left if tensor.name == wanted] if wanted else left[:1]
    if not chosen:
        raise ConfigurationError(
            f"input.name: {endpoint.name} has no input {wanted!r}; its inputs: {known}"
        )
    if len(left) > 1:
        what = "savedmodel.constants" if wanted else "input.name"
        raise ConfigurationError(
            f"{what}: {endpoint.name} takes several inputs: {known}: name the one for the image "
            f"in input.name, and give the others values in savedmodel.constants"
        )
    return chosen[0]


def choose_output(endpoint: Endpoint, config: WrapConfig) -> NamedTensor:
    """The output that holds the scores.

    Raises:
        ConfigurationError: If there is no such output, or several; lists them.
    """
    wanted, outputs = config.output.name, endpoint.outputs
    known = ", ".join(f"{n}: {tensor}" for n, tensor in enumerate(outputs)) or "none"
    if isinstance(wanted, int) and 0 <= wanted < len(outputs):
        return outputs[wanted]
    chosen = [tensor for tensor in outputs if wanted in ("", tensor.name)]
    if len(chosen) == 1:
        return chosen[0]
    if wanted == "":
        raise ConfigurationError(
            f"output.name: {endpoint.name} has {len(outputs)} outputs: name one, or give its "
            f"number: {known}"
        )
    raise ConfigurationError(
        f"output.name: {endpoint.name} has no output {wanted!r}; its outputs: {known}"
    )


class Wrapping:
    """A SavedModel of others, loaded, with the contract that its description makes.

    Args:
        model: Folder of the SavedModel.
        config: The description.
        trust: Whether to load a model that `refuse_unsafe` refuses.

    Raises:
        ConfigurationError: If the description does not fit the SavedModel; names the key.
        ContractError: If it is no SavedModel that TensorFlow can load.
        ExportError: If it cannot be called, or could do more than compute and is not trusted.
    """

    def __init__(self, model: str | Path, config: WrapConfig, trust: bool = False) -> None:
        self.config = config
        graph = meta_graph(model, config.savedmodel.tags)
        endpoint = choose_endpoint(endpoints(graph), config, Path(model).name)
        source, target = choose_input(endpoint, config), choose_output(endpoint, config)
        loaded = load_savedmodel(model, trust, graph.meta_info_def.tags)
        self.foreign = ForeignModel(loaded, endpoint, source, target, config)
        try:
            self.contract = self._draft()
        except ContractError as error:
            key, reason = str(error).split(": ", 1)
            key = "window.size" if key == "fixed_window" else f"model.{key}"
            raise ConfigurationError(f"{key}: {reason}") from error
        steps = config.input.preprocessing
        check_steps(steps, config.input_bands, _extremes(config, self.contract))

    def _draft(self) -> Contract:
        """The contract, before anything is measured."""
        model, window = self.config.model, self.config.window
        stride = window.stride or self.config.output.resolution.denominator
        fixed, by_signature = window.size, self.foreign.fixed_size
        if fixed is not None and by_signature not in (None, fixed):
            raise ConfigurationError(
                f"window.size: {self.foreign.source} takes windows of {by_signature} px"
                f"{' without output.margin' if self.config.output.margin else ''}, got {fixed}"
            )
        fixed = fixed or by_signature
        if fixed is not None and fixed % stride:
            raise ConfigurationError(
                f"window.stride: windows of {fixed} px are no multiple of {stride}: state another "
                f"window.stride{' or window.size' if by_signature is None else ''}"
            )
        low, high = model.limits
        gsd = model.gsd_range_m
        return Contract(
            name=model.name,
            architecture=model.architecture,
            bands=model.bands,
            dtype=model.dtype,
            value_range=(low, high),
            nodata_fill=model.fill,
            classes=self.config.classes,
            stride=stride,
            receptive_field=window.receptive_field,
            halo=MeasuredHalo(
                self._stated_halo(stride, fixed), fixed or usual_core_px(stride), None
            ),
            fixed_window=fixed,
            gsd_range_m=(gsd[0], gsd[1]) if gsd else None,
            training_data={"about": model.about} if model.about else {},
        )

    def _stated_halo(self, stride: int, fixed: int | None) -> int:
        """The halo that is used where none is measured."""
        window = self.config.window
        if window.halo is not None:
            return window.halo
        halo = MAX_HALO_PX if window.receptive_field is None else window.receptive_field // 2
        if fixed is not None:
            halo = min(halo, fixed // 8)
            return halo // stride * stride
        return -(-halo // stride) * stride

    def export(
        self,
        path: str | Path,
        samples: Sequence[np.ndarray] = (),
        measuring: Measuring | None = None,
    ) -> Contract:
        """Write the model; returns its contract.

        Args:
            path: Folder to write, as in `export_savedmodel`.
            samples: Images to measure halo and stride on, as in `export_savedmodel`.
            measuring: Time limit and log of measurements.

        Raises:
            ConfigurationError: If a key of the description is missing, or is not what the network
                does.
            ExportError: If the network cannot be called, or the SavedModel gives other labels.
        """
        contract, window = self.contract, self.config.window
        is_known = contract.fixed_window or window.receptive_field or window.halo is not None
        if not samples and not is_known:
            raise ConfigurationError(
                "window.halo is missing: give --samples to have it measured, or state it, or "
                "window.receptive_field, of which it is half"
            )
        measuring = measuring or Measuring()
        self._check_output(measuring)
        if window.stride is None and contract.fixed_window is None:
            contract = self._with_stride(contract, samples, measuring)
        return export_savedmodel(self.foreign, contract, path, samples, measuring=measuring)

    def _with_stride(
        self, contract: Contract, samples: Sequence[np.ndarray], measuring: Measuring
    ) -> Contract:
        """The contract with the least stride at which labels do not depend on the window's size."""
        field = self.config.window.receptive_field
        margin = None if field is None else field // 2
        spec = tf.TensorSpec((None, None, None, len(contract.bands)), tf.float32)
        best = tf.function(lambda raw: tf.argmax(self.foreign(raw), -1), input_signature=[spec])

        def labels(images: np.ndarray) -> np.ndarray:
            found: np.ndarray = best(tf.constant(images, tf.float32)).numpy()
            return found

        clock = MeasuringClock(measuring)
        given = [HaloSample(sample) for sample in samples]
        trial = partial(measure_sizes, labels, contract.fill)
        stride, sizes = trial(given, contract.stride, margin, clock) if given else (None, None)
        if sizes is None:
            side = max(CORE_PX, 2 * (margin or MAX_HALO_PX)) + 3 * MAX_STRIDE
            made = HaloSample(self._made_image(side))
            clock.log("the stride is tried on an image of noise")
            stride, _ = trial([made], contract.stride, margin, clock)
        if stride is None:
            side = -(-FIXED_WINDOW_PX // contract.stride) * contract.stride
            clock.log(f"window fixed at {side} px")
            halo = min(contract.halo.pixels, side // 8) // contract.stride * contract.stride
            measured = MeasuredHalo(halo, side, None)
            return replace(contract, fixed_window=side, halo=measured, sizes=sizes)
        if sizes is not None:
            # Nobody stated another stride.
            share = sizes.equal_labels
            sizes = replace(sizes, stated_stride=stride, stated_equal_labels=share)
        return replace(
            contract,
            stride=stride,
            sizes=sizes,
            halo=MeasuredHalo(self._stated_halo(stride, None), usual_core_px(stride), None),
        )

    def _noise(self, side: int) -> np.ndarray:
        """`(side, side, bands)` raw values over the value range."""
        contract = self.contract
        shape = (side, side, len(contract.bands))
        random = np.random.default_rng(0)
        return random.uniform(*contract.value_range, shape).astype(contract.dtype)

    def _made_image(self, side: int) -> np.ndarray:
        """`(side, side, bands)` raw values over the value range: ramps, smooth patches and noise.

        Its mean is another in each part, which networks show that look at the whole window.
        """
        low, high = self.contract.value_range
        coarse = self._noise(-(-side // MADE_PX)).astype(np.float32)
        patches = tf.image.resize(coarse, (side, side)).numpy()
        ramp = low + (high - low) * np.add.outer(np.arange(side), np.arange(side)) / (2 * side)
        mixed = 0.5 * patches + 0.1 * self._noise(side) + 0.4 * ramp[..., None]
        found: np.ndarray = np.clip(mixed, low, high).astype(self.contract.dtype)
        return found

    def _check_output(self, measuring: Measuring) -> None:
        """Refuse a description that is not what the network gives for a window."""
        contract, output = self.contract, self.config.output
        side = contract.fixed_window or -(-PROBE_PX // contract.stride) * contract.stride
        if contract.fixed_window is None and self.config.window.stride is not None:
            # Sides that hold more factors would hide that the stride is too small.
            side += contract.stride
        try:
            scores = self.foreign.raw_output(self._noise(side)[None])
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise ExportError(
                f"the network cannot be called with {side}x{side} pixels: {error_line(error)}: if "
                f"it takes one size only, state window.size; if it takes multiples of a number, "
                f"state window.stride"
            ) from error
        expected = int(side * output.resolution)
        if scores.shape[1:3] != (expected, expected):
            raise ConfigurationError(
                f"output.resolution: {self.foreign.target.name} has {scores.shape[1]}x"
                f"{scores.shape[2]} pixels for a window of {side}x{side}, not {expected}x{expected}"
                f"{_size_remedy(side, scores.shape[1:3], output.margin)}"
            )
        check_values(scores[..., list(output.channels) or slice(None)], self.config, measuring)


def check_values(scores: np.ndarray, config: WrapConfig, measuring: Measuring) -> None:
    """Refuse values that are not of the kind that a description states.

    Args:
        scores: `(batch, height, width, channels)` output.
        config: The description.
        measuring: Log, for what is strange but possible.

    Raises:
        ConfigurationError: Names the key, what was found and the remedy.
    """
    kind, classes = config.output.kind, config.classes
    low, high = float(scores.min()), float(scores.max())
    if kind == "labels":
        if scores.shape[-1] != 1 or np.any(scores != np.rint(scores)):
            raise ConfigurationError(
                f"output.kind: the network gives {scores.shape[-1]} values a pixel, from {low:g} "
                f'to {high:g}, which are no labels: write "logits" or "probabilities"'
            )
        strange = sorted({*np.unique(scores).tolist()} - {*classes.ids})
        if strange:
            raise ConfigurationError(
                f"classes: the network gives the labels {strange[:5]}, which are no ids of classes"
            )
        return
    count, needed = scores.shape[-1], len(classes.ids)
    if count != needed and (count, needed) != (1, 2):
        raise ConfigurationError(
            f"classes: {needed} are named, and the network gives {count} scores"
        )
    are_shares = low >= -ROUNDING and high <= 1 + ROUNDING
    if kind == "probabilities" and not are_shares:
        raise ConfigurationError(
            f"output.kind: the network gives values from {low:g} to {high:g}, which are no "
            f'probabilities: write "logits"'
        )
    sums = scores.astype(np.float64).sum(-1)
    if kind == "logits" and are_shares and (count == 1 or np.allclose(sums, 1, 0, ROUNDING)):
        found, harm = "shares that sum to 1", "confidence is too low"
        if count == 1:
            found, harm = "from 0 to 1", "all labels are the second class"
        measuring.log(
            f'output.kind is "logits", but the values are {found}: if they are probabilities, '
            f'write "probabilities", or {harm}'
        )


def _size_remedy(side: int, sides: Sequence[int], margin: int) -> str:
    """What to write for an output of another size, if anything fits.

    >>> _size_remedy(256, (64, 64), 0), _size_remedy(256, (248, 248), 0)
    (': write output.resolution = "1/4"', ': write output.margin = 4')
    """
    found = sides[0]
    if found != sides[1]:
        return ": write the output.layout that it has"
    if found == side + 2 * margin and margin:
        return ": leave output.margin out"
    if found == side:
        return ": write output.resolution = 1"
    if side % found == 0:
        return f': write output.resolution = "1/{side // found}"'
    if found % side == 0:
        return f": write output.resolution = {found // side}"
    if found < side and (side - found) % 2 == 0 and not margin:
        return f": write output.margin = {(side - found) // 2}"
    return ": only whole fractions, multiples and equal margins are supported"


def _extremes(config: WrapConfig, contract: Contract) -> list[tuple[str, Any]]:
    """Raw values that the preprocessing must make numbers of, by what they are."""
    low, high = contract.value_range
    extremes: list[tuple[str, Any]] = [
        ("the least value of model.value_range", low),
        ("the greatest value of model.value_range", high),
    ]
    if config.model.dtype != "float32":
        info = np.iinfo(config.model.dtype)
        extremes.append((f"the least {config.model.dtype}", info.min))
        extremes.append((f"the greatest {config.model.dtype}", info.max))
    fill = dict(zip(config.model.bands, contract.nodata_fill, strict=True))
    extremes.append(("model.nodata_fill", [fill[band] for band in config.input_bands]))
    return extremes
