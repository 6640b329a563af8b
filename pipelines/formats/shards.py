"""What formats of shards have in common: samples that are read, entries that are written.

A shard in gives a shard of the same name out.
"""

import gzip
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import IO, Any, ClassVar, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.formats.compressed import uncompressed
from pipelines.formats.images import decoded, digest_of, encode_png, encoded_misfit
from pipelines.formats.interface import Estimate, Format, Thumbnail, UnitTask
from pipelines.formats.work import PlanContext, ReadOptions, Work
from pipelines.rasters.header import Headers
from pipelines.run.areas import Tally
from pipelines.run.commits import Output
from pipelines.run.directory import RunDirectory
from pipelines.run.failures import Failure, code_of, reason_of
from pipelines.run.plan import InputFile, Unit, WorkUnit
from pipelines.storage import filesystem
from pipelines.storage.digests import Checksum
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Labelled
from segmodel.errors import BeamsegError, FailureCode, InputError, TransientError, is_transient
from segmodel.images.encoded import EncodedImage, image_size

SAMPLE = 16
# A sheet shows some of so many images of a shard, as the rest may be far away.
FIRST_SAMPLES = 64
TABLE_ROWS = 1024
# Names are anybody's: of a longer one no more is kept, in memory and in tables.
MAX_NAME_CHARACTERS = 1000
_SHOWN_NAMES, _SHOWN_CHARACTERS = 10, 100


@dataclass(frozen=True)
class _Named:
    """What has a place in a shard, and a name that is cut where it is too long."""

    number: int
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name[:MAX_NAME_CHARACTERS])

    @property
    def key(self) -> str:
        """Names the image in tables: number and name.

        >>> ShardSample(3, "cats/a.jpg", b"").key
        '#3 cats/a.jpg'
        """
        return f"#{self.number} {printable_name(self.name)}".rstrip()


@dataclass(frozen=True)
class ShardSample(_Named):
    """One image of a shard.

    Args:
        number: Place of the image in the shard, from 0.
        name: Name in the shard, empty if it has none; any text, with what is no UTF-8 as
            surrogates. It is data and never a path.
        encoded: Encoded image.
    """

    encoded: bytes


@dataclass(frozen=True)
class UnreadableSample(_Named):
    """A sample, or the rest of a shard, that could not be read.

    Args:
        number: Place of the first sample that is lost.
        name: Name of that sample, or empty.
        reason: What was wrong.
        code: Kind of the failure.
    """

    reason: str
    code: FailureCode = FailureCode.UNREADABLE


Samples = Iterator[ShardSample | UnreadableSample]


@dataclass(frozen=True)
class ShardEntry:
    """What a shard that we write holds of one image.

    Args:
        number: Place of the image in the shard that it came from, or in this one.
        name: Name of the image, as in `ShardSample`.
        height: Rows of image and maps.
        width: Columns of image and maps.
        image: Encoded image with the suffix of its format (`jpg`), or None.
        labels: Label map as PNG, or None.
        confidence: Confidence as 8-bit PNG, or None.
        probabilities: Class id, and the probability of the class as 8-bit PNG.
    """

    number: int
    name: str
    height: int
    width: int
    image: tuple[bytes, str] | None = None
    labels: bytes | None = None
    confidence: bytes | None = None
    probabilities: tuple[tuple[int, bytes], ...] = ()


def printable_name(name: str) -> str:
    r"""A name with what is no UTF-8 written out, so that tables can hold it.

    >>> printable_name("caf\udce9")
    'caf\\xe9'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def join_names(names: Iterable[str]) -> str:
    """The first of some names, as a reason shows them.

    >>> join_names(["jpg", "x" * 200])[:20], join_names([])
    ('jpg, xxxxxxxxxxxxxxx', 'none')
    """
    first = islice(names, _SHOWN_NAMES)
    return ", ".join(printable_name(name[:_SHOWN_CHARACTERS]) for name in first) or "none"


# What the entries of a shard hold beside their names and sizes: of "image", "labels", "confidence",
# and for each class "probability_" with its id.
Maps = tuple[str, ...]


class ShardWriter(Protocol):
    """A shard that is being written; the same entries give the same bytes."""

    def add(self, entry: ShardEntry) -> None:
        """Add an entry behind the others."""


def is_gzipped(name: str) -> bool:
    """Whether the name is that of a gzip file.

    >>> is_gzipped("a.TAR.GZ"), is_gzipped("a.tgz"), is_gzipped("a.tar")
    (True, True, False)
    """
    return name.lower().endswith((".gz", ".tgz"))


@contextmanager
def open_shard(
    file: InputFile, is_plain: Callable[[bytes], bool], zlib_too: bool = False
) -> Iterator[IO[bytes]]:
    """The uncompressed content of a file as a stream.

    Args:
        file: File of the shard.
        is_plain: Says by the first bytes of a file whether it is such a shard, not compressed.
        zlib_too: Whether zlib data are inflated too; such a stream cannot be sought in.

    Raises:
        InputError: If it is compressed in a way that is not read.
    """
    with (
        filesystem.open_stream(file.uri, file.stat) as raw,
        uncompressed(raw, is_gzipped(file.name), is_plain, zlib_too) as stream,
    ):
        yield stream


@contextmanager
def create_shard(path: str, zipped: bool) -> Iterator[IO[bytes]]:
    """A new file, optionally compressed: without name and time, so that bytes are repeatable."""
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) if zipped else nullcontext(raw) as stream,
    ):
        yield cast(IO[bytes], stream)


class ShardFormat(Format):
    """A format of shards: which files, how samples are read, and how a shard is written.

    Attributes:
        label_field: Where our own shards have the label map: what `ReadOptions.image_field` is for
            the image.
        confidence_field: Where they have confidence.
        pattern: Names of such shards in small letters.
    """

    label_field: ClassVar[str]
    confidence_field: ClassVar[str]
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

    def misfit(self, files: Sequence[InputFile], context: PlanContext) -> BeamsegError | None:
        """Why encoded images cannot feed the model, if they cannot."""
        return encoded_misfit(context.contract, f"{files[0].key} and other {self.examples}")

    def count(self, file: InputFile, limit: int, reading: ReadOptions) -> int:
        """Number of samples, at most `limit`."""
        return sum(1 for _, _ in zip(range(limit), self.read(file, reading), strict=False))

    def estimate(self, files: Sequence[InputFile], context: PlanContext) -> Estimate:
        """From the first image of a sample of shards, by bytes."""
        sizes, sampled = [], 0
        for file in files[:: -(-len(files) // SAMPLE)]:
            # A transient error costs its own unit, if it stays; the run begins without it.
            with suppress(OSError, TransientError):
                first = next(self.read(file, context.reading), None)
                if isinstance(first, ShardSample) and (size := image_size(first.encoded)):
                    sizes.append(size)
                    sampled += len(first.encoded)
        images = round(sum(f.size for f in files) / (sampled / len(sizes))) if sizes else len(files)
        return replace(Estimate.of_sample(sizes, images, context.layout), exact=False)

    def outputs(self, unit: Unit, work: Work) -> Iterable[str]:
        """The shard of label maps."""
        return [label_path(unit.files[0])]

    def thumbnails(self, unit: Unit, work: Work, limit: int, side: int) -> Iterable[Thumbnail]:
        """Of some of the first images that have a label map."""
        path = label_path(unit.files[0])
        output = replace(unit.files[0], uri=work.run.path(path))
        maps = self.samples(output, ReadOptions(image_field=self.label_field))
        keys = islice(labelled_keys(unit.id, work.run), FIRST_SAMPLES)
        labelled = list(zip(keys, maps, strict=False))
        wanted = dict(sorted(labelled, key=lambda pair: digest_of(pair[0]))[:limit])
        for sample in self.samples(unit.files[0], work.reading):
            if not wanted:
                return
            entry = wanted.pop(sample.key, None)
            if isinstance(sample, ShardSample) and isinstance(entry, ShardSample):
                caption = f"{unit.files[0].key} {sample.key}"
                yield decoded(caption, sample.encoded, entry.encoded, work).fitted(side)

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
            reason = f"the shard {fault}: {reason_of(error)}"
            yield UnreadableSample(number, "", reason, code_of(error))


def labelled_keys(unit_id: str, run: RunDirectory) -> Iterator[str]:
    """Keys of the images of a finished shard that have label maps, in the order of those.

    Args:
        unit_id: Id of the unit of the shard.
        run: Run directory.

    Raises:
        InputError: If the table of areas is corrupt.
    """
    last = None  # A row for each class, so that keys repeat.
    try:
        with (
            filesystem.open_stream(run.path(f"areas/{unit_id}.parquet")) as stream,
            pq.ParquetFile(stream) as table,
        ):
            for rows in table.iter_batches(TABLE_ROWS, columns=["key"]):
                for key in rows.column("key").to_pylist():
                    if key != last:
                        yield key
                    last = key
    except (pa.ArrowException, KeyError, OSError) as error:
        # Of content that it cannot make sense of, Arrow raises OSError without a number.
        if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise
        raise InputError(f"the areas of {unit_id} cannot be read: {error}") from error


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
        self._names: dict[str, tuple[int, str]] = {}
        self._read, self._has_content = Checksum(), True

    def __exit__(self, *error: Any) -> bool | None:
        return self._writing.__exit__(*error)

    def jobs(self) -> Iterator[Job | Failure]:
        reading, contract = self.work.reading, self.work.contract
        bands, limits = len(contract.bands), contract.value_range
        misfit = encoded_misfit(contract)
        if misfit is not None:
            # All of its images are as it is.
            self._has_content = False
            yield Failure.of(self._file.key, None, "open", misfit)
            return
        for count, entry in enumerate(self._shards.read(self._file, reading)):
            if count == self.unit.records:
                return
            number = entry.number.to_bytes(8, "little")
            if isinstance(entry, UnreadableSample):
                self._has_content &= count > 0
                self._read.add(number, b"", b"")
                yield Failure(
                    self._file.key, entry.key, "record", entry.reason, code=entry.code.value
                )
                continue
            self._has_content = True
            self._read.add(number, entry.name.encode("utf-8", "surrogatepass"), entry.encoded)
            self._names[entry.key] = (entry.number, entry.name)
            options = (bands, reading.max_pixels, reading.resize, limits)
            raster = partial(
                EncodedImage, entry.encoded, *options, names=contract.bands, dtype=contract.dtype
            )
            yield Job(entry.key, raster, None, len(entry.encoded), open_inline=True)

    def source(self, key: str) -> tuple[InputFile, str | None]:
        return self._file, key

    def checksum(self, file: InputFile) -> str | None:
        """Of number, name and encoded image of each sample in order; of a lost one, the number."""
        return str(self._read) if self._has_content else None

    def skip(self, key: str) -> None:
        """No name, of which a shard may have any number."""
        self._names.pop(key)

    def discard(self, key: str) -> None:
        """Nothing to remove, as the shard is written anew."""
        self.skip(key)

    def encode(self, labelled: Labelled) -> ShardEntry:
        maps = encode_png(labelled, self.work)
        number, name = self._names.pop(labelled.key)
        height, width = labelled.labels.shape
        return ShardEntry(number, name, height, width, None, **vars(maps))

    def write(self, key: str, encoded: ShardEntry, tally: Tally) -> None:
        self._output[1].add(encoded)

    def finish(self) -> list[Output]:
        draft, _ = self._output
        self._writing.close()
        return [Output.of(self._path, draft.written)]

    @cached_property
    def _output(self) -> tuple[filesystem.Draft, ShardWriter]:
        """The shard of label maps, begun at the first of them."""
        run = self.work.run
        whole = filesystem.write_atomic(run.path(self._path), run.scratch)
        draft = self._writing.enter_context(whole)
        ids = self.work.contract.classes.ids if self.work.probabilities else ()
        folders = (folder for folder in self.work.map_folders if folder != "probabilities")
        maps = (*folders, *(f"probability_{i}" for i in ids))
        writer = self._shards.writer(draft.path, is_gzipped(self._file.name), maps)
        return draft, self._writing.enter_context(writer)
