"""Ground areas of the pixels of a label map, the same however it is cut into blocks."""

from dataclasses import astuple

import numpy as np

from pipelines.formats.work import Work
from pipelines.geodesy.ground import GroundGrid
from pipelines.layers.maps import LabelMap
from pipelines.rasters.reader import ground_grid
from segmodel.tiling.windows import Window

_SQUARE_PX = 512


def map_ground(found: LabelMap, labelled: Work) -> GroundGrid | float | None:
    """Where the pixels of a label map are on the ground.

    Args:
        found: The label map.
        labelled: Work of the run.

    Returns:
        That, or the area of each pixel in m², by `--pixel_size`; None where neither is known.
    """
    if found.grid.crs is not None and not found.grid.transform.is_identity:
        return ground_grid(found.grid)
    return None if labelled.pixel_size_m is None else labelled.pixel_size_m**2


def areas_by_squares(ground: GroundGrid | float, window: Window) -> np.ndarray:
    """Ground areas of the pixels of a window, which are the same bits in any window.

    The areas of a pixel in two windows may differ in the last bit: so they are computed by squares
    that are fixed on the scene.

    Args:
        ground: Where the pixels are, or the area of each of them in m².
        window: Part of the label map.

    Returns:
        float64 in m²: `(height, 1)` where the pixels of a row are equal, else `(height, width)`.
    """
    if not isinstance(ground, GroundGrid):
        return np.full((window.height, 1), ground)
    scene = Window(0, 0, ground.height, ground.width)
    top, left = (at - at % _SQUARE_PX for at in (window.row, window.column))
    bottom, right = window.row + window.height, window.column + window.width

    strips = []
    for row in range(top, bottom, _SQUARE_PX):
        parts: list[np.ndarray] = []
        for column in range(left, right, _SQUARE_PX):
            square = Window(row, column, _SQUARE_PX, _SQUARE_PX).intersection(scene)
            areas = ground.pixel_areas_m2(*astuple(square))
            rows, columns = square.intersection(window).relative_to(square).slices
            if areas.shape[1] < square.width:
                parts = [areas[rows]]
                break
            parts.append(areas[rows, columns])
        strips.append(np.hstack(parts))
    return np.vstack(strips)
