"""Handles of rasters: a bounded number is open, each for one thread at a time."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio

from segmodel.errors import InputError
from segmodel.rasters import opening
from segmodel.rasters.opening import Opener
from segmodel.rasters.reader import OpenRasters, RasterHandle
from tests.segmodel.pairs.test_pairs import geotiff


def value(handle: RasterHandle) -> int:
    return handle.read(lambda source: int(source.read(1)[0, 0]), "cannot be read")


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Paths in the order in which they were opened."""
    paths: list[str] = []
    genuine = rasterio.open
    monkeypatch.setattr(
        opening.rasterio,
        "open",
        lambda path, *mode, **options: paths.append(path) or genuine(path, *mode, **options),
    )
    return paths


def test_a_bounded_number_of_rasters_stays_open(tmp_path, opened):
    paths = [str(geotiff(tmp_path / f"{n}.tif", np.full((1, 4, 4), n, np.uint8))) for n in range(6)]
    opened.clear()
    files = OpenRasters(max_open=2)
    handles = [RasterHandle(path, Opener(), files=files) for path in paths]
    assert [value(handle) for handle in handles[:2] * 3] == [0, 1] * 3
    assert opened == paths[:2]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(value, handles * 20)) == list(range(6)) * 20
    before = len(opened)
    value(handles[5])
    value(handles[4])
    assert len(opened) - before <= 2
    descriptors = os.listdir("/proc/self/fd")
    links = {os.path.realpath(f"/proc/self/fd/{number}") for number in descriptors}
    assert len(links & set(paths)) <= 2


def test_what_gdal_keeps_of_rasters_has_a_fixed_size_in_every_thread(tmp_path):
    path = str(geotiff(tmp_path / "a.tif", np.zeros((1, 2, 2), np.uint8)))
    with rasterio.Env(GDAL_CACHEMAX=1 << 30):
        pass

    def limit() -> int:
        handle = RasterHandle(path, Opener(64 << 20))
        return handle.read(lambda _: rasterio.env.get_gdal_config("GDAL_CACHEMAX"), "no")

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(limit).result(), pool.submit(limit).result(), limit()]
    assert found == [64 << 20] * 3


def test_after_an_error_a_raster_is_opened_anew(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"nothing")
    handle = RasterHandle(str(path), Opener())
    with pytest.raises(InputError, match=r"cannot be read: .*not recognized"):
        value(handle)
    geotiff(path, np.full((1, 2, 2), 3, np.uint8))
    assert value(handle) == 3


def test_a_file_that_was_replaced_is_opened_anew(tmp_path):
    path: Path = geotiff(tmp_path / "a.tif", np.full((1, 2, 2), 3, np.uint8))
    handle = RasterHandle(str(path), Opener())
    assert value(handle) == 3
    geotiff(path, np.full((1, 9, 9), 4, np.uint8))
    assert value(handle) == 4


def test_a_raster_without_a_place_is_opened_without_a_warning_whatever_other_threads_do(tmp_path):
    path = str(tmp_path / "plain.tif")
    opener = Opener()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", "GTiff", height=1, width=1, count=1, dtype="uint8"):
            pass

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with opener.env(path):
            # As another thread may, which must leave the filters of warnings as they are.
            opener.open(path).close()
            rasterio.open(path).close()

    assert caught == []
