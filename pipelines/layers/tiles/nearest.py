"""Labels at the pixel centres of web tiles: the nearest sample of label maps, never a mean."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from affine import Affine
from rasterio.windows import Window as RasterioWindow

from pipelines.layers.tiles.mercator import TILE_PX, Extent, extent_of, world_grid
from pipelines.rasters.gdal import OPENER
from pipelines.scenes.sampling import nearest_pixels
from segmodel.rasters.grid import Grid
from segmodel.rasters.reader import RasterHandle
from segmodel.tiling.windows import Window

# Side of what is looked up at once, in pixels of tiles.
CHUNK_PX = 512
# Most pixels of a label map that are held at once; pixels of the deepest zoom are up to twice as
# fine, and coarser only where `--max_zoom` says so.
READ_PIXELS = 16 * CHUNK_PX * CHUNK_PX

# Labels `(height, width)` of a window of a label map.
ReadLabels = Callable[[Window], np.ndarray]


@dataclass(frozen=True)
class SampledMap:
    """A label map of which samples are taken.

    Args:
        uri: Where it is.
        grid: Size and place of it.
        nodata: Value of pixels without a label.
        by_overviews: Whether its coarsest overview that is not coarser than the zoom stands for it.
    """

    uri: str
    grid: Grid
    nodata: int
    by_overviews: bool = False


def add_nearest(found: np.ndarray, window: Window, zoom: int, sampled: SampledMap) -> None:
    """Put labels of a map at the pixel centres of a part of the world square that have none yet.

    Args:
        found: `(height, width)` labels, `nodata` where there is none yet; changed.
        window: Part of the pixels of the zoom.
        zoom: Zoom.
        sampled: The label map.

    Raises:
        InputError: If the label map cannot be read.
    """
    extent = extent_of(sampled.grid)
    if extent is None:
        return
    with closing(RasterHandle(sampled.uri, OPENER)) as handle:
        grid = _overview(handle, sampled.grid, extent, zoom) if sampled.by_overviews else None
        read = partial(_read, handle, sampled.grid, grid or sampled.grid)
        for covered in extent.windows(zoom):
            for chunk in covered.intersection(window).subdivide(CHUNK_PX, CHUNK_PX):
                part = found[chunk.relative_to(window).slices]
                _fill(part, chunk, zoom, grid or sampled.grid, read, sampled.nodata)


def _overview(handle: RasterHandle, grid: Grid, extent: Extent, zoom: int) -> Grid | None:
    """Size and place of the coarsest overview that is not coarser than a zoom; None for none."""
    steps = 1 / (extent.step * (TILE_PX << zoom))
    factors = handle.read(lambda source: list(source.overviews(1)), "overviews cannot be read")
    factor = max((found for found in factors if found <= steps), default=1)
    if factor == 1:
        return None
    height, width = -(-grid.height // factor), -(-grid.width // factor)
    place = grid.transform @ Affine.scale(grid.width / width, grid.height / height)
    return Grid(height, width, place, grid.crs)


def _read(handle: RasterHandle, whole: Grid, grid: Grid, window: Window) -> np.ndarray:
    """Labels of a window of a label map, or of an overview of it.

    Args:
        handle: The label map.
        whole: Size and place of it.
        grid: Size and place of the overview, or of the label map itself.
        window: Window of `grid`.
    """
    across, down = whole.width / grid.width, whole.height / grid.height
    place = window.column * across, window.row * down
    part = RasterioWindow(*place, window.width * across, window.height * down)
    shape = window.height, window.width
    return handle.read(
        lambda it: np.asarray(it.read(1, window=part, out_shape=shape)), "labels cannot be read"
    )


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
