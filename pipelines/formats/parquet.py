"""Parquet files with encoded images, one a row."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.formats import shards
from pipelines.formats.parquet_pages import PageStream
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

_WRITE_BYTES, _WRITE_ROWS = 16 << 20, 1024
_STREAM_BYTES = 1 << 20
_HEADER_BYTES = 64 << 20
# Pages of an image may have so many, or as many as any image; four times as many are in memory.
_PAGE_BYTES = 128 << 20
# Those of its name have a part.
_NAME_PART = 4
# What a value of a list takes beside its bytes: levels, offset, index and validity.
_LISTED_BYTES = 16
# A footer that states more is taken for corrupt.
_MAX_ROWS = 1 << 40
_OPTIONS: dict[str, Any] = {
    "pre_buffer": False,
    "buffer_size": _STREAM_BYTES,
    # Hostile headers may not ask for more than a limit.
    "thrift_string_size_limit": _HEADER_BYTES,
    "thrift_container_size_limit": 1 << 20,
    "page_checksum_verification": True,
    # A stored schema may name types that are programs of others.
    "arrow_extensions_enabled": False,
}
# Paths of the columns of image and, where there is one, name.
Columns = tuple[str, str | None]


class ParquetFormat(shards.ShardFormat):
    """A binary column, or a struct of `bytes` and `path` as dataset hubs write it."""

    name = "parquet"
    pattern = re.compile(r"\.(parquet|pq)\Z")
    examples = "Parquet files with a column of encoded images (.parquet)"
    label_field = "labels"
    confidence_field = "confidence"

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
                paths = find_columns(source.schema_arrow, reading)
                limits = _page_limits(reading)
                columns = [
                    None if path is None else _Column(stream, source, path, most)
                    for path, most in zip(paths, limits, strict=True)
                ]
            except InputError as error:
                yield shards.UnreadableSample(
                    0, "", f"the file cannot be read: {error}", error.code
                )
                return
            first = 0
            for group in range(source.metadata.num_row_groups):
                rows = source.metadata.row_group(group).num_rows
                yield from _group(columns, group, range(first, first + rows), reading)
                first += rows

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

    Raises:
        InputError: If it has none.
    """
    try:
        source = pq.ParquetFile(stream, **_OPTIONS)
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


def _page_limits(reading: ReadOptions) -> tuple[int, int]:
    """Bytes that pages of an image, and of its name, may take."""
    most = max(_PAGE_BYTES, reading.max_encoded_bytes)
    return most, most // _NAME_PART


def _group(
    columns: Sequence["_Column | None"], group: int, numbers: range, reading: ReadOptions
) -> shards.Samples:
    """Samples of one group of rows; where it is corrupt, an `UnreadableSample` ends it."""
    number, end = numbers.start, numbers.stop
    try:
        nothing = repeat(_NO_VALUE, len(numbers))
        values = (nothing if column is None else column.rows(group) for column in columns)
        for image, name in zip(*values, strict=False):
            yield _sample(number, name, image, reading)
            number += 1
        if number != end:
            raise InputError(f"its rows end at {number - 1}")
    except Exception as error:
        is_too_large = isinstance(error, InputError) and error.code == FailureCode.TOO_LARGE
        code = FailureCode.TOO_LARGE if is_too_large else FailureCode.CORRUPT_SHARD
        fault = "" if is_too_large else "the group is corrupt: "
        reason = f"rows {number} to {end - 1} are lost: {fault}{_reason(error)}"
        yield shards.UnreadableSample(number, "", reason, code)


@dataclass(frozen=True)
class _Value:
    """What a column has in a row: how many values, as a list has any number, and the first."""

    count: int
    first: bytes | None


_NO_VALUE = _Value(0, None)


class _Column:
    """A column that is read row by row, as a dictionary may give any number of rows a large value.

    Args:
        stream: The file.
        source: The same, opened.
        path: Path of the column, which `find_columns` has found.
        most: Bytes that the pages of a row may take.

    Raises:
        InputError: If its values are too large, or several columns have its name.
    """

    def __init__(self, stream: IO[bytes], source: pq.ParquetFile, path: str, most: int) -> None:
        self._leaf, self._inner, leaf_type, is_list = _leaf_of(source, path)
        width = leaf_type.byte_width if pa.types.is_fixed_size_binary(leaf_type) else 0
        self._pages = PageStream(stream, most, (_LISTED_BYTES + width) if is_list else 0)
        if width > most:
            raise InputError(
                f"each value of column {path!r} has {width} bytes, and the limit is {most}: write "
                f"it as binary",
                code=FailureCode.TOO_LARGE,
            )
        # In a list, a dictionary may give one row any number of large values.
        self._file = pq.ParquetFile(
            self._pages,
            metadata=source.metadata,
            read_dictionary=[self._leaf] if is_list else None,
            **_OPTIONS,
        )

    def rows(self, group: int) -> Iterator[_Value]:
        """What it has in the rows of a group."""
        self._pages.begin_column()
        batches = self._file.iter_batches(1, [group], [self._leaf], use_threads=False)
        return map(self._value, batches)

    def _value(self, row: pa.RecordBatch) -> _Value:
        self._pages.begin_row()
        values = _items(row.column(0))
        for step in self._inner:
            values = _items(values.field(step))
        place = next((place for place, value in enumerate(values) if value.is_valid), None)
        if place is None:
            return _NO_VALUE
        first = values.slice(place, 1)
        if not is_binary(first.type):
            first = first.cast(pa.string()).cast(pa.binary())
        return _Value(len(values) - values.null_count, first[0].as_py())


def _items(values: pa.Array) -> pa.Array:
    while _is_list(values.type):
        values = values.flatten()
    return values


def _sample(
    number: int, name: _Value, image: _Value, reading: ReadOptions
) -> shards.ShardSample | shards.UnreadableSample:
    text = (name.first or b"").decode("utf-8", "surrogateescape")
    encoded = image.first
    if image.count > 1:
        reason = f"the row has a list of {image.count} images: write a row for each"
        return shards.UnreadableSample(number, text, reason, FailureCode.SEVERAL_IMAGES)
    if encoded is None:
        return shards.UnreadableSample(number, text, "the row has no image", FailureCode.NO_IMAGE)
    if len(encoded) > reading.max_encoded_bytes:
        reason = f"{len(encoded)} bytes are more than any image within --max_pixels has"
        return shards.UnreadableSample(number, text, reason, FailureCode.TOO_LARGE)
    return shards.ShardSample(number, text, encoded)


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
        row |= {f"probability_{i}": content for i, content in entry.probabilities}
        self._rows.append(row)
        every = (content for _, content in entry.probabilities)
        parts = (image, entry.labels, entry.confidence, *every)
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


def _leaf_of(source: pq.ParquetFile, path: str) -> tuple[str, list[str], pa.DataType, bool]:
    """The column of a file that a path leads to.

    Returns:
        Its path with the names that lists have in the file; the fields that lead to it from the
        first one on; its type; and whether a row has any number of its values.

    Raises:
        InputError: If several columns have this path.
    """
    schema = source.schema_arrow
    steps = _steps(schema, path) or [path]
    kind: Any = schema
    above: list[str] = []
    for step in steps:
        kind = kind.field(step) if kind is schema else kind.type.field(step)
        above.append(step)
        if _is_list(kind.type):
            break
    begin, end = ".".join(above), ".".join(["", *steps[len(above) :]])
    columns = [source.schema.column(number).path for number in range(len(source.schema.names))]
    found = [leaf for leaf in columns if f"{leaf}.".startswith(f"{begin}.") and leaf.endswith(end)]
    taken = [leaf for leaf in columns if f"{leaf}.".startswith(tuple(f"{one}." for one in found))]
    if len(taken) != 1:
        raise InputError(
            f"{len(taken)} columns have the name {begin!r}: write them with names without dots",
            code=FailureCode.NO_IMAGE,
        )
    return taken[0], steps[1:], _type_of(schema, path), _is_list(kind.type)


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
