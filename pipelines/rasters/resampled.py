"""Scenes as a model sees them that was made for another ground sample distance."""

from dataclasses import astuple

import numpy as np

from pipelines.rasters.reader import SceneRaster
from segmodel.errors import InputError
from segmodel.tiling.raster import Pixels, Raster
from segmodel.tiling.resampling import ModelGrid
from segmodel.tiling.windows import Window

STRIP_ROWS = 512


class ResampledRaster(Raster):
    """A scene as a model sees it that was made for another ground sample distance.

    Args:
        scene: Scene that is read.
        grid: Grid that the model sees.
        source_window: Part of the scene that is labelled, which gets the labels.
        area: The same on the grid of the model.
    """

    def __init__(
        self, scene: SceneRaster, grid: ModelGrid, source_window: Window, area: Window
    ) -> None:
        self.scene, self.grid, self.source_window, self.area = scene, grid, source_window, area
        self.height, self.width = grid.model_size
        self.source_pixels = source_window.pixels

    def wants(self, core: Window) -> bool:
        """Whether a core touches the area of interest."""
        return self.scene.wants(self.grid.source_window(core))

    def read(self, window: Window) -> Pixels:
        """Pixels of a window of the model's grid.

        Raises:
            InputError: If GDAL cannot read it.
        """
        source = self.scene.read(self.grid.source_window(window))
        return Pixels(*self.grid.resample(source.values, source.finite, window))

    def on_source_grid(self, values: np.ndarray, nodata: int) -> np.ndarray:
        """A map of the area on the scene's own grid: nearest, and nodata exact.

        Raises:
            InputError: If what was labelled cannot be read any more.
        """
        result = self.grid.to_source_grid(values, self.area, self.source_window)
        pieces = list(self.source_window.subdivide(STRIP_ROWS, self.source_window.width))
        while pieces:
            piece = pieces.pop()
            labels = result[piece.relative_to(self.source_window).slices]
            if (labels == nodata).all():
                continue
            try:
                has_label = self.scene.has_label(piece)
            except InputError:
                if piece.pixels == 1:
                    raise
                # Part of it is in a window that was lost, and that is nodata.
                pieces += _halves(piece)
                continue
            if has_label is not None:
                labels[~has_label] = nodata
        return result


def _halves(window: Window) -> list[Window]:
    """A window cut across its longer side.

    >>> [half.width for half in _halves(Window(0, 0, 2, 5))]
    [2, 3]
    """
    row, column, height, width = astuple(window)
    half = max(height, width) // 2
    if height >= width:
        return [Window(row, column, half, width), Window(row + half, column, height - half, width)]
    return [Window(row, column, height, half), Window(row, column + half, height, width - half)]
