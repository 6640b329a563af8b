"""Any TensorFlow function from raw pixels to logits as a SavedModel with a contract."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import segmodel
from segmodel.devices.compute import FLOAT32, compute_types
from segmodel.errors import ConfigurationError, ExportError
from segmodel.networks.folding import served_function
from segmodel.savedmodel.contract import Contract, MeasuredCompute, MeasuredHalo
from segmodel.savedmodel.folder import write_contract
from segmodel.savedmodel.halo import (
    MAX_HALO_PX,
    HaloSample,
    Measuring,
    MeasuringClock,
    measure_halo,
    measure_sizes,
    padded,
    usual_core_px,
)
from segmodel.savedmodel.memory import measure_bytes_per_pixel
from segmodel.savedmodel.predictor import Predictor

# Where labels depend on the whole window, its size is part of the model: this, or the next multiple
# of the stride.
FIXED_WINDOW_PX = 1024
# A draft that nobody holds a lock on is stale; where files cannot be locked, after so long.
STALE_SECONDS = 24 * 3600
# Scores that differ by a smaller share of their range are a near-tie.
NEAR_TIE = 1e-4

# Function of a batch of raw values.
Logits = Callable[[tf.Tensor], tf.Tensor]


class ServedModel(tf.Module):
    """The signatures of a SavedModel around a function from raw pixels to logits.

    Args:
        function: Function of `(batch, height, width, bands)` float32 raw values, height and width
            multiples of the stride; gives `(batch, h, w, classes)` logits at full or lower
            resolution.
        contract: Contract of the model.

    Raises:
        ExportError: If the function gives another number of scores than the contract has classes.
    """

    def __init__(self, function: Logits, contract: Contract) -> None:
        super().__init__()
        # Behind a function, as Keras would save each of its variables a second time.
        self._call: Logits = lambda values: function(values)
        if isinstance(function, keras.Function):
            self._call = served_function(function, contract.dtype, contract.stride)
        self._contract = contract
        self._images = tf.TensorSpec(
            (None, None, None, len(contract.bands)), contract.dtype, "images"
        )
        self._logits = tf.function(self._compute_logits, input_signature=[self._images])
        # What the function closes over must belong to the object that is saved.
        concrete = self._logits.get_concrete_function()
        scores, classes = concrete.structured_outputs.shape[-1], len(contract.classes.ids)
        if scores != classes:
            raise ExportError(
                f"classes: the contract names {classes}, the function gives {scores} scores"
            )
        # Weights of Keras come first: a variable is saved under the first name that leads to it,
        # and another training run starts from those names.
        self.weights = {weight.path: weight.value for weight in getattr(function, "weights", ())}
        self._owned = function if isinstance(function, tf.Module) else list(concrete.variables)

    def signatures(self) -> dict[str, Callable[..., Any]]:
        """Concrete functions of a batch by the names of signatures."""
        functions = {
            "labels": self._labels,
            "serving_default": self._labels_and_confidence,
            "probabilities": self._probabilities,
        }
        return {
            name: tf.function(function, input_signature=[self._images]).get_concrete_function()
            for name, function in functions.items()
        }

    def _compute_logits(self, images: tf.Tensor) -> tf.Tensor:
        """Logits at full resolution of images that are filled to multiples of the stride."""
        values = self._filled(images)
        logits = tf.cast(self._call(values), tf.float32)
        size = tf.shape(values)[1:3]
        same = tf.reduce_all(tf.equal(tf.shape(logits)[1:3], size))
        return tf.cond(same, lambda: logits, lambda: tf.image.resize(logits, size))

    def _filled(self, images: tf.Tensor) -> tf.Tensor:
        """As float32, with the fill for NaN, and on the right and below up to the stride."""
        fill = tf.constant(self._contract.fill)
        if images.dtype.is_floating:
            # A sum shows it in one pass over the values; of infinities it may show what is not so.
            images = tf.cond(
                tf.math.is_nan(tf.reduce_sum(images)),
                lambda: tf.where(tf.math.is_nan(images), fill, images),
                lambda: images,
            )
        shape = tf.shape(images)
        below, right = tf.unstack(-shape[1:3] % self._contract.stride)

        def extended() -> tf.Tensor:
            bottom = tf.broadcast_to(fill, tf.stack([shape[0], below, shape[2], shape[3]]))
            taller = tf.concat([images, bottom], axis=1)
            side = tf.broadcast_to(fill, tf.stack([shape[0], shape[1] + below, right, shape[3]]))
            return tf.concat([taller, side], axis=2)

        return tf.cast(tf.cond(below + right > 0, extended, lambda: images), tf.float32)

    def _labels(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"labels": _cropped(self._to_labels(self._logits(images)), images)}

    def _labels_and_confidence(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self._logits(images)
        confidence = tf.reduce_max(self._softmax(logits), axis=-1)
        found = {"labels": self._to_labels(logits), "confidence": confidence}
        return {name: _cropped(values, images) for name, values in found.items()}

    def _probabilities(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": _cropped(self._softmax(self._logits(images)), images)}

    def _softmax(self, logits: tf.Tensor) -> tf.Tensor:
        calibration = self._contract.calibration
        return tf.nn.softmax(logits / calibration.temperature if calibration else logits)

    def _to_labels(self, logits: tf.Tensor) -> tf.Tensor:
        classes = self._contract.classes
        ids = tf.constant(classes.ids, classes.label_dtype)
        best = tf.argmax(logits, axis=-1, output_type=tf.int32)
        if classes.ids == tuple(range(len(classes.ids))):
            return tf.cast(best, classes.label_dtype)
        return tf.gather(ids, best)


def _cropped(values: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """What was computed of filled images, at the pixels that they had before."""
    shape = tf.shape(images)
    return values[:, : shape[1], : shape[2]]


def export_savedmodel(
    function: Logits,
    contract: Contract,
    path: str | Path,
    samples: Sequence[np.ndarray | HaloSample] = (),
    measure_memory: bool = True,
    measuring: Measuring | None = None,
) -> Contract:
    """Write a SavedModel with its contract, and check that it does what the function does.

    Until it is finished it is a hidden folder beside the other; such folders of exports that were
    killed are removed.

    Args:
        function: Keras model, or any callable that TensorFlow can trace; see `ServedModel`.
        contract: Contract of the model; halo, compute types, memory and versions are filled in as
            measured, and so is how labels depend on the size of the window, unless it says so.
        path: Folder to write; one that is there is replaced once the new one is checked.
        samples: `(height, width, bands)` images of the contract's dtype, for the check beside
            noise, and to measure the halo, and whether labels depend on the size of the window; a
            `HaloSample` where some pixels do not count. Without any, halo and stride of the
            contract are kept.
        measure_memory: Whether to start a process that measures the memory that prediction takes.
        measuring: Time limit and log of the measurement; None for ten minutes and lines on
            standard error.

    Returns:
        The contract as written.

    Raises:
        ConfigurationError: If the folder holds files and no SavedModel.
        ContractError: If a class has a reserved name.
        ExportError: If the SavedModel gives other labels than the function.
    """
    contract.classes.check_names()
    folder = Path(path)
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _draft_of(folder) as draft:
        whole = [one if isinstance(one, HaloSample) else HaloSample(one) for one in samples]
        clock = MeasuringClock(measuring or Measuring())
        contract = _export(function, contract, draft, whole, measure_memory, clock)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    return contract


@contextmanager
def _draft_of(folder: Path) -> Iterator[Path]:
    """A hidden folder beside another, which is removed after the block unless it was renamed."""
    for stale in folder.parent.glob(f".{escape(folder.name)}-*"):
        if re.fullmatch("[0-9a-f]{32}", stale.name[-32:]) and not _is_in_use(stale):
            shutil.rmtree(stale, ignore_errors=True)
    draft = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    draft.mkdir()
    holder = os.open(draft, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(holder, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(holder)


def _is_in_use(draft: Path) -> bool:
    """Whether the process that writes a draft still runs: its lock ends with it."""
    try:
        holder = os.open(draft, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:
        # Some network disks have no locks.
        return time.time() - draft.stat().st_mtime < STALE_SECONDS
    finally:
        os.close(holder)


def check_replaceable(folder: Path) -> None:
    """Refuse to replace what is no model, and a place where no folder can be made.

    Args:
        folder: Folder for a SavedModel; it may be absent.

    Raises:
        ConfigurationError: If the folder holds files and no SavedModel, is a file, or cannot be
            made.
    """
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        reason = "cannot be written to" if above.is_dir() else "is a file"
        raise ConfigurationError(f"{folder}: {above} {reason}: name another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "saved_model.pb").is_file():
        raise ConfigurationError(f"{folder} holds files that are no SavedModel: name another")


def _export(
    function: Logits,
    contract: Contract,
    folder: Path,
    samples: Sequence[HaloSample],
    measure_memory: bool,
    clock: MeasuringClock,
) -> Contract:
    """Write, reload, check and measure; again where the measured stride is not the stated one."""
    predictor, parameters = _write(function, contract, folder, samples)
    stated = contract.stride
    contract = _measured(predictor, contract, samples, clock)
    if contract.stride != stated:
        shutil.rmtree(folder / "variables", ignore_errors=True)
        predictor, parameters = _write(function, contract, folder, samples)
    predictor.contract = contract
    contract = dataclasses.replace(
        contract,
        computing=tuple(_compared(predictor, samples, clock)),
        bytes_per_pixel=measure_bytes_per_pixel(folder) if measure_memory else None,
        parameters=parameters,
        versions=_package_versions(),
    )
    write_contract(contract, folder)
    return contract


def _write(
    function: Logits, contract: Contract, folder: Path, samples: Sequence[HaloSample]
) -> tuple[Predictor, int]:
    """The SavedModel as written and loaded again, and its number of weights."""
    served = ServedModel(function, contract)
    tf.saved_model.save(served, str(folder), signatures=served.signatures())
    write_contract(contract, folder)
    predictor = Predictor.load(folder, trust=True)
    _check_reload(predictor, function, contract, [sample.image for sample in samples[:3]])
    return predictor, sum(int(np.prod(v.shape)) for v in served.variables)


def _check_reload(
    predictor: Predictor, function: Logits, contract: Contract, images: Sequence[np.ndarray]
) -> None:
    """Compare labels of the reloaded SavedModel, also of noise, with those of the function."""
    ids = np.array(contract.classes.ids, contract.classes.label_dtype)
    order = np.argsort(ids)
    side = contract.sample_side_px
    shape = (side, side, len(contract.bands))
    noise = np.random.default_rng(0).uniform(*contract.value_range, shape).astype(contract.dtype)
    for image in [*images, noise]:
        # As the graph does before the network: fill, then pad to a size that it accepts.
        whole = np.full(shape, contract.fill)
        part = image[:side, :side]
        whole[: part.shape[0], : part.shape[1]] = part
        whole = np.where(np.isnan(whole), contract.fill, whole).astype(contract.dtype)
        logits = tf.cast(function(tf.constant(whole[None], tf.float32)), tf.float32)
        logits = logits if logits.shape[1] == side else tf.image.resize(logits, (side, side))
        scores = np.asarray(logits)[0]
        if not np.isfinite(scores).all():
            raise ExportError("the network in memory gives scores that are not finite numbers")
        given = order[np.searchsorted(ids[order], predictor.labels(whole[None])[0])]
        missed = scores.max(axis=-1) - np.take_along_axis(scores, given[..., None], -1)[..., 0]
        # Eager and compiled arithmetic differ in the last digits, which decide near-ties.
        wrong = int((missed > NEAR_TIE * np.ptp(scores)).sum())
        if wrong > 1e-5 * missed.size:
            raise ExportError(
                f"the SavedModel gives other labels than the network in memory at {wrong} of "
                f"{missed.size} pixels: the function depends on state that was not saved"
            )


def _measured(
    predictor: Predictor, contract: Contract, samples: Sequence[HaloSample], clock: MeasuringClock
) -> Contract:
    """The contract with stride, halo and fixed window as measured on samples."""
    if not samples:
        return contract
    if contract.fixed_window is not None:
        clock.log(f"halo not measured: windows are fixed at {contract.fixed_window} px")
        return contract
    field, stated = contract.receptive_field, contract.stride

    def limit(stride: int) -> int:
        return MAX_HALO_PX if field is None else -(-(field // 2) // stride) * stride

    margin = None if field is None else limit(stated)
    stride: int | None = stated
    if contract.sizes is None:
        stride, sizes = measure_sizes(
            predictor.labels, contract.fill, samples, stated, margin, clock
        )
        contract = dataclasses.replace(contract, sizes=sizes)
    halo = None
    if stride is not None:
        labels = padded(predictor.labels, contract.fill, stride)
        halo = measure_halo(labels, samples, stride, limit(stride), clock)
    if halo is None or stride is None:
        # Whatever the halo, tiled labels differ: the window is part of the model.
        side = -(-FIXED_WINDOW_PX // stated) * stated
        context = max(stated, min(contract.halo.pixels, side // 8) // stated * stated)
        clock.log(f"window fixed at {side} px")
        return dataclasses.replace(
            contract, halo=MeasuredHalo(context, side, None), fixed_window=side
        )
    if halo.equal_labels is None and field is None:
        # Rather what its maker says than the greatest that was to be tried.
        halo = dataclasses.replace(halo, pixels=-(-contract.halo.pixels // stride) * stride)
    return dataclasses.replace(contract, stride=stride, halo=halo)


def _compared(
    predictor: Predictor, samples: Sequence[HaloSample], clock: MeasuringClock
) -> Iterator[MeasuredCompute]:
    """How labels by the compute types of this machine compare with those by float32."""
    contract, kinds = predictor.contract, compute_types(bool(tf.config.get_visible_devices("GPU")))
    window, classes = usual_core_px(contract.stride), contract.classes
    for compute in kinds[1:]:
        equal, pixels = 0, np.zeros((2, max(classes.ids) + 1), np.int64)
        for sample in samples:
            if clock.is_over:
                clock.log(f"time is up: {compute} compared on {pixels[0].sum()} pixels")
                break
            by_float32, others = (
                predictor.computing(kind).segment(sample.image, window=window)
                for kind in (FLOAT32, compute)
            )
            counted = by_float32 != classes.nodata
            if sample.counted is not None:
                counted &= sample.counted
            equal += int((by_float32 == others)[counted].sum())
            pixels += [
                np.bincount(labels[counted], minlength=pixels.shape[1])
                for labels in (by_float32, others)
            ]
        if not (total := int(pixels[0].sum())):
            continue
        before, after = (row[list(classes.ids)].tolist() for row in pixels)
        changes = [(b - a) / a if a else None for a, b in zip(before, after, strict=True)]
        named = dict(zip(classes.names, changes, strict=True))
        yield MeasuredCompute(compute, total, equal / total, named)
        clock.log(f"{compute}: {100 * equal / total:.2f} % of labels as by float32")


def _package_versions() -> dict[str, str]:
    """Versions of the packages that make and run models."""
    return {
        "beamseg": segmodel.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
    }
