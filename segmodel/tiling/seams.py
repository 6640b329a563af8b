"""Seams: labels near borders of windows, compared with labels from windows across the borders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from segmodel.errors import ConfigurationError
from segmodel.tiling.windows import Layout, Tile, Window, cores, tile_of

# Distance from borders up to which labels are compared where there is no halo.
NEAR_PX = 32


def border_tiles(raster: Window, area: Window, layout: Layout) -> Iterator[Tile]:
    """Tiles with the borders between the cores of `area` in their middle.

    Their cores reach a halo, or `NEAR_PX` where there is none, to both sides of a border and are
    cut to `area`; they read as much around them, and a stride more below and on the right. So they
    have an odd number of strides along an axis where windows have an even one, and show labels
    that depend on the size of the window. Borders that `area` shares with the rest of the
    raster are among them.

    Args:
        raster: The whole raster, at row 0 and column 0.
        area: Part of the raster that was labelled.
        layout: Sizes of windows that it was labelled with.

    Raises:
        ConfigurationError: If the model has a fixed window.

    >>> layout = Layout(window_px=64, halo_px=16, stride_px=16)
    >>> for tile in border_tiles(Window(0, 0, 64, 128), Window(0, 0, 64, 128), layout):
    ...     print(tile.core, tile.read.column, tile.read.width)
    Window(row=0, column=48, height=64, width=32) 32 80
    """
    if layout.fixed_px is not None:
        raise ConfigurationError("windows of a model with a fixed window cannot be moved")
    rows, columns = cores(raster, area, layout)
    layout = replace(layout, halo_px=near_px(layout))
    for low, high in _strips(rows, raster.height, layout):
        for column, width in columns:
            yield _tile_in(area, Window(low, column, high - low, width), raster, layout)
    for low, high in _strips(columns, raster.width, layout):
        for row, height in rows:
            yield _tile_in(area, Window(row, low, height, high - low), raster, layout)


def near_px(layout: Layout) -> int:
    """Distance from a border, in pixels, up to which labels are compared."""
    return layout.aligned_halo_px or -(-NEAR_PX // layout.stride_px) * layout.stride_px


def _strips(cores: list[tuple[int, int]], length: int, layout: Layout) -> Iterator[tuple[int, int]]:
    """First pixel, on the stride, and end of what is within reach of the borders along one axis."""
    reach, stride = layout.aligned_halo_px, layout.stride_px
    borders = [first for first, _ in cores] + [sum(cores[-1])]
    for border in borders:
        if reach and 0 < border < length:
            yield max(0, border - reach) // stride * stride, min(length, border + reach)


def _tile_in(area: Window, core: Window, raster: Window, layout: Layout) -> Tile:
    read = tile_of(core, raster, layout).read
    more = replace(read, height=read.height + layout.stride_px, width=read.width + layout.stride_px)
    read = more.intersection(raster)
    return Tile(core.intersection(area), read, read.height, read.width)


def seam_pixels(
    labels: np.ndarray, shifted: np.ndarray, near_borders: Iterable[Window], nodata: int
) -> tuple[int, int]:
    """Number of pixels near borders that have a label in both maps, and of those that differ.

    Args:
        labels: `(height, width)` label map.
        shifted: Label map of the same area by `border_tiles`.
        near_borders: Cores of these tiles, in rows and columns of the map.
        nodata: Value of pixels without a label.

    >>> seam_pixels(np.array([[1, 2, 2]]), np.array([[1, 1, 255]]), [Window(0, 1, 1, 2)], 255)
    (1, 1)
    """
    near = np.zeros(labels.shape, bool)
    for window in near_borders:
        near[window.slices] = True
    near &= (labels != nodata) & (shifted != nodata)
    return int(np.count_nonzero(near)), int(np.count_nonzero(near & (labels != shifted)))
