"""`tf.train.Example` without TensorFlow: the same messages, declared to protobuf directly.

Lists of numbers are declared as bytes, which they are on the wire, and parsed only where one is
asked for: as objects they would take many times what they take in the record.

Schema: tensorflow/core/example/feature.proto and example.proto.
"""

from collections.abc import Collection
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from segmodel.errors import FailureCode, InputError

# A list with one number has at most a tag, a length and ten bytes.
_MAX_NUMBER_BYTES = 12
_SCHEMA = """
name: "beamseg/example.proto" package: "beamseg" syntax: "proto3"
message_type { name: "BytesList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature" oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 oneof_index: 0
    type: TYPE_MESSAGE type_name: ".beamseg.BytesList" }
  field { name: "float_list" number: 2 oneof_index: 0 type: TYPE_BYTES }
  field { name: "int64_list" number: 3 oneof_index: 0 type: TYPE_BYTES } }
message_type { name: "Features"
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".beamseg.Feature" } }
  field { name: "feature" number: 1 label: LABEL_REPEATED
    type: TYPE_MESSAGE type_name: ".beamseg.Features.FeatureEntry" } }
message_type { name: "Example"
  field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".beamseg.Features" } }
"""


def _classes() -> dict[str, Any]:
    """The message classes, in a pool of their own so that TensorFlow's may be loaded too."""
    file = text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [message.name for message in file.message_type]
    found = [pool.FindMessageTypeByName(f"{file.package}.{name}") for name in names]
    return dict(zip(names, map(message_factory.GetMessageClass, found), strict=True))


_CLASSES = _classes()
_NUMBERS = {"float_list": _CLASSES["FloatList"], "int64_list": _CLASSES["Int64List"]}


def parse_example(record: bytes, names: Collection[str] | None = None) -> dict[str, list[Any]]:
    """Features of a serialized example, each with its value in a list.

    Args:
        record: The example.
        names: Features whose value is wanted; None for all.

    Returns:
        By name, the only value; an empty list if there is none or several, or it is not wanted.

    Raises:
        InputError: If the record is no example.

    >>> example = serialize_example({"image/height": 3, "image/format": b"png"})
    >>> parse_example(example)
    {'image/format': [b'png'], 'image/height': [3]}
    >>> parse_example(example, ["image/height"])
    {'image/format': [], 'image/height': [3]}
    """
    try:
        features = _CLASSES["Example"].FromString(record).features.feature
        wanted = features if names is None else names
        return {name: _value(features[name]) if name in wanted else [] for name in sorted(features)}
    except DecodeError as error:
        raise InputError(
            "the record is not a tf.train.Example", code=FailureCode.CORRUPT_RECORD
        ) from error


def _value(feature: Any) -> list[Any]:
    """The only value of a feature in a list, or an empty one."""
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        values = feature.bytes_list.value
    elif kind is None or len(getattr(feature, kind)) > _MAX_NUMBER_BYTES:
        return []
    else:
        values = _NUMBERS[kind].FromString(getattr(feature, kind)).value
    return list(values) if len(values) == 1 else []


def serialize_example(values: dict[str, bytes | int]) -> bytes:
    """An example with one value in each feature; the same values give the same bytes."""
    example = _CLASSES["Example"]()
    features = example.features.feature
    for name, value in values.items():
        if isinstance(value, bytes):
            features[name].bytes_list.value.append(value)
        else:
            features[name].int64_list = _NUMBERS["int64_list"](value=[value]).SerializeToString()
    return bytes(example.SerializeToString(deterministic=True))
