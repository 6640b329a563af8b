"""GPUs as TensorFlow sees them: which one is used, and how its memory is.

TensorFlow tells neither which GPU of the machine an index stands for, as CUDA_VISIBLE_DEVICES
changes indices, nor how much memory is free. The driver library, which is there wherever
TensorFlow sees a GPU, is asked through ctypes.
"""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Messages of errors other than RESOURCE_EXHAUSTED where memory of a GPU ran out: in a copy to it,
# in the driver, in cuDNN and cuBLAS.
_OUT_OF_MEMORY = re.compile(
    r"Dst tensor is not initialized|out.of.memory|STATUS_ALLOC_FAILED|failed to alloc", re.I
)

# The driver library of CUDA.
LIBRARY = "libcuda.so.1"

_log = logging.getLogger("beamseg")


def enable_memory_growth(config: Any) -> None:
    """Have TensorFlow take memory of GPUs as it needs it, not all of it at once.

    Once TensorFlow has begun to use GPUs nothing can be changed: a warning says so. Where a limit
    was set by the user, it stays.

    Args:
        config: `tf.config`.
    """
    gpus = config.list_physical_devices("GPU")
    for gpu in gpus:
        if config.get_logical_device_configuration(gpu) is not None:
            continue
        try:
            config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            _log.warning(
                "TensorFlow was started before this model was loaded and keeps all memory of the "
                "GPUs: load the model first, or set TF_FORCE_GPU_ALLOW_GROWTH=true"
            )
            return


def use_single_gpu(config: Any, gpu: Any) -> bool:
    """Have TensorFlow use one GPU and no other.

    Args:
        config: `tf.config`.
        gpu: Physical device of TensorFlow.

    Returns:
        False if it is too late, as TensorFlow has begun to use others.
    """
    try:
        config.set_visible_devices([gpu], "GPU")
    except RuntimeError:
        return False
    return True


def gpu_index(gpu: Any) -> int:
    """Index of a physical device among those that this process sees.

    Args:
        gpu: Physical device of TensorFlow.

    >>> from collections import namedtuple
    >>> gpu_index(namedtuple("PhysicalDevice", "name")("/physical_device:GPU:12"))
    12
    """
    return int(gpu.name.rpartition(":")[2])


def is_out_of_memory(error: Any) -> bool:
    """Whether an error of TensorFlow says that memory ran out.

    Args:
        error: Error, a `tf.errors.OpError`.
    """
    import tensorflow as tf

    if isinstance(error, tf.errors.ResourceExhaustedError):
        return True
    kinds = (tf.errors.InternalError, tf.errors.NotFoundError, tf.errors.UnknownError)
    return isinstance(error, kinds) and bool(_OUT_OF_MEMORY.search(error.message))


@cache
def driver() -> Any:
    """The initialized driver library, or None where there is none."""
    try:
        library = ctypes.CDLL(LIBRARY)
        return None if library.cuInit(0) else library
    except (OSError, AttributeError):
        return None


def gpu_uuid(index: int, library: Any = None) -> str | None:
    """UUID of a GPU as 32 hex digits, the same in all processes of the machine; None if unknown.

    Args:
        index: Index of the GPU among those that this process sees.
        library: Driver library; None for that of the machine.
    """
    library = library or driver()
    uuid = (ctypes.c_ubyte * 16)()
    try:
        get_uuid = getattr(library, "cuDeviceGetUuid_v2", None) or library.cuDeviceGetUuid
        if get_uuid(uuid, _device(index, library)):
            return None
    except (AttributeError, OSError):
        return None
    return bytes(uuid).hex()


def free_bytes(index: int, library: Any = None) -> int | None:
    """Memory of a GPU that no process has taken, in bytes; None if the driver does not say.

    Call it once TensorFlow uses the GPU; otherwise the driver has to open it, which takes time and
    some memory.

    Args:
        index: Index of the GPU among those that this process sees.
        library: Driver library; None for that of the machine.
    """
    library = library or driver()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    try:
        with _context(_device(index, library), library):
            if library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)):
                return None
    except (AttributeError, OSError):
        return None
    return free.value


def _device(index: int, library: Any) -> ctypes.c_int:
    """Handle of a GPU."""
    device = ctypes.c_int()
    _check(library.cuDeviceGet(ctypes.byref(device), index))
    return device


@contextmanager
def _context(device: ctypes.c_int, library: Any) -> Iterator[None]:
    """The context of a GPU that all libraries of the process share, TensorFlow among them."""
    context = ctypes.c_void_p()
    _check(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    try:
        _check(library.cuCtxPushCurrent_v2(context))
        try:
            yield
        finally:
            library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        release = getattr(library, "cuDevicePrimaryCtxRelease_v2", None)
        (release or library.cuDevicePrimaryCtxRelease)(device)


def _check(status: int) -> None:
    """Raise OSError unless a call to the driver succeeded."""
    if status:
        raise OSError(f"CUDA driver error {status}")
