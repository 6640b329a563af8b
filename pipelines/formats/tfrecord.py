"""TFRecord shards of `tf.train.Example`.

Framing: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
"""

import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import google_crc32c

from pipelines.formats import example, shards
from pipelines.formats.work import ReadOptions
from pipelines.run.plan import InputFile
from segmodel.errors import FailureCode, InputError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
IMAGE, NAME = "image/encoded", "image/filename"
LABELS, CONFIDENCE = "image/segmentation/class/encoded", "image/segmentation/confidence/encoded"
PROBABILITY = "image/segmentation/probability/{}/encoded"


class TFRecordFormat(shards.ShardFormat):
    """Features `image/encoded` and, optionally, `image/filename`, or those that the user names."""

    name = "tfrecord"
    pattern = re.compile(r"\.(tfrecords?|tfrec)(-\d+-of-\d+)?(\.gz)?$|tfrecord-\d+-of-\d+(\.gz)?$")
    examples = "TFRecord shards (.tfrecord .tfrecord.gz)"
    label_field = LABELS
    confidence_field = CONFIDENCE

    def samples(self, file: InputFile, reading: ReadOptions) -> shards.Samples:
        """Samples by their records."""
        if shards.is_gzipped(file.name) and file.size == 0:
            reason = "the shard is empty, which gzip data never is: it was cut"
            yield shards.UnreadableSample(0, "", reason, FailureCode.CORRUPT_SHARD)
            return
        number = 0
        try:
            with shards.open_shard(file, _begins_with_record, zlib_too=True) as stream:
                for record in read_records(stream, reading.max_encoded_bytes):
                    yield _sample_or_fault(number, record, reading)
                    number += 1
        except InputError as error:
            yield shards.UnreadableSample(number, "", error.text, error.code)

    @contextmanager
    def writer(self, path: str, zipped: bool, maps: shards.Maps) -> Iterator["_RecordWriter"]:
        """A new shard."""
        with shards.create_shard(path, zipped) as stream:
            yield _RecordWriter(stream)


def read_records(stream: IO[bytes], max_bytes: int) -> Iterator[bytes | InputError]:
    """Payloads of a shard in order, and errors in place of those that are corrupt.

    A corrupt record whose length is right is one error; the records after it are read. After a
    wrong length an error ends the shard, and says from which byte offset of the uncompressed shard
    the rest is lost.

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
                    f"a record of {length} bytes is longer than any image within --max_pixels",
                    code=FailureCode.TOO_LARGE,
                )
            data = _read(stream, length)
            (checksum,) = _FOOTER.unpack(_read(stream, _FOOTER.size, needed=True))
            start, offset = offset, offset + _HEADER.size + length + _FOOTER.size
            if masked_crc32c(data) == checksum:
                yield data
            else:
                fault = f"the checksum of the record at byte {start} is not that of its data"
                yield InputError(fault, code=FailureCode.CORRUPT_RECORD)
    except (InputError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        is_too_large = isinstance(error, InputError) and error.code == FailureCode.TOO_LARGE
        yield InputError(
            f"{error}; the rest of the shard from byte {offset} on is lost",
            code=FailureCode.TOO_LARGE if is_too_large else FailureCode.CORRUPT_SHARD,
        )


def _begins_with_record(head: bytes) -> bool:
    """Whether the first bytes of a file are the header of a record."""
    if len(head) < _HEADER.size:
        return False
    return bool(masked_crc32c(head[:8]) == _HEADER.unpack_from(head)[1])


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

    def add(self, entry: shards.ShardEntry) -> None:
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
        for class_id, content in entry.probabilities:
            values[PROBABILITY.format(class_id)] = content
        self._stream.write(frame(example.serialize_example(values)))


def _sample_or_fault(
    number: int, record: bytes | InputError, reading: ReadOptions
) -> shards.ShardSample | shards.UnreadableSample:
    try:
        if isinstance(record, InputError):
            raise record
        return _sample(number, record, reading)
    except InputError as error:
        return shards.UnreadableSample(number, "", error.text, error.code)


def _sample(number: int, record: bytes, reading: ReadOptions) -> shards.ShardSample:
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
            f"{shards.join_names(values)}: name the right one with --image_field",
            code=FailureCode.NO_IMAGE,
        )
    text = next(iter(values.get(name, ())), "")
    text = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else str(text)
    return shards.ShardSample(number, text, encoded[0])
