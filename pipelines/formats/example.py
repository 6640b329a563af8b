"""`tf.train.Example` without TensorFlow: the same messages, declared to protobuf directly.

Lists of numbers are declared as bytes, which they are on the wire, and parsed only where one is
asked for: as objects they would take many times what they take in the record.

Schema: tensorflow/core/example/feature.proto and example.proto.
"""

from collections.abc import Collection

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from segmodel.errors import InputError

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "beamseg"
# A list with one number has at most a tag, a length and ten bytes.
_MAX_NUMBER_BYTES = 12


def _classes() -> dict[str, type[Message]]:
    """The message classes, in a pool of their own so that TensorFlow's may be loaded too."""
    file = descriptor_pb2.FileDescriptorProto(
        name="beamseg/example.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, kind in (
        ("BytesList", _FIELD.TYPE_BYTES),
        ("FloatList", _FIELD.TYPE_FLOAT),
        ("Int64List", _FIELD.TYPE_INT64),
    ):
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, label=_FIELD.LABEL_REPEATED, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), 1):
        field = feature.field.add(
            name=name, number=number, label=_FIELD.LABEL_OPTIONAL, oneof_index=0
        )
        field.type = _FIELD.TYPE_BYTES
    field = feature.field[0]
    field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.BytesList"
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
    _message_field(entry, "value", 2, "Feature", _FIELD.LABEL_OPTIONAL)
    _message_field(features, "feature", 1, "Features.FeatureEntry", _FIELD.LABEL_REPEATED)
    _message_field(
        file.message_type.add(name="Example"), "features", 1, "Features", _FIELD.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [message.name for message in file.message_type]
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in names
    }


def _message_field(message, name: str, number: int, kind: str, label: int) -> None:
    field = message.field.add(name=name, number=number, label=label)
    field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


_CLASSES = _classes()
_NUMBERS = {"float_list": _CLASSES["FloatList"], "int64_list": _CLASSES["Int64List"]}


def parse_example(record: bytes, names: Collection[str] | None = None) -> dict[str, list]:
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
        raise InputError("the record is not a tf.train.Example") from error


def _value(feature) -> list:
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
    return example.SerializeToString(deterministic=True)
