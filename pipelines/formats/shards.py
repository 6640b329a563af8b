"""What formats of shards have in common; a shard in gives a shard of the same name out."""

import os
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.formats.images import check_encoded, digest_of, encode_png
from pipelines.formats.interface import Estimate, Format, Thumbnail, UnitTask
from pipelines.formats.samples import (
    Maps,
    Samples,
    ShardEntry,
    ShardSample,
    ShardWriter,
    UnreadableSample,
    is_gzipped,
)
from pipelines.formats.work import PlanContext, ReadOptions, Work
from pipelines.rasters.header import Headers
from pipelines.run.commits import Output
from pipelines.run.failures import Failure, is_transient, reason_of
from pipelines.run.plan import InputFile, Unit, WorkUnit
from pipelines.storage import filesystem
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Labelled
from segmodel.errors import InputError, TransientError
from segmodel.images.encoded import EncodedImage, decode_image, image_size

SAMPLE = 16
# A sheet shows some of so many images of a shard, as the rest may be far away.
FIRST_SAMPLES = 64
TABLE_ROWS = 1024


class ShardFormat(Format):
    """A format of shards: which files, how samples are read, and how a shard is written.

    Attributes:
        label_field: Where our own shards have the label map: what `ReadOptions.image_field` is for
            the image.
        pattern: Names of such shards in small letters.
    """

    label_field: ClassVar[str]
    pattern: ClassVar[re.Pattern[str]]

    def matches(self, name: str) -> bool:
        """Whether the name of a file is that of such a shard."""
        return self.pattern.search(name.lower()) is not None

    def claim(self, file: InputFile, headers: Headers) -> InputFile | None:
        """The file if its name is that of such a shard."""
        return file if self.matches(file.name) else None

    @abstractmethod
    def samples(self, file: InputFile, reading: ReadOptions) -> Samples:
        """Samples of a shard in order; what cannot be read costs the rest of the shard at most.

        Raises:
            OSError: If the shard cannot be opened.
        """

    @abstractmethod
    def writer(self, path: str, zipped: bool, maps: Maps) -> AbstractContextManager[ShardWriter]:
        """A new shard, complete once the context is left without an error."""

    def check(self, files: Sequence[InputFile], context: PlanContext) -> None:
        """Refuse a model that encoded images cannot feed."""
        check_encoded(context.contract, f"{files[0].key} and other {self.examples}")

    def count(self, file: InputFile, limit: int, reading: ReadOptions) -> int:
        """Number of samples, at most `limit`."""
        return sum(1 for _, _ in zip(range(limit), self.read(file, reading), strict=False))

    def estimate(self, files: Sequence[InputFile], context: PlanContext) -> Estimate:
        """From the first image of a sample of shards, by bytes."""
        sizes, sampled = [], 0
        for file in files[:: -(-len(files) // SAMPLE)]:
            try:
                first = next(self.read(file, context.reading), None)
            except TransientError:
                # It costs its own unit, if it stays; the run begins without it.
                continue
            size = image_size(first.encoded) if isinstance(first, ShardSample) else None
            if size and isinstance(first, ShardSample):
                sizes.append(size)
                sampled += len(first.encoded)
        images = round(sum(f.size for f in files) / (sampled / len(sizes))) if sizes else len(files)
        return replace(Estimate.of_sample(sizes, images, context.layout), exact=False)

    def outputs(self, unit: Unit) -> Iterable[str]:
        """The shard of label maps."""
        return [label_path(unit.files[0])]

    def thumbnails(self, unit: Unit, work: Work, limit: int, side: int) -> Iterable[Thumbnail]:
        """Of some of the first images that have a label map."""
        path = label_path(unit.files[0])
        output = replace(unit.files[0], uri=work.run.path(path))
        maps = self.samples(output, ReadOptions(image_field=self.label_field))
        labelled = list(zip(_labelled(unit, work), maps, strict=False))
        chosen = sorted(labelled, key=lambda pair: digest_of(pair[0]))[:limit]
        wanted = dict(chosen)
        for sample in self.samples(unit.files[0], work.reading):
            if not wanted:
                return
            entry = wanted.pop(sample.key, None)
            if isinstance(sample, ShardSample) and isinstance(entry, ShardSample):
                image = decode_image(sample.encoded, 3, work.reading.max_pixels)
                labels = decode_image(entry.encoded, 0, work.reading.max_pixels)
                caption = f"{unit.files[0].key} {sample.key}"
                yield Thumbnail.of(caption, image, labels, side)

    def open(self, unit: WorkUnit, work: Work) -> "_ShardTask":
        """Begin a shard."""
        return _ShardTask(self, unit, work)

    def read(self, file: InputFile, reading: ReadOptions) -> Samples:
        """As `samples`, and an `UnreadableSample` where the shard cannot be read, now or ever."""
        number = 0
        try:
            for sample in self.samples(file, reading):
                number = sample.number + 1
                yield sample
        except OSError as error:
            if is_transient(error):
                raise
            fault = "cannot be read on" if number else "cannot be opened"
            yield UnreadableSample(number, "", f"the shard {fault}: {reason_of(error)}")


def _labelled(unit: Unit, work: Work) -> list[str]:
    """Keys of the first images of a finished unit, in the order of their label maps.

    Raises:
        InputError: If the table of areas is corrupt.
    """
    keys: dict[str, None] = {}  # A row for each class, so that keys repeat.
    try:
        with (
            filesystem.open_stream(work.run.path(f"areas/{unit.id}.parquet")) as stream,
            pq.ParquetFile(stream) as table,
        ):
            for rows in table.iter_batches(TABLE_ROWS, columns=["key"]):
                keys |= dict.fromkeys(rows.column("key").to_pylist())
                if len(keys) >= FIRST_SAMPLES:
                    break
    except (pa.ArrowException, KeyError, OSError) as error:
        # Of content that it cannot make sense of, Arrow raises OSError without a number.
        if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise
        raise InputError(f"the areas of {unit.id} cannot be read: {error}") from error
    return list(keys)[:FIRST_SAMPLES]


def label_path(file: InputFile) -> str:
    """Where the label maps of a shard are, within the run directory."""
    return f"labels/{file.key}"


class _ShardTask(UnitTask[ShardEntry]):
    """One shard while it is done; `_writing` publishes the output when it is closed well."""

    def __init__(self, shards: ShardFormat, unit: WorkUnit, work: Work) -> None:
        super().__init__(unit, work)
        self._shards, self._writing = shards, ExitStack()
        self._file = unit.files[0]
        self._path = label_path(self._file)
        self._draft: filesystem.Draft | None = None
        self._output: ShardWriter | None = None
        self._names: dict[str, tuple[int, str]] = {}

    def __exit__(self, *error: Any) -> bool | None:
        return self._writing.__exit__(*error)

    def jobs(self) -> Iterator[Job | Failure]:
        reading, bands = self.work.reading, len(self.work.contract.bands)
        for count, entry in enumerate(self._shards.read(self._file, reading)):
            if count == self.unit.records:
                return
            if isinstance(entry, UnreadableSample):
                yield Failure(self._file.key, entry.key, "record", entry.reason)
                continue
            self._names[entry.key] = (entry.number, entry.name)
            raster = partial(EncodedImage, entry.encoded, bands, reading.max_pixels, reading.resize)
            yield Job(entry.key, raster, None, len(entry.encoded), open_inline=True)

    def source(self, key: str) -> tuple[InputFile, str | None]:
        return self._file, key

    def discard(self, key: str) -> None:
        """Nothing to remove, as the shard is written anew."""
        self._names.pop(key)

    def encode(self, labelled: Labelled) -> ShardEntry:
        images = encode_png(labelled, self.work)
        number, name = self._names.pop(labelled.key)
        height, width = labelled.labels.shape
        return ShardEntry(number, name, height, width, None, images.labels, images.confidence)

    def write(self, key: str, encoded: ShardEntry) -> None:
        self._writer().add(encoded)

    def finish(self) -> list[Output]:
        self._writer()
        self._writing.close()
        assert self._draft is not None
        return [Output.of(self._path, self._draft.written)]

    def _writer(self) -> ShardWriter:
        """The shard of label maps, begun at the first of them."""
        if self._output is None:
            run = self.work.run
            whole = filesystem.write_atomic(run.path(self._path), run.scratch)
            self._draft = self._writing.enter_context(whole)
            maps = ("labels", "confidence") if self.work.confidence else ("labels",)
            zipped = is_gzipped(os.path.basename(self._file.name))
            writer = self._shards.writer(self._draft.path, zipped, maps)
            self._output = self._writing.enter_context(writer)
        return self._output
