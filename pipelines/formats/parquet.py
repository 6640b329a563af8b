"""Parquet files with encoded images, one a row."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.formats import shards
from pipelines.formats.work import PlanContext, ReadOptions
from pipelines.run.plan import InputFile
from pipelines.storage import filesystem
from segmodel.errors import (
    BeamsegError,
    ConfigurationError,
    FailureCode,
    InputError,
    TransientError,
)

# Rows are read a few at a time, by the average of their group, from which single ones may be far.
_READ_BYTES, _READ_ROWS = 8 << 20, 16
_WRITE_BYTES, _WRITE_ROWS = 16 << 20, 1024
_STREAM_BYTES = 1 << 20
_HEADER_BYTES = 64 << 20
# Pages are in memory as a whole. Encoded images hardly inflate; what does is small, or a bomb.
_INFLATED_BYTES, _MOST_INFLATED = 64 << 20, 100
# What Arrow says when memory is short.
_ASKED = re.compile(r"malloc of size (\d+) failed")
# A footer that states more is taken for corrupt.
_MAX_ROWS = 1 << 40
# Paths of the columns of image and, where there is one, name.
Columns = tuple[str, str | None]


class ParquetFormat(shards.ShardFormat):
    """A binary column, or a struct of `bytes` and `path` as dataset hubs write it."""

    name = "parquet"
    pattern = re.compile(r"\.(parquet|pq)\Z")
    examples = "Parquet files with a column of encoded images (.parquet)"
    label_field = "labels"

    def misfit(self, files: Sequence[InputFile], context: PlanContext) -> BeamsegError | None:
        """Why encoded images cannot feed the model, or that the first files have no images.

        What cannot be read fails by itself, with its reason.
        """
        unfit = super().misfit(files, context)
        if unfit is not None:
            return unfit
        reasons = []
        for file in files[:8]:
            try:
                with filesystem.open_stream(file.uri, file.stat) as stream:
                    schema = _opened(stream).schema_arrow
            except (InputError, OSError, TransientError):
                continue
            try:
                find_columns(schema, context.reading)
                return None
            except InputError as error:
                reasons.append(f"{file.key}: {error}")
        return ConfigurationError(reasons[0]) if reasons else None

    def samples(self, file: InputFile, reading: ReadOptions) -> shards.Samples:
        """Samples by rows; a corrupt group of rows costs its own rows alone."""
        with filesystem.open_stream(file.uri, file.stat) as stream:
            try:
                source = _opened(stream)
                columns = find_columns(source.schema_arrow, reading)
            except InputError as error:
                yield shards.UnreadableSample(
                    0, "", f"the file cannot be read: {error}", error.code
                )
                return
            first, file_bytes = 0, stream.seek(0, os.SEEK_END)
            for group in range(source.metadata.num_row_groups):
                yield from _group(source, file_bytes, group, first, columns, reading)
                first += source.metadata.row_group(group).num_rows

    @contextmanager
    def writer(self, path: str, zipped: bool, maps: shards.Maps) -> Iterator["_RowWriter"]:
        """A new file."""
        fields = [("record", pa.int64()), ("filename", pa.string())]
        fields += [("height", pa.int32()), ("width", pa.int32())]
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        fields += [(name, image if name == "image" else pa.binary()) for name in maps]
        schema = pa.schema(fields)
        # Encoded images do not get smaller.
        options: dict[str, Any] = {"compression": "none", "use_dictionary": False}
        with pq.ParquetWriter(
            path, schema, write_page_checksum=True, write_statistics=False, **options
        ) as target:
            rows = _RowWriter(target, schema)
            yield rows
            rows.flush()


def _opened(stream: IO[bytes]) -> pq.ParquetFile:
    """The file, read piece by piece, with a footer that makes sense.

    Hostile headers may not ask for more than a limit.

    Raises:
        InputError: If it has none.
    """
    try:
        source = pq.ParquetFile(
            stream,
            pre_buffer=False,
            buffer_size=_STREAM_BYTES,
            thrift_string_size_limit=_HEADER_BYTES,
            thrift_container_size_limit=1 << 20,
            page_checksum_verification=True,
            # A stored schema may name types that are programs of others.
            arrow_extensions_enabled=False,
        )
        described = source.metadata
        rows = [described.row_group(group).num_rows for group in range(described.num_row_groups)]
        # What is asked of it later is in the footer too.
        _ = [field.name for field in source.schema_arrow]
    except InputError:
        raise
    except Exception as error:
        raise InputError(_reason(error), code=FailureCode.CORRUPT_SHARD) from error
    if min(rows, default=0) < 0 or not sum(rows) == described.num_rows <= _MAX_ROWS:
        raise InputError(
            "its footer is corrupt: the rows of its groups are not those of the file",
            code=FailureCode.CORRUPT_SHARD,
        )
    return source


def _group(
    source: pq.ParquetFile,
    file_bytes: int,
    group: int,
    first: int,
    columns: Columns,
    reading: ReadOptions,
) -> shards.Samples:
    """Samples of one group of rows; where it is corrupt, an `UnreadableSample` ends it."""
    described = source.metadata.row_group(group)
    schema = source.schema_arrow
    wanted = list({_column_of(schema, path): None for path in columns if path is not None})
    number, end = first, first + described.num_rows
    try:
        size = _batch_rows(described, file_bytes)
        for batch in source.iter_batches(size, [group], wanted, use_threads=False):
            images, names = (_values(batch, column) for column in columns)
            for image, name in zip(images, names, strict=True):
                yield _sample(number, name, image, reading)
                number += 1
        if number != end:
            raise InputError(f"its rows end at {number - 1}")
    except Exception as error:
        is_too_large = isinstance(error, InputError) and error.code == FailureCode.TOO_LARGE
        code = FailureCode.TOO_LARGE if is_too_large else FailureCode.CORRUPT_SHARD
        why = str(error) if _asks_too_much(error, described) else _reason(error)
        fault = "" if is_too_large else "the group is corrupt: "
        reason = f"rows {number} to {end - 1} are lost: {fault}{why}"
        yield shards.UnreadableSample(number, "", reason, code)


def _batch_rows(described: pq.RowGroupMetaData, file_bytes: int) -> int:
    """Rows of a group that are read at once: few, and one by one where they may share a value.

    Raises:
        InputError: If a large group inflates far more than encoded images do.
    """
    stated: int = described.total_byte_size
    if stated <= _MOST_INFLATED * file_bytes:
        average: int = stated // max(1, described.num_rows)
        return max(1, min(_READ_ROWS, _READ_BYTES // max(1, average)))
    if stated > _INFLATED_BYTES:
        raise InputError(
            f"a file of {file_bytes} bytes inflates to a group of {stated}, which no encoded "
            f"images do: write it without (compression='none', use_dictionary=False)",
            code=FailureCode.TOO_LARGE,
        )
    return 1


def _values(batch: pa.RecordBatch, path: str | None) -> Iterator[list[bytes]]:
    """Values of a column as bytes, a list for each row, one at a time, as each is a copy.

    The list is empty where the column is null; a column of lists may give several.
    """
    if path is None:
        return repeat([], batch.num_rows)
    first, *inner = _steps(batch.schema, path) or [path]
    return _rows(batch.column(first), inner)


def _rows(column: pa.Array, inner: Sequence[str]) -> Iterator[list[bytes]]:
    if _is_list(column.type):
        for row in column:
            items = _rows(row.values, inner) if row.is_valid else ()
            yield [value for item in items for value in item]
        return
    if inner:
        yield from _rows(column.field(inner[0]), inner[1:])
        return
    if not is_binary(column.type):
        column = column.cast(pa.string()).cast(pa.binary())
    for value in column:
        yield [value.as_py()] if value.is_valid else []


def _sample(
    number: int, names: list[bytes], images: list[bytes], reading: ReadOptions
) -> shards.ShardSample | shards.UnreadableSample:
    text = b"".join(names[:1]).decode("utf-8", "surrogateescape")
    if len(images) > 1:
        reason = f"the row has a list of {len(images)} images: write a row for each"
        return shards.UnreadableSample(number, text, reason, FailureCode.SEVERAL_IMAGES)
    image = next(iter(images), None)
    if image is None:
        return shards.UnreadableSample(number, text, "the row has no image", FailureCode.NO_IMAGE)
    if len(image) > reading.max_encoded_bytes:
        reason = f"{len(image)} bytes are more than any image within --max_pixels has"
        return shards.UnreadableSample(number, text, reason, FailureCode.TOO_LARGE)
    return shards.ShardSample(number, text, image)


def _asks_too_much(error: Exception, described: pq.RowGroupMetaData) -> bool:
    """Whether memory was short for a page far larger than its group, which no retry would mend."""
    asked = _ASKED.search(str(error)) if isinstance(error, MemoryError) else None
    return asked is not None and int(asked[1]) > 2 * described.total_byte_size + _READ_BYTES


def _reason(error: Exception) -> str:
    """What is wrong with the content; a fault of disk, store or memory is raised again.

    Arrow raises OSError without a number for content that it cannot make sense of.
    """
    is_of_disk = isinstance(error, OSError) and error.errno is not None
    if is_of_disk or isinstance(error, MemoryError | TransientError):
        raise error
    return (str(error) or type(error).__name__).strip().splitlines()[0]


class _RowWriter:
    """A Parquet file that is being written, in groups of rows that do not depend on timing."""

    def __init__(self, target: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._target, self._schema = target, schema
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, entry: shards.ShardEntry) -> None:
        name, image = shards.printable_name(entry.name), entry.image[0] if entry.image else None
        row = vars(entry) | {"record": entry.number, "filename": name}
        row["image"] = None if image is None else {"bytes": image, "path": name}
        self._rows.append(row)
        parts = (image, entry.labels, entry.confidence)
        self._bytes += sum(len(part) for part in parts if part is not None)
        if len(self._rows) >= _WRITE_ROWS or self._bytes >= _WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows so far as a group."""
        if self._rows:
            self._target.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows, self._bytes = [], 0


# Where no column is named, the image is in the only column that can hold one, or in this one.
_IMAGE = "image"
_NAMES = ("filename", "file_name", "path", "key", "__key__")
_MAX_DEPTH = 8


def find_columns(schema: pa.Schema, reading: ReadOptions) -> Columns:
    """Where image and name are.

    Raises:
        InputError: If there is no such column, or several could be meant; names the columns.
    """
    found_so = list(_holders(schema))
    holders = {name: path for name, path, _ in found_so}
    wanted = reading.image_field
    if wanted is None:
        likely = [name for name, _, is_usual in found_so if is_usual] or list(holders)
        wanted = likely[0] if len(likely) == 1 else _IMAGE
    found = holders.get(wanted) or holders.get(wanted.removesuffix(".bytes"))
    if found is None:
        known = shards.join_names(f"{field.name} ({field.type})" for field in schema)
        raise InputError(
            f"no column {wanted!r} of encoded images; the columns are {known}: "
            f"{_remedy(schema, wanted)}name the right one with --image_field, or leave the file "
            f"out",
            code=FailureCode.NO_IMAGE,
        )
    name = reading.name_field
    if name is not None and not _is_text(_type_of(schema, name)):
        fault = f"no column {name!r} of text or numbers: name the right one with --name_field"
        raise InputError(fault, code=FailureCode.NO_IMAGE)
    if name is None:
        inside = [] if found in schema.names else [found.removesuffix("bytes") + "path"]
        others = (path for path in (*inside, *_NAMES) if path != found)
        name = next((path for path in others if _is_text(_type_of(schema, path))), None)
    return found, name


def _remedy(schema: pa.Schema, name: str) -> str:
    """How to make bytes of a column of numbers or of text, which may be encoded images."""
    index = schema.get_field_index(name)
    kind = schema.field(index).type if index >= 0 else pa.null()
    paths = ""
    if _is_list(kind) and pa.types.is_integer(kind.value_type):
        what, made = "its numbers are the bytes of a file", "bytes(row)"
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        what, made = "its text is base64", "base64.b64decode(row)"
        paths = "if it names files, give these to --input; "
    else:
        return ""
    return (
        f"if {what}, write them with pyarrow (pa) as table.set_column({index}, {name!r}, "
        f"pa.array([row and {made} for row in table[{name!r}].to_pylist()], pa.binary())); "
        f"{paths}else "
    )


def _type_of(schema: pa.Schema, path: str) -> pa.DataType | None:
    """Type of a column, or of a field of one that is a struct or a list of structs."""
    kind: Any = schema
    for step in _steps(schema, path) or ():
        kind = (kind if kind is schema else _item_type(kind)).field(step).type
    return None if kind is schema else kind


def _steps(fields: pa.Schema | pa.StructType, path: str) -> list[str] | None:
    """Names of column, field, field of that and so on that a path leads through; None if to none.

    Names may have dots.
    """
    if fields.get_field_index(path) >= 0:
        return [path]
    for dot in (place for place, letter in enumerate(path) if letter == "."):
        if fields.get_field_index(path[:dot]) >= 0:
            kind = _item_type(fields.field(path[:dot]).type)
            rest = _steps(kind, path[dot + 1 :]) if pa.types.is_struct(kind) else None
            if rest is not None:
                return [path[:dot], *rest]
    return None


def _column_of(schema: pa.Schema, path: str) -> str:
    """What is read for a path: a list is read whole, a field of a struct by itself."""
    kind: Any = schema
    read: list[str] = []
    for step in _steps(schema, path) or [path]:
        kind = kind.field(step) if kind is schema else kind.type.field(step)
        read.append(step)
        if _is_list(kind.type):
            break
    return ".".join(read)


def _is_list(kind: pa.DataType) -> bool:
    of_types = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_one(kind) for is_one in of_types)


def _item_type(kind: pa.DataType) -> pa.DataType:
    """Type of the items of a list; of others the type itself."""
    return kind.value_type if _is_list(kind) else kind


def _is_text(kind: pa.DataType | None) -> bool:
    """Whether values of this type can be written as text."""
    try:
        return kind is not None and pa.array([], kind).cast(pa.string()) is not None
    except pa.ArrowException:
        return False


def _holders(fields: Iterable[pa.Field], above: str = "") -> Iterator[tuple[str, str, bool]]:
    """What can hold encoded images: name, path of the bytes, and whether most files have it so.

    Most have a column of bytes, or of structs with `bytes`. Others have views or dictionaries of
    bytes, lists, or structs in structs.
    """
    for field in fields:
        kind, path = _item_type(field.type), f"{above}{field.name}"
        is_usual = not above and kind is field.type
        if is_binary(kind):
            yield path, path, is_usual and _is_plain(kind)
        elif pa.types.is_struct(kind):
            index = kind.get_field_index("bytes")
            if index >= 0 and is_binary(kind.field(index).type):
                yield path, f"{path}.bytes", is_usual and _is_plain(kind.field(index).type)
            elif above.count(".") < _MAX_DEPTH:
                yield from _holders(kind, f"{path}.")


def _is_plain(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Whether values of this type are bytes, however they are stored."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    other = pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind)
    return bool(_is_plain(kind) or (other and not pa.types.is_decimal(kind)))
