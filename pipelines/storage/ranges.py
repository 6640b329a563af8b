"""Ranges of objects that are read from: several are asked for at once where more will be read."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress

from pipelines.storage.threads import THREADS, in_order

# What a request asks for: several tiles, which often follow each other.
RANGE_BYTES = 1 << 20
# The next window often needs the rest of the ranges of this one.
MAX_RANGES = 32
RANGES_BYTES = MAX_RANGES * RANGE_BYTES

# An object and its version.
Key = tuple[str, str]
# First byte, and the one behind the last.
Extent = tuple[int, int]


class Ranges:
    """Ranges of objects, which are kept for the next reads: the last of them; thread-safe.

    A range begins where somebody reads, and those that are asked for ahead where the next one would
    be asked for. So there are no more requests than of a reader who makes one after another.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Key, int], bytes] = OrderedDict()
        self._expected: dict[Key, list[Extent]] = {}
        self._lock = threading.Lock()

    def expect(self, key: Key, extents: Iterable[Extent]) -> None:
        """Note which parts of an object are read next, in place of those noted before."""
        with self._lock:
            self._expected[key] = sorted(extents)

    def read(self, key: Key, place: int, ask: Callable[[int], bytes]) -> memoryview:
        """Bytes of an object from a place on, at least one.

        Args:
            key: Object and version.
            place: First byte, which the object has.
            ask: Function of a first byte, called in several threads at once, that returns
                `RANGE_BYTES` bytes of the object, or fewer at its end. What it raises for `place`
                is raised.
        """
        with self._lock:
            start = self._start_of(key, place)
            if start is None:
                self._fetch(key, place, ask)
                start = place
            return memoryview(self._kept[key, start])[place - start :]

    def _start_of(self, key: Key, place: int) -> int | None:
        """First byte of the kept range that has a byte, or None."""
        for (owner, start), content in self._kept.items():
            if owner == key and start <= place < start + len(content):
                self._kept.move_to_end((owner, start))
                return start
        return None

    def _fetch(self, key: Key, place: int, ask: Callable[[int], bytes]) -> None:
        """Keep the range at a place, and ranges that are read behind it."""

        def answer(start: int) -> bytes:
            if start == place:
                return ask(start)
            # What fails is asked for anew when it is read, and that failure counts.
            with suppress(Exception):
                return ask(start)
            return b""

        starts = [place, *self._ahead(key, place)]
        try:
            contents = list(in_order(answer, starts))
        except Exception:
            # While the store is down, nothing is asked for ahead.
            self._expected.pop(key, None)
            raise
        self._kept.update(
            ((key, at), part) for at, part in zip(starts, contents, strict=True) if part
        )
        while len(self._kept) > MAX_RANGES:
            self._kept.popitem(last=False)

    def _ahead(self, key: Key, place: int) -> list[int]:
        """Where ranges begin that are not kept, and read behind one that is read as expected."""
        expected, starts = self._expected.get(key, []), list[int]()
        if not any(begin <= place < end for begin, end in expected):
            return starts
        free = place + RANGE_BYTES
        for begin, end in expected:
            at = max(begin, free)
            while at < end and len(starts) < THREADS - 1:
                start = self._start_of(key, at)
                if start is None:
                    starts.append(at)
                    start = at
                at = start + RANGE_BYTES
                free = at
        return starts
