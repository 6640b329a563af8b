"""A SavedModel as a function from raw pixels to labels."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segmodel.devices.compute import BFLOAT16, FLOAT32, as_bfloat16, begin_compute
from segmodel.devices.gpus import enable_memory_growth, is_out_of_memory
from segmodel.devices.startup import import_quietly
from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.engine.soft import BatchWeights, SoftBatch
from segmodel.engine.stitching import Failed
from segmodel.errors import ContractError, OutOfMemoryError
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.folder import fingerprint, read_contract
from segmodel.tiling.raster import ArrayRaster

if TYPE_CHECKING:
    from segmodel.networks.serving import ServedFunction

SIGNATURES = {"labels", "probabilities", "serving_default"}


class Predictor:
    """A loaded model.

    Args:
        contract: Contract of the model.
        signatures: Signatures of the model by name, as functions of a batch.
        owner: Loaded SavedModel, which must stay alive, as signatures do not keep the weights.
        fingerprint: SHA-256 of the SavedModel's files, as 64 hex digits.
        compute: Compute type of all outputs; see `begin_compute`.
    """

    def __init__(
        self,
        contract: Contract,
        signatures: Mapping[str, Any],
        owner: object,
        fingerprint: str,
        compute: str | None = FLOAT32,
    ) -> None:
        self.contract, self.fingerprint, self.compute = contract, fingerprint, compute
        self.classes, self.fill = contract.classes, contract.fill
        self.signatures, self.owner = signatures, owner
        self._functions: dict[str, ServedFunction] = {}
        self._lock = threading.Lock()
        self._soft_functions: dict[tuple[bool, bool, bool], Callable[..., dict[str, Any]]] = {}

    @classmethod
    def load(
        cls, path: str | Path, trust: bool = False, compute: str | None = FLOAT32
    ) -> Predictor:
        """Load a SavedModel folder.

        Args:
            path: Folder of a SavedModel with a contract.
            trust: Whether to load a model that `refuse_unsafe` refuses.
            compute: Compute type of all outputs; see `begin_compute`. Whether TF32 is used holds
                for all of the process, and so as the model that was loaded last has it.

        Raises:
            ConfigurationError: If this machine does not have the compute type.
            ContractError: If there is no contract that can be read, or TensorFlow cannot load the
                model.
            ExportError: If the model could do more than compute, and is not trusted.
            OutOfMemoryError: If memory does not suffice for its weights.
        """
        contract = read_contract(path)

        with import_quietly():
            import tensorflow as tf

            from segmodel.safety.loading import load_savedmodel

            enable_memory_growth(tf.config)
            begin_compute(tf.config, compute)
        loaded = load_savedmodel(path, trust)
        signatures = dict(getattr(loaded, "signatures", {}))
        if missing := sorted(SIGNATURES - set(signatures)):
            raise ContractError(
                f"{Path(path).name} has no signature {', '.join(missing)}: make a model of "
                f"it with beamseg wrap"
            )
        return cls(contract, signatures, loaded, fingerprint(path), compute)

    def computing(self, compute: str) -> Predictor:
        """The same model by another compute type; see `load`."""
        import tensorflow as tf

        begin_compute(tf.config, compute)
        # It shares the functions that run, which are not made and held twice.
        other = copy.copy(self)
        other.compute, other._soft_functions = compute, {}
        return other

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Labels of a batch.

        Args:
            images: `(batch, height, width, bands)` raw values of the contract's dtype.

        Returns:
            `(batch, height, width)` class ids of the class table's dtype.

        Raises:
            OutOfMemoryError: If memory does not suffice for the batch.
        """
        return self._call("labels", images)["labels"]

    def labels_and_confidence(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels of a batch as of `labels`, and the probability of each in [0, 1] as float32."""
        outputs = self._call("serving_default", images)
        return outputs["labels"], outputs["confidence"]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of a batch: `(batch, height, width, classes)` float32 that sum to 1."""
        return self._call("probabilities", images)["probabilities"]

    def soft_sums(
        self, images: np.ndarray, weights: BatchWeights, has_maps: bool = False
    ) -> SoftBatch:
        """Labels of a batch, the probability of each, and soft sums of the pixels that count.

        Args:
            images: As of `labels`.
            weights: How much their pixels count.
            has_maps: Whether the levels of all pixels are given as well.

        Raises:
            OutOfMemoryError: If memory does not suffice for the batch.
            ContractError: If probabilities are below 0, or do not sum to 1.
        """
        pixels = {"weights": weights.values}
        is_plain = weights.labelled is None and weights.index is None
        if not is_plain:
            one = np.ones((1, 1, 1), np.int32)
            pixels["labelled"] = one if weights.labelled is None else weights.labelled
            pixels["index"] = 0 * one if weights.index is None else weights.index
        is_even = int(weights.values.max(initial=0)) <= 1
        outputs = self._run(self._soft(has_maps, is_plain, is_even), images=images, **pixels)
        if not outputs.pop("is_sound"):
            raise ContractError(
                "probabilities: the model must give values of at least 0 that sum to 1 in each "
                "pixel, and gives others: mend the model and export it again"
            )
        whole = {name: outputs.pop(name).astype(np.int64) for name in ("levels", "bins")}
        return SoftBatch(**outputs, **whole)

    def served(self, signature: str) -> ServedFunction:
        """The function that runs for a signature; it is made at its first use.

        Args:
            signature: Name of one of `signatures`.
        """
        from segmodel.networks.serving import serve

        with self._lock:
            if signature not in self._functions:
                self._functions[signature] = serve(
                    self.signatures[signature], self.contract.sample()[None]
                )
            return self._functions[signature]

    def _soft(self, has_maps: bool, is_plain: bool, is_even: bool) -> Callable[..., dict[str, Any]]:
        import tensorflow as tf

        from segmodel.savedmodel.soft import soft_function

        kind = has_maps, is_plain, is_even
        if kind not in self._soft_functions:
            network = self._network("probabilities")
            # Of the same graph, sums would be rewritten, too, and would not be exact any more.
            is_apart = self.compute == BFLOAT16
            depth = len(self.classes.ids if is_apart else self.contract.bands)
            dtype = tf.float32 if is_apart else self.contract.dtype
            given = tf.TensorSpec((None, None, None, depth), dtype, "images")
            first = (lambda images: {"probabilities": images}) if is_apart else network
            sums = soft_function(first, given, self.classes, *kind)
            self._soft_functions[kind] = sums
            if is_apart:
                self._soft_functions[kind] = lambda images, **pixels: sums(
                    images=network(images=images)["probabilities"], **pixels
                )
        return self._soft_functions[kind]

    def _network(self, signature: str) -> Callable[..., dict[str, Any]]:
        """A signature as a function by the compute type."""
        function: Callable[..., dict[str, Any]] = self.served(signature).function
        if self.compute != BFLOAT16:
            return function

        def computed(images: Any) -> dict[str, Any]:
            with as_bfloat16():
                found: dict[str, Any] = function(images=images)
                return found

        return computed

    def segment(
        self,
        image: np.ndarray,
        valid: np.ndarray | None = None,
        window: int | None = None,
        halo: int | None = None,
    ) -> np.ndarray:
        """Label one image.

        Args:
            image: `(height, width, bands)` raw values of the contract's dtype, or of one that holds
                all of its range.
            valid: `(height, width)` bool, False for nodata; None where all are valid.
            window: Side of the windows' cores in pixels; None to label the image as a whole.
            halo: Context around a core in pixels; None for the recommended halo.

        Returns:
            `(height, width)` class ids of the class table's dtype; nodata where `valid` is False.

        Raises:
            ContractError: If bands or dtype do not fit.
            TransientError: If memory does not suffice for one window.
        """
        if image.ndim != 3:
            raise ContractError(f"image: must be (height, width, bands), got shape {image.shape}")
        if not image.size:
            raise ContractError(f"image: has no pixels, shape {image.shape}")
        self.contract.check_input(image.shape[2], image.dtype.name, "image")
        image = image.astype(self.contract.dtype, copy=False)
        stride = self.contract.stride
        if window is None:
            window, halo = -(-max(image.shape[:2]) // stride) * stride, 0
        layout = self.contract.layout(window, halo)
        job = Job("image", lambda: ArrayRaster(image, valid))
        (outcome,) = Engine(self, layout).run([job])
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome.labels

    def _call(self, signature: str, images: np.ndarray) -> dict[str, np.ndarray]:
        return self._run(self._network(signature), images=images)

    def _run(
        self, function: Callable[..., dict[str, Any]], images: np.ndarray, **others: np.ndarray
    ) -> dict[str, np.ndarray]:
        """What a function of a batch gives, on the host."""
        import tensorflow as tf

        from segmodel.safety.loading import error_line

        tensors = {name: tf.constant(value) for name, value in others.items()}
        try:
            outputs = function(images=tf.constant(images), **tensors)
            return {name: tensor.numpy() for name, tensor in outputs.items()}
        except tf.errors.OpError as error:
            if is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"out of memory in a batch of shape {images.shape}: a smaller one may fit"
                ) from error
            if not isinstance(error, tf.errors.InvalidArgumentError):
                raise
            raise ContractError(
                f"the graph of the model does not take what its contract says, {images.dtype} of "
                f"shape {images.shape} ({error_line(error)}): export it again, or wrap it with "
                f"beamseg wrap"
            ) from error
