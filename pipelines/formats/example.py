"""`tf.train.Example` without TensorFlow: read field by field, and written by protobuf's rules.

Of a record only what is asked for is made an object, and the number of fields that are looked at
has a limit: as messages of protobuf, empty ones would take many times what they take in the record.

Schema: tensorflow/core/example/feature.proto and example.proto. Wire format:
https://protobuf.dev/programming-guides/encoding.
"""

import struct
from collections.abc import Collection, Iterator
from typing import Any

from segmodel.errors import FailureCode, InputError

# Fields of a record that are looked at; each takes a microsecond.
MAX_FIELDS = 1 << 18
# A list with one number has at most a tag, a length and ten bytes.
_MAX_NUMBER_BYTES = 12
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_WIDTHS = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
# Numbers of fields: of a feature its key and value, of a value its kind.
_KEY, _VALUE = 1, 2
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


class _Fields:
    """Fields of the messages of a record, up to a number of them in all."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def of(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Number and value of each field of a message.

        Raises:
            InputError: If it is none, or has too many fields.
        """
        place = 0
        while place < len(message):
            self._left -= 1
            if self._left < 0:
                raise InputError(
                    f"the record has more than {MAX_FIELDS} features and values",
                    code=FailureCode.CORRUPT_RECORD,
                )
            tag, place = _varint(message, place)
            number, kind = tag >> 3, tag & 7
            if not number or kind not in (_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES):
                raise _no_example()
            length = _WIDTHS.get(kind, 0)
            if kind in (_VARINT, _BYTES):
                length, place = _varint(message, place)
            if kind == _VARINT:
                yield number, length
                continue
            end = place + length
            if end > len(message):
                raise _no_example()
            yield number, message[place:end]
            place = end

    def messages(self, message: memoryview, number: int) -> Iterator[memoryview]:
        """The messages or bytes in all fields of one number; others are passed over."""
        for found, value in self.of(message):
            if found == number and isinstance(value, memoryview):
                yield value


def _no_example() -> InputError:
    return InputError("the record is not a tf.train.Example", code=FailureCode.CORRUPT_RECORD)


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The whole number at a place, and the place behind it."""
    value = 0
    for shift, byte in enumerate(message[place : place + 10]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value & (1 << 64) - 1, place + shift + 1
    raise _no_example()


def parse_example(record: bytes, names: Collection[str] | None = None) -> dict[str, list[Any]]:
    """Features of a serialized example, each with its value in a list.

    Args:
        record: The example.
        names: Features whose value is wanted; None for all.

    Returns:
        By name, the only value; an empty list if there is none or several, or it is not wanted.

    Raises:
        InputError: If the record is no example, or has too many fields.

    >>> example = serialize_example({"image/height": 3, "image/format": b"png"})
    >>> parse_example(example)
    {'image/format': [b'png'], 'image/height': [3]}
    >>> parse_example(example, ["image/height"])
    {'image/format': [], 'image/height': [3]}
    """
    fields, found = _Fields(), dict[str, memoryview]()
    for features in fields.messages(memoryview(record), 1):
        for entry in fields.messages(features, 1):
            key, feature = memoryview(b""), memoryview(b"")
            for number, part in fields.of(entry):
                if number == _KEY and isinstance(part, memoryview):
                    key = part
                elif number == _VALUE and isinstance(part, memoryview):
                    feature = part
            try:
                found[str(key, "utf-8")] = feature
            except UnicodeDecodeError as error:
                raise _no_example() from error
    return {
        name: _value(fields, found[name]) if names is None or name in names else []
        for name in sorted(found)
    }


def _value(fields: _Fields, feature: memoryview) -> list[Any]:
    """The only value of a feature in a list, or an empty one."""
    kind, lists = 0, list[memoryview]()
    for number, part in fields.of(feature):
        if number in (_BYTES_LIST, _FLOAT_LIST, _INT64_LIST) and isinstance(part, memoryview):
            # Of several kinds the last counts; lists of one kind are one list.
            lists = [*lists, part] if number == kind == _BYTES_LIST else [part]
            kind = number
    values: list[Any] = []
    for part in lists:
        if kind != _BYTES_LIST and len(part) > _MAX_NUMBER_BYTES:
            return []
        for value in fields.of(part):
            values += _values(kind, *value)
            if len(values) > 1:
                return []
    return values


def _values(kind: int, number: int, value: int | memoryview) -> list[Any]:
    """Values in a field of a list: bytes, or numbers, which may be packed."""
    if number != 1:
        return []
    if kind == _BYTES_LIST:
        return [bytes(value)] if isinstance(value, memoryview) else []
    if kind == _FLOAT_LIST:
        return [] if isinstance(value, int) else [n for (n,) in struct.iter_unpack("<f", value)]
    numbers, place = [], 0
    if isinstance(value, int):
        numbers = [value]
    while isinstance(value, memoryview) and place < len(value):
        number, place = _varint(value, place)
        numbers.append(number)
    return [number - (1 << 64) if number >> 63 else number for number in numbers]


def serialize_example(values: dict[str, bytes | int]) -> bytes:
    """An example with one value in each feature; the same values give the same bytes."""
    entries = []
    for name, value in sorted(values.items()):
        if isinstance(value, bytes):
            feature = _field(_BYTES_LIST, _field(1, value))
        else:
            feature = _field(_INT64_LIST, _field(1, _packed(value & (1 << 64) - 1)))
        entries.append(_field(1, _field(_KEY, name.encode()) + _field(_VALUE, feature)))
    return _field(1, b"".join(entries)) if entries else b""


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | _BYTES]) + _packed(len(content)) + content


def _packed(number: int) -> bytes:
    """A whole number of 64 bits without sign, seven bits a byte."""
    content = bytearray()
    while number > 127:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes([*content, number])
