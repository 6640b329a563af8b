"""Libraries print nothing of what is wrong with files, and the heap gives back what is free."""

from __future__ import annotations

import io
import platform
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import h5py
import numpy as np
import pytest
from PIL import Image

from segmodel.devices.startup import _hdf5_libraries, silence_pillow
from segmodel.errors import InputError
from segmodel.images.encoded import decode_pixels, image_size
from segmodel.rasters.opening import Opener


def test_hdf5_prints_nothing_in_any_thread_that_opens_rasters(tmp_path, capfd):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as target:
        target["red"] = np.zeros((64, 64), np.uint8)
    path.write_bytes(path.read_bytes()[:600])
    opener = Opener()

    def header(_: int) -> str:
        with pytest.raises(InputError) as caught, opener.env(str(path)):
            opener.open(str(path))
        return caught.value.code

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(header, range(4))) == ["cannot_read"] * 4
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_pillow_warns_of_no_damaged_image(kind):
    stream, options = io.BytesIO(), {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x05"}
    Image.new("RGB", (8, 8)).save(stream, kind, **(options if kind == "JPEG" else {}))
    damaged = stream.getvalue() if kind == "JPEG" else stream.getvalue()[:40]
    with warnings.catch_warnings(record=True, action="always") as told, suppress(OSError):
        Image.open(io.BytesIO(damaged)).getexif()
    silence_pillow.cache_clear()
    with warnings.catch_warnings(record=True, action="always") as caught:
        image_size(damaged)
        with suppress(InputError):
            decode_pixels(damaged, 3)
    assert [len(told) > 0, caught] == [True, []]


def test_hdf5_that_threads_may_not_call_at_the_same_time_is_left_alone():
    # That of h5py, which its users lock; two threads in it end the process.
    named = [library._name for library in _hdf5_libraries()]
    assert [name for name in named if "h5py" in name] == []


GIVES_BACK = """
import numpy as np
from segmodel.devices.startup import give_back_memory, reuse_memory

def resident_bytes():
    with open("/proc/self/statm") as file:
        return 4096 * int(file.read().split()[1])

reuse_memory()
arrays = [np.ones(1 << 20, np.uint8) for _ in range(64)]
arrays[:-1] = []
kept = resident_bytes()
give_back_memory()
print(kept - resident_bytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left alone")
def test_memory_that_is_free_in_the_heap_is_given_back_though_something_lies_behind_it():
    done = subprocess.run(
        [sys.executable, "-c", GIVES_BACK], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 60 << 20
