"""Polygons of any CRS as RFC 7946 wants them: on WGS 84, wound to the right, cut at 180 degrees.

An edge that is straight in its CRS is no straight line between longitudes and latitudes. It gets
vertices until none of it is further than `MAX_BEND_M` from where it was.

Source: RFC 7946, The GeoJSON Format (2016), sections 3.1.6, 3.1.9 and 4.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from pyproj import Transformer

from pipelines.geodesy.ellipsoid import datum_of
from pipelines.geodesy.outlines import EARTH_M, is_same_body
from segmodel.errors import GroundError

MAX_BEND_M = 0.1
METRES_PER_DEGREE = 111_320.0
MIN_COSINE = 1e-3  # of the latitude; nearer to a pole, longitudes count as much as there
HALVINGS = 16  # of an edge
DECIMALS = 9  # of a degree: 0.1 mm

_WORLD = shapely.box(-180, -90, 180, 90)


def on_wgs84(polygons: np.ndarray, crs_wkt: str) -> np.ndarray:
    """Polygons in longitude and latitude.

    Args:
        polygons: `(n,)` polygons in coordinates of the CRS, longitude or easting first.
        crs_wkt: The CRS as WKT.

    Returns:
        `(n,)` valid polygons and multipolygons; None for one that leaves the projection, as it has
        no place on the Earth there.
    """
    _, points, (starts, firsts) = shapely.to_ragged_array(polygons)
    angles, starts = _bent(points, starts, _to_wgs84(crs_wkt))
    turns = _turns(angles[:, 0], starts)
    ring_of, polygon_of = (_numbers(ends) for ends in (starts, firsts))
    owner = polygon_of[ring_of]
    is_lost = ~np.isfinite(angles).all(axis=1)
    crosses = ~is_lost & ((turns != 0) | (np.abs(angles[:, 0]) > 180))
    angles = np.round(np.where(is_lost[:, np.newaxis], 0, angles), DECIMALS)
    made = shapely.from_ragged_array(shapely.GeometryType.POLYGON, angles, (starts, firsts))
    angles[:, 0] -= 360 * turns
    lost = np.unique(owner[is_lost])
    for number in np.setdiff1d(owner[crosses], lost):
        rings = range(firsts[number], firsts[number + 1])
        made[number] = _subdivided([angles[starts[i] : starts[i + 1]] for i in rings])
    made[lost] = None
    return np.asarray(shapely.orient_polygons(made))


def is_on_earth(crs_wkt: str) -> bool:
    """Whether longitudes and latitudes on WGS 84 follow from coordinates of a CRS.

    Args:
        crs_wkt: The CRS as WKT; empty if there is none.

    >>> is_on_earth("")
    False
    """
    try:
        return bool(crs_wkt and is_same_body(datum_of(crs_wkt).a, EARTH_M))
    except GroundError:
        return False


@lru_cache(16)
def _to_wgs84(crs_wkt: str) -> Callable[[np.ndarray], np.ndarray]:
    transformer = Transformer.from_crs(crs_wkt, "OGC:CRS84", always_xy=True)
    return lambda points: np.stack(transformer.transform(*points.T), axis=-1)


def _numbers(ends: np.ndarray) -> np.ndarray:
    """For each entry the number of the list that it is in, by where lists begin."""
    return np.repeat(np.arange(len(ends) - 1), np.diff(ends))


def _bent(
    points: np.ndarray, starts: np.ndarray, to_wgs84: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of rings, which have more vertices where edges bend.

    Args:
        points: `(n, 2)` coordinates of all rings.
        starts: Where each ring begins, and the end of the last one.
        to_wgs84: From coordinates to longitude and latitude.

    Returns:
        `(m, 2)` degrees, and where each ring begins.
    """
    angles = to_wgs84(points)
    for _ in range(HALVINGS):
        is_edge = np.ones(len(points), bool)
        is_edge[starts[1:] - 1] = False
        first = np.flatnonzero(is_edge)
        middle = (points[first] + points[first + 1]) / 2
        truth = to_wgs84(middle)
        is_bent = _bend_m(angles[first], truth, angles[first + 1]) > MAX_BEND_M
        if not is_bent.any():
            break
        behind = first[is_bent] + 1
        points = np.insert(points, behind, middle[is_bent], axis=0)
        angles = np.insert(angles, behind, truth[is_bent], axis=0)
        starts = starts + np.searchsorted(behind, starts, side="left")
    return angles, starts


def _bend_m(begin: np.ndarray, middle: np.ndarray, end: np.ndarray) -> np.ndarray:
    """How far the middle of edges is from where it would be between longitudes and latitudes.

    Args:
        begin, middle, end: `(n, 2)` degrees.

    Returns:
        `(n,)` metres; NaN off the Earth.
    """
    with np.errstate(invalid="ignore"):
        step = end - begin
        step[:, 0] -= 360 * np.round(step[:, 0] / 360)
        gap = middle - (begin + step / 2)
        gap[:, 0] -= 360 * np.round(gap[:, 0] / 360)
        gap[:, 0] *= np.maximum(np.cos(np.radians(middle[:, 1])), MIN_COSINE)
    return np.asarray(np.hypot(*gap.T) * METRES_PER_DEGREE)


def _turns(lon: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """How often each vertex has gone around the Earth to the east since its ring began."""
    steps = np.round(np.diff(np.nan_to_num(lon), prepend=0) / 360)
    steps[starts[:-1]] = 0
    turns = np.cumsum(steps)
    return np.asarray(turns - np.repeat(turns[starts[:-1]], np.diff(starts)))


def _subdivided(rings: list[np.ndarray]) -> Any:
    """A polygon that crosses 180 degrees, in parts between -180 and 180.

    Args:
        rings: Shell and holes, `(n, 2)` degrees each, without jumps.
    """
    shell, *holes = (_in_world(ring) for ring in rings)
    parts = shapely.difference(shell, shapely.union_all(holes)) if holes else shell
    return shapely.make_valid(parts)


def _in_world(ring: np.ndarray) -> Any:
    """What a ring holds, moved to between -180 and 180 degrees; with the pole that it goes around.

    Args:
        ring: `(n, 2)` degrees without jumps.
    """
    if abs(ring[-1, 0] - ring[0, 0]) > 180:
        pole = np.copysign(90, ring[:, 1].mean())
        # Only from the vertex nearest to the pole no edge is on the way to it.
        nearest = np.abs(pole - ring[:-1, 1]).argmin()
        around = ring[-1] - ring[0]
        ring = np.vstack([ring[nearest:-1], ring[: nearest + 1] + around])
        ring = np.vstack([ring, [[ring[-1, 0], pole], [ring[0, 0], pole]]])
    whole = shapely.Polygon(ring)
    west, _, east, _ = whole.bounds
    shifts = 360 * np.arange(np.floor((west + 180) / 360), np.floor((east + 180) / 360) + 1)
    moved = [shapely.transform(whole, lambda points, by=by: points - [by, 0]) for by in shifts]
    return shapely.union_all(shapely.intersection(moved, _WORLD))
