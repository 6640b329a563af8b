"""Where a scene lies as GeoJSON says it: a polygon and a box of longitudes and latitudes."""

import json
from typing import Any, NamedTuple

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from pipelines.geodesy.ellipsoid import square
from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.longitudes import Bounds, longitude_span
from pipelines.geodesy.outlines import EARTH_M, HubTransformer, hub_transformer, is_same_body
from pipelines.layers.polygons.wgs84 import DECIMALS, on_wgs84

STEPS = 64  # along a side
SAMPLES = 256  # along a side of a scene that leaves its projection
TOLERANCE = 1e-4  # of the longer side of the box that leaving out points may move an outline


class ItemOutline(NamedTuple):
    """The outline of a scene in degrees on WGS 84.

    Attributes:
        geometry: A GeoJSON Polygon, or a MultiPolygon that is cut at the antimeridian.
        bbox: West, south, east and north; west is greater than east across the antimeridian.
    """

    geometry: dict[str, Any]
    bbox: Bounds


def item_outline(grid: GroundGrid) -> ItemOutline | None:
    """The outline of a scene; None if it is not on the Earth.

    Of a scene that leaves its projection it is a box that holds all of it that is on the Earth.

    Args:
        grid: Pixel grid of the scene.

    Source: RFC 7946, sections 3.1.6, 3.1.9 and 5.2.

    >>> from affine import Affine
    >>> grid = GroundGrid.of(Affine(1, 0, 179, 0, -1, 10), "EPSG:4326", 2, 2)
    >>> item_outline(grid).bbox
    (179.0, 8.0, -179.0, 10.0)
    """
    hub = hub_transformer(grid.crs_wkt)
    if not is_same_body(hub.a, EARTH_M):
        return None
    shape: BaseGeometry | None = None
    if np.isfinite(_lon_lat(hub, grid, *square(STEPS, STEPS))).all():
        x, y = square(1, 1)
        corners = grid.coordinates(x * grid.width, y * grid.height)
        rectangle = shapely.Polygon(np.stack(corners, axis=-1))
        (shape,) = on_wgs84(np.array([rectangle]), grid.crs_wkt)
    shape = _box(hub, grid) if shape is None else shape
    if shape is None:
        return None
    parts = shapely.bounds(shapely.get_parts(shape))
    west, east = longitude_span(parts[:, [0, 2]])
    bounds = west, float(parts[:, 1].min()), east, float(parts[:, 3].max())
    simple = shapely.simplify(shape, TOLERANCE * max(east - west, bounds[3] - bounds[1]))
    return ItemOutline(json.loads(shapely.to_geojson(simple)), wrapped_box(bounds))


def _lon_lat(hub: HubTransformer, grid: GroundGrid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`(points, 2)` degrees of places in sides of a scene; NaN where there are none."""
    places = np.stack(grid.coordinates(x * grid.width, y * grid.height), axis=-1)
    return np.asarray(np.degrees(hub.lon_lat(places)))


def _holds_pole(hub: HubTransformer, grid: GroundGrid, sign: int) -> bool:
    """Whether a pole is in a scene: the north pole for 1, the south pole for -1."""
    x, y = hub.coordinates(np.array([0.0, sign * np.pi / 2]))
    column, row = ~grid.transform @ (float(x), float(y))
    return bool(0 <= column <= grid.width and 0 <= row <= grid.height)


def _box(hub: HubTransformer, grid: GroundGrid) -> BaseGeometry | None:
    """The box around samples of a scene and one step more; None if none is on the Earth."""
    x, y = np.meshgrid(*[np.linspace(0, 1, SAMPLES + 1)] * 2)
    points = _lon_lat(hub, grid, x.ravel(), y.ravel())
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return None
    west, east = longitude_span(points[:, :1].repeat(2, axis=1))
    south, north = points[:, 1].min(), points[:, 1].max()
    across, up = (east - west) / SAMPLES, (north - south) / SAMPLES
    to_south, to_north = (_holds_pole(hub, grid, sign) for sign in (-1, 1))
    south = -90.0 if to_south else max(-90.0, south - up)
    north = 90.0 if to_north else min(90.0, north + up)
    if to_south or to_north or east - west + 2 * across >= 360:
        return shapely.box(-180, south, 180, north)
    box = shapely.box(west - across, south, east + across, north)
    return on_wgs84(np.array([box]), "OGC:CRS84")[0]


def wrapped_box(bounds: Bounds) -> Bounds:
    """A box with longitudes in -180..180, as GeoJSON has it.

    Args:
        bounds: West, south, east and north; east is not less than west.

    >>> wrapped_box((170.0, -5.0, 190.0, 5.0))
    (170.0, -5.0, -170.0, 5.0)
    """
    west, south, east, north = bounds
    if east - west >= 360:
        west, east = -180.0, 180.0
    else:
        west, east = (west + 180) % 360 - 180, 180 - (180 - east) % 360
    west, south, east, north = (round(value, DECIMALS) for value in (west, south, east, north))
    return west, south, east, north
