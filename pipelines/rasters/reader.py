"""Scenes by windows: pixels of the model's bands, where they are valid and labels are wanted.

GDAL decodes in threads of its own.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np

from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygon_masks import ScenePolygons
from pipelines.rasters.gdal import CODEC_THREADS, OPENER
from pipelines.rasters.zone_index import ZonesOf
from segmodel.errors import InputError
from segmodel.rasters.bands import ModelBands
from segmodel.rasters.grid import Grid
from segmodel.rasters.header import Header
from segmodel.rasters.reader import RasterHandle, RasterReader
from segmodel.tiling.raster import Counted, Pixels, Raster, combine_masks
from segmodel.tiling.resampling import ModelGrid
from segmodel.tiling.windows import Tile, Window

# Pixels that are decoded at most for a picture of a scene without overviews.
DECODED_FOR_PICTURE = 1 << 24
# Rows of a label map that are compared with what is valid at a time.
STRIP_ROWS = 512


def ground_grid(grid: Grid) -> GroundGrid:
    """Ground area of a scene's pixels."""
    return GroundGrid.of(grid.transform, grid.crs, grid.height, grid.width)


def small_area(header: Header, area: Window) -> Window:
    """What a small picture shows of a part of a scene: its middle where all would be too much."""
    if header.has_overviews or area.pixels <= DECODED_FOR_PICTURE:
        return area
    part = middle(area.height, area.width, math.isqrt(DECODED_FOR_PICTURE))
    return Window(area.row + part.row, area.column + part.column, part.height, part.width)


def middle(height: int, width: int, side: int) -> Window:
    """The middle of an image, of at most so many rows and columns.

    >>> middle(2000, 100, 1536)
    Window(row=232, column=0, height=1536, width=100)
    """
    rows, columns = min(height, side), min(width, side)
    return Window((height - rows) // 2, (width - columns) // 2, rows, columns)


class SceneRaster(Raster):
    """A scene as a raster of the engine.

    Args:
        uri: Location of the scene.
        header: Header of the scene.
        bands: Bands that the model takes.
        aoi: Area of interest, or None for all of the scene.
        version: Version that a scene in a store must still have; see `StoreOpener.open`.
        on_read: Called with each window that `read` gives, and its pixels; from any thread.
        zones: Which zones the pixels of a window lie in; None where that does not count.
    """

    def __init__(
        self,
        uri: str,
        header: Header,
        bands: ModelBands,
        aoi: ScenePolygons | None = None,
        version: str = "",
        on_read: Callable[[Window, Pixels], None] = lambda window, pixels: None,
        zones: ZonesOf | None = None,
    ) -> None:
        self._on_read, self._zones = on_read, zones
        self.height, self.width = header.grid.height, header.grid.width
        self.header, self.aoi = header, aoi
        # GDAL's threads give zeros, and no error, where pixels without compression do not arrive.
        threads = CODEC_THREADS if header.is_compressed else 1
        self._reader = RasterReader(RasterHandle(uri, OPENER, version, threads), bands)

    def wants(self, core: Window) -> bool:
        """Whether a core touches the area of interest."""
        return self.aoi is None or self.aoi.touches(core)

    def read(self, window: Window) -> Pixels:
        """Pixels of a window.

        Raises:
            InputError: If GDAL cannot read it.
        """
        pixels = self._reader.read(window)
        self._on_read(window, pixels)
        return pixels if self.aoi is None else replace(pixels, wanted=self.aoi.mask(window))

    def pixel_areas(self, core: Window) -> np.ndarray | None:
        """Ground area of the pixels of a core in m²; None where the scene has no place."""
        if not self.header.is_placed:
            return None
        return self._ground.pixel_areas_m2(core.row, core.column, core.height, core.width)

    def counted(self, tile: Tile, pixels: Pixels) -> Counted:
        """How the pixels of a core count: by ground area, and by zones where there are any."""
        counted = super().counted(tile, pixels)
        if self._zones is None:
            return counted
        index, zones = self._zones(tile.core)
        return replace(counted, index=index, zones=zones)

    @cached_property
    def _ground(self) -> GroundGrid:
        return ground_grid(self.header.grid)

    def read_small(self, window: Window, shape: tuple[int, int]) -> Pixels:
        """Pixels of a window in as many rows and columns; with fewer, GDAL leaves some out.

        Raises:
            InputError: If GDAL cannot read it.
        """
        return self._reader.read(window, shape)

    def has_label(self, window: Window) -> np.ndarray | None:
        """Where the pixels of a window are valid and wanted, `(height, width)`; None where all are.

        Raises:
            InputError: If GDAL cannot read it.
        """
        if not self.wants(window):
            return np.zeros((window.height, window.width), bool)
        finite = self._reader.read(window).finite
        return finite if self.aoi is None else combine_masks(finite, self.aoi.mask(window))

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


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
        values, valid = self.grid.resample(source.values, source.finite, window)
        return Pixels(values, valid, source=combine_masks(source.finite, source.wanted))

    def counted(self, tile: Tile, pixels: Pixels) -> Counted:
        """How the pixels of a core count: as those of the scene that they label; not by zone."""
        read, has_label = self.grid.source_window(tile.read), pixels.source

        def labelled(source: Window) -> np.ndarray | None:
            return None if has_label is None else has_label[source.relative_to(read).slices]

        return self.grid.counted(tile.core, labelled, self.scene.pixel_areas)

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
                rows, columns = piece.height, piece.width
                half = (-(-rows // 2), columns) if rows >= columns else (rows, -(-columns // 2))
                pieces += piece.subdivide(*half)
                continue
            if has_label is not None:
                labels[~has_label] = nodata
        return result
