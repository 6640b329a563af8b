"""TFRecord shards of `tf.train.Example`.

Framing: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
"""

import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import google_crc32c

from pipelines.formats import example
from pipelines.formats.samples import (
    Maps,
    Samples,
    ShardEntry,
    ShardSample,
    UnreadableSample,
    create_shard,
    is_gzipped,
    join_names,
    open_shard,
)
from pipelines.formats.shards import ShardFormat
from pipelines.formats.work import ReadOptions
from pipelines.run.plan import InputFile
from segmodel.errors import InputError

_NAME = re.compile(r"\.(tfrecords?|tfrec)(-\d+-of-\d+)?(\.gz)?$|tfrecord-\d+-of-\d+(\.gz)?$")
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
IMAGE, NAME = "image/encoded", "image/filename"
LABELS, CONFIDENCE = "image/segmentation/class/encoded", "image/segmentation/confidence/encoded"


class TFRecordFormat(ShardFormat):
    """Features `image/encoded` and, optionally, `image/filename`, or those that the user names."""

    name = "tfrecord"
    pattern = _NAME
    examples = "TFRecord shards (.tfrecord .tfrecord.gz)"
    label_field = LABELS

    def samples(self, file: InputFile, reading: ReadOptions) -> Samples:
        """Samples by their records."""
        if is_gzipped(file.name) and file.size == 0:
            yield UnreadableSample(
                0, "", "the shard is empty, which gzip data never is: it was cut"
            )
            return
        with open_shard(file) as stream:
            records = read_records(stream, reading.max_encoded_bytes)
            for number, record in enumerate(records):
                try:
                    if isinstance(record, InputError):
                        raise record
                    yield _sample(number, record, reading)
                except InputError as error:
                    yield UnreadableSample(number, "", str(error))

    @contextmanager
    def writer(self, path: str, zipped: bool, maps: Maps) -> Iterator["_RecordWriter"]:
        """A new shard."""
        with create_shard(path, zipped) as stream:
            yield _RecordWriter(stream)


def read_records(stream: IO[bytes], max_bytes: int) -> Iterator[bytes | InputError]:
    """Payloads of a shard in order, and errors in place of those that are corrupt.

    While lengths are right, a corrupt record costs itself alone. Else an error ends the shard and
    says from which byte offset of the uncompressed shard the rest is lost.

    Args:
        stream: The shard.
        max_bytes: Length above which a record is taken for corrupt.
    """
    offset = 0
    try:
        while header := _read(stream, _HEADER.size):
            length, checksum = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != checksum:
                raise InputError("the length of a record is corrupt")
            if length > max_bytes:
                raise InputError(
                    f"a record of {length} bytes is longer than any image within --max_pixels"
                )
            data = _read(stream, length)
            (checksum,) = _FOOTER.unpack(_read(stream, _FOOTER.size, needed=True))
            start, offset = offset, offset + _HEADER.size + length + _FOOTER.size
            if masked_crc32c(data) == checksum:
                yield data
            else:
                yield InputError(
                    f"the checksum of the record at byte {start} is not that of its data"
                )
    except (InputError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield InputError(f"{error}; the rest of the shard from byte {offset} on is lost")


def _read(stream: IO[bytes], length: int, needed: bool = False) -> bytes:
    data = stream.read(length)
    if len(data) < length and (data or needed):
        raise InputError("the shard ends in the middle of a record")
    return data


def masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord files: CRC-32C, rotated and offset.

    >>> hex(masked_crc32c(b""))
    '0xa282ead8'
    """
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One record as it stands in a shard."""
    length = struct.pack("<Q", len(data))
    parts = (length, _FOOTER.pack(masked_crc32c(length)), data, _FOOTER.pack(masked_crc32c(data)))
    return b"".join(parts)


class _RecordWriter:
    """A TFRecord file that is being written."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def add(self, entry: ShardEntry) -> None:
        self._stream.write(frame(_example(entry)))


def _sample(number: int, record: bytes, reading: ReadOptions) -> ShardSample:
    """Name and encoded image of a serialized `tf.train.Example`.

    Raises:
        InputError: If it is no example or has no such feature; names it.
    """
    field, name = reading.image_field or IMAGE, reading.name_field or NAME
    values = example.parse_example(record, (field, name))
    encoded = values.get(field)
    if not encoded or not isinstance(encoded[0], bytes):
        raise InputError(
            f"the record has no feature {field} with one value of bytes; its features are "
            f"{join_names(values)}: name the right one with --image_field"
        )
    return ShardSample(number, _text_of(values.get(name)), encoded[0])


def _text_of(values: list[Any] | None) -> str:
    """The only value of a feature as text; empty if it has none or several."""
    if not values:
        return ""
    (value,) = values
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _example(entry: ShardEntry) -> bytes:
    """A serialized `tf.train.Example`."""
    values: dict[str, bytes | int] = {
        "image/record": entry.number,
        "image/height": entry.height,
        "image/width": entry.width,
    }
    if entry.name:
        values[NAME] = entry.name.encode("utf-8", "surrogateescape")
    if entry.image is not None:
        values[IMAGE], values["image/format"] = entry.image[0], entry.image[1].encode()
    if entry.labels is not None:
        values[LABELS], values["image/segmentation/class/format"] = entry.labels, b"png"
    if entry.confidence is not None:
        values[CONFIDENCE] = entry.confidence
    return example.serialize_example(values)
