"""Libraries that print nothing of their own, and an allocator that reuses memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_STARTUP_MESSAGES = re.compile(
    rb"^([IWE]0000 |WARNING: All log messages before absl|To enable the following)"
)
# How many programs, compiled for the shapes of windows, oneDNN keeps. By itself it keeps 1,024, and
# windows of 49 shapes by turns cost a MobileNetV2 FCN-8s a third more processor time.
_COMPILED = 4096


@contextmanager
def import_quietly() -> Iterator[None]:
    """Hold back standard error while the block runs; then print it without TensorFlow's messages.

    TF_CPP_MIN_LOG_LEVEL does not reach messages from before its logging is set up, nor does
    anything in Python, so the file descriptor itself is redirected. Without one, or once
    TensorFlow is imported, nothing is changed.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_COMPILED))
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    try:
        held = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError:
        # There is no room for it.
        os.close(kept)
        yield
        return
    with held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            with contextlib.suppress(OSError):
                for line in held:
                    if not _STARTUP_MESSAGES.match(line):
                        os.write(2, line)


@cache
def silence_pillow() -> None:
    """Have Pillow warn of nothing: what is wrong with an image is an error of ours."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


# Of each thread, whether HDF5 prints nothing there.
_HDF5 = threading.local()
_HDF5_LIBRARY = re.compile(r"/\S*/libhdf5[-.][^/\s]*")


def silence_hdf5() -> None:
    """Have HDF5, which GDAL reads with, print no errors in this thread: GDAL raises them.

    Each thread has an own stack of errors, which GDAL has never heard of. Libraries that threads
    may not call at the same time are left alone, such as that of h5py, which TensorFlow loads.
    """
    if getattr(_HDF5, "is_silent", False):
        return
    _HDF5.is_silent = True
    for library in _hdf5_libraries():
        library.H5Eset_auto2(ctypes.c_int64(0), None, None)


@cache
def _hdf5_libraries() -> tuple[ctypes.CDLL, ...]:
    """The libraries for threads that this process has loaded; none where it cannot be told."""
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8") as maps:
        paths = sorted(set(_HDF5_LIBRARY.findall(maps.read())))
        libraries = (ctypes.CDLL(path) for path in paths)
        return tuple(library for library in libraries if _is_for_threads(library))
    return ()


def _is_for_threads(library: ctypes.CDLL) -> bool:
    found = ctypes.c_bool()
    with contextlib.suppress(AttributeError):
        library.H5is_library_threadsafe(ctypes.byref(found))
    return found.value


# Parameters of mallopt in malloc.h of glibc.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


_LARGEST = 2**31 - 1


@cache
def reuse_memory() -> None:
    """Have all threads share one heap, and keep what is freed for the next array.

    By itself glibc returns large arrays to the kernel after every use, which then fills them with
    zeros again, and keeps smaller ones for the thread that freed them: with eight threads and
    PNG images of 29 million pixels a work unit took 919 MiB and 2.6 s without this, and 768 MiB and
    2.0 s with it (two cores, x86-64). Elsewhere than on glibc it does nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for parameter, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST)):
            library.mallopt(parameter, value)


def give_back_memory() -> None:
    """Give the kernel what is free in the heap, before work that needs pieces of other sizes.

    What windows leave is in pieces. A label map of 30,000 x 30,000 pixels, put together after its
    blocks, took 78 MiB beside them without this, and takes none with it. The next arrays cost a
    page fault every 4 KiB: 50 ms for 230 MiB. Elsewhere than on glibc it does nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
