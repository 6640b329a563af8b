"""Which samples are a nodata value: those that GDAL takes for one, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile

from segmodel.rasters.nodata import is_nodata

MAX = {name: float(np.finfo(name).max) for name in ("float32", "float64")}
FLOATS = [0.0, -0.0, 1.0, 0.1, -9999, 1e10, 1e-40, -3.4e38, 3e38, 1e38, -1e38, 1.2e31, 2e37]
FLOATS += [float("nan"), np.inf, -np.inf]


def around(value: float, dtype: str, steps: int) -> list[float]:
    """The numbers of a dtype next to a value."""
    bits = f"i{np.dtype(dtype).itemsize}"
    middle = np.abs(np.array(value, dtype)).view(bits)
    found = (middle + np.arange(-steps, steps + 1)).astype(bits).view(dtype)
    return [*found.tolist(), *(-found).tolist()]


def masked_by_gdal(samples: np.ndarray, nodata: float) -> tuple[np.ndarray, float]:
    """Where GDAL takes samples for nodata, and the value that it reports."""
    profile = {"driver": "GTiff", "count": 1, "height": 1, "width": samples.shape[1]}
    with MemoryFile() as file:
        with file.open(**profile, dtype=samples.dtype) as target:
            target.write(samples, 1)
        with rasterio.open(file.name, "r+") as target:
            target.nodata = nodata
        with file.open() as source:
            return source.read_masks(1) == 0, source.nodata


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_nodata_where_gdal_says_so(dtype):
    most, random = MAX[dtype], np.random.default_rng(0)
    values = [*FLOATS, most, -most, most / 2, most / 2 * 1.0001, -most * 0.999]
    values += [1e308, -1.7e308, 1e300] if dtype == "float64" else []
    for nodata in values:
        numbers = [0, np.nan, np.inf, -np.inf, *((random.random(100) * 2 - 1) * most)]
        if np.isfinite(nodata):
            numbers += [*around(nodata, dtype, 20), *around(most - abs(nodata), dtype, 5)]
            numbers += [value * 2e-7 + value for value in (nodata, -nodata)]
        with np.errstate(over="ignore"):
            samples = np.array([numbers], dtype)
        expected, reported = masked_by_gdal(samples, nodata)
        actual = is_nodata(samples, reported, dtype)
        np.testing.assert_array_equal(actual, expected, err_msg=str(nodata))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint8", 0), ("uint8", 3.5), ("int16", -0.5), ("int16", -32768), ("uint16", 65535.0)],
)
def test_integers_are_nodata_where_gdal_says_so(dtype, nodata):
    limits = np.iinfo(dtype)
    samples = np.array([[0, 1, 3, 4, limits.min, limits.max]], dtype)
    expected, reported = masked_by_gdal(samples, nodata)
    np.testing.assert_array_equal(is_nodata(samples, reported, dtype), expected)


def test_a_band_that_was_widened_is_compared_as_its_own_dtype():
    samples = np.array([-3.4028234663852886e38, -9999.001, 0], np.float64)
    assert is_nodata(samples, -3.4e38, "float32").tolist() == [True, False, False]
    assert is_nodata(samples, -9999, "float32").tolist() == [False, True, False]
    assert is_nodata(np.array([-1, 3], np.int32), -1, "uint8").tolist() == [False, False]
