"""Which zones the pixels of a window lie in: the few combinations of zones that there are."""

from collections.abc import Callable

import numpy as np

from pipelines.geodesy.polygon_masks import ScenePolygons
from segmodel.tiling.windows import Window

# Combinations of zones, each as their numbers, and the place of each pixel in them; None where all
# pixels are in the first.
ZoneIndex = tuple[np.ndarray | None, tuple[tuple[int, ...], ...]]
ZonesOf = Callable[[Window], ZoneIndex]

# Longest side of a piece of a window for which zones are drawn at once.
_PIECE_PX = 1024


def index_zones(polygons: ScenePolygons | None, window: Window) -> ZoneIndex:
    """Combinations of zones in a window.

    Args:
        polygons: Zones on the pixels of the scene; None if none is there.
        window: Rectangle of the scene.
    """
    index = np.zeros((window.height, window.width), np.int32)
    zones: tuple[tuple[int, ...], ...] = ((),)
    if polygons is not None:
        for layer in range(polygons.layers):
            index, zones = _split(index, zones, _layer(polygons, window, layer))
    return (None if len(zones) == 1 else index), zones


def _layer(polygons: ScenePolygons, window: Window, layer: int) -> np.ndarray:
    """Number of the zone of each pixel in a layer, from 1 on; 0 for none."""
    numbers = np.empty((window.height, window.width), np.int32)
    for piece in window.subdivide(_PIECE_PX, _PIECE_PX):
        numbers[piece.relative_to(window).slices] = polygons.indices(piece, layer) + 1
    return numbers


def _split(
    index: np.ndarray, zones: tuple[tuple[int, ...], ...], layer: np.ndarray
) -> tuple[np.ndarray, tuple[tuple[int, ...], ...]]:
    """Combinations of zones, split by those of one more layer."""
    found, place = _numbered(layer)
    pairs, index = _numbered(index * len(found) + place)
    of_layer = [(number - 1,) if number else () for number in found]
    return index, tuple(zones[n // len(found)] + of_layer[n % len(found)] for n in pairs)


def _numbered(values: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Different values, ascending, and the place of each in them; values are small and not below 0.

    >>> _numbered(np.array([[7, 2], [2, 7]]))[1].tolist()
    [[1, 0], [0, 1]]
    """
    is_there = np.bincount(values.ravel()) > 0
    places = np.cumsum(is_there, dtype=np.int32) - np.int32(1)
    return np.flatnonzero(is_there).tolist(), places[values]
