"""GPUs as TensorFlow sees them: which one is used, and how its memory is."""

from __future__ import annotations

import logging
import re
from typing import Any

# Messages of errors other than RESOURCE_EXHAUSTED where memory of a GPU ran out: in a copy to it,
# in the driver, in cuDNN and cuBLAS.
_OUT_OF_MEMORY = re.compile(
    r"Dst tensor is not initialized|out.of.memory|STATUS_ALLOC_FAILED|failed to alloc", re.I
)

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
