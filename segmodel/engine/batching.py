"""How many windows share a call of the model, as memory allows."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

_log = logging.getLogger("beamseg")


@dataclass
class CallSizes:
    """Sizes of calls where batches as wanted do not fit in memory.

    A batch is halved until it fits. What follows depends on the shape of windows and on what this
    process has met, never on what else is in a batch.

    Args:
        learned: Size that was found for a shape when memory ran out, by height and width; shared by
            all that use the same model in a process.
        most_pixels: Most pixels in a call of several windows, or None where only running out of
            memory tells.
        smaller: Sizes that were used in place of greater ones, by height and width; grows.
    """

    learned: dict[tuple[int, int], int] = field(default_factory=dict)
    most_pixels: int | None = None
    smaller: dict[tuple[int, int], int] = field(default_factory=dict)

    def of(self, height: int, width: int, wanted: int) -> int:
        """Windows of a shape in a call, where so many are wanted.

        >>> sizes = CallSizes(most_pixels=300)
        >>> sizes.of(10, 10, 13), sizes.of(10, 10, 2), sizes.of(20, 20, 4), sizes.smaller
        (2, 2, 1, {(10, 10): 2, (20, 20): 1})
        """
        size = min(wanted, self.learned.get((height, width), wanted))
        while (
            self.most_pixels is not None and size > 1 and size * height * width > self.most_pixels
        ):
            size = half_of(size)
        if size < wanted:
            self.smaller[height, width] = min(size, self.smaller.get((height, width), size))
        return size

    def step_down(self, height: int, width: int, size: int) -> None:
        """Have calls of windows of a shape be smaller than one that memory ran out in.

        >>> sizes = CallSizes()
        >>> sizes.step_down(64, 64, 13)
        >>> sizes.of(64, 64, 13)
        7
        """
        self.learned[height, width] = half_of(size)
        _log.warning(
            "out of memory in a batch of %d windows of %dx%d pixels: from now on %d",
            *(size, height, width, half_of(size)),
        )


def half_of(size: int) -> int:
    """Half a batch, rounded up, so that two of them hold it.

    >>> half_of(13), half_of(2)
    (7, 1)
    """
    return -(-size // 2)
