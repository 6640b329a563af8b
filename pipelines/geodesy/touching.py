"""Whether polygons lie on any of many scenes, before anything of them is read."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import shapely

from pipelines.geodesy import outlines
from pipelines.geodesy.footprints import caps_of
from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygon_masks import ScenePolygons, lie_on
from pipelines.geodesy.polygons import Polygons
from segmodel.errors import GroundError, InputError
from segmodel.tiling.windows import Window

TILE_PX = 4096
STEPS = 32  # along the longer side of a polygon
CHUNK = 64  # polygons at a time, to spare memory


def first_touched(polygons: Polygons, grids: Sequence[GroundGrid]) -> int | None:
    """The first scene in which a polygon covers the centre of a pixel.

    Args:
        polygons: Polygons in any CRS.
        grids: Pixel grids of scenes in any CRS.

    Returns:
        Index of the scene, or None if no polygon covers the centre of a pixel of any.

    >>> from affine import Affine
    >>> grids = [GroundGrid.of(Affine(1, 0, x, 0, -1, 50), "EPSG:4326", 9, 9) for x in (0, 20)]
    >>> area = shapely.to_wkb(shapely.box(21, 45, 22, 46))
    >>> first_touched(Polygons(grids[0].crs_wkt, ("area",), (area,)), grids)
    1
    """
    return _first(_touches, polygons, grids)


def first_crossed(polygons: Polygons, grids: Sequence[GroundGrid]) -> int | None:
    """The first scene that the outline of a polygon crosses, also between centres of pixels.

    Arguments and result are as in `first_touched`.
    """
    return _first(lie_on, polygons, grids)


def _first(
    holds: Callable[[Polygons, GroundGrid], bool], polygons: Polygons, grids: Sequence[GroundGrid]
) -> int | None:
    """The first scene for which something holds of polygons that are near it."""

    def is_held(grid: GroundGrid) -> bool:
        with suppress(InputError):  # on another celestial body
            return holds(polygons, grid)
        return False

    if grids and is_held(grids[0]):  # mostly; it spares the search
        return 0
    near = np.flatnonzero(_may_touch(polygons, grids)).tolist()
    return next((index for index in near if index and is_held(grids[index])), None)


def _touches(polygons: Polygons, grid: GroundGrid) -> bool:
    scene = ScenePolygons.of(polygons, grid)
    tiles = Window(0, 0, grid.height, grid.width).subdivide(TILE_PX, TILE_PX)
    return any(scene.touches(tile) for tile in tiles)


def with_axes_swapped(polygons: Polygons) -> Polygons | None:
    """The same polygons with x for y, as files have them that write latitude first.

    None where that gives no places on the ground.
    """
    shapes = shapely.from_wkb(np.array(polygons.geometries, dtype=object))
    swapped = shapely.transform(shapes, lambda points: points[:, ::-1])
    wkbs = tuple(bytes(shapely.to_wkb(shape)) for shape in swapped)
    places = outlines.hub_transformer(polygons.crs_wkt).lon_lat(shapely.get_coordinates(swapped))
    return Polygons(polygons.crs_wkt, polygons.names, wkbs) if np.isfinite(places).all() else None


def middle_of(polygons: Polygons) -> tuple[float, float]:
    """Longitude and latitude in degrees of a place in the first polygon; NaN if it has none."""
    place = shapely.point_on_surface(shapely.from_wkb(polygons.geometries[0]))
    points = shapely.get_coordinates(place)
    lon, lat = np.degrees(outlines.hub_transformer(polygons.crs_wkt).lon_lat(points))[0].tolist()
    return lon, lat


def _may_touch(polygons: Polygons, grids: Sequence[GroundGrid]) -> np.ndarray:
    """`(n,)` bool: scenes whose cap on the sphere meets that of a polygon."""
    try:
        place = outlines.hub_transformer(polygons.crs_wkt)
    except GroundError:
        return np.ones(len(grids), bool)
    scenes = caps_of(outlines.SceneArrays(grids))
    parts = shapely.get_parts(shapely.from_wkb(np.array(polygons.geometries, dtype=object)))
    caps = np.array([_cap(part, place) for part in parts])
    found = np.zeros(len(grids), bool)
    for start in range(0, len(caps), CHUNK):
        some = caps[start : start + CHUNK]
        apart = np.arccos(np.clip(scenes[:, :3] @ some[:, :3].T, -1, 1))
        found |= (apart <= scenes[:, 3:] + some[:, 3] + 1e-7).any(axis=1)
    return found


def _cap(polygon: shapely.Polygon, place: outlines.HubTransformer) -> np.ndarray:
    """Unit vector and radius in radians of a cap that holds a polygon; pi where it is not known."""
    left, low, right, high = polygon.bounds
    dense = shapely.segmentize(polygon.exterior, max(right - left, high - low) / STEPS)
    lon, lat = place.lon_lat(shapely.get_coordinates(dense)).T
    units = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)
    mean = units.mean(axis=0)
    length = np.linalg.norm(mean)
    if not length > 0.1:  # also NaN
        return np.array([1.0, 0.0, 0.0, np.pi])
    centre = mean / length
    steps = np.linalg.norm(np.diff(units, axis=0), axis=1).max()
    radius = float(np.arccos(np.clip(units @ centre, -1, 1)).max() + steps)
    return np.array([*centre, radius if radius < np.pi / 2 else np.pi])
