"""What shards hold: samples that are read, entries that are written, and the files around them."""

import gzip
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, Protocol, cast

from pipelines.run.plan import InputFile
from pipelines.storage import filesystem

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
    """

    reason: str


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
    """

    number: int
    name: str
    height: int
    width: int
    image: tuple[bytes, str] | None = None
    labels: bytes | None = None
    confidence: bytes | None = None


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


# What the entries of a shard hold beside their names and sizes: of "image", "labels", "confidence".
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
def open_shard(file: InputFile) -> Iterator[IO[bytes]]:
    """The uncompressed content of a file as a stream."""
    with filesystem.open_stream(file.uri, file.stat) as raw:
        if not is_gzipped(file.name):
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as zipped:
            yield cast(IO[bytes], zipped)


@contextmanager
def create_shard(path: str, zipped: bool) -> Iterator[IO[bytes]]:
    """A new file, optionally compressed: without name and time, so that bytes are repeatable."""
    with open(path, "wb") as raw:
        if not zipped:
            yield raw
            return
        with gzip.GzipFile("", "wb", 6, raw, mtime=0) as stream:
            yield cast(IO[bytes], stream)
