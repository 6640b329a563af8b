"""Mutants of valid files: which one a number stands for never changes."""

from __future__ import annotations

import functools
import gzip
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.image_kinds import KINDS
from tests.known_images import Known
from tests.shard_kinds import MIXTURES, SHARD_KINDS, KnownShard, mixture, shard
from tools.fuzzing import containers, headers

# Of each kind so many start files.
START_FILES = 4
# Of a hundred mutants so many are shards, and of either so many have a header changed.
SHARDS_PERCENT, HEADERS_PERCENT = 40, 45
IMAGES, SHARDS = ("jpeg", "png", "tiff", "webp"), ("parquet", "tar", "tfrecord")

Seed = Known | KnownShard


@dataclass(frozen=True)
class Mutant:
    """A file that was changed.

    Args:
        number: Names it, together with the number of the series.
        kind: Of the start file.
        name: Of its file.
        start: The start file.
        content: After the change.
        change: What was done.
    """

    number: int
    kind: str
    name: str
    start: Seed
    content: bytes
    change: str


def mutant(series: int, number: int) -> Mutant:
    """The mutant of a number."""
    chance = random.Random(f"{series}/{number}")
    family = chance.choice(SHARDS if chance.randrange(100) < SHARDS_PERCENT else IMAGES)
    kind = chance.choice([kind for kind in (*KINDS, *SHARD_KINDS) if family_of(kind) == family])
    seed = chance.randrange(START_FILES)
    start = start_file(kind, seed)
    if kind in SHARD_KINDS and chance.random() < 0.2:
        content, change = _with_image_changed(kind, seed, chance), "an image changed"
    else:
        content, change = changed(start.encoded, start.suffix, kind, chance)
    return Mutant(number, kind, f"{number:06d}{start.suffix}", start, content, change)


def family_of(kind: str) -> str:
    """What kinds have in common.

    >>> family_of("tar-zipped")
    'tar'
    """
    return kind.partition("-")[0]


@functools.cache
def start_file(kind: str, seed: int) -> Seed:
    """A valid file."""
    return KINDS[kind](seed) if kind in KINDS else shard(kind, seed)


def _with_image_changed(kind: str, seed: int, chance: random.Random) -> bytes:
    """A shard of which all is right but one image."""
    images, names = mixture(seed)
    number = chance.randrange(len(images))
    family = MIXTURES[seed % len(MIXTURES)][number]
    content, _ = changed(images[number].encoded, images[number].suffix, family, chance)
    images[number] = replace(images[number], encoded=content)
    return SHARD_KINDS[kind](images, names).encoded


def changed(content: bytes, suffix: str, kind: str, chance: random.Random) -> tuple[bytes, str]:
    """Content of a file with one change, and what it is called."""
    if suffix.endswith("gz") and chance.random() < 0.5:
        inner, change = _changed_plain(gzip.decompress(content), kind, chance)
        return gzip.compress(inner, 6, mtime=0), f"{change}, inside"
    return _changed_plain(content, kind, chance)


def _changed_plain(content: bytes, kind: str, chance: random.Random) -> tuple[bytes, str]:
    family = family_of(kind)
    special = SPECIAL.get(family)
    if special is not None and chance.randrange(100) < HEADERS_PERCENT:
        try:
            return special(content, chance), f"header of {family}"
        except (ValueError, IndexError):
            # gzip data has no header of the kind that is inside.
            pass
    change = chance.choice(GENERAL)
    return change(content, chance), change.__name__


def flipped_bits(content: bytes, chance: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(chance.randint(1, 16)):
        out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def without_range(content: bytes, chance: random.Random) -> bytes:
    first, last = _range(content, chance)
    return content[:first] + content[last:]


def with_range_twice(content: bytes, chance: random.Random) -> bytes:
    first, last = _range(content, chance)
    return content[:last] + content[first:]


def with_range_inserted(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    size = chance.choice([1, 2, 4, 7, 64, 512, 5000])
    filler = chance.choice([bytes(size), b"\xff" * size, chance.randbytes(size)])
    return content[:place] + filler + content[place:]


def with_range_overwritten(content: bytes, chance: random.Random) -> bytes:
    first, last = _range(content, chance)
    size = last - first
    filler = chance.choice([bytes(size), b"\xff" * size, chance.randbytes(size)])
    return content[:first] + filler + content[last:]


def with_extreme_number(content: bytes, chance: random.Random) -> bytes:
    number = chance.choice(headers.EXTREMES)
    size = chance.choice([1, 2, 4, 8])
    place = chance.randrange(max(1, len(content) - size))
    written = headers.as_bytes(number, size, chance.choice(["big", "little"]))
    return content[:place] + written + content[place + size :]


def spliced(content: bytes, chance: random.Random) -> bytes:
    kinds = chance.choice([KINDS, SHARD_KINDS])
    other = start_file(chance.choice(list(kinds)), chance.randrange(START_FILES)).encoded
    return content[: chance.randrange(len(content))] + other[chance.randrange(len(other)) :]


def unchanged(content: bytes, chance: random.Random) -> bytes:
    return content


def with_something_behind(content: bytes, chance: random.Random) -> bytes:
    return content + chance.choice([b"\0", bytes(512), b"\xff\xd9", content, chance.randbytes(100)])


def _range(content: bytes, chance: random.Random) -> tuple[int, int]:
    """Where a piece begins and ends; short ones are more likely."""
    size = chance.choice([1, 2, 4, 16, 100, 512, len(content) // 3])
    first = chance.randrange(len(content))
    return first, min(len(content), first + size)


Change = Callable[[bytes, random.Random], bytes]
GENERAL: tuple[Change, ...] = (
    flipped_bits,
    flipped_bits,
    truncated,
    truncated,
    without_range,
    with_range_twice,
    with_range_inserted,
    with_range_overwritten,
    with_extreme_number,
    spliced,
    with_something_behind,
    unchanged,
)
SPECIAL: dict[str, Change] = {
    "png": headers.png,
    "jpeg": headers.jpeg,
    "tiff": headers.tiff,
    "webp": headers.webp,
    "tfrecord": containers.tfrecord,
    "tar": containers.tar,
    "parquet": containers.parquet,
}
