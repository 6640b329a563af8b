"""The model of a worker process: on one GPU, with the batches that its memory holds.

Processes of a machine claim their GPUs by file locks, which end with the process.
"""

import fcntl
import logging
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from pipelines.formats.work import Work
from pipelines.storage import filesystem
from pipelines.storage.copies import OpenedModel, open_model
from pipelines.worker.calls import CALLS
from segmodel.devices.compute import FLOAT32, check_device
from segmodel.devices.disks import temporary_folder
from segmodel.devices.gpus import free_bytes, gpu_index, gpu_uuid, use_single_gpu
from segmodel.devices.startup import import_quietly, reuse_memory
from segmodel.engine.calls import BatchSizes, SoftModel
from segmodel.errors import TransientError
from segmodel.savedmodel.memory import call_bytes_per_pixel
from segmodel.tiling.windows import AUTO

# What a call may take of the memory that is free once the model is loaded.
CALL_SHARE = 0.8
# From this size on, a message says that looking at a graph takes its time: about a second a MiB.
LARGE_GRAPH_BYTES = 8 << 20
# Processes that may share a GPU, before nobody counts any more.
MAX_SHARING = 64

_log = logging.getLogger("beamseg")


class LoadedModels:
    """The model that a process has loaded, and the batches that its memory was found to hold.

    A process has one, `MODELS`, so that it loads a model once, at the first unit that needs it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: WeakKeyDictionary[SoftModel, dict[tuple[int, int], int]] = (
            WeakKeyDictionary()
        )
        # By fingerprint and compute type.
        self.loaded: dict[tuple[str, str | None], SoftModel] = {}
        self.safe: set[str] = set()

    def check(self, opened: OpenedModel) -> None:
        """Look at a model that is not loaded yet; this process does not look at it again.

        Args:
            opened: The model.

        Raises:
            ContractError: If it is no SavedModel.
            ExportError: If it could do more than compute.
        """
        if opened.fingerprint in self.safe.union(found for found, _ in self.loaded):
            return
        reuse_memory()
        with import_quietly():
            from segmodel.safety.check import refuse_unsafe
            from segmodel.safety.graph_file import GRAPH_FILE

        size = filesystem.size_of(f"{opened.folder}/{GRAPH_FILE}") or 0
        if size > LARGE_GRAPH_BYTES:
            _log.warning("the graph of the model has %d MiB: looking at all of it", size >> 20)
        refuse_unsafe(opened.folder)
        self.safe.add(opened.fingerprint)

    def load(self, work: Work) -> SoftModel:
        """The model of a run.

        That of another run is dropped before, so that memory is that of one.

        Raises:
            TransientError: If it is not the model that the run was begun with.
        """
        with self._lock:
            key = work.fingerprint, work.compute
            if key not in self.loaded:
                self.loaded.clear()
                self.loaded[key] = load(work)
            return self.loaded[key]

    def batch_sizes(self, work: Work, model: SoftModel) -> BatchSizes:
        """Sizes of the batches of a model, with what earlier units have learned of them."""
        return BatchSizes(self._batches.setdefault(model, {}), max_batch_pixels(work))


MODELS = LoadedModels()


def load(work: Work) -> SoftModel:
    """Load the model of a run, on the GPU of this process if it has one.

    Raises:
        ConfigurationError: If this machine does not have the compute type of the run.
        TransientError: If it is not the model that the run was begun with, or does not load in the
            time of a call.
    """
    from segmodel.savedmodel.predictor import Predictor

    opened = open_model(work.model)
    check_model_unchanged(work, opened)
    gpu_of_process()
    folder, trust = opened.folder, work.trust_model or opened.fingerprint in MODELS.safe
    # What initializes a model is of its makers, too.
    model = CALLS.run(lambda: Predictor.load(folder, trust, work.compute), work.call_timeout)
    free_device_bytes()
    return model


def check_compute_here(compute: str) -> None:
    """Refuse a compute type that this machine does not have, where it labels by itself.

    Args:
        compute: Compute type that was asked for.

    Raises:
        ConfigurationError: Says what is missing.
    """
    if compute == FLOAT32:
        return
    with import_quietly():
        import tensorflow as tf

        check_device(compute, bool(tf.config.list_physical_devices("GPU")))


def check_model_unchanged(work: Work, opened: OpenedModel) -> None:
    """Refuse a model that was replaced after the run was begun.

    Args:
        work: Work that all units of the run share.
        opened: The model as it is now.

    Raises:
        TransientError: If it is another one.
    """
    if opened.fingerprint != work.fingerprint:
        raise TransientError(
            f"the model in {work.model} was replaced after the run was begun: put the former one "
            f"back and run again, or begin anew with --overwrite"
        )


def max_batch_pixels(work: Work) -> int | None:
    """Maximum number of pixels in a batch of several windows, or None if only a failure tells it.

    Only where the run leaves it to the worker: a number that was asked for is tried.
    """
    if work.layout.batch != AUTO:
        return None
    if gpu_of_process() is None:
        return work.layout.max_batch_pixels_on_cpu
    free = free_device_bytes()
    if free is None:
        return None
    return int(CALL_SHARE * free) // call_bytes_per_pixel(
        work.contract, work.soft_areas, work.probabilities
    )


@cache
def gpu_of_process() -> int | None:
    """Number of the GPU that this process uses, claimed at the first call; None without GPUs."""
    with import_quietly():
        import tensorflow as tf

        return one_gpu(tf.config, temporary_folder(), os.environ.get("CUDA_VISIBLE_DEVICES"))


@cache
def free_device_bytes() -> int | None:
    """Free memory of the GPU at the first call, or None; later, TensorFlow keeps what it took."""
    number = gpu_of_process()
    return None if number is None else free_bytes(number)


@dataclass(frozen=True)
class Claim:
    """A GPU that a process uses until it ends.

    Args:
        place: Index of the GPU among those that could be claimed.
        others: Number of other processes that have claimed it.
        lock: Open file that holds the lock; the kernel frees it when the process ends, however it
            does.
    """

    place: int
    others: int
    lock: int

    def give_up(self) -> None:
        """Let others have the GPU."""
        os.close(self.lock)


def claim(gpus: Sequence[str], folder: str) -> Claim | None:
    """Claim the GPU that the fewest processes have claimed; None if none can be locked.

    Nobody waits: a worker that waited for a GPU would hold the work units that it was given until
    the run is over.

    Args:
        gpus: Names of GPUs, the same in all processes of the machine.
        folder: Where the locks are, the same for all processes of the machine.
    """
    for others in range(MAX_SHARING):
        for place, gpu in enumerate(gpus):
            lock = _locked(os.path.join(folder, lock_name(gpu, others)))
            if lock is not None:
                return Claim(place, others, lock)
    return None


def lock_name(gpu: str, others: int) -> str:
    """Name of the file that stands for a place at a GPU.

    >>> lock_name("GPU-1a/2b", 0)
    'beamseg-gpu-GPU-1a-2b-0.lock'
    """
    return f"beamseg-gpu-{re.sub(r'[^A-Za-z0-9-]', '-', gpu)}-{others}.lock"


def _locked(path: str) -> int | None:
    """An open file with a lock on it, or None if somebody else has it or keeps it from us.

    The file stays when the lock ends: two processes could otherwise hold locks on two files of the
    same name. It is opened for reading where it is there, as it may be another user's.
    """
    try:
        try:
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def one_gpu(config: Any, locks: str, visible: str | None = None) -> int | None:
    """Have TensorFlow use one GPU only, if possible one that no other worker process uses.

    Args:
        config: `tf.config`.
        locks: Folder of the locks by which processes claim GPUs.
        visible: CUDA_VISIBLE_DEVICES, which TensorFlow heeds by itself.

    Returns:
        Number of the GPU among those that this process sees, or None if it sees none.
    """
    gpus = config.get_visible_devices("GPU")
    if not gpus:
        return None
    numbers = [gpu_index(gpu) for gpu in gpus]
    claimed = claim([gpu_name(number, visible) for number in numbers], locks)
    place = 0 if claimed is None else claimed.place
    if not use_single_gpu(config, gpus[place]):
        if claimed is not None:
            claimed.give_up()
        _log.warning(
            "TensorFlow was started before the first work unit: this process uses GPU %d of %d, "
            "whatever other processes use",
            *(numbers[0], len(gpus)),
        )
        return numbers[0]
    if claimed is None or claimed.others:
        _log.warning("%s", shared_text(None if claimed is None else claimed.others, len(gpus)))
    return numbers[place]


def shared_text(others: int | None, gpus: int) -> str:
    """What to say where worker processes share a GPU.

    Args:
        others: Other processes on the same GPU, or None if that is not known.
        gpus: GPUs that this process sees.
    """
    several = "other processes" if others is None else f"{others} other worker processes"
    return (
        f"this process shares a GPU with {several}: all {gpus} GPUs are taken; start as many "
        f"worker processes as there are GPUs (--direct_num_workers, --sdk_worker_parallelism, or "
        f"--experiments=no_use_multiple_sdk_containers)"
    )


def gpu_name(number: int, visible: str | None) -> str:
    """A name of a GPU that all processes of the machine have for it.

    Its UUID; where the driver does not tell it, what CUDA_VISIBLE_DEVICES calls it, or its number.

    >>> gpu_name(1, "2,GPU-8f1e"), gpu_name(1, None)
    ('GPU-8f1e', '1')
    """
    names: Sequence[str] = [name.strip() for name in (visible or "").split(",")]
    named = names[number] if number < len(names) and names[number] else str(number)
    return gpu_uuid(number) or named
