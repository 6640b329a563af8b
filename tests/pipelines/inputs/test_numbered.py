"""Shards that are missing, by the numbers in the names of others."""

from __future__ import annotations

import pytest

from pipelines.inputs.numbered import missing_shards


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.tfrecord"], []),
        (["a-00000-of-00001.tfrecord"], []),
        (["a-00001-of-00002.tar", "a-00000-of-00002.tar.gz"], []),
        (["a-1-of-2.tar", "a-2-of-2.tar"], []),
        (["a-00001-of-00003.tar", "a-00002-of-00003.tar"], ["a-00000-of-00003.tar"]),
        (["a-00001-of-00003.tar", "a-00003-of-00003.tar"], ["a-00002-of-00003.tar"]),
        (
            ["x/a-00000-of-00002.tar", "y/a-00001-of-00002.tar"],
            ["x/a-00001-of-00002.tar", "y/a-00000-of-00002.tar"],
        ),
        (["a.tfrecord-00000-of-00002"], ["a.tfrecord-00001-of-00002"]),
        (["b-00000-of-00002-0af3e.parquet"], ["b-00001-of-00002-*.parquet"]),
        (["a-00007-of-00003.tar", "a-of-3.tar", "a-00000-of-00000.tar"], []),
    ],
)
def test_what_is_missing_follows_from_the_names_of_what_is_there(names, expected):
    missing = missing_shards(names)

    assert [name for found in missing.sets for name in found.missing] == expected
    assert missing.shards == len(expected)


def test_a_hostile_number_takes_neither_time_nor_memory():
    missing = missing_shards(["a-00000-of-99999999.tar", "b-0-of-9999999999999.tar"])

    assert missing.shards == 99_999_998
    assert [len(found.missing) for found in missing.sets] == [3]
