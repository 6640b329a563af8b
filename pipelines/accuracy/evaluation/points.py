"""Points with a class, as a reference of scenes."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from pyproj import CRS

from pipelines.accuracy.evaluation.comparison import PlacedPoints
from pipelines.accuracy.evaluation.references import classes_of_texts
from pipelines.accuracy.label_tables import PointTable, read_label_rows
from pipelines.run.directory import RunDirectory
from pipelines.run.polygons import is_stored
from pipelines.scenes.sampling import pixels_of_coordinates
from segmodel.errors import ConfigurationError, DamagedError, FailureCode, InputError
from segmodel.labels.classes import ClassTable
from segmodel.rasters.grid import Grid

POINTS_JSON = "points.json"
_WGS84 = CRS.from_epsg(4326).to_wkt()


@dataclass(frozen=True)
class ReferencePoints:
    """Points of a table, in its order.

    Attributes:
        lon: Longitude of each point on WGS 84, in degrees.
        lat: Latitude of it.
        places: Place in the class table of the run of its class.
    """

    lon: tuple[float, ...]
    lat: tuple[float, ...]
    places: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """As an evaluation keeps them."""
        return json.dumps(asdict(self)).encode()

    @property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 of `to_bytes`."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    @classmethod
    def from_bytes(cls, content: bytes) -> "ReferencePoints":
        """What `to_bytes` wrote."""
        found = json.loads(content)
        return cls(*(tuple(found[name]) for name in ("lon", "lat", "places")))


def read_points(path: str, class_field: str | None, classes: ClassTable) -> ReferencePoints:
    """Points of a CSV, GeoPackage or GeoJSON file; those without a class are left out.

    Args:
        path: The file; a CSV has columns lon and lat in degrees.
        class_field: Column of classes, or None for `class`.
        classes: Class table of the run.

    Raises:
        ConfigurationError: If it is no such table, no point has a class, or one has a class that
            the run has not.
    """
    needed = "a reference of points has lon, lat and a class, which --class_field names"
    table = PointTable(None, (class_field or "class").lower(), needed)
    rows = [row for row in read_label_rows(path, table) if row.label]
    if not rows:
        raise ConfigurationError(f"--reference {path} has no point with a class: {needed}")
    lon, lat = zip(*(row.places[0] for row in rows), strict=True)
    labels = tuple(row.label for row in rows)
    return ReferencePoints(lon, lat, classes_of_texts(labels, classes, f"--reference {path}"))


@lru_cache(2)
def stored_points(run: RunDirectory, digest: str) -> ReferencePoints:
    """Points of an evaluation, read once in a process.

    Raises:
        DamagedError: If they are not those of this digest.
    """
    content = run.read(POINTS_JSON)
    if not is_stored(content, digest):
        raise DamagedError(f"{POINTS_JSON} is damaged: run the same command again")
    return ReferencePoints.from_bytes(content)


def points_on(points: ReferencePoints, grid: Grid) -> PlacedPoints:
    """Points in the pixels of a label map; those elsewhere are left out.

    Args:
        points: Points.
        grid: Size and place of the label map.

    Raises:
        InputError: If the label map has no place on the ground.
    """
    if grid.crs is None or grid.transform.is_identity:
        raise InputError(
            "points lie on the ground, and this label map has no coordinate reference system: "
            "give masks with the paths of the images",
            code=FailureCode.BAD_GEOREFERENCE,
        )
    columns, rows = pixels_of_coordinates(np.array(points.lon), np.array(points.lat), _WGS84, grid)
    inside = (columns >= 0) & (columns < grid.width) & (rows >= 0) & (rows < grid.height)
    return PlacedPoints(
        rows[inside].astype(np.int64),
        columns[inside].astype(np.int64),
        np.array(points.places, np.int32)[inside],
    )
