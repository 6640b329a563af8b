"""`tf.train.Example` without TensorFlow: the same messages, declared to protobuf directly.

Schema: tensorflow/core/example/feature.proto and example.proto.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from segmodel.errors import InputError

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "beamseg"


def _example_class() -> type[Message]:
    """The message class, in a pool of its own so that TensorFlow's may be loaded too."""
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
    for number, name in enumerate(("bytes", "float", "int64"), 1):
        field = feature.field.add(
            name=f"{name}_list", number=number, label=_FIELD.LABEL_OPTIONAL, oneof_index=0
        )
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{name.capitalize()}List"
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
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


def _message_field(message, name: str, number: int, kind: str, label: int) -> None:
    field = message.field.add(name=name, number=number, label=label)
    field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


_Example = _example_class()


def parse(record: bytes) -> dict[str, list]:
    """Values of each feature of a serialized example.

    Raises:
        InputError: If the record is no example.

    >>> parse(serialize({"image/height": 3, "image/format": b"png"}))
    {'image/format': [b'png'], 'image/height': [3]}
    """
    try:
        features = _Example.FromString(record).features.feature
    except DecodeError as error:
        raise InputError("the record is not a tf.train.Example") from error
    values = {}
    for name in sorted(features):
        kind = features[name].WhichOneof("kind")
        values[name] = list(getattr(features[name], kind).value) if kind else []
    return values


def serialize(values: dict[str, bytes | int]) -> bytes:
    """An example with one value in each feature; the same values give the same bytes."""
    example = _Example()
    features = example.features.feature
    for name, value in values.items():
        feature = features[name]
        target = feature.bytes_list if isinstance(value, bytes) else feature.int64_list
        target.value.append(value)
    return example.SerializeToString(deterministic=True)
