"""Web tiles of a run that has no archive of them, drawn when a page asks for them.

The deepest zoom is that of an archive, and so are its tiles. Those of other zooms show overviews of
label maps, in which a pixel has the most frequent class: each tile needs few pixels of a map.
"""

import threading
from collections import OrderedDict
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from pipelines.layers.maps import LabelMap
from pipelines.layers.tiles.mercator import TILE_PX
from pipelines.layers.tiles.nearest import SampledMap, add_nearest
from pipelines.layers.tiles.tile_images import tile_image
from pipelines.layers.view.placed_maps import PlacedMaps
from pipelines.scenes.finished import named_label_map
from pipelines.storage.threads import THREADS, in_order
from segmodel.errors import BeamsegError, explained
from segmodel.labels.classes import ClassTable
from segmodel.tiling.windows import Window

# Tiles that are drawn at a time; each reads as many label maps at a time as a store has threads.
DRAWN_AT_ONCE = 4
# Bytes of tiles that are kept, and what Python takes of each beside its content.
KEPT_BYTES, _AROUND_TILE = 64 << 20, 400
# Most label maps of a tile of the lowest zoom: one takes milliseconds to open.
MAX_MAPS = 500


class DrawnTile(NamedTuple):
    """A tile.

    Attributes:
        content: PNG; empty where there is no label.
        left_out: What was wrong with label maps that it does not show.
    """

    content: bytes
    left_out: tuple[str, ...] = ()


class DrawnTiles:
    """Draws tiles of label maps.

    Args:
        placed: The label maps.
        classes: Colours, and the value of pixels without a label.
    """

    def __init__(self, placed: PlacedMaps, classes: ClassTable) -> None:
        self._placed, self._classes = placed, classes
        self._kept = _KeptTiles(KEPT_BYTES)
        self._turns = threading.Semaphore(DRAWN_AT_ONCE)
        self.max_zoom = max(extent.zoom for extent in placed.extents)
        self.min_zoom = _min_zoom(placed, self.max_zoom)

    @property
    def described(self) -> dict[str, Any]:
        """What the scripts of a page read of these tiles."""
        zooms = {"minZoom": self.min_zoom, "zoom": self.max_zoom}
        return {"archive": None, "type": "image/png", **zooms}

    def tile(self, zoom: int, column: int, row: int) -> DrawnTile:
        """A tile.

        Raises:
            IndexError: If there is none of that place.
        """
        if not (self.min_zoom <= zoom <= self.max_zoom and max(column, row) < 1 << zoom):
            raise IndexError(f"no tile {zoom}/{column}/{row}")
        place = zoom, column, row
        content = self._kept.get(place)
        if content is not None:
            return DrawnTile(content)
        with self._turns:
            labels, left_out = self._labels(*place)
        content = tile_image(labels, self._classes, "png")
        if not left_out:
            self._kept.put(place, content)
        return DrawnTile(content, tuple(left_out))

    def _labels(self, zoom: int, column: int, row: int) -> tuple[np.ndarray, list[str]]:
        """`(256, 256)` labels, and what was wrong with label maps that are left out."""
        nodata = self._classes.nodata
        labels = np.full((TILE_PX, TILE_PX), nodata, self._classes.label_dtype)
        side = 1 << zoom
        edges = (at / side for at in (column, row, column + 1, row + 1))
        maps = self._placed.meeting(*edges)
        window = Window(row * TILE_PX, column * TILE_PX, TILE_PX, TILE_PX)
        left_out: list[str] = []
        for start in range(0, len(maps), THREADS):
            group = maps[start : start + THREADS]
            for found in in_order(partial(self._sampled, zoom, window), group):
                if isinstance(found, str):
                    left_out.append(found)
                else:
                    labels = np.where(labels == nodata, found, labels)
            if not (labels == nodata).any():
                break
        return labels, left_out

    def _sampled(self, zoom: int, window: Window, found: LabelMap) -> np.ndarray | str:
        """Labels of one map in a tile, or what is wrong with it."""
        nodata = self._classes.nodata
        labels = np.full((window.height, window.width), nodata, self._classes.label_dtype)
        try:
            with named_label_map(found.file):
                sampled = SampledMap(found.uri, found.grid, nodata, by_overviews=True)
                add_nearest(labels, window, zoom, sampled)
        except BeamsegError as error:
            return str(error)
        except OSError as error:
            return f"{found.key}: {explained(error)}"
        return labels


def _min_zoom(placed: PlacedMaps, deepest: int) -> int:
    """The lowest zoom of which no tile has more than `MAX_MAPS` label maps, or the deepest one."""
    middles = np.array(
        [((e.west + e.east) / 2 % 1, (e.north + e.south) / 2) for e in placed.extents]
    )
    for zoom in range(deepest):
        _, counts = np.unique((middles * (1 << zoom)).astype(np.int64), axis=0, return_counts=True)
        if counts.max() <= MAX_MAPS:
            return zoom
    return deepest


class _KeptTiles:
    """Tiles that were asked for last, up to a number of bytes; for several threads.

    Args:
        most: Bytes.
    """

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._tiles: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()
        self._bytes = 0

    def get(self, place: tuple[int, int, int]) -> bytes | None:
        """A tile, if it is kept."""
        with self._lock:
            if place in self._tiles:
                self._tiles.move_to_end(place)
            return self._tiles.get(place)

    def put(self, place: tuple[int, int, int], content: bytes) -> None:
        """Keep a tile, and drop those that were not asked for for longest."""
        with self._lock:
            if place not in self._tiles:
                self._bytes += len(content) + _AROUND_TILE
            self._tiles[place] = content
            while self._bytes > self._most:
                _, dropped = self._tiles.popitem(last=False)
                self._bytes -= len(dropped) + _AROUND_TILE
