"""Labels at the pixel centres of web tiles: the nearest sample of label maps, never a mean."""

from collections.abc import Callable
from contextlib import closing
from functools import partial

import numpy as np

from pipelines.layers.tiles.mercator import extent_of, world_grid
from pipelines.rasters.gdal import OPENER
from pipelines.scenes.sampling import nearest_pixels
from segmodel.rasters.grid import Grid
from segmodel.rasters.opening import gdal_window
from segmodel.rasters.reader import RasterHandle
from segmodel.tiling.windows import Window

# Side of what is looked up at once, in pixels of tiles.
CHUNK_PX = 512
# Most pixels of a label map that are held at once; pixels of the deepest zoom are up to twice as
# fine, and coarser only where `--max_zoom` says so.
READ_PIXELS = 16 * CHUNK_PX * CHUNK_PX

# Labels `(height, width)` of a window of a label map.
ReadLabels = Callable[[Window], np.ndarray]


def add_nearest(
    found: np.ndarray, window: Window, zoom: int, uri: str, grid: Grid, nodata: int
) -> None:
    """Put labels of a map at the pixel centres of a part of the world square that have none yet.

    Args:
        found: `(height, width)` labels, `nodata` where there is none yet; changed.
        window: Part of the pixels of the zoom.
        zoom: Zoom.
        uri: Label map.
        grid: Size and place of it.
        nodata: Value of pixels without a label.

    Raises:
        InputError: If the label map cannot be read.
    """
    extent = extent_of(grid)
    if extent is None:
        return
    with closing(RasterHandle(uri, OPENER)) as handle:
        read = partial(_read, handle)
        for covered in extent.windows(zoom):
            for chunk in covered.intersection(window).subdivide(CHUNK_PX, CHUNK_PX):
                part = found[chunk.relative_to(window).slices]
                _fill(part, chunk, zoom, grid, read, nodata)


def _read(handle: RasterHandle, window: Window) -> np.ndarray:
    part = gdal_window(window)
    return handle.read(lambda it: np.asarray(it.read(1, window=part)), "labels cannot be read")


def _fill(
    found: np.ndarray, chunk: Window, zoom: int, grid: Grid, read: ReadLabels, nodata: int
) -> None:
    """Put labels of a map where there are none yet, in parts of which each is read at once."""
    empty = found == nodata
    if not empty.any():
        return
    columns, rows = nearest_pixels(chunk, world_grid(zoom), grid)
    empty &= columns >= 0
    if not empty.any():
        return
    across, down = columns[empty], rows[empty]
    top, left = int(down.min()), int(across.min())
    part = Window(top, left, int(down.max()) - top + 1, int(across.max()) - left + 1)
    if part.pixels > READ_PIXELS and chunk.pixels > 1:
        half = -(-max(chunk.height, chunk.width) // 2)
        for quarter in chunk.subdivide(half, half):
            _fill(found[quarter.relative_to(chunk).slices], quarter, zoom, grid, read, nodata)
        return
    found[empty] = read(part)[down - top, across - left]
