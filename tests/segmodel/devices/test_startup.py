"""Libraries print nothing of what is wrong with files: errors of ours say it."""

from __future__ import annotations

import io
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
