"""How many windows share a call of the model, as memory allows."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

_log = logging.getLogger("beamseg")


@dataclass
class BatchSizes:
    """Sizes of batches where those that the layout asks for do not fit in memory.

    A batch is halved until it fits. Its size depends on the shape of its windows and on where this
    process ran out of memory, never on what else is in the batch.

    Args:
        fitting: Size that replaced one that did not fit, by height and width of windows; shared by
            all that use the same model in a process.
        max_pixels: Most pixels in a batch of several windows, or None where only running out of
            memory tells.
        reduced: Sizes that were used in place of greater ones, by height and width; grows.
    """

    fitting: dict[tuple[int, int], int] = field(default_factory=dict)
    max_pixels: int | None = None
    reduced: dict[tuple[int, int], int] = field(default_factory=dict)

    def limit(self, height: int, width: int, requested: int) -> int:
        """The size of a batch of windows of this shape: what is requested, or less.

        Args:
            height: Rows of a window.
            width: Columns of a window.
            requested: Size that the layout asks for.

        >>> sizes = BatchSizes(max_pixels=300)
        >>> sizes.limit(10, 10, 13), sizes.limit(10, 10, 2), sizes.limit(20, 20, 4), sizes.reduced
        (2, 2, 1, {(10, 10): 2, (20, 20): 1})
        """
        size = min(requested, self.fitting.get((height, width), requested))
        while self.max_pixels is not None and size > 1 and size * height * width > self.max_pixels:
            size = _half(size)
        if size < requested:
            self.reduced[height, width] = min(size, self.reduced.get((height, width), size))
        return size

    def halve(self, height: int, width: int, size: int) -> None:
        """Keep batches of windows of this shape below a size that memory ran out at.

        Args:
            height: Rows of a window.
            width: Columns of a window.
            size: Size that did not fit.

        >>> sizes = BatchSizes()
        >>> sizes.halve(64, 64, 13)
        >>> sizes.limit(64, 64, 13)
        7
        """
        self.fitting[height, width] = _half(size)
        _log.warning(
            "out of memory in a batch of %d windows of %dx%d pixels: from now on %d",
            *(size, height, width, _half(size)),
        )


def _half(size: int) -> int:
    """Half a batch, rounded up, so that two of them hold it.

    >>> _half(13), _half(2)
    (7, 1)
    """
    return -(-size // 2)
