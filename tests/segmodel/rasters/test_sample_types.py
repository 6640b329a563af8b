"""Samples are converted where no value gets another meaning; else the message says how."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmodel.rasters.sample_types import conversion_remedy, is_convertible
from segmodel.savedmodel.contract import DTYPES

GIVEN = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
REFLECTANCE, UNIT, BYTES, SIGNED = (0, 10_000), (0, 1), (0, 255), (-3000, 3000)


@pytest.mark.parametrize(
    ("to", "value_range", "expected"),
    [
        ("uint8", BYTES, {"uint8"}),
        ("uint16", BYTES, {"uint8", "uint16"}),
        ("uint16", REFLECTANCE, {"uint16"}),
        ("int16", BYTES, {"uint8", "int16"}),
        ("int16", SIGNED, {"int16"}),
        ("float32", UNIT, {"float16", "float32", "float64"}),
        ("float32", BYTES, set(GIVEN) - {"int8"}),
        ("float32", REFLECTANCE, set(GIVEN) - {"int8", "uint8"}),
        ("float32", SIGNED, {"int16", "int32", "float16", "float32", "float64"}),
        ("float32", (0, 1e9), {"float16", "float32", "float64"}),
    ],
)
def test_only_types_that_hold_the_range_of_the_model_are_converted(to, value_range, expected):
    assert {dtype for dtype in GIVEN if is_convertible(dtype, to, value_range)} == expected


@pytest.mark.parametrize("dtype", ["complex_int16", "complex64", "complex128"])
def test_complex_numbers_are_refused_with_a_remedy(dtype):
    assert not is_convertible(dtype, "float32", UNIT)
    assert "abs(A)" in conversion_remedy(dtype, "float32", UNIT)


@given(
    st.sampled_from([d for d in GIVEN if d[0] in "ui"]),
    st.sampled_from(DTYPES),
    st.integers(-70_000, 70_000),
    st.integers(16, 70_000),
    st.floats(0, 1),
)
def test_whole_numbers_within_the_range_are_converted_exactly(dtype, to, low, size, share):
    limits = np.iinfo(dtype)
    if not limits.min <= low < low + size <= limits.max:
        return
    if not is_convertible(dtype, to, (low, low + size)):
        return
    value = np.array(low + int(share * size)).astype(dtype)
    assert value.astype(to) == value == low + int(share * size)


def test_the_remedy_has_the_range_of_the_model():
    remedy = conversion_remedy("float32", "int16", (-100.0, 2500.5))
    assert "gdal_translate -ot Int16 -scale LOW HIGH -100 2500.5," in remedy
