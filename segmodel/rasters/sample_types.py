"""Sample types: which ones a model can be given, and what to do about others."""

from __future__ import annotations

import numpy as np

# Whole numbers that float32 holds without a gap.
_EXACT_IN_FLOAT32 = 1 << 24
# Fewest steps of whole numbers in the range of a model that was made for them.
MIN_STEPS = 16
_GDAL_NAMES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32"}


def is_convertible(dtype: str, to: str, value_range: tuple[float, float]) -> bool:
    """Whether samples can be converted to the type of a model without another meaning.

    That is so where both types hold every value of the model's range. Wider floating-point types
    are rounded to float32. Bytes are not given to a model of 0 to 10,000: they are values of
    another unit.

    Args:
        dtype: Type of the samples, as rasterio names it.
        to: Type that the model takes.
        value_range: Least and greatest raw value of the model.

    >>> is_convertible("uint8", "float32", (0, 255)), is_convertible("float64", "float32", (0, 1))
    (True, True)
    >>> is_convertible("uint8", "uint16", (0, 10000)), is_convertible("uint16", "uint8", (0, 255))
    (False, False)
    """
    if dtype == to:
        return True
    try:
        given, target = np.dtype(dtype), np.dtype(to)
    except TypeError:
        return False
    low, high = value_range
    if given.kind == "f":
        return target.kind == "f"
    if given.kind not in "iu":
        return False
    limits = np.iinfo(given)
    if not limits.min <= low < high <= limits.max:
        return False
    if target.kind == "f":
        return -_EXACT_IN_FLOAT32 <= low <= high - MIN_STEPS and high <= _EXACT_IN_FLOAT32
    return np.can_cast(given, target)


def conversion_remedy(dtype: str, to: str, value_range: tuple[float, float]) -> str:
    """What to do about samples that a model cannot be given.

    Args:
        dtype: Type of the samples, as rasterio names it.
        to: Type that the model takes.
        value_range: Least and greatest raw value of the model.

    >>> conversion_remedy("uint16", "uint8", (0, 255)).partition(",")[0]
    'convert it with gdal_translate -ot Byte -scale LOW HIGH 0 255'
    >>> conversion_remedy("int16", "float32", (0.0, 16777216.0)).partition(",")[0]
    'convert it with gdal_translate -ot Float32 -scale LOW HIGH 0 16777216'
    """
    if dtype.startswith("complex"):
        calculation = 'gdal_calc.py -A IN --outfile=OUT --type=Float32 --calc="abs(A)"'
        return f"give it real numbers, for example the amplitude ({calculation})"
    low, high = (f"{limit:.10g}" for limit in value_range)
    clipping = "" if to == "float32" else f" (without -scale, -ot clips what {to} cannot hold)"
    return (
        f"convert it with gdal_translate -ot {_GDAL_NAMES[to]} -scale LOW HIGH {low} {high}, "
        f"where LOW and HIGH are its values for {low} and {high}{clipping}"
    )
