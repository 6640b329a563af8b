"""Examples are read without TensorFlow, as protobuf reads them, and never expanded."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from pipelines.formats import example
from segmodel.errors import FailureCode, InputError

VALUES = {"b": b"\x00" * 300, "empty": b"", "one": 1, "none": 0, "less": -7, "most": 2**63 - 1}


def field(number: int, content: bytes) -> bytes:
    """A field of bytes behind their length."""
    length, rest = [], len(content)
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes([number << 3 | 2, *length, rest]) + content


def feature(name: str, content: bytes) -> bytes:
    """An example with one feature, whose content is given."""
    return field(1, field(1, field(1, name.encode()) + field(2, content)))


def test_what_is_written_is_read():
    assert example.parse_example(example.serialize_example(VALUES)) == {
        key: [v] for key, v in VALUES.items()
    }
    assert example.parse_example(example.serialize_example({})) == example.parse_example(b"") == {}


def test_only_features_that_are_wanted_have_values():
    record = example.serialize_example(VALUES)
    expected = {name: [] for name in VALUES} | {"one": [1]}
    assert example.parse_example(record, ["one", "two"]) == expected


def test_examples_are_those_of_tensorflow():
    import tensorflow as tf

    ours = example.serialize_example(VALUES)
    parsed = tf.train.Example.FromString(ours).features.feature
    assert {name: parsed[name].WhichOneof("kind") for name in VALUES} == {
        name: "bytes_list" if isinstance(value, bytes) else "int64_list"
        for name, value in VALUES.items()
    }
    theirs = tf.train.Example()
    for name, value in VALUES.items():
        list_of = theirs.features.feature[name]
        (list_of.bytes_list if isinstance(value, bytes) else list_of.int64_list).value.append(value)
    theirs.features.feature["several"].bytes_list.value.extend([b"1", b"2"])
    theirs.features.feature["score"].float_list.value.append(0.5)
    theirs.features.feature["scores"].float_list.value.extend([0.5] * 99)
    theirs.features.feature["nothing"].SetInParent()
    expected = {key: [value] for key, value in VALUES.items()}
    expected |= {"several": [], "score": [0.5], "scores": [], "nothing": []}
    assert example.parse_example(theirs.SerializeToString()) == expected


def test_numbers_may_stand_one_by_one():
    assert example.parse_example(feature("n", field(3, b"\x08\xac\x02"))) == {"n": [300]}
    assert example.parse_example(feature("n", field(3, b"\x08\x01\x08\x02"))) == {"n": []}
    assert example.parse_example(feature("n", field(2, b"\x0d\x00\x00\x00\x3f"))) == {"n": [0.5]}


@pytest.mark.parametrize(
    "record",
    [
        b"\xff\xfe\xfd",
        b"\x0a\x05",
        b"\x0a" + b"\xff" * 10 + b"\x01",
        feature("n", b"\x1a\xff"),
        field(1, field(1, field(1, b"\xff"))),
        b"\x00\x00",
    ],
)
def test_what_is_no_example_is_refused(record):
    with pytest.raises(InputError, match=r"^the record is not a tf\.train\.Example$"):
        example.parse_example(record)


def test_damage_is_never_more_than_an_error_of_the_input():
    chance = random.Random(0)
    whole = example.serialize_example(VALUES)
    for _ in range(3000):
        broken = bytearray(whole)
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        try:
            example.parse_example(bytes(broken[: chance.randint(0, len(broken))]))
        except InputError:
            continue


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_many_values_are_not_made_objects_of(kind):
    content = field(kind, b"\n\0" * 10**6 if kind == 1 else field(1, b"\x01" * (1 << 20)))
    record = feature("image/encoded", content)
    tracemalloc.start()
    try:
        assert example.parse_example(record, ["image/encoded"]) == {"image/encoded": []}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(record)


def test_a_record_of_too_many_features_is_refused(monkeypatch):
    features = b"".join(field(1, field(1, b"%d" % number) + field(2, b"")) for number in range(99))
    # The features are a field, and so is each of them, its name and its value.
    monkeypatch.setattr(example, "MAX_FIELDS", 1 + 3 * 99)
    assert len(example.parse_example(field(1, features))) == 99
    monkeypatch.setattr(example, "MAX_FIELDS", 3 * 99)
    for record in (field(1, features), field(1, b"") * 298, field(1, field(1, b"") * 298)):
        with pytest.raises(InputError, match="more than 297 features and values") as caught:
            example.parse_example(record)
        assert caught.value.code == FailureCode.CORRUPT_RECORD
