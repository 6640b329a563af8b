"""Training crops: which part of which pair one is follows from the seed and its number alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segmodel.errors import ConfigurationError, InputError
from segmodel.labels.confusion import IGNORED
from segmodel.pairs.pairs import Pair
from segmodel.pairs.stats import Block, DatasetStats
from segmodel.tiling.raster import Pixels
from segmodel.tiling.windows import Window

# Attempts to draw a crop with a pixel that counts; the last is laid around a class.
_MAX_DRAWS = 4


class CropSampler:
    """Crops by number, from any thread.

    Of the crops, a share is laid around a pixel of a class: the class is drawn evenly from those
    that occur, the pixel evenly from all of it, and its place within the crop at random. The others
    are laid around a pixel drawn from all blocks that have any class.

    Args:
        pairs: Pairs that crops are taken from.
        stats: Statistics of the same pairs.
        crop: Side of a crop in pixels, once it is enlarged.
        scale: Least and greatest factor by which a crop will be enlarged to that side.
        class_balance: Share of crops that are laid around a class.
        fill: `(bands,)` raw value of each band for nodata, and beyond the image.
        seed: Seed of all random numbers.

    Raises:
        ConfigurationError: If no pixel of the pairs is of any class.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        stats: DatasetStats,
        crop: int,
        scale: tuple[float, float],
        class_balance: float,
        fill: np.ndarray,
        seed: int,
    ) -> None:
        self._pairs, self._crop, self._seed = pairs, crop, seed
        self._log_scale = np.log(scale)
        self._balance, self._fill = class_balance, np.asarray(fill)
        self._blocks = [block for block in stats.blocks if block.classes.size]
        if not self._blocks:
            raise ConfigurationError("no pixel of any mask is of a class: nothing can be learned")
        self._areas = np.cumsum([float(block.window.pixels) for block in self._blocks])
        self._present, self._of_class = _by_class(self._blocks)

    def crop(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The crop of this number.

        Args:
            number: Number of the crop, from 0; the same number gives the same crop.

        Returns:
            Image `(side, side, bands)` of the model's dtype with `fill` where it is nodata, and
            truth `(side, side)` int16 class indices. The side is that of a crop divided by a
            factor, whose logarithm is drawn evenly.

        Raises:
            InputError: If a file has changed since the statistics were collected; names it.
        """
        random = np.random.default_rng((self._seed, number))
        side = max(1, round(self._crop / float(np.exp(random.uniform(*self._log_scale)))))
        around_class = random.random() < self._balance
        for draw in range(_MAX_DRAWS):
            last = draw == _MAX_DRAWS - 1
            place = self._around_class if around_class or last else self._anywhere
            pair, row, column = place(random)
            window = _window_at(pair, row, column, side, random)
            # In this order, as rasters then read an image once for both.
            pixels, truth = pair.pixels(window), pair.truth(window)
            if last or around_class or (truth != IGNORED).any():
                break
        return self._pad_and_fill(pixels, truth, side)

    def _anywhere(self, random: np.random.Generator) -> tuple[Pair, int, int]:
        """A pixel of any block."""
        block = self._blocks[_draw_weighted(self._areas, random)]
        window = block.window
        row = window.row + int(random.integers(window.height))
        return self._pairs[block.pair], row, window.column + int(random.integers(window.width))

    def _around_class(self, random: np.random.Generator) -> tuple[Pair, int, int]:
        """A pixel of a class."""
        index = self._present[int(random.integers(len(self._present)))]
        numbers, sums = self._of_class[index]
        block = self._blocks[numbers[_draw_weighted(sums, random)]]
        pair, window = self._pairs[block.pair], block.window
        found = np.flatnonzero(pair.truth(window) == index)
        if not found.size:
            raise InputError(f"{pair.name} has changed since the run began: train anew")
        row, column = divmod(int(found[random.integers(found.size)]), window.width)
        return pair, window.row + row, window.column + column

    def _pad_and_fill(
        self, pixels: Pixels, truth: np.ndarray, side: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Copies of full size, with `fill` for nodata, on the right and at the bottom."""
        height, width = truth.shape
        values, finite = pixels.values, pixels.finite
        fill = self._fill.astype(values.dtype)
        if (height, width) == (side, side):
            image, whole = values.copy(), truth
        else:
            image = np.full((side, side, values.shape[2]), fill)
            image[:height, :width] = values
            whole = np.full((side, side), IGNORED, np.int16)
            whole[:height, :width] = truth
        if finite is not None:
            image[:height, :width][~finite] = fill
        return image, whole


def _by_class(
    blocks: Sequence[Block],
) -> tuple[list[int], dict[int, tuple[np.ndarray, np.ndarray]]]:
    """Classes that occur; for each, numbers of the blocks that have it, and sums of its pixels."""
    classes = np.concatenate([block.classes for block in blocks])
    counts = np.concatenate([block.counts for block in blocks])
    numbers = np.repeat(np.arange(len(blocks)), [block.classes.size for block in blocks])
    order = np.argsort(classes, kind="stable")
    classes, counts, numbers = classes[order], counts[order], numbers[order]
    present, firsts = np.unique(classes, return_index=True)
    ends = [*firsts[1:].tolist(), len(classes)]
    parts = zip(present.tolist(), firsts.tolist(), ends, strict=True)
    return present.tolist(), {
        index: (numbers[first:end], np.cumsum(counts[first:end], dtype=np.float64))
        for index, first, end in parts
    }


def _draw_weighted(sums: np.ndarray, random: np.random.Generator) -> int:
    """The index of one of some weights, drawn in proportion to them, by their running sums."""
    place = int(np.searchsorted(sums, random.random() * sums[-1], side="right"))
    return min(place, len(sums) - 1)


def _window_at(pair: Pair, row: int, column: int, side: int, random: np.random.Generator) -> Window:
    """A window of this side within the image, any that holds the pixel as likely."""

    def first(pixel: int, length: int) -> int:
        # Drawn among those that fit: moving others into the image would crowd them at its edges.
        low, high = max(0, pixel - side + 1), min(pixel, length - side)
        return int(random.integers(low, high + 1)) if low < high else max(0, min(low, high))

    top, left = first(row, pair.height), first(column, pair.width)
    return Window(top, left, side, side).intersection(Window(0, 0, pair.height, pair.width))
