"""What scenes show, small, as pictures that a map draws below their labels."""

import io
from collections.abc import Iterator
from itertools import islice

import numpy as np
from affine import Affine
from PIL import Image

from pipelines.layers.maps import LabelMaps
from pipelines.layers.tiles.mercator import TILE_PX, Extent, extent_of, latitude, world_grid
from pipelines.rasters.reader import small_area
from pipelines.run.plan import InputFile
from pipelines.scenes.pictures import pictured_scene
from pipelines.scenes.sampling import nearest_pixels
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window

# Most pixels of a picture along a side, and most pictures of a page.
PREVIEW_PX, MAX_PREVIEWS = 1024, 200


class Previews:
    """Pictures of scenes, by number.

    Args:
        maps: Label maps of a run; those that take precedence come first.
    """

    def __init__(self, maps: LabelMaps) -> None:
        self._work = maps.work
        self._places: list[tuple[InputFile, int, Window]] = []
        for found in islice(maps, MAX_PREVIEWS):
            if (extent := extent_of(found.grid)) is not None:
                scene = maps.scenes[found.key]
                self._places += [(scene, *place) for place in _windows(extent)]

    @property
    def bounds(self) -> list[tuple[float, float, float, float]]:
        """West, south, east and north of each picture in degrees."""
        return [_degrees(zoom, window) for _, zoom, window in self._places]

    def png(self, number: int) -> bytes:
        """A picture, transparent where the scene shows nothing.

        Args:
            number: Its place in `bounds`.

        Raises:
            IndexError: If there is none.
            InputError: If the scene cannot be read any more.
        """
        scene, zoom, window = self._places[number]
        header = self._work.headers.read(scene)
        area = small_area(header, header.grid.window)
        step = max(1.0, max(area.height, area.width) / PREVIEW_PX)
        shape = max(1, int(area.height / step)), max(1, int(area.width / step))
        with pictured_scene(scene, self._work) as picture:
            image, valid = picture(area, shape)
        scale = Affine.scale(area.width / shape[1], area.height / shape[0])
        place = header.grid.transform @ Affine.translation(area.column, area.row) @ scale
        small = Grid(*shape, place, header.grid.crs)
        columns, rows = nearest_pixels(window, world_grid(zoom), small)
        inside = columns >= 0
        drawn = np.zeros((window.height, window.width, 4), np.uint8)
        alpha = np.where(valid, np.uint8(255), np.uint8(0))[..., np.newaxis]
        drawn[inside] = np.concatenate([image, alpha], axis=-1)[rows[inside], columns[inside]]
        buffer = io.BytesIO()
        Image.fromarray(drawn).save(buffer, "PNG", compress_level=3)
        return buffer.getvalue()


def _windows(extent: Extent) -> Iterator[tuple[int, Window]]:
    """Zoom and pixels of the pictures of a label map: two where it crosses the antimeridian."""
    zoom = extent.zoom
    while zoom and any(max(w.height, w.width) > PREVIEW_PX for w in extent.windows(zoom)):
        zoom -= 1
    for window in extent.windows(zoom):
        yield zoom, window


def _degrees(zoom: int, window: Window) -> tuple[float, float, float, float]:
    side = TILE_PX << zoom
    left, right = (at / side * 360 - 180 for at in (window.column, window.column + window.width))
    south, north = (latitude(at / side) for at in (window.row + window.height, window.row))
    return left, south, right, north
