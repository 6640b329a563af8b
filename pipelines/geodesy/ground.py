"""Ground area of the pixels of a raster, in square metres on the ellipsoid of its CRS.

* Geographic and not rotated: closed form, row by row; to 1e-12 of a pixel, however small.
* Projected, rotated, sheared, in feet: geodesic areas of cells that are fixed on the scene. A
  tensor product of Chebyshev series has exactly the integrals of the cells and is integrated
  exactly over pixels. Cells are halved until two coefficients in a row are below `TAIL` of the
  largest. Bound 1e-7 on sums over windows. Measured: 1e-10 for windows of 1/64 of a side or more
  against outlines, 3e-9 for 4 pixels of 0.1 m; single pixels 2e-9 against closed forms.
* Scenes that leave their projection (corners of a world in Mollweide) or hold a singular point:
  spherical areas of `SAMPLES` or so cells along the longer side; 1e-5 of what they show of the
  Earth, 1e-3 for a whole disk seen from space. Off the Earth is what lies outside the projection,
  and what it shows a second time; that has area 0.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from affine import Affine
from numpy.lib.stride_tricks import sliding_window_view
from numpy.polynomial import chebyshev
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.crs import CRS as RasterioCRS

from pipelines.geodesy.ellipsoid import Number, datum_of, square, zone_area_m2
from pipelines.geodesy.rims import cut_areas, lattice_areas
from pipelines.geodesy.row_areas import RowAreas
from segmodel.errors import GroundError

FINEST = 1e-12  # step of a pixel as a share of its coordinates, several thousand times rounding
USUAL_EXTENT = 1e6  # of projected coordinates
TAIL = 1e-10  # share of the largest Chebyshev coefficient below which a series has converged
FIRST_CELLS = 6  # per axis, doubled where the series has not converged, up to 96
MAX_CELLS = 2304  # geodesic polygons of one scene
EDGE_STEPS = 384  # geodesics along one grid line of the cells
SAMPLES = 768  # cells along the longer side of a scene that leaves its projection
RING_STEPS = 2048  # steps along one side of an outline
SEARCHED = 257  # places along one side of a scene whose centre is off the Earth

Span = tuple[float, float]  # least and greatest pixel coordinate


@dataclass(frozen=True)
class GroundGrid:
    """The pixels of one scene on the ground; a value: picklable, hashable, tables cached apart.

    Attributes:
        transform: Pixel (column, row) to CRS coordinates.
        crs_wkt: The CRS as WKT 2.
        height: Rows of the scene.
        width: Columns of the scene.
    """

    transform: Affine
    crs_wkt: str
    height: int
    width: int

    def __post_init__(self) -> None:
        """Raise GroundError where there is no ground area; see `of`."""
        determinant = self.transform.determinant
        if not np.isfinite(tuple(self.transform)).all() or determinant == 0:
            raise GroundError(
                f"the transform must be invertible, but {tuple(self.transform)[:6]} is not; repair "
                "the georeference of the raster"
            )
        if self.height < 1 or self.width < 1:
            raise GroundError(f"a scene needs a pixel, got {self.height} x {self.width}")
        # Of coordinates that are closer than that, rounding leaves nothing to measure.
        datum, (a, b, c, d, e, f) = datum_of(self.crs_wkt), tuple(self.transform)[:6]
        extent = 1 / datum.radians_per_unit if datum.geographic else USUAL_EXTENT
        step, least = min(np.hypot(a, d), np.hypot(b, e)), FINEST * max(abs(c), abs(f), extent)
        if step < least:
            raise GroundError(
                f"pixels must be at least {least:.3g} units of the CRS apart, as coordinates hold "
                f"no smaller steps, and they are {step:.3g}: repair the georeference of the raster"
            )

    @classmethod
    def of(
        cls, transform: Affine, crs: RasterioCRS | CRS | str, height: int, width: int
    ) -> "GroundGrid":
        """The grid of a whole scene.

        Args:
            transform: Pixel (column, row) to CRS coordinates, longitude or easting first.
            crs: Coordinate reference system.
            height, width: Rows and columns of the scene.

        Raises:
            GroundError: If `crs` has no ellipsoid, `transform` no inverse, or the scene no pixel.
        """
        try:
            wkt = CRS.from_user_input(crs).to_wkt()
        except CRSError as error:
            raise GroundError(f"the CRS {crs!r} cannot be read; assign a CRS: {error}") from error
        return cls(transform, wkt, int(height), int(width))

    def pixel_areas_m2(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Ground area of the pixels of a window.

        Args:
            row, column: First pixel of the window.
            height, width: Rows and columns of the window.

        Returns:
            float64 in square metres: `(height, 1)` where the pixels of a row are equal, else
            `(height, width)`.

        Raises:
            GroundError: If the window is not inside the scene.
        """
        self._check(row, column, height, width)
        if self._by_rows:
            return self._strips_m2(row + np.arange(height) + 0.5, 1)[:, np.newaxis]
        density = _density(self)
        if density is None:
            return self._sampled_m2(row, column, height, width)
        series, row_span, column_span = density
        rows = _pixel_integrals(row, height, row_span, len(series))
        columns = _pixel_integrals(column, width, column_span, series.shape[1])
        return np.asarray(rows @ series @ columns.T)

    def summable_areas_m2(
        self, row: int, column: int, height: int, width: int
    ) -> np.ndarray | RowAreas:
        """Ground area of the pixels of a window, in the form in which they are summed fastest.

        Args:
            row, column: First pixel of the window.
            height, width: Rows and columns of the window.

        Returns:
            As `pixel_areas_m2` where the pixels of a row are equal, or the scene is not smooth;
            else as `row_areas`.

        Raises:
            GroundError: If the window is not inside the scene.
        """
        window = row, column, height, width
        smooth = None if self._by_rows else self.row_areas(*window)
        return self.pixel_areas_m2(*window) if smooth is None else smooth

    def row_areas(self, row: int, column: int, height: int, width: int) -> RowAreas | None:
        """Ground area of pixels next to each other in a row; None where the scene is not smooth.

        Args:
            row, column: First pixel of a window.
            height, width: Rows and columns of the window.

        Raises:
            GroundError: If the window is not inside the scene.
        """
        self._check(row, column, height, width)
        if self._by_rows:
            strips = self._strips_m2(row + np.arange(height) + 0.5, 1)
            return RowAreas(strips[np.newaxis], np.arange(width + 1.0)[np.newaxis])
        density = _density(self)
        if density is None:
            return None
        series, row_span, column_span = density
        rows = _pixel_integrals(row, height, row_span, len(series))
        columns = _pixel_integrals(column, width, column_span, series.shape[1])
        left = np.vstack([np.zeros((1, columns.shape[1])), np.cumsum(columns, axis=0)])
        return RowAreas(np.ascontiguousarray((rows @ series).T), np.ascontiguousarray(left.T))

    def footprint_m2(self) -> float:
        """Ground area of the whole scene from its outline, in square metres."""
        return self.window_footprint_m2(0, 0, self.height, self.width)

    def window_footprint_m2(self, row: int, column: int, height: int, width: int) -> float:
        """Ground area of a window from its outline, to 1e-8, not from its pixels.

        What leaves its projection has no outline on the ground: sum of the pixels there.

        Args:
            row, column: First pixel of the window.
            height, width: Rows and columns of the window.

        Returns:
            Square metres.

        Raises:
            GroundError: If the window is not inside the scene.
        """
        self._check(row, column, height, width)
        if self._by_rows:
            return float(self._strips_m2(np.array([row + height / 2]), height)[0]) * width
        if height == 0 or width == 0:
            return 0.0
        if _density(self) is not None:
            x, y = square(RING_STEPS, RING_STEPS)
            x, y = np.append(x, [0.37, 0.371, 0.37]), np.append(y, [0.41, 0.41, 0.411])
            datum = datum_of(self.crs_wkt)
            points = datum.sphere(*self.lon_lat(column + width * x, row + height * y))
            if np.isfinite(points).all():
                return datum.outline_m2(points[:-3], points[-3:])
        end = row + height  # in stripes, to spare memory
        stripes = ((top, column, min(256, end - top), width) for top in range(row, end, 256))
        return sum(float(self.pixel_areas_m2(*stripe).sum()) for stripe in stripes)

    def pixel_size_m(self) -> tuple[float, float]:
        """Geodesic length of one pixel step in x and in y at the `middle`, in metres.

        Measured over about 1 km of ground (on the Earth), so to 1e-8 for any pixel.

        Raises:
            GroundError: If no pixel of the scene is on the Earth.
        """
        size = _pixel_size_m(self)
        if not np.isfinite(size).all():
            raise GroundError(
                "no pixel of the scene is on the Earth: none has a longitude and latitude in its "
                "CRS; repair the georeference of the raster, or leave the raster out"
            )
        return size

    @property
    def middle(self) -> tuple[float, float]:
        """Column and row of the centre, or where that is off the Earth, of the middle of the rest.

        NaN for a scene that is nowhere on the Earth.
        """
        return _middle(self)

    @property
    def _by_rows(self) -> bool:
        return datum_of(self.crs_wkt).geographic and self.transform.b == 0 == self.transform.d

    def _check(self, row: int, column: int, height: int, width: int) -> None:
        inside = 0 <= row <= row + height <= self.height
        if not (inside and 0 <= column <= column + width <= self.width):
            raise GroundError(
                f"a window must lie inside the scene of {self.height} x {self.width} pixels, got "
                f"row {row}, column {column}, {height} x {width}; clip it first"
            )

    def coordinates(self, columns: Number, rows: Number) -> tuple[Number, Number]:
        """CRS coordinates x and y of places in pixels.

        Args:
            columns: Columns of the places; 0.5 is the centre of the first pixel.
            rows: Rows of the places, of a shape that goes with `columns`.

        Returns:
            x and y, float64 in units of the CRS, of the shape of both arguments together.
        """
        a, b, c, d, e, f = tuple(self.transform)[:6]
        return a * columns + b * rows + c, d * columns + e * rows + f

    def lon_lat(self, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude of places in pixels, see `coordinates` and `Datum.lon_lat`."""
        return datum_of(self.crs_wkt).lon_lat(*self.coordinates(columns, rows))

    def _strips_m2(self, centres: np.ndarray, rows: int) -> np.ndarray:
        """Area of one column of strips of `rows` rows, by the rows of their centres."""
        datum, (width, _, _, _, step, top) = datum_of(self.crs_wkt), tuple(self.transform)[:6]
        middle = (top + step * centres) * datum.radians_per_unit
        span = np.full_like(middle, abs(step) * rows * datum.radians_per_unit)
        pole = np.pi / 2
        beyond = np.abs(middle) + span / 2 > pole
        south, north = (np.clip(middle + s * span / 2, -pole, pole) for s in (-1, 1))
        middle = np.where(beyond, (south + north) / 2, middle)
        span = np.where(beyond, north - south, span)
        radians = abs(width) * datum.radians_per_unit
        return np.asarray(zone_area_m2(middle, span, datum.a, datum.b) * radians)

    def _sampled_m2(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Pixels as cells of a lattice, as parts of cells, or as sums of several."""
        longest, datum = max(self.height, self.width), datum_of(self.crs_wkt)
        pitch, parts = -(-longest // SAMPLES), -(-SAMPLES // longest)  # one of them is 1
        around = int(pitch > 1)  # cells by whose neighbours it depends how fine they are
        top, left = row // pitch - around, column // pitch - around
        bottom, right = (around - (-end // pitch) for end in (row + height, column + width))
        y, x = (
            np.arange(first * parts, last * parts + 1) * (pitch / parts)
            for first, last in ((top, bottom), (left, right))
        )

        def places(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return datum.sphere(*self.lon_lat(columns, rows))

        areas = lattice_areas(places, x, y) / pitch**2
        is_cut = np.isnan(areas)
        if around:
            is_cut[1:-1, 1:-1] = sliding_window_view(is_cut, (3, 3)).any(axis=(2, 3))
            # Cells may be far larger than the window.
            down, across = (
                np.arange(first, first + count) // pitch - start
                for first, count, start in ((row, height, top), (column, width, left))
            )
            areas, is_cut = (of_cells[np.ix_(down, across)] for of_cells in (areas, is_cut))
        rows, columns = np.nonzero(is_cut)  # of pixels, or of their parts
        at = columns / parts + column, rows / parts + row
        areas[rows, columns] = cut_areas(places, *at, 1 / parts)
        if parts > 1:
            areas = areas.reshape(height, parts, width, parts).sum(axis=(1, 3))
        return np.asarray(areas * datum.sphere_m2)


@lru_cache(maxsize=256)
def _density(grid: GroundGrid) -> tuple[np.ndarray, Span, Span] | None:
    """Chebyshev series of the ground area of a scene, and the rows and columns that it spans.

    None where the scene is not smooth, so that no series converges.
    """
    size = _pixel_size_m(grid)
    if not np.isfinite(size).all():
        return None
    # A geodesic area is good to 0.1 m², so the cells cover a/32 (200 km on the Earth) or more.
    least = datum_of(grid.crs_wkt).a / 32
    columns, rows = (
        (n / 2 - max(n, least / step) / 2, n / 2 + max(n, least / step) / 2)
        for n, step in zip((grid.width, grid.height), size, strict=True)
    )
    down = across = FIRST_CELLS
    while down * across <= MAX_CELLS and max(down, across) <= EDGE_STEPS // 4:
        areas = _cell_areas_m2(grid, _edges(down, rows), _edges(across, columns))
        if not np.isfinite(areas).all():
            return None
        series = _series_of_cells(down) @ areas @ _series_of_cells(across).T
        sizes = np.abs(series) / np.abs(series).max()
        rough_rows, rough_columns = sizes[-2:].max() > TAIL, sizes[:, -2:].max() > TAIL
        if not rough_rows and not rough_columns:
            return series, rows, columns
        down, across = down * (1 + rough_rows), across * (1 + rough_columns)
    return None


def _edges(cells: int, span: Span) -> np.ndarray:
    """Edges of cells at the Chebyshev extrema of a span."""
    share = (1 - np.cos(np.pi * np.arange(cells + 1) / cells)) / 2
    return np.asarray(span[0] + (span[1] - span[0]) * share)


def _series_of_cells(cells: int) -> np.ndarray:
    """Matrix from integrals over the cells of [-1, 1] to the series that has these integrals."""
    sums = np.tri(cells + 1, cells, -1)
    nodes = chebyshev.chebvander(_edges(cells, (-1.0, 1.0)), cells)
    return chebyshev.chebder(np.linalg.solve(nodes, sums), axis=0)


@lru_cache(maxsize=8)  # strips of a block have the columns in common
def _pixel_integrals(first: int, count: int, span: Span, terms: int) -> np.ndarray:
    """Integrals `(count, terms)` of the Chebyshev polynomials over pixels; Gauss, hence exact."""
    nodes, weights = np.polynomial.legendre.leggauss((terms + 1) // 2)
    half = 1 / (span[1] - span[0])
    centres = (2 * (first + np.arange(count)) + 1 - span[0] - span[1]) * half
    values = chebyshev.chebvander(centres[:, np.newaxis] + half * nodes, terms - 1)
    return np.asarray(half * np.einsum("pnt,n->pt", values, weights))


def _cell_areas_m2(grid: GroundGrid, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Geodesic areas of the cells between rows and columns; NaN outside the projection."""
    x, y = square(EDGE_STEPS // (len(columns) - 1), EDGE_STEPS // (len(rows) - 1))
    x = columns[:-1, np.newaxis] + np.diff(columns)[:, np.newaxis] * x
    y = rows[:-1, np.newaxis] + np.diff(rows)[:, np.newaxis] * y
    x, y = np.broadcast_arrays(x, y[:, np.newaxis])
    return datum_of(grid.crs_wkt).geodesic_cells_m2(*grid.lon_lat(x, y))


@lru_cache(maxsize=256)
def _middle(grid: GroundGrid) -> tuple[float, float]:
    """See `GroundGrid.middle`."""
    size = np.array([grid.width, grid.height])
    if np.isfinite(grid.lon_lat(*(size[:, np.newaxis] / 2))).all():
        return grid.width / 2, grid.height / 2
    axis = np.linspace(0, 1, SEARCHED)
    shares = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    shares = shares[np.isfinite(grid.lon_lat(*(shares * size).T)).all(axis=0)]
    if not len(shares):
        return np.nan, np.nan
    nearest = np.linalg.norm(shares - shares.mean(axis=0), axis=1).argmin()
    column, row = (shares[nearest] * size).tolist()
    return column, row


@lru_cache(maxsize=256)
def _pixel_size_m(grid: GroundGrid) -> tuple[float, float]:
    """Geodesic length of a pixel step in x and y at the middle; NaN if nothing is on the Earth."""
    datum, (column, row) = datum_of(grid.crs_wkt), _middle(grid)

    def length(x: float, y: float) -> float:
        for first in (-0.5, 0.0, -1.0):  # at the rim only one side is on the Earth
            ends = np.array([first, first + 1])
            lon, lat = np.degrees(grid.lon_lat(column + x * ends, row + y * ends))
            if np.isfinite([lon, lat]).all():
                return float(datum.geod.inv(lon[0], lat[0], lon[1], lat[1])[2])
        return np.nan

    def step(x: int, y: int) -> float:
        rough = length(1e-3 * x, 1e-3 * y) / 1e-3
        pixels = datum.a / 6400 / rough
        fine = length(pixels * x, pixels * y) / pixels
        return fine if np.isfinite(fine) else rough

    return step(1, 0), step(0, 1)
