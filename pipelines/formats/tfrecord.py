"""TFRecord shards of encoded images; a shard in gives a shard of the same name out.

Framing: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
"""

import gzip
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import IO, cast

import google_crc32c

from pipelines import storage
from pipelines.failures import Failure, is_transient, reason_of
from pipelines.formats import example
from pipelines.formats.images import EncodedImages, check_encoded, encode_png, square_ground
from pipelines.formats.interface import Estimate, Ground, Work
from pipelines.plan import InputFile, Unit, unit_id
from segmodel.contract import Contract
from segmodel.engine import ArrayRaster, Job, Labelled
from segmodel.errors import InputError
from segmodel.images import decode_image, image_size
from segmodel.windows import Layout

_NAME = re.compile(r"\.(tfrecords?|tfrec)(-\d+-of-\d+)?(\.gz)?$|tfrecord-\d+-of-\d+(\.gz)?$")
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
MAX_RECORD_BYTES = 1 << 30
SAMPLE = 16


class TFRecords:
    """Shards of `tf.train.Example` with `image/encoded` and, optionally, `image/filename`."""

    name = "tfrecord"
    examples = "TFRecord shards (.tfrecord .tfrecord.gz)"
    grouped = False

    def claims(self, file: InputFile) -> bool:
        """Whether the name is that of a TFRecord shard."""
        return bool(_NAME.search(file.name.lower()))

    def check(self, files: Sequence[InputFile], contract: Contract) -> None:
        """Refuse a model that encoded images cannot feed."""
        check_encoded(contract, f"{files[0].key} and other TFRecord shards")

    def count(self, file: InputFile, most: int) -> int:
        """Number of records, at most `most`."""
        return sum(1 for _, _ in zip(range(most), _records(file), strict=False))

    def estimate(self, files: Sequence[InputFile], layout: Layout) -> Estimate:
        """From the first record of a sample of shards, by bytes."""
        sizes, sampled = [], 0
        for file in files[:: -(-len(files) // SAMPLE)]:
            record = next(_records(file), None)
            size = _image_size(record) if isinstance(record, bytes) else None
            if size and isinstance(record, bytes):
                sizes.append(size)
                sampled += len(record)
        images = round(sum(f.size for f in files) / (sampled / len(sizes))) if sizes else len(files)
        return replace(Estimate.of_sample(sizes, images, layout), exact=False)

    def units(self, files: Sequence[InputFile], work: Work, records: int | None) -> Iterable[Unit]:
        """One unit for each shard."""
        for file in files:
            yield Unit(unit_id(self.name, file), self.name, (file,), records=records)

    @contextmanager
    def open(self, unit: Unit, work: Work) -> Iterator["_ShardTask"]:
        """Begin a shard."""
        with ExitStack() as writing:
            yield _ShardTask(unit, work, writing)


def read_records(stream: IO[bytes]) -> Iterator[bytes | InputError]:
    """Payloads of a shard in order; where the framing is broken, an error ends the shard.

    The error says from which byte offset of the uncompressed shard the rest is lost.
    """
    offset = 0
    try:
        while header := _read(stream, _HEADER.size):
            length, checksum = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != checksum or length > MAX_RECORD_BYTES:
                raise InputError("the length of a record is corrupt")
            data = _read(stream, length)
            (checksum,) = _FOOTER.unpack(_read(stream, _FOOTER.size, needed=True))
            if len(data) != length or masked_crc32c(data) != checksum:
                raise InputError("the checksum of a record does not match its data")
            offset += _HEADER.size + length + _FOOTER.size
            yield data
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
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One record as it stands in a shard."""
    length = struct.pack("<Q", len(data))
    parts = (length, _FOOTER.pack(masked_crc32c(length)), data, _FOOTER.pack(masked_crc32c(data)))
    return b"".join(parts)


def _is_zipped(file: InputFile) -> bool:
    return file.name.lower().endswith(".gz")


def _records(file: InputFile) -> Iterator[bytes | InputError]:
    """Payloads of a shard; an error if it cannot be opened, now or ever."""
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(open(file.uri, "rb"))
        except OSError as error:
            if is_transient(error):
                raise
            yield InputError(f"the shard cannot be opened: {reason_of(error)}")
            return
        zipped = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=raw)))
        yield from read_records(zipped if _is_zipped(file) else raw)


class _ShardTask:
    """One shard while it is done; `writing` publishes the output when it is closed well."""

    def __init__(self, unit: Unit, work: Work, writing: ExitStack) -> None:
        self._file, self._limit, self._work = unit.files[0], unit.records, work
        self._writing = writing
        self._output: IO[bytes] | None = None
        self._path = f"labels/{self._file.key}"
        self._names: dict[str, bytes] = {}

    def jobs(self) -> Iterator[Job | Failure]:
        bands = len(self._work.contract.bands)
        for number, record in enumerate(_records(self._file)):
            if number == self._limit:
                return
            if isinstance(record, InputError):
                yield Failure(self._file.key, f"#{number}", "record", str(record))
                return
            try:
                name, encoded = _parse(record)
            except InputError as error:
                yield Failure(self._file.key, f"#{number}", "record", str(error))
                continue
            key = f"#{number} {name.decode('utf-8', 'backslashreplace')}".rstrip()
            self._names[key] = name
            yield Job(key, partial(_decode, encoded, bands))

    def source(self, key: str) -> tuple[InputFile, str | None]:
        return self._file, key

    def ground(self, labelled: Labelled) -> Ground | None:
        return square_ground(labelled, self._work.pixel_size_m)

    def discard(self, key: str) -> None:
        """Nothing: the shard is written anew."""

    def failed_pixels(self) -> tuple[int, float | None] | None:
        return None

    def encode(self, labelled: Labelled) -> bytes:
        images = encode_png(labelled, self._work)
        number = int(labelled.key.split()[0].removeprefix("#"))
        name = self._names.pop(labelled.key)
        return frame(_label_example(number, name, labelled.labels.shape, images))

    def write(self, key: str, encoded: bytes) -> None:
        self._stream().write(encoded)

    def finish(self) -> list[str]:
        self._stream()
        self._writing.close()
        return [self._path]

    def _stream(self) -> IO[bytes]:
        """The shard of label maps, begun at the first of them."""
        if self._output is None:
            run = self._work.run
            path = self._writing.enter_context(
                storage.write_whole(run.path(self._path), run.scratch)
            )
            self._output = self._writing.enter_context(open(path, "wb"))  # noqa: SIM115
            if _is_zipped(self._file):
                zipped = gzip.GzipFile("", "wb", 6, self._output, mtime=0)
                self._output = cast(IO[bytes], self._writing.enter_context(zipped))
        return self._output


def _decode(encoded: bytes, bands: int) -> ArrayRaster:
    return ArrayRaster(decode_image(encoded, bands))


def _parse(record: bytes) -> tuple[bytes, bytes]:
    """File name, empty if there is none, and encoded image of a serialized `tf.train.Example`.

    Raises:
        InputError: If it is no example or has no `image/encoded`.
    """
    values = example.parse(record)
    encoded, names = values.get("image/encoded", []), values.get("image/filename", [])
    if len(encoded) != 1 or not isinstance(encoded[0], bytes):
        raise InputError("the record has no feature image/encoded")
    return (names[0] if names and isinstance(names[0], bytes) else b""), encoded[0]


def _image_size(record: bytes) -> tuple[int, int] | None:
    """Height and width of the image in a record, or None where there is none."""
    try:
        return image_size(_parse(record)[1])
    except InputError:
        return None


def _label_example(
    number: int, name: bytes, shape: tuple[int, ...], images: EncodedImages
) -> bytes:
    """Label map as a serialized `tf.train.Example`; `number` is that of its image in the shard."""
    values: dict[str, bytes | int] = {
        "image/record": number,
        "image/height": shape[0],
        "image/width": shape[1],
        "image/segmentation/class/encoded": images.labels,
        "image/segmentation/class/format": b"png",
    }
    if name:
        values["image/filename"] = name
    if images.confidence is not None:
        values["image/segmentation/confidence/encoded"] = images.confidence
    return example.serialize(values)
