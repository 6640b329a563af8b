"""Which samples are a nodata value, by GDAL's own rule."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# What GDAL allows between two numbers, as a share of their sum; for float64 too.
_TOLERANCE = 2 * float(np.finfo(np.float32).eps)


def is_nodata(samples: np.ndarray, nodata: float, dtype: str) -> np.ndarray:
    """Where samples are a nodata value.

    An integer is one if it is the nodata value without what stands behind its point. A float is one
    if it is near the nodata value, or so large that the sum of both is infinite: then the tag
    -3.4e38 stands for -3.4028235e38.

    Args:
        samples: Samples of a band, of its dtype or one that holds it.
        nodata: Nodata value of the band, which its dtype may not hold.
        dtype: Dtype of the band.

    Returns:
        Bool of the shape of the samples.

    >>> is_nodata(np.array([-3.4028235e38, -9999, 0], np.float32), -3.4e38, "float32")
    array([ True, False, False])
    >>> is_nodata(np.array([3, 4], np.uint8), 3.5, "uint8")
    array([ True, False])

    Source: `GDALNoDataMaskBand::IRasterIO` and `ARE_REAL_EQUAL` of GDAL 3.10.
    """
    kind = np.dtype(dtype)
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        if np.isnan(nodata) or not limits.min <= nodata <= limits.max:
            return np.zeros(samples.shape, bool)
        return np.asarray(samples == int(nodata))
    if np.isnan(nodata):
        return np.asarray(np.isnan(samples))
    found: np.ndarray | None = None
    for low, high in nodata_ranges(nodata, dtype):
        inside = samples == low if low == high else (samples >= low) & (samples <= high)
        found = inside if found is None else found | inside
    return np.zeros(samples.shape, bool) if found is None else np.asarray(found)


@lru_cache(1024)
def nodata_ranges(nodata: float, dtype: str) -> tuple[tuple[float, float], ...]:
    """Least and greatest sample of each range of floats that GDAL takes for a nodata value.

    Args:
        nodata: Nodata value; a number.
        dtype: `float32` or `float64`.
    """
    if nodata < 0:
        return tuple((-high, -low) for low, high in nodata_ranges(-nodata, dtype))
    kind = np.dtype(dtype)
    limits = np.finfo(kind)
    largest = float(limits.max)
    if nodata > largest:
        return ((nodata, nodata),) if np.isinf(nodata) else ()
    value = kind.type(abs(nodata))
    low, high = _near(value, 0.0), _near(value, largest)
    # From here on, the sum is rounded to infinity, and any difference is less.
    beyond = int(largest) + int(limits.max - np.nextafter(limits.max, kind.type(0))) // 2
    least = beyond - int(float(value))
    if least > int(largest):
        return ((low, high),)
    start = kind.type(least)
    if int(float(start)) < least:
        start = np.nextafter(start, kind.type(np.inf))
    if float(start) <= high:
        return ((min(low, float(start)), largest),)
    return ((low, high), (float(start), largest))


def _near(value: np.floating, toward: float) -> float:
    """The last number on the way from a value that GDAL takes for equal to it."""
    kind, bits = value.dtype, f"i{value.dtype.itemsize}"
    # As integers, floats that are not negative are in the same order.
    equal, other = int(value.view(bits)), int(kind.type(toward).view(bits))
    while abs(other - equal) > 1:
        middle = (equal + other) // 2
        number = np.array(middle, bits).view(kind)[()]
        with np.errstate(over="ignore"):
            is_equal = np.abs(number - value) < kind.type(_TOLERANCE) * np.abs(number + value)
        equal, other = (middle, other) if is_equal else (equal, middle)
    return float(np.array(equal, bits).view(kind)[()])


def is_rounded(nodata: float, dtype: str) -> bool:
    """Whether samples that are no nodata value by their digits are one by GDAL's rule.

    Those beside the nodata value of floats do not count: no program writes them.

    >>> is_rounded(-3.4e38, "float32"), is_rounded(-9999, "float32"), is_rounded(3.5, "uint8")
    (True, False, True)
    """
    if np.issubdtype(np.dtype(dtype), np.integer):
        return bool(np.isfinite(nodata)) and nodata != int(nodata)
    if not np.isfinite(nodata) or not np.issubdtype(np.dtype(dtype), np.floating):
        return False
    largest = float(np.finfo(dtype).max)
    return abs(nodata) < largest and nodata_ranges(abs(nodata), dtype)[-1][1] == largest
