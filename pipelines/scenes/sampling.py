"""What one scene has at the pixel centres of another one."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer

from pipelines.geodesy.ellipsoid import datum_of
from pipelines.geodesy.polygon_masks import ScenePolygons
from pipelines.rasters.cog import read_block
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window

# Between centres that are transformed exactly, every so many pixels, places are interpolated where
# that is good to this share of a pixel.
STEP_PX = 16
INTERPOLATED_PX = 0.01
# What a scene has at a pixel, that which counts first first: a scene counts what it has outside the
# area of interest where no other has something inside.
LABEL, NODATA, FAILED, OUTSIDE_AOI, ABSENT = range(5)
# An array for each of the two axes.
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class SceneView:
    """What a finished scene shows.

    Args:
        grid: Size and place of the scene; with a CRS.
        labels: Path of its label map, or None if it has none.
        nodata: Value of pixels without a label.
        lost: Windows that could not be read.
        aoi: Area of interest, or None if there is none, or the scene counts what is outside as
            nodata.
    """

    grid: Grid
    labels: str | None
    nodata: int
    lost: tuple[Window, ...]
    aoi: ScenePolygons | None = None

    def labels_in(self, window: Window) -> np.ndarray | None:
        """`(height, width)` labels, or None if it has no label map."""
        return None if self.labels is None else read_block(self.labels, window)

    def states(self, labels: np.ndarray | None, window: Window) -> np.ndarray:
        """`(height, width)` uint8: `LABEL`, `NODATA`, `FAILED` or `OUTSIDE_AOI` of pixels."""
        if labels is None:
            states = np.full((window.height, window.width), FAILED, np.uint8)
        else:
            states = np.where(labels == self.nodata, np.uint8(NODATA), np.uint8(LABEL))
        for lost in self.lost:
            part = lost.intersection(window)
            if part.pixels:
                states[part.relative_to(window).slices] = FAILED
        if self.aoi is not None:
            states[~self.aoi.mask(window)] = OUTSIDE_AOI
        return states

    def at_centres_of(self, window: Window, grid: Grid) -> np.ndarray | None:
        """States at the pixel centres of a window of another scene; None where it shows nothing.

        Args:
            window: Part of the other scene.
            grid: Size and place of the other scene.

        Returns:
            `(height, width)` uint8; `ABSENT` outside this scene.
        """
        columns, rows = places_in(window, grid, self.grid)
        inside = (columns >= 0) & (columns < self.grid.width)
        inside &= (rows >= 0) & (rows < self.grid.height)
        if not inside.any():
            return None
        across, down = columns[inside].astype(np.int64), rows[inside].astype(np.int64)
        top, left = int(down.min()), int(across.min())
        part = Window(top, left, int(down.max()) - top + 1, int(across.max()) - left + 1)
        found = np.full(inside.shape, ABSENT, np.uint8)
        states = self.states(self.labels_in(part), part)
        found[inside] = states[down - top, across - left]
        return found


def places_in(window: Window, grid: Grid, other: Grid) -> Pair:
    """Places in another raster of the pixel centres of a window.

    Args:
        window: Part of a scene.
        grid: Size and place of the scene; with a CRS.
        other: Size and place of the other raster; with a CRS.

    Returns:
        Columns and rows, `(height, width)` float64 each; infinite where there is no such place.
    """
    places, _ = _interpolated(window, grid, other)
    return places


def nearest_pixels(window: Window, grid: Grid, other: Grid) -> Pair:
    """The pixels of another raster in which the pixel centres of a window lie.

    A place that interpolation could put on the wrong side of an edge between pixels is computed
    without it.

    Args:
        window: Part of a raster.
        grid: Size and place of the raster; with a CRS.
        other: Size and place of the other raster; with a CRS.

    Returns:
        Columns and rows, `(height, width)` int64 each; -1 outside the other raster.
    """
    (columns, rows), error = _interpolated(window, grid, other)
    if error:
        # Between the places where it is measured, the error may be a little larger.
        near = np.zeros(columns.shape, bool)
        for axis in (columns, rows):
            with np.errstate(invalid="ignore"):
                near |= np.abs(axis - np.round(axis)) <= 2 * error
        down, across = np.nonzero(near)
        x, y = _applied(grid.transform, across + window.column + 0.5, down + window.row + 0.5)
        assert grid.crs is not None
        columns[near], rows[near] = pixels_of_coordinates(x, y, grid.crs.to_wkt(), other)
    inside = (columns >= 0) & (columns < other.width) & (rows >= 0) & (rows < other.height)
    across, down = (np.where(inside, axis, -1.0).astype(np.int64) for axis in (columns, rows))
    return across, down


def _interpolated(window: Window, grid: Grid, other: Grid) -> tuple[Pair, float]:
    """Places as `places_in` has them, and by how many pixels they are wrong; 0 where computed."""
    rows, columns = _nodes(window.row, window.height), _nodes(window.column, window.width)
    at_nodes = _other_pixels(columns, rows, grid, other)
    # Halfway between nodes the interpolation is worst. Along each axis it is measured by itself: of
    # a conformal projection, what both do is opposite, and nothing of it shows in the middle.
    down, across = ((at[:-1] + at[1:]) / 2 if len(at) > 1 else at for at in (rows, columns))
    error = 0.0
    for at_rows, at_columns in ((down, columns), (rows, across)):
        exact = _other_pixels(at_columns, at_rows, grid, other)
        with np.errstate(invalid="ignore"):
            guessed = [_at(values, (rows, columns), (at_rows, at_columns)) for values in at_nodes]
            error += max(float(np.abs(g - e).max()) for g, e in zip(guessed, exact, strict=True))
    every_row = window.row + np.arange(window.height) + 0.5
    every_column = window.column + np.arange(window.width) + 0.5
    if not error <= INTERPOLATED_PX:
        return _other_pixels(every_column, every_row, grid, other), 0.0
    x, y = (_at(values, (rows, columns), (every_row, every_column)) for values in at_nodes)
    return (x, y), error


def _nodes(first: int, count: int) -> np.ndarray:
    """Centres every `STEP_PX` pixels, with the first and the last."""
    return np.append(np.arange(0, count - 1, STEP_PX), count - 1) + first + 0.5


def _at(values: np.ndarray, nodes: Pair, wanted: Pair) -> np.ndarray:
    """Values at rows and columns of nodes, interpolated linearly to other rows and columns."""
    down, across = (_weights(*axis) for axis in zip(nodes, wanted, strict=True))
    return np.asarray(down @ values @ across.T)


def _weights(nodes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """`(wanted, nodes)` weights of linear interpolation."""
    if len(nodes) == 1:
        return np.ones((len(wanted), 1))
    weights = np.zeros((len(wanted), len(nodes)))
    left = np.clip(np.searchsorted(nodes, wanted, "right") - 1, 0, len(nodes) - 2)
    share = (wanted - nodes[left]) / (nodes[left + 1] - nodes[left])
    each = np.arange(len(wanted))
    weights[each, left], weights[each, left + 1] = 1 - share, share
    return weights


def _other_pixels(columns: np.ndarray, rows: np.ndarray, grid: Grid, other: Grid) -> Pair:
    """Places at columns and rows of one scene, in another; infinite where there is none."""
    x, y = _applied(grid.transform, *np.meshgrid(columns, rows))
    assert grid.crs is not None
    return pixels_of_coordinates(x, y, grid.crs.to_wkt(), other)


def pixels_of_coordinates(x: np.ndarray, y: np.ndarray, crs_wkt: str, grid: Grid) -> Pair:
    """Where coordinates are in a raster.

    Args:
        x: Longitudes or eastings.
        y: Latitudes or northings, of the same shape.
        crs_wkt: Their reference system.
        grid: Size and place of the raster; with a CRS.

    Returns:
        Columns and rows, float64 of the same shape; infinite where there is no such place.
    """
    assert grid.crs is not None
    wkt = grid.crs.to_wkt()
    if crs_wkt != wkt:
        on_earth = np.isfinite(datum_of(crs_wkt).lon_lat(x, y)[1])
        x, y = _transformer(crs_wkt, wkt).transform(np.where(on_earth, x, np.nan), y)
    turn = datum_of(wkt).period
    with np.errstate(invalid="ignore"):
        if np.isfinite(turn):
            middle, _ = _applied(grid.transform, grid.width / 2, grid.height / 2)
            x = middle + np.mod(x - middle + turn / 2, turn) - turn / 2
        x, y = _applied(~grid.transform, x, y)
    return np.nan_to_num(x, nan=np.inf), np.nan_to_num(y, nan=np.inf)


def _applied(transform: Affine, x: Any, y: Any) -> tuple[Any, Any]:
    """A transform of arrays; affine 3 deprecates `*`, and affine 2 has no `@`."""
    a, b, c, d, e, f = tuple(transform)[:6]
    return a * x + b * y + c, d * x + e * y + f


@lru_cache(64)
def _transformer(one: str, other: str) -> Transformer:
    return Transformer.from_crs(CRS.from_wkt(one), CRS.from_wkt(other), always_xy=True)
