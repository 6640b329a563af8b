"""From the coordinates of a CRS to places on its ellipsoid, and areas there."""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import numpy as np
from pyproj import CRS, Geod, Transformer

from segmodel.errors import GroundError

Number = TypeVar("Number", float, np.ndarray)


def zone_area_m2(
    middle: np.ndarray | float, span: np.ndarray | float, a: float, b: float
) -> np.ndarray:
    """Area between two parallels of an ellipsoid, per radian of longitude.

    The terms are differences written as products, so spans of 1e-12 radians lose no digits.

    Args:
        middle: Mean of the two geodetic latitudes, in radians.
        span: Northern minus southern latitude, in radians.
        a: Semi-major axis in metres.
        b: Semi-minor axis in metres.

    Returns:
        Area in square metres per radian, of the shape of the arguments.

    Source: Snyder, Map Projections: A Working Manual (1987), eq. 3-12, times a^2 / 2.

    >>> degree = np.radians(1.0)
    >>> cell = zone_area_m2(degree / 2, degree, 6378137.0, 6356752.314245179) * degree
    >>> print(f"{cell / 1e6:.2f} km²")
    12308.46 km²
    """
    e2 = 1 - (b / a) ** 2
    south, north = np.sin(middle - span / 2), np.sin(middle + span / 2)
    step = 2 * np.cos(middle) * np.sin(span / 2)
    rational = step * (1 + e2 * south * north) / ((1 - e2 * south**2) * (1 - e2 * north**2))
    e = np.sqrt(e2)
    logarithmic = np.arctanh(e * step / (1 - e2 * south * north)) / e if e > 0 else step
    return np.asarray(b * b / 2 * (rational + logarithmic))


def solid_angle(apex: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Signed areas of closed rings on the unit sphere, counterclockwise positive.

    A fan of spherical triangles, from differences to the apex so that tiny rings keep their digits.

    Args:
        apex: `(..., 3)` unit vector near each ring; not opposite to a point of it.
        ring: `(..., points, 3)` unit vectors; the last point is joined to the first.

    Returns:
        `(...)` steradians, to be taken modulo the whole sphere; NaN for rings with a NaN.

    Source: Eriksson, On the measure of solid angles, Mathematics Magazine 63 (1990).

    >>> octant = np.eye(3)
    >>> round(float(solid_angle(np.full(3, 3**-0.5), octant)) / np.pi, 12)
    0.5
    """
    apex = apex[..., np.newaxis, :]
    following = np.roll(ring, -1, axis=-2)
    triple = (np.cross(ring - apex, following - apex) * apex).sum(axis=-1)
    cosines = (ring * apex + following * apex + ring * following).sum(axis=-1)
    return np.asarray(2 * np.arctan2(triple, 1 + cosines).sum(axis=-1))


def square(across: int, down: int) -> tuple[np.ndarray, np.ndarray]:
    """Outline of the unit square in steps along its sides; the first point is not repeated.

    Args:
        across: Steps along x.
        down: Steps along y.

    Returns:
        x and y of `2 * (across + down)` points.

    >>> [side.tolist() for side in square(1, 1)]
    [[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]]
    """
    x, y = np.arange(across) / across, np.arange(down) / down
    return (
        np.concatenate([x, np.ones(down), 1 - x, np.zeros(down)]),
        np.concatenate([np.zeros(across), y, np.ones(across), 1 - y]),
    )


def wrap_near(x: np.ndarray, middle: np.ndarray | float, period: float) -> np.ndarray:
    """Coordinates moved by whole periods, to within half a period of the middle.

    Args:
        x: Longitudes, or eastings of a map that goes around the Earth.
        middle: Coordinate to be near to, of a shape that goes with `x`.
        period: Width of the world in the unit of `x`; infinite moves nothing.

    >>> wrap_near(np.array([-170.0, 10.0]), 180.0, 360.0).tolist()
    [190.0, 10.0]
    """
    if not np.isfinite(period):
        return x
    turns = np.round((x - middle) / period * (1 - 1e-9))  # what is half a period away stays
    return np.asarray(x - period * turns)


def _extrapolated(area: Callable[[int], Number]) -> Number:
    """Limit of areas of outlines with every 4th, 2nd and 1st point, for steps of length 0.

    The error of chords falls with the square of their length (Romberg's method).
    """
    coarse, middle, fine = area(4), area(2), area(1)
    better, best = (4 * middle - coarse) / 3, (4 * fine - middle) / 3
    limit: Number = (16 * best - better) / 15
    return limit


class Datum:
    """How coordinates of one CRS become places on its ellipsoid, and rings of them areas."""

    def __init__(self, crs: CRS) -> None:
        """Prepare the transformation.

        Args:
            crs: Geographic or projected, neither bound nor compound.

        Raises:
            GroundError: If `crs` is of another kind, because then it has no ellipsoid.
        """
        if crs.ellipsoid is None or not (crs.is_geographic or crs.is_projected):
            raise GroundError(
                f"a raster has ground area only if its CRS is geographic or projected, but "
                f"{crs.name!r} is a {crs.type_name}; assign the right CRS, for "
                f"example with gdal_edit.py -a_srs EPSG:32633"
            )
        # That of a rotated pole is its source.
        base = crs.geodetic_crs if crs.is_projected else crs.source_crs
        self.geographic = base is None
        angular = crs if base is None else base
        self.radians_per_unit = float(angular.axis_info[0].unit_conversion_factor)
        self.a = float(crs.ellipsoid.semi_major_metre)
        self.b = float(crs.ellipsoid.semi_minor_metre)
        self.geod = Geod(a=self.a, b=self.b)
        self.sphere_m2 = float(zone_area_m2(0.0, np.pi, self.a, self.b)) / 2  # radius squared
        # The way around the Earth in units of x; infinite where x does not go around.
        self.period = round(2 * np.pi / self.radians_per_unit, 6)
        if base is not None:
            self.transformer = Transformer.from_crs(crs, base, always_xy=True)
            unit = float(crs.axis_info[0].unit_conversion_factor)
            self.tolerance = 1e-7 * (self.a if crs.is_projected else 1.0) / unit
            self.period = self._period() if crs.is_projected else round(2 * np.pi / unit, 6)

    def _period(self) -> float:
        """Width of the world where all meridians are parallel to the y axis, else infinite."""
        longitudes = np.radians(np.arange(-165.0, 180, 30)) / self.radians_per_unit
        latitudes = np.array([[0.0], [np.pi / 4]]) / self.radians_per_unit
        lon, lat = np.broadcast_arrays(longitudes, latitudes)
        x = np.asarray(self.transformer.transform(lon, lat, direction="INVERSE")[0])
        parallel = np.isfinite(x).all() and np.ptp(x, axis=0).max() < self.tolerance
        return float(12 * np.median(np.abs(np.diff(x[0])))) if parallel else np.inf

    def lon_lat(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude in radians; NaN outside the projection or beyond a pole.

        Outside is what does not come back to where it came from: some projections answer with
        infinity there, others (sinusoidal) fold the plane over the Earth a second time. Maps whose
        meridians are parallel, as Web Mercator, go on beyond the antimeridian.

        Args:
            x: Eastings or longitudes, in units of the CRS.
            y: Northings or latitudes, in units of the CRS, of the shape of `x`.

        Returns:
            Two float64 arrays of the shape of the arguments.
        """
        if self.geographic:
            lon, lat = x * self.radians_per_unit, y * self.radians_per_unit
            return lon, np.where(np.abs(lat) <= np.pi / 2 + 1e-14, lat, np.nan)
        lon, lat = (np.asarray(angle) for angle in self.transformer.transform(x, y))
        back_x, back_y = self.transformer.transform(lon, lat, direction="INVERSE")
        with np.errstate(invalid="ignore"):  # PROJ answers inf where it has no answer
            gap_x = wrap_near(back_x - x, 0.0, self.period)
            inside = (np.abs(gap_x) < self.tolerance) & (np.abs(back_y - y) < self.tolerance)
            lon, lat = lon * self.radians_per_unit, lat * self.radians_per_unit
        return np.where(inside, lon, np.nan), np.where(inside, lat, np.nan)

    def sphere(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        """Unit vectors on the authalic sphere, which keeps all areas.

        Args:
            lon: Longitudes in radians.
            lat: Geodetic latitudes in radians, of the shape of `lon`.

        Returns:
            `(..., 3)` float64; multiply areas on it by `sphere_m2` for square metres.

        Source: Snyder, Map Projections: A Working Manual (1987), eq. 3-11 and 3-12.
        """
        colatitude = np.maximum(np.pi / 2 - np.abs(lat), 0)
        cap = zone_area_m2(np.pi / 2 - colatitude / 2, colatitude, self.a, self.b) / self.sphere_m2
        radius = np.sqrt(cap * (2 - cap))
        z = np.copysign(1 - cap, lat)
        return np.stack([radius * np.cos(lon), radius * np.sin(lon), z], axis=-1)

    def outline_m2(self, ring: np.ndarray, apex: np.ndarray) -> float:
        """Area inside a finely stepped ring, extrapolated to steps of length 0.

        Args:
            ring: `(points, 3)` unit vectors from `sphere`; four points to the coarsest step.
            apex: `(3, 3)` unit vectors from `sphere`: a point inside, and two close to it that turn
                with the ring.

        Returns:
            Square metres.
        """
        turn = np.sign(np.cross(apex[1] - apex[0], apex[2] - apex[0]) @ apex[0])
        steradians = _extrapolated(lambda n: turn * solid_angle(apex[0], ring[::n]) % (4 * np.pi))
        return float(self.sphere_m2 * steradians)

    def geodesic_cells_m2(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        """Geodesic areas of cells, extrapolated to steps of length 0 along their edges.

        Args:
            lon: `(rows, columns, points)` in radians, the points of each cell along its outline,
                four to the coarsest step.
            lat: Latitudes of the same points, in radians.

        Returns:
            `(rows, columns)` float64 in square metres; all NaN if any point lies outside the
            projection.

        Source: Karney, Algorithms for geodesics, Journal of Geodesy 87 (2013), as PROJ has them.
        """
        cells = np.degrees(np.stack([lon, lat], axis=-2))
        if not np.isfinite(cells).all():
            return np.full(cells.shape[:2], np.nan)
        area = self.geod.polygon_area_perimeter
        areas_m2: np.ndarray = _extrapolated(
            lambda n: np.array([[area(*cell)[0] for cell in line] for line in cells[..., ::n]])
        )
        return np.asarray(np.abs(areas_m2))


@lru_cache(maxsize=64)
def datum_of(wkt: str) -> Datum:
    """The datum of a CRS, made once a process; that of the horizontal part if the CRS has two.

    Args:
        wkt: CRS as WKT 2.

    Raises:
        GroundError: If the CRS has no ellipsoid.
    """
    crs = CRS.from_wkt(wkt)
    while crs.is_bound or crs.is_compound:
        crs = CRS.from_user_input(crs.source_crs if crs.is_bound else crs.sub_crs_list[0])
    return Datum(crs)


def turn_of(wkt: str) -> float:
    """The way around the Earth in units of x of a CRS; infinite where x does not go around.

    Args:
        wkt: CRS as WKT 2; also one without an ellipsoid.
    """
    try:
        return datum_of(wkt).period
    except GroundError:
        return float("inf")
