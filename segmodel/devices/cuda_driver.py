"""Facts about GPUs from the CUDA driver, by the index that TensorFlow has for them.

TensorFlow tells neither which GPU of the machine an index stands for, as CUDA_VISIBLE_DEVICES
changes indices, nor how much memory is free. The driver library, which is there wherever
TensorFlow sees a GPU, is asked through ctypes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

LIBRARY = "libcuda.so.1"


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
