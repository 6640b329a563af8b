"""Shards that are missing: of `name-00001-of-00003`, the name itself says how many there are."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

_NUMBERED = re.compile(r"(?s)(.*)-(\d{1,8})-of-(\d{1,8})(?!\d)(.*)\Z")
_SETS, _EXAMPLES = 10, 3


@dataclass(frozen=True)
class IncompleteSet:
    """Shards of one name of which some are missing.

    Args:
        found: Number of shards that are there.
        of: Number of shards that there should be, by their names.
        missing: Names of the first that are not there.
    """

    found: int
    of: int
    missing: tuple[str, ...]


@dataclass(frozen=True)
class MissingShards:
    """What is missing among the input files.

    Args:
        shards: Number of missing shards.
        sets: The first sets of shards of which some are missing.
    """

    shards: int = 0
    sets: tuple[IncompleteSet, ...] = ()

    def __bool__(self) -> bool:
        return self.shards > 0

    def to_json(self) -> dict[str, Any]:
        """As `run.json` and `summary.json` have it."""
        return asdict(self)


def warning_of(missing: dict[str, Any]) -> str:
    """A sentence about `MissingShards.to_json`.

    >>> warning_of(missing_shards(["in/a-00000-of-00003.tar", "in/a-00002-of-00003.tar"]).to_json())
    'missing: 1 shard that the names of others count: in/a-00001-of-00003.tar'
    """
    names = [name for found in missing["sets"] for name in found["missing"]]
    plural, more = "s" if missing["shards"] > 1 else "", ", ..."
    named = ", ".join(names[:_EXAMPLES]) + (more if missing["shards"] > len(names[:3]) else "")
    return f"missing: {missing['shards']:,} shard{plural} that the names of others count: {named}"


class _Numbers:
    """Numbers that occur, a bit each."""

    def __init__(self, digits: int, rest: str) -> None:
        self.digits, self.rest = digits, rest
        self.count = 0
        self._bits = bytearray()

    def add(self, number: int) -> None:
        place, bit = divmod(number, 8)
        self._bits.extend(bytes(max(0, place + 1 - len(self._bits))))
        self.count += not self._bits[place] >> bit & 1
        self._bits[place] |= 1 << bit

    def __contains__(self, number: int) -> bool:
        place, bit = divmod(number, 8)
        return place < len(self._bits) and bool(self._bits[place] >> bit & 1)


def missing_shards(names: Iterable[str]) -> MissingShards:
    """What is missing among shards by their names.

    Numbers begin with 0, or with 1 if the last number is there and 0 is not.

    Args:
        names: Names of all shards, with folders.

    >>> missing_shards(["a-1-of-2.tar", "a-2-of-2.tar", "b.tar"]).shards
    0
    >>> missing_shards(["a-00001-of-00003-c0ffee.parquet"]).sets[0].missing
    ('a-00000-of-00003-*.parquet', 'a-00002-of-00003-*.parquet')
    """
    sets: dict[tuple[str, str], _Numbers] = {}
    for name in names:
        found = _NUMBERED.match(name)
        if found is None or int(found[2]) > int(found[3]):
            continue
        rest = _HASHED.sub("-*", found[4])
        of_set = sets.setdefault((found[1], found[3]), _Numbers(len(found[2]), rest))
        of_set.add(int(found[2]))
    incomplete = [
        (prefix, total, numbers)
        for (prefix, total), numbers in sorted(sets.items(), key=lambda entry: entry[0])
        if numbers.count < int(total)
    ]
    first = tuple(
        IncompleteSet(
            numbers.count, int(total), tuple(islice(_names(prefix, total, numbers), _EXAMPLES))
        )
        for prefix, total, numbers in incomplete[:_SETS]
    )
    return MissingShards(sum(int(total) - n.count for _, total, n in incomplete), first)


# Of dataset hubs, each shard may have a hash of its own behind its number.
_HASHED = re.compile(r"-[0-9a-f]{5,}(?=\.|\Z)")


def _names(prefix: str, total: str, numbers: _Numbers) -> Iterator[str]:
    begin = int(int(total) in numbers and 0 not in numbers)
    for number in range(begin, begin + int(total)):
        if number not in numbers:
            yield f"{prefix}-{number:0{numbers.digits}d}-of-{total}{numbers.rest}"
