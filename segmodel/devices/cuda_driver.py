"""What the CUDA driver says of GPUs, by the numbers that TensorFlow has for them.

TensorFlow tells neither which GPU of the machine a number stands for, as CUDA_VISIBLE_DEVICES
changes the numbers, nor how much memory is free. The driver library, which is there wherever
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
    """The driver library, ready for calls, or None where there is none."""
    try:
        library = ctypes.CDLL(LIBRARY)
        return None if library.cuInit(0) else library
    except (OSError, AttributeError):
        return None


def uuid_of(number: int, library: Any = None) -> str | None:
    """Identity of a GPU, the same in all processes of the machine; None if the driver has none.

    Args:
        number: Of the GPU among those that this process sees.
        library: The driver.
    """
    library = library or driver()
    identity = (ctypes.c_ubyte * 16)()
    try:
        ask = getattr(library, "cuDeviceGetUuid_v2", None) or library.cuDeviceGetUuid
        if ask(identity, _device(number, library)):
            return None
    except (AttributeError, OSError):
        return None
    return bytes(identity).hex()


def free_bytes(number: int, library: Any = None) -> int | None:
    """Memory of a GPU that no process has taken, in bytes; None if the driver does not say.

    To be asked once TensorFlow uses the GPU: the driver has to open it otherwise, which takes a
    while and some memory.

    Args:
        number: Of the GPU among those that this process sees.
        library: The driver.
    """
    library = library or driver()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    try:
        with _context(_device(number, library), library):
            if library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)):
                return None
    except (AttributeError, OSError):
        return None
    return free.value


def _device(number: int, library: Any) -> ctypes.c_int:
    """Handle of a GPU."""
    device = ctypes.c_int()
    _succeed(library.cuDeviceGet(ctypes.byref(device), number))
    return device


@contextmanager
def _context(device: ctypes.c_int, library: Any) -> Iterator[None]:
    """The context of a GPU that all libraries of the process share, TensorFlow among them."""
    context = ctypes.c_void_p()
    _succeed(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    try:
        _succeed(library.cuCtxPushCurrent_v2(context))
        try:
            yield
        finally:
            library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        release = getattr(library, "cuDevicePrimaryCtxRelease_v2", None)
        (release or library.cuDevicePrimaryCtxRelease)(device)


def _succeed(status: int) -> None:
    """Raise OSError unless a call to the driver succeeded."""
    if status:
        raise OSError(f"CUDA driver error {status}")
