"""Windows: rectangles of pixels whose cores tile a raster exactly once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from segmodel.errors import ConfigurationError

MAX_BATCH_SIZE = 64
# Windows that together have the pixels of a square of this side are computed at the same time.
BATCH_PX = 512
# In place of a number of windows: batches for accelerators, which have the pixels of a square of
# this side, as many as one window of usual size; fewer where device memory is too small.
AUTO = "auto"
AUTO_BATCH_PX = 2048
Batch = int | str | None


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels in a raster.

    Args:
        row: First row.
        column: First column.
        height: Number of rows.
        width: Number of columns.

    Raises:
        ConfigurationError: If height or width is negative.
    """

    row: int
    column: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise ConfigurationError(f"a window needs a size of at least 0, got {self}")

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in an array of the whole raster."""
        rows = slice(self.row, self.row + self.height)
        return rows, slice(self.column, self.column + self.width)

    def relative_to(self, outer: Window) -> Window:
        """The same rectangle, in rows and columns of `outer`.

        >>> Window(10, 20, 5, 5).relative_to(Window(8, 16, 32, 32))
        Window(row=2, column=4, height=5, width=5)
        """
        return Window(self.row - outer.row, self.column - outer.column, self.height, self.width)

    def subdivide(self, height: int, width: int) -> Iterator[Window]:
        """Parts of this height and width, smaller at the end, that cover it once, row by row.

        >>> [part.width for part in Window(0, 0, 2, 5).subdivide(2, 3)]
        [3, 2]
        """
        bottom, right = self.row + self.height, self.column + self.width
        for row in range(self.row, bottom, height):
            for column in range(self.column, right, width):
                yield Window(row, column, min(height, bottom - row), min(width, right - column))

    def to_outer(self, outer: Window) -> Window:
        """This rectangle of `outer` in rows and columns of its raster; undoes `relative_to`.

        >>> Window(2, 4, 5, 5).to_outer(Window(8, 16, 32, 32))
        Window(row=10, column=20, height=5, width=5)
        """
        return Window(self.row + outer.row, self.column + outer.column, self.height, self.width)

    def intersection(self, other: Window) -> Window:
        """The rectangle that both cover; without pixels if they do not meet.

        >>> Window(0, 0, 4, 4).intersection(Window(2, 3, 5, 5))
        Window(row=2, column=3, height=2, width=1)
        """
        row, column = max(self.row, other.row), max(self.column, other.column)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.column + self.width, other.column + other.width)
        return Window(row, column, max(0, bottom - row), max(0, right - column))


@dataclass(frozen=True)
class Tile:
    """One window: what is read for it, what the model sees and what is written.

    Args:
        core: Rectangle that gets labels.
        read: Rectangle that is read: the core with its halo.
        height: Rows that the model sees; more than those of `read` only where a model of fixed
            window meets a smaller raster, which is then filled at the bottom.
        width: Columns that the model sees; likewise, filled on the right.
    """

    core: Window
    read: Window
    height: int
    width: int


@dataclass(frozen=True)
class Layout:
    """Sizes of windows and batches for a model; every field shapes labels.

    Args:
        window_px: Longest side of a core in pixels; a multiple of `stride_px`.
        halo_px: Context in pixels around a core.
        stride_px: Stride of the network; origins of what is read are multiples of it.
        batch: Windows in a batch; `AUTO` for as many as have the pixels of a square of
            `AUTO_BATCH_PX`, up to `MAX_BATCH_SIZE`; None, in runs of earlier releases, for those of
            a square of `BATCH_PX`.
        fixed_px: Side of the only window the model accepts, or None.
        rectangular: Whether windows may have other shapes than squares, as long as they have no
            more pixels than a square core of `window_px` with its halo.

    Raises:
        ConfigurationError: If the sizes do not fit together.
    """

    window_px: int
    halo_px: int
    stride_px: int
    batch: Batch = 1
    fixed_px: int | None = None
    rectangular: bool = False

    def __post_init__(self) -> None:
        batch = self.batch
        is_batch = batch >= 1 if isinstance(batch, int) else batch in (None, AUTO)
        if self.stride_px < 1 or not is_batch or self.halo_px < 0:
            raise ConfigurationError(
                f"stride and batch must be at least 1 and halo at least 0, got {self}"
            )
        if self.window_px < 1 or self.window_px % self.stride_px:
            raise ConfigurationError(
                f"--window must be a multiple of the model's stride {self.stride_px}, "
                f"got {self.window_px}"
            )
        if self.fixed_px is not None and self.window_px + 2 * self.halo_px > self.fixed_px:
            raise ConfigurationError(
                f"window {self.window_px} with halo {self.halo_px} does not fit in the model's "
                f"fixed window of {self.fixed_px} pixels: lower --halo"
            )

    @property
    def aligned_halo_px(self) -> int:
        """Halo rounded up to the stride, so that pooling grids of all windows line up.

        >>> Layout(window_px=512, halo_px=70, stride_px=32).aligned_halo_px
        96
        """
        return -(-self.halo_px // self.stride_px) * self.stride_px

    @property
    def read_px(self) -> int:
        """Side of a window with its halo, away from the edges of the raster."""
        return self.fixed_px or self.window_px + 2 * self.aligned_halo_px

    def batch_size(self, height: int, width: int) -> int:
        """Number of windows of this height and width in a batch.

        The number depends on the shape alone and a batch that is not full is filled up, because
        the last bits of what a convolution gives change with the size of the batch.

        >>> Layout(window_px=512, halo_px=0, stride_px=32).batch_size(256, 256)
        1
        >>> Layout(window_px=512, halo_px=0, stride_px=32, batch=None).batch_size(256, 256)
        4
        >>> Layout(window_px=512, halo_px=0, stride_px=32, batch=16).batch_size(256, 256)
        16
        >>> Layout(window_px=512, halo_px=0, stride_px=32, batch=AUTO).batch_size(512, 256)
        32
        """
        if isinstance(self.batch, int):
            return self.batch
        return max(1, min(MAX_BATCH_SIZE, self._batch_px**2 // max(1, height * width)))

    @property
    def _batch_px(self) -> int:
        return AUTO_BATCH_PX if self.batch == AUTO else BATCH_PX

    @property
    def max_batch_pixels(self) -> int:
        """Most pixels that are computed at a time: in one batch, or in calls of one window.

        >>> Layout(window_px=64, halo_px=0, stride_px=32).max_batch_pixels
        262144
        """
        if isinstance(self.batch, int) and self.batch > 1:
            return self.batch * self.read_px**2
        return max(self.read_px, self._batch_px) ** 2

    @property
    def max_batch_pixels_on_cpu(self) -> int:
        """Most pixels in one batch where the model runs on a CPU, in the memory of its process.

        >>> Layout(window_px=64, halo_px=0, stride_px=32, batch=AUTO).max_batch_pixels_on_cpu
        262144
        """
        return (replace(self, batch=None) if self.batch == AUTO else self).max_batch_pixels


def tiles(raster: Window, area: Window, layout: Layout) -> Iterator[Tile]:
    """Tiles that cover `area` of `raster`, row by row; their cores cover each pixel once.

    Cores are about equal, so that no narrow rest needs a halo of its own. What a tile reads
    never leaves the raster. Where the halo reaches the edge, the tile ends there, so that the
    network pads as it would on the whole raster.

    Args:
        raster: The whole raster, at row 0 and column 0.
        area: Part of the raster to cover; its origin is a multiple of the stride.
        layout: Sizes of windows.

    Raises:
        ConfigurationError: If the origin of `area` is not a multiple of the stride, or it leaves
            the raster.

    >>> layout = Layout(window_px=64, halo_px=32, stride_px=32)
    >>> for tile in tiles(Window(0, 0, 64, 100), Window(0, 0, 64, 100), layout):
    ...     print(tile.core.column, tile.core.width, tile.read.column, tile.read.width)
    0 64 0 96
    64 36 32 68
    """
    if area.row % layout.stride_px or area.column % layout.stride_px:
        raise ConfigurationError(f"area must start on a multiple of {layout.stride_px}: {area}")
    if area.row + area.height > raster.height or area.column + area.width > raster.width:
        raise ConfigurationError(f"{area} leaves the raster of {raster.height}x{raster.width}")
    rows, columns = cores(raster, area, layout)
    for row, height in rows:
        for column, width in columns:
            yield tile_of(Window(row, column, height, width), raster, layout)


def tile_of(core: Window, raster: Window, layout: Layout) -> Tile:
    """The tile of a core: with its halo, as far as the raster reaches.

    Args:
        core: Rectangle that gets labels.
        raster: The whole raster, at row 0 and column 0.
        layout: Sizes of windows.
    """
    top, read_height = _span(core.row, core.height, raster.height, layout)
    left, read_width = _span(core.column, core.width, raster.width, layout)
    return Tile(
        core=core,
        read=Window(top, left, read_height, read_width),
        height=layout.fixed_px or read_height,
        width=layout.fixed_px or read_width,
    )


# Start and length of each core along an axis.
Spans = list[tuple[int, int]]


def cores(raster: Window, area: Window, layout: Layout) -> tuple[Spans, Spans]:
    """Rows and columns of the cores that cover an area.

    Rectangular ones are those for which the model computes the least pixels, of these those with
    the shortest borders. Their sides are at most twice as long as those of a square.

    Args:
        raster: The whole raster, at row 0 and column 0.
        area: Part of the raster to cover.
        layout: Sizes of windows.

    >>> layout = Layout(window_px=64, halo_px=32, stride_px=32, rectangular=True)
    >>> area = Window(0, 0, 64, 160)
    >>> cores(area, area, layout)
    ([(0, 64)], [(0, 96), (96, 64)])
    """
    heights = widths = layout
    if layout.rectangular and area.pixels:
        _, height, width = min(_shapes(raster, area, layout))
        heights = replace(layout, window_px=height)
        widths = replace(layout, window_px=width)
    return list(spans(area.row, area.height, heights)), list(spans(area.column, area.width, widths))


def _shapes(
    raster: Window, area: Window, layout: Layout
) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Shapes of cores for an area: computed pixels and length of borders, height, width."""
    few, many = -(-area.height // (2 * layout.window_px)), 2 * area.height // layout.window_px
    for number in range(few, max(few, many) + 1):
        down = _Axis.divided(area.row, area.height, raster.height, number, layout)
        most_px = layout.read_px**2 // down.longest_px
        side = min(most_px - 2 * layout.aligned_halo_px, 2 * layout.window_px)
        side = max(side // layout.stride_px, 1) * layout.stride_px
        # Windows at the edge of a raster have a halo on one side only.
        for columns in {1, 2, -(-area.width // side)}:
            across = _Axis.divided(area.column, area.width, raster.width, columns, layout)
            if across.longest_px <= most_px and across.side_px <= 2 * layout.window_px:
                borders = down.number * area.width + across.number * area.height
                yield (down.read_px * across.read_px, borders), down.side_px, across.side_px


class _Axis(NamedTuple):
    """About equal cores along an axis: their side, all that they read, and what one reads."""

    side_px: int
    number: int
    read_px: int
    longest_px: int

    @classmethod
    def divided(
        cls, start: int, length: int, raster_length: int, number: int, layout: Layout
    ) -> _Axis:
        """An axis that is divided into at most so many cores."""
        halo, stride = layout.aligned_halo_px, layout.stride_px
        side = -(-length // (number * stride)) * stride
        number = -(-length // side)
        rest, last = raster_length - start - length, length - (number - 1) * side
        before, after = min(halo, start), min(halo, rest)
        read = length + before + after
        if number > 1:
            read += halo * (2 * number - 3) + min(halo, last + rest)
        around = (before + after, halo + max(before, after))[number - 1] if number < 3 else 2 * halo
        return cls(side, number, read, min(side, length) + around)


def spans(start: int, length: int, layout: Layout) -> Iterator[tuple[int, int]]:
    """Start and length of the cores along one axis: as few as possible, about equal.

    Args:
        start: First pixel.
        length: Number of pixels to cover.
        layout: Sizes of windows.

    >>> list(spans(0, 140, Layout(window_px=64, halo_px=0, stride_px=8)))
    [(0, 48), (48, 48), (96, 44)]
    """
    if length <= 0:
        return
    side = core_side(length, layout)
    for first in range(start, start + length, side):
        yield first, min(side, start + length - first)


def core_side(length: int, layout: Layout) -> int:
    """Side of the cores along an axis of a length in pixels, a multiple of the stride."""
    number = -(-length // layout.window_px)
    return math.ceil(length / number / layout.stride_px) * layout.stride_px


def computed_pixels(raster: Window, area: Window, layout: Layout) -> int:
    """Number of pixels that the model computes to label an area, halos and filling included.

    Args:
        raster: The whole raster, at row 0 and column 0.
        area: Part of the raster that is labelled.
        layout: Sizes of windows.

    >>> layout = Layout(window_px=64, halo_px=32, stride_px=32)
    >>> computed_pixels(Window(0, 0, 64, 128), Window(0, 0, 64, 128), layout)
    12288
    """
    rows, columns = cores(raster, area, layout)
    if layout.fixed_px is not None:
        return len(rows) * len(columns) * layout.fixed_px**2
    return sum(_reads(rows, raster.height, layout)) * sum(_reads(columns, raster.width, layout))


def _reads(axis: Spans, raster_length: int, layout: Layout) -> list[int]:
    """Pixels along an axis that each core reads, with its halos."""
    return [_span(*core, raster_length, layout)[1] for core in axis]


def _span(start: int, length: int, raster_length: int, layout: Layout) -> tuple[int, int]:
    """First pixel and number of pixels that one axis of a tile reads."""
    if layout.fixed_px is not None:
        margin = (layout.fixed_px - layout.window_px) // 2 // layout.stride_px * layout.stride_px
        first = max(0, min(start - margin, raster_length - layout.fixed_px))
        return first, min(layout.fixed_px, raster_length)
    first = max(0, start - layout.aligned_halo_px)
    return first, min(raster_length, start + length + layout.aligned_halo_px) - first
