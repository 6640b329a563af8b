"""Where the columns of a Parquet file have images and names."""

from dataclasses import dataclass

import pyarrow as pa

from pipelines.formats.samples import join_names
from pipelines.formats.work import ReadOptions
from segmodel.errors import InputError

# Where no column is named, the image is in the only column that can hold one, or in this one.
_IMAGE = "image"
_NAMES = ("filename", "file_name", "path", "key", "__key__")


@dataclass(frozen=True)
class Columns:
    """Paths of the columns of image and, where there is one, name."""

    image: str
    name: str | None


def find_columns(schema: pa.Schema, reading: ReadOptions) -> Columns:
    """Where image and name are.

    Raises:
        InputError: If there is no such column, or several could be meant; names the columns.
    """
    holders = {}
    for field in schema:
        inner = _holder(field)
        if inner is not None:
            holders[field.name] = inner
    wanted = reading.image_field
    if wanted is None:
        wanted = next(iter(holders)) if len(holders) == 1 else _IMAGE
    found = holders.get(wanted) or holders.get(wanted.removesuffix(".bytes"))
    if found is None:
        raise InputError(
            f"no column {wanted!r} of encoded images; the columns are "
            f"{join_names(f'{field.name} ({field.type})' for field in schema)}: name the right one "
            f"with --image_field, or leave the file out"
        )
    name = reading.name_field
    if name is not None and not _is_text(_type_of(schema, name)):
        raise InputError(
            f"no column {name!r} of text or numbers: name the right one with --name_field"
        )
    if name is None:
        inside = [] if found in schema.names else [found.removesuffix("bytes") + "path"]
        likely = (path for path in (*inside, *_NAMES) if path != found)
        name = next((path for path in likely if _is_text(_type_of(schema, path))), None)
    return Columns(found, name)


def _type_of(schema: pa.Schema, path: str) -> pa.DataType | None:
    """Type of a column, or of a field of one that is a struct."""
    if schema.get_field_index(path) >= 0:
        return schema.field(path).type
    outer, _, inner = path.rpartition(".")
    if schema.get_field_index(outer) < 0:
        return None
    struct = schema.field(outer).type
    known = pa.types.is_struct(struct) and struct.get_field_index(inner) >= 0
    return struct.field(inner).type if known else None


def _is_text(kind: pa.DataType | None) -> bool:
    """Whether values of this type can be written as text."""
    try:
        return kind is not None and pa.array([], kind).cast(pa.string()) is not None
    except pa.ArrowException:
        return False


def _holder(field: pa.Field) -> str | None:
    """Path of the bytes in a column that can hold encoded images, or None."""
    if is_binary(field.type):
        return field.name
    if pa.types.is_struct(field.type):
        index = field.type.get_field_index("bytes")
        if index >= 0 and is_binary(field.type.field(index).type):
            return f"{field.name}.bytes"
    return None


def is_binary(kind: pa.DataType) -> bool:
    """Whether values of this type are bytes."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
