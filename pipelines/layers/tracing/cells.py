"""Components that are too large for one polygon, in cells of a fixed grid.

Corners of a band of rows give the pixels of the component again, cell by cell: sums of their signs
down and to the right. What of it hangs together in a cell is a part, so that neither blocks nor
memory matter.
"""

from collections.abc import Callable, Iterator

import numpy as np
from affine import Affine

from pipelines.layers.polygons.components import components_of
from pipelines.layers.polygons.corners import corners_of
from pipelines.layers.polygons.rings import rings_of
from pipelines.layers.tracing.blocks import unpacked
from segmodel.tiling.windows import Window

CELL_PX = 2048

# Keys of the corners of a component in some rows.
BandCorners = Callable[[range], np.ndarray]


def parts_of(
    corners_in: BandCorners,
    size: tuple[int, int],
    top: int,
    transform: Affine,
    max_corners: int,
) -> Iterator[np.ndarray]:
    """The parts of a component, cell by cell.

    Args:
        corners_in: Gives its corners in the rows of a band, or in more.
        size: Rows and columns of the scene.
        top: First row of the component.
        transform: Pixels to coordinates of the scene.
        max_corners: Most corners of a part; at least 4.

    Yields:
        Polygons of shapely, at least one.
    """
    for window, mask in _masks(corners_in, size, top - top % CELL_PX):
        yield from _traced(mask, window, transform, max_corners)


def _masks(
    corners_in: BandCorners, size: tuple[int, int], start: int
) -> Iterator[tuple[Window, np.ndarray]]:
    """Cells with pixels of a component, and where it is in them, `(height, width)` bool."""
    height, width = size
    # Along the last row so far: what a pixel has more than the one on its left.
    steps = np.zeros(width, np.int8)
    for top in range(start, height, CELL_PX):
        rows = range(top, min(top + CELL_PX, height))
        row, column, sign = unpacked(corners_in(rows), width)
        cell = np.where((row >= rows.start) & (row < rows.stop), column // CELL_PX, -1)
        left = np.zeros((len(rows), 1), np.int8)
        for window in Window(top, 0, len(rows), width).subdivide(CELL_PX, CELL_PX):
            own = np.flatnonzero((cell == window.column // CELL_PX) & (column < width))
            span = slice(window.column, window.column + window.width)
            if not len(own) and not steps[span].any() and not left.any():
                continue
            inside = np.zeros((window.height, window.width), np.int8)
            np.add.at(inside, (row[own] - top, column[own] - window.column), sign[own])
            inside[0] += steps[span]
            np.cumsum(inside, axis=0, out=inside)
            steps[span] = inside[-1]
            inside[:, :1] += left
            np.cumsum(inside, axis=1, out=inside)
            left = inside[:, -1:].copy()
            yield window, inside.view(bool)
        if not steps.any():
            return


def _traced(
    mask: np.ndarray, window: Window, transform: Affine, max_corners: int
) -> Iterator[np.ndarray]:
    """Polygons of a mask; where one has too many corners, of both halves of the window."""
    labels = np.pad(mask.view(np.uint8), 1)
    components = components_of(labels[1:-1, 1:-1])
    corners = corners_of(labels, 0)
    of = components.at(corners.pixels)
    is_large = np.bincount(of, minlength=len(components.first)) > max_corners
    own = ~is_large[of]
    rows, columns = corners.rows[own] + window.row, corners.columns[own] + window.column
    rings = rings_of(of[own], rows, columns, corners.signs[own])
    if len(rings.polygons):
        yield rings.geometries(transform)
    for component in np.flatnonzero(is_large):
        inside = components.ids == component
        for half in _halves(window):
            yield from _traced(
                np.ascontiguousarray(inside[half.relative_to(window).slices]),
                half,
                transform,
                max_corners,
            )


def _halves(window: Window) -> tuple[Window, Window]:
    row, column, height, width = window.row, window.column, window.height, window.width
    if height >= width:
        rows = height // 2
        return Window(row, column, rows, width), Window(row + rows, column, height - rows, width)
    columns = width // 2
    return (
        Window(row, column, height, columns),
        Window(row, column + columns, height, width - columns),
    )
