"""Statistics of a data set: all pairs checked before anything is trained, pixels of each class."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from segmodel.errors import ConfigurationError, InputError, counted
from segmodel.labels.classes import ClassTable
from segmodel.pairs.pairs import Pair
from segmodel.tiling.windows import Window

BLOCK_PX = 512
# Each thread may hold an image that is decoded whole: not more, however many cores there are.
THREADS = min(os.cpu_count() or 1, 16)
# Blocks of a row that are read at once, as strips of a raster are decoded in their whole width.
_READ_BLOCKS = 8
_MAX_FAULTS = 10
_LOG_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a pair, and which classes it has.

    Args:
        pair: Number of the pair among all pairs.
        window: Part of the image, in its rows and columns.
        classes: `(n,)` int16, indices of the classes that occur in it, rising.
        counts: `(n,)` int64, pixels of each of these classes.
        content: CRC-32 of the pixels of image and truth.
    """

    pair: int
    window: Window
    classes: np.ndarray
    counts: np.ndarray
    content: int = 0


@dataclass(frozen=True)
class DatasetStats:
    """Where each class is in a data set.

    Args:
        blocks: Blocks of all pairs, in the order of the pairs.
        counts: `(classes,)` int64, pixels of each class.
        images: Number of pairs.
    """

    blocks: tuple[Block, ...]
    counts: np.ndarray
    images: int

    def per_image(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Classes of each pair in turn: `(n,)` int16 indices, rising, and `(n,)` int64 pixels."""
        for _, blocks in groupby(self.blocks, key=lambda block: block.pair):
            parts = [(block.classes, block.counts) for block in blocks]
            if len(parts) == 1:
                yield parts[0]
                continue
            classes, counts = (np.concatenate(values) for values in zip(*parts, strict=True))
            present, places = np.unique(classes, return_inverse=True)
            sums = np.zeros(len(present), np.int64)
            np.add.at(sums, places, counts)
            yield present, sums

    @property
    def image_pixels(self) -> np.ndarray:
        """`(classes,)` int64: for each class the pixels of all classes in images that have it."""
        around = np.zeros(len(self.counts), np.int64)
        for classes, counts in self.per_image():
            around[classes] += counts.sum()
        return around

    def subset(self, numbers: Sequence[int]) -> DatasetStats:
        """Statistics of some of the pairs alone.

        Args:
            numbers: Numbers of the pairs, in the order that they have then.
        """
        places = {number: place for place, number in enumerate(numbers)}
        found = [replace(b, pair=places[b.pair]) for b in self.blocks if b.pair in places]
        blocks = tuple(sorted(found, key=lambda block: block.pair))
        return DatasetStats(blocks, _pixels_of_classes(blocks, len(self.counts)), len(places))


def collect_stats(
    pairs: Sequence[Pair],
    classes: ClassTable,
    allow_empty: bool,
    log: Callable[[str], None] | None = None,
) -> DatasetStats:
    """Read every image and mask once, and count the classes of every block.

    Args:
        pairs: Pairs of the data set.
        classes: Class table of the masks.
        allow_empty: Whether a class may be without a pixel.
        log: Called with a line about progress every few seconds.

    Raises:
        InputError: If images or masks cannot be used; names the first ten, each with its value.
        ConfigurationError: If there is no pair, no pixel of any class, or a class without a pixel
            that may not be.
    """
    if not pairs:
        raise ConfigurationError("there is no image with a mask: check the folders of data")
    blocks: list[Block] = []
    faults: list[str] = []
    logged = time.monotonic()
    pool = ThreadPoolExecutor(THREADS, "beamseg-survey")
    try:
        surveyed = pool.map(lambda number: _blocks_of(number, pairs[number]), range(len(pairs)))
        for done, found in enumerate(surveyed, 1):
            if isinstance(found, InputError):
                faults.append(str(found))
                if len(faults) == _MAX_FAULTS:
                    break
            else:
                blocks += found
            if log is not None and time.monotonic() - logged >= _LOG_SECONDS:
                logged = time.monotonic()
                log(f"checked {done:,} of {counted(len(pairs), 'image')} with masks")
    finally:
        pool.shutdown(cancel_futures=True)
    if faults:
        count = counted(len(faults), "pair")
        first = "the first " if len(faults) == _MAX_FAULTS else ""
        raise InputError(f"{first}{count} that cannot be used: {'; '.join(faults)}")
    counts = _pixels_of_classes(blocks, len(classes.ids))
    check_classes(counts, classes, allow_empty)
    return DatasetStats(tuple(blocks), counts, len(pairs))


def _pixels_of_classes(blocks: Iterable[Block], classes: int) -> np.ndarray:
    counts = np.zeros(classes, np.int64)
    for block in blocks:
        counts[block.classes] += block.counts
    return counts


def check_classes(counts: np.ndarray, classes: ClassTable, allow_empty: bool) -> None:
    """Refuse data without any pixel that counts, and classes without a pixel.

    Args:
        counts: `(classes,)` int64, pixels of each class.
        classes: Class table of the masks.
        allow_empty: Whether a class may be without a pixel.

    Raises:
        ConfigurationError: Names the classes.
    """
    if not counts.any():
        raise ConfigurationError("no pixel of any mask is of a class: all of them are ignored")
    empty = [c for c, count in zip(classes.classes, counts, strict=True) if not count]
    if empty and not allow_empty:
        named = ", ".join(f"{entry.name!r} (id {entry.id})" for entry in empty)
        raise ConfigurationError(
            f"no training mask has a pixel of {named}: add images of it, remove it from the "
            f"classes, or set data.allow_empty_classes"
        )


def _blocks_of(number: int, pair: Pair) -> list[Block] | InputError:
    """The blocks of a pair, or what is wrong with it."""
    try:
        whole = Window(0, 0, pair.height, pair.width)
        if not whole.pixels:
            raise InputError(f"{pair.name}: the image has no pixels")
        blocks = []
        for window in whole.subdivide(BLOCK_PX, BLOCK_PX * _READ_BLOCKS):
            values = pair.pixels(window).values
            truth = pair.truth(window)
            for part in window.subdivide(BLOCK_PX, BLOCK_PX):
                place = part.relative_to(window).slices
                indices = np.ascontiguousarray(truth[place])
                # One more than the index, as `IGNORED` is -1.
                counts = np.bincount(indices.ravel() + np.int16(1))[1:]
                present = np.flatnonzero(counts)
                content = zlib.crc32(np.ascontiguousarray(values[place]).data)
                content = zlib.crc32(indices.data, content)
                blocks.append(
                    Block(number, part, present.astype(np.int16), counts[present], content)
                )
    except InputError as error:
        return error
    return blocks
