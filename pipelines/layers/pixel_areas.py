"""Ground areas of the pixels of a label map, the same however it is cut into blocks."""

from dataclasses import astuple, dataclass

import numpy as np

from pipelines.formats.work import Work
from pipelines.geodesy.ground import GroundGrid
from pipelines.layers.maps import LabelMap
from pipelines.rasters.header import read_header
from pipelines.rasters.reader import ground_grid
from segmodel.errors import GroundError
from segmodel.tiling.windows import Window

SQUARE_PX = 512


@dataclass(frozen=True)
class PixelAreas:
    """Ground areas of the pixels of a scene, which are the same bits in any window.

    Areas of two windows that hold a pixel may differ in the last bit: so they are computed by
    squares that are fixed on the scene.

    Args:
        ground: Where the pixels are, or the area of each of them in m².
    """

    ground: GroundGrid | float

    @classmethod
    def of(cls, found: LabelMap, labelled: Work) -> "PixelAreas":
        """Those of a label map.

        Raises:
            GroundError: If it has none.
        """
        if read_header(found.uri).is_placed:
            return cls(ground_grid(found.grid))
        if labelled.pixel_size_m is None:
            raise GroundError(
                "its pixels have no ground area to compare with --minimum_area: give the scene a "
                "coordinate reference system, or label it with --pixel_size",
                name=found.key,
            )
        return cls(labelled.pixel_size_m**2)

    def of_window(self, window: Window) -> np.ndarray:
        """Areas in m²: `(height, 1)` where those of a row are equal, else `(height, width)`."""
        if isinstance(self.ground, float):
            return np.full((window.height, 1), self.ground)
        whole = Window(0, 0, self.ground.height, self.ground.width)
        top, left = (first // SQUARE_PX * SQUARE_PX for first in (window.row, window.column))
        bottom, right = window.row + window.height, window.column + window.width
        strips = []
        for row in range(top, bottom, SQUARE_PX):
            parts = []
            for column in range(left, right, SQUARE_PX):
                square = Window(row, column, SQUARE_PX, SQUARE_PX).intersection(whole)
                areas = self.ground.pixel_areas_m2(*astuple(square))
                rows, columns = window.intersection(square).relative_to(square).slices
                if areas.shape[1] == 1:
                    parts = [areas[rows]]
                    break
                parts.append(areas[rows, columns])
            strips.append(np.hstack(parts))
        return np.vstack(strips)
