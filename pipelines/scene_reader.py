"""Scenes as rasterio reads them: header, ground, and pixels by windows."""

import os
import threading
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from pipelines.cog import GDAL_OPTIONS, Grid
from pipelines.ground import GroundGrid
from segmodel.errors import InputError
from segmodel.windows import Pixels, Window


class Header(NamedTuple):
    """What the header of a scene says."""

    grid: Grid
    dtype: str
    bands: tuple[int, ...]


def read_header(uri: str) -> Header:
    """Grid, dtype and indices of the bands that are not alpha.

    Raises:
        InputError: If GDAL cannot open the file.
    """
    try:
        source = rasterio.open(uri)
    except RasterioError as error:
        raise InputError(f"the scene cannot be opened: {_reason(error, uri)}") from error
    with source:
        grid = Grid(source.height, source.width, source.transform, source.crs)
        kinds = zip(source.indexes, source.colorinterp, strict=True)
        bands = tuple(index for index, kind in kinds if kind != ColorInterp.alpha)
        return Header(grid, source.dtypes[0], bands)


def read_small(uri: str, value_range: tuple[float, float], side: int) -> np.ndarray:
    """A scene in at most `side` pixels, `(height, width, 3)` uint8, for a person to look at.

    Args:
        uri: Of the scene.
        value_range: Values that become black and white.
        side: In pixels.

    Raises:
        InputError: If GDAL cannot read it.
    """
    header = read_header(uri)
    step = max(1.0, max(header.grid.height, header.grid.width) / side)
    size = (max(1, int(header.grid.height / step)), max(1, int(header.grid.width / step)))
    bands = header.bands[:3] if len(header.bands) >= 3 else header.bands[:1] * 3
    try:
        with rasterio.open(uri) as source:
            values = source.read(list(bands), out_shape=(3, *size)).astype(np.float64)
    except RasterioError as error:
        raise InputError(f"pixels cannot be read: {_reason(error, uri)}") from error
    low, high = value_range
    scaled = np.clip(np.nan_to_num((values - low) / (high - low)), 0, 1) * 255
    return np.moveaxis(np.rint(scaled).astype(np.uint8), 0, -1)


def ground_grid(grid: Grid) -> GroundGrid:
    """Ground area of a scene's pixels."""
    return GroundGrid.of(grid.transform, grid.crs, grid.height, grid.width)


def _reason(error: BaseException, uri: str) -> str:
    """What GDAL says is wrong, with the name of the file in place of its path."""
    innermost = error
    while innermost.__cause__ is not None:
        innermost = innermost.__cause__
    return str(innermost).replace(uri, os.path.basename(uri))


@dataclass
class SceneRaster:
    """A scene as a raster of the engine; every thread has its own handle, as GDAL demands."""

    uri: str
    header: Header

    def __post_init__(self) -> None:
        self._local = threading.local()
        self._handles: list[rasterio.DatasetReader] = []

    @property
    def height(self) -> int:
        return self.header.grid.height

    @property
    def width(self) -> int:
        return self.header.grid.width

    @property
    def held_bytes(self) -> int:
        """Nothing beside the windows; GDAL's cache has a size of its own."""
        return 0

    @property
    def own_pixels(self) -> int:
        """None beside those that are labelled: nothing is scaled."""
        return 0

    def on_own_grid(self, values: np.ndarray, nodata: int) -> np.ndarray:
        """The same values: nothing is scaled."""
        return values

    def read(self, window: Window) -> Pixels:
        """Pixels of a window; nodata by GDAL's mask of the dataset."""
        area = RasterioWindow(window.column, window.row, window.width, window.height)
        try:
            with rasterio.Env(**GDAL_OPTIONS):
                source = self._source()
                values = source.read(list(self.header.bands), window=area)
                valid = source.dataset_mask(window=area) > 0
        except RasterioError as error:
            raise InputError(
                f"pixels of {window} cannot be read: {_reason(error, self.uri)}"
            ) from error
        values = np.ascontiguousarray(np.moveaxis(values, 0, -1))
        return Pixels(values, None if valid.all() else valid)

    def _source(self) -> rasterio.DatasetReader:
        if not hasattr(self._local, "source"):
            self._local.source = rasterio.open(self.uri)
            self._handles.append(self._local.source)
        return self._local.source

    def close(self) -> None:
        for handle in self._handles:
            handle.close()
