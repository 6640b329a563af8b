"""Checksums are those of RFC 3720 over parts, each behind its length."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.storage.digests import Checksum
from tests.pipelines.checksums import checksum_of, crc32c


def made_of(*parts: bytes | np.ndarray) -> str:
    checksum = Checksum()
    checksum.add(*parts)
    return str(checksum)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)],
)
def test_the_reference_of_these_tests_gives_what_the_standard_lists(content, expected):
    assert crc32c(content) == expected


@pytest.mark.parametrize(
    "parts", [(), (b"",), (b"ab",), (b"a", b"b"), (b"ab", b""), (b"", b"ab"), (bytes(8),)]
)
def test_parts_count_with_their_lengths(parts):
    assert made_of(*parts) == checksum_of(*parts)


def test_parts_that_differ_in_where_they_end_differ():
    split = [(), (b"",), (b"", b""), (b"ab",), (b"a", b"b"), (b"ab", b""), (b"", b"ab")]
    assert len({made_of(*parts) for parts in split}) == len(split)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int16", "float32"])
def test_arrays_count_as_their_values_row_by_row_and_stay_as_they_are(dtype):
    values = (np.arange(24) % 7).reshape(2, 4, 3).astype(dtype)
    for view in (values, values[:, ::2], values.transpose(2, 0, 1), values[:0]):
        assert made_of(view) == checksum_of(view.tobytes())
    assert values.flags.writeable


def test_what_is_added_at_once_or_one_by_one_is_the_same():
    checksum = Checksum()
    for part in (b"a", np.zeros(3), b""):
        checksum.add(part)
    assert str(checksum) == made_of(b"a", np.zeros(3), b"")
