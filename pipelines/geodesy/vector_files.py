"""Polygons with names from vector files: checked, repaired, ordered.

Any polygon file that GDAL reads. Features of one name are one multipolygon. What is kept does not
depend on the order of features, so that the same areas in another file give the same digest. A ring
that steps from one side of the antimeridian to the other goes on beyond it.
"""

import logging
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError

from pipelines.geodesy.ellipsoid import turn_of, wrap_near
from pipelines.geodesy.polygons import Polygons
from pipelines.storage import locations
from pipelines.storage.copies import with_sidecars
from segmodel.errors import ConfigurationError
from segmodel.rasters.opening import reason_of_gdal

NAME_FIELDS = ("name", "NAME", "Name")
MADE_VALID = 2000  # vertices
# Pairs of edges near each other that GEOS may compare in one polygon, in about 30 s.
MAX_PAIRS = 4e9
LAYER = "|layername="  # how QGIS spells a layer of a file
_log = logging.getLogger("beamseg")
_NOTHING = shapely.to_wkb(shapely.Polygon())
_POLYGONS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


def read_polygons(path: str, option: str, name_field: str | None = None) -> Polygons:
    """The polygons of a vector file.

    Args:
        path: A GeoJSON, GeoPackage, Shapefile, FlatGeobuf or other file that GDAL reads;
            `PATH|layername=NAME` takes one layer of several.
        option: The option that named the file, for error texts.
        name_field: Field of names; None for one called name, NAME or Name, or else the feature id
            that GDAL gives. A feature without a name is called by its feature id.

    Returns:
        Polygons by name. Features of the same name are joined, invalid ones repaired, curves made
        of lines, heights dropped.

    Raises:
        ConfigurationError: If there is no such file or layer, several layers have polygons, or
            the layer has no CRS, no polygons, no such field, or coordinates that are not places.
    """
    return _read(path, option, name_field).polygons


def read_class_polygons(path: str, class_field: str | None = None) -> Polygons:
    """The polygons of `--reference`, named by what they say of their class; see `read_polygons`.

    Feature ids never stand in for classes, as they look like ids of classes.

    Args:
        path: The vector file.
        class_field: Field of classes; None for one called name, NAME or Name.

    Raises:
        ConfigurationError: As `read_polygons`, and if there is no field of classes, or a polygon
            without one.
    """
    found = _read(path, "--reference", class_field, "--class_field")
    if found.nameless:
        raise ConfigurationError(found.nameless)
    return found.polygons


def read_zones(path: str, name_field: str | None = None, earlier: str | None = None) -> Polygons:
    """The polygons of a vector file that have a name each, see `read_polygons`.

    In a file without any field they are called by their feature ids.

    Args:
        path: The vector file.
        name_field: Field of names; None for one called name, NAME or Name.
        earlier: Digest of the zones of the run that is continued, or None. Those are taken as they
            are, because 0.1.0 gave numbers to zones without a name.

    Raises:
        ConfigurationError: As `read_polygons`, and if there is no field of names, or a polygon
            without one.
    """
    found = _read(path, "--zones", name_field, "--zone_field")
    if found.nameless and found.has_fields and found.polygons.digest != earlier:
        raise ConfigurationError(found.nameless)
    return found.polygons


class _Found(NamedTuple):
    """Polygons, what is wrong with their names, if anything, and whether there are fields."""

    polygons: Polygons
    nameless: str
    has_fields: bool


def _read(path: str, option: str, name_field: str | None, field_option: str = "") -> _Found:
    """The polygons of the file that an option names; another one names its field of names."""
    place, _, layer = path.partition(LAYER)
    source = f"{option} {os.path.basename(place.rstrip('/'))}"
    try:
        with with_sidecars(locations.checked(place)) as file, damage_named(source):
            found, places, polygons = _read_file(file, layer, source, name_field)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{source} is not there: check the path {place}") from error
    return _Found(polygons, found.nameless(places, source, field_option), bool(found.fields))


def vector_library() -> Any:
    """The reader of vector files, which asks no server for the schema that a GML file names."""
    import pyogrio

    pyogrio.set_gdal_config_options({"GML_DOWNLOAD_SCHEMA": False})
    return pyogrio


@contextmanager
def damage_named(source: str) -> Iterator[None]:
    """Have what GDAL cannot read of a vector file say so; other errors stay.

    Args:
        source: The file, for the error text.

    Raises:
        ConfigurationError: If a layer is damaged, or holds text in another encoding than it should.
    """
    errors = vector_library().errors
    try:
        yield
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{source} has text that is not in UTF-8: save it again as GeoPackage"
        ) from error
    except (errors.DataSourceError, errors.DataLayerError) as error:
        raise ConfigurationError(
            f"{source} cannot be read to its end ({reason_of_gdal(error, source)}): save it again "
            f"as GeoPackage, or put it back from a copy"
        ) from error


def has_vectors(path: str) -> bool:
    """Whether a file has layers of vectors that GDAL can read."""
    return bool(vector_kinds(path))


def vector_kinds(path: str) -> list[str]:
    """Kinds of geometry of the layers of a file, in GDAL's words; none if it has no vectors."""
    pyogrio = vector_library()

    try:
        with with_sidecars(path) as file:
            return [str(kind) for _, kind in pyogrio.list_layers(file)]
    except (pyogrio.errors.DataSourceError, FileNotFoundError):
        return []


@dataclass(frozen=True)
class _Features:
    """All features of a layer.

    Attributes:
        crs: The CRS of the layer.
        fields: Names of all fields.
        field: The field with names, or None.
        ids: Feature ids.
        texts: What the field says of each feature; empty where it says nothing.
        content: Geometries as WKB; an empty one of a feature that has none.
    """

    crs: CRS
    fields: list[str]
    field: str | None
    ids: list[int]
    texts: list[str]
    content: list[bytes]

    @property
    def names(self) -> list[str]:
        """Of all features, by what the field says or by their feature ids."""
        return [text or str(number) for text, number in zip(self.texts, self.ids, strict=True)]

    def nameless(self, polygons: Sequence[int], source: str, option: str) -> str:
        """What is wrong with the names of the features at these places; empty if nothing is."""
        known = ", ".join(name for name in self.fields if name != self.field)
        if self.field is None:
            remedy = (
                f"name the field of names by {option} ({known})" if known else "it has no fields"
            )
            return f"{source} has no field called name, NAME or Name: {remedy}"
        lost = [str(self.ids[at]) for at in polygons if not self.texts[at].strip()]
        if not lost:
            return ""
        another = f", or take another field by {option} ({known})" if known else ""
        return (
            f"{source} has no name in the field {self.field!r} for {len(lost)} of {len(polygons)} "
            f"polygons, those with the feature id {_some(lost)}: give each one{another}"
        )


def _some(texts: Sequence[str]) -> str:
    """The first ten of a list."""
    return ", ".join(texts[:10]) + (", ..." if len(texts) > 10 else "")


def _read_file(
    file: str, layer: str, source: str, name_field: str | None
) -> tuple[_Features, list[int], Polygons]:
    """All features, the places of those that are polygons, and these by name."""
    layer = _polygon_layer(file, layer, source)
    found = _read_layer(file, layer, source, name_field)
    names, places = found.names, []
    by_name = defaultdict(list)
    for place, shape in enumerate(_shapes(found.content, names, found.crs, source)):
        _check_pairs(shape, names[place], source)
        polygon = _polygonal(shape)
        if polygon is not None:
            by_name[names[place]].append(shapely.normalize(polygon))
            places.append(place)
    if not by_name:
        raise ConfigurationError(
            f"{source} has no polygon with an area: name a file of polygons, not of points or lines"
        )
    if lost := sorted(set(names) - by_name.keys()):
        _log.warning("%s: left out, as no polygon with an area: %s", source, _some(lost))
    ordered = tuple(sorted(by_name))
    geometries = tuple(_joined(by_name[name]) for name in ordered)
    return found, places, Polygons(found.crs.to_wkt(), ordered, geometries)


def _polygon_layer(file: str, layer: str, source: str) -> str:
    """The layer to read: the one asked for, or the only one that may have polygons."""
    pyogrio = vector_library()

    try:
        kinds = {str(name): str(kind) for name, kind in pyogrio.list_layers(file)}
    except pyogrio.errors.DataSourceError as error:
        raise ConfigurationError(
            f"{source} is not a vector file that GDAL reads: convert it to GeoPackage "
            f"({reason_of_gdal(error, file)})"
        ) from error
    if layer in kinds:
        return layer
    if layer:
        raise ConfigurationError(f"{source} has no layer {layer!r}: take one of {', '.join(kinds)}")
    mixed = [name for name, kind in kinds.items() if re.search("Unknown|Collection", kind)]
    having = [name for name, kind in kinds.items() if re.search("Polygon|Surface", kind)]
    having += [name for name in mixed if len(kinds) == 1 or _has_polygons(file, name)]
    if not having:
        raise ConfigurationError(
            f"{source} has no layer of polygons: name a file of polygons, not of points or lines"
        )
    if len(having) > 1:
        base = source.partition(" ")[2]
        raise ConfigurationError(
            f"{source} has polygons in the layers {', '.join(sorted(having))}: name one, as in "
            f"'{base}{LAYER}{min(having)}'"
        )
    return having[0]


def _has_polygons(file: str, layer: str) -> bool:
    """Whether a layer of mixed geometry holds a polygon."""
    pyogrio = vector_library()

    wkb = pyogrio.raw.read(file, layer=layer, columns=[], force_2d=True)[2]
    shapes = shapely.get_parts(shapely.from_wkb(wkb, on_invalid="fix"))
    return bool(np.isin(shapely.get_type_id(shapes), _POLYGONS).any())


def _read_layer(file: str, layer: str, source: str, name_field: str | None) -> _Features:
    """The features of a layer."""
    pyogrio = vector_library()

    information = pyogrio.read_info(file, layer=layer)
    crs = _crs(information["crs"], source)
    fields = [str(field) for field in information["fields"]]
    if name_field is not None and name_field not in fields:
        known = f"take one of {', '.join(fields)}" if fields else "the file has no fields"
        raise ConfigurationError(f"{source} has no field {name_field!r}: {known}")
    columns = [name for name in (name_field, *NAME_FIELDS) if name in fields][:1]
    _, ids, content, values = pyogrio.raw.read(
        file, layer=layer, columns=columns, force_2d=True, return_fids=True
    )
    if len(ids) == 0:
        raise ConfigurationError(f"{source} has no features: name a file with polygons in it")
    texts = [_text(value) for value in values[0].tolist()] if values else [""] * len(ids)
    return _Features(
        crs,
        fields,
        next(iter(columns), None),
        ids.tolist(),
        texts,
        [_NOTHING if part is None else part for part in content],
    )


def _text(value: object) -> str:
    """A field as a name; empty for no value. GDAL gives integers with gaps as floats.

    >>> _text("park"), _text(7.0), _text(None), _text(math.nan)
    ('park', '7', '', '')
    """
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _crs(found: str | None, source: str) -> CRS:
    """A CRS with places on the ground."""
    remedy = "assign one in a GIS, or with ogr2ogr -a_srs EPSG:..."
    if not found:
        raise ConfigurationError(f"{source} has no CRS: {remedy}")
    try:
        crs = CRS.from_user_input(found)
    except CRSError as error:
        raise ConfigurationError(f"{source} has no CRS that can be read: {remedy}") from error
    if crs.geodetic_crs is None:
        raise ConfigurationError(
            f"{source} has the local CRS {crs.name!r}, without places on the ground: {remedy}"
        )
    return crs


def _shapes(content: list[bytes], names: list[str], crs: CRS, source: str) -> Iterator[Any]:
    """Geometries; refuses coordinates that are no numbers, and metres that are called degrees."""
    pole, turn = math.inf, turn_of(crs.to_wkt())
    if crs.is_geographic:
        pole = round(math.pi / 2 / crs.axis_info[0].unit_conversion_factor, 6)
    for name, wkb in zip(names, content, strict=True):
        try:
            shape = shapely.from_wkb(wkb, on_invalid="fix")
        except (shapely.errors.ShapelyError, NotImplementedError) as error:
            raise ConfigurationError(
                f"{source} has a geometry of an unknown kind at {name!r}: convert the file with "
                f"ogr2ogr -nlt CONVERT_TO_LINEAR ({error})"
            ) from error
        points = shapely.get_coordinates(shape)
        if not np.isfinite(points).all():
            raise ConfigurationError(
                f"{source} has coordinates that are not finite at {name!r}: repair or remove it"
            )
        if (np.abs(points) > [8 * pole, 1.001 * pole]).any():
            point = tuple(points[np.abs(points).argmax() // 2].tolist())
            is_swapped = (np.abs(points) <= [1.001 * pole, 4 * pole]).all()
            remedy = "assign the CRS of the coordinates with ogr2ogr -a_srs EPSG:..."
            if is_swapped:
                remedy = "write longitude first, for example with ogr2ogr -swapxy"
            raise ConfigurationError(
                f"{source} has the point {point} in {name!r}, but its CRS {crs.name!r} is in "
                f"longitude and latitude: {remedy}"
            )
        crossing = unrolled(shape, turn)
        if crossing is not shape:
            _log.warning(
                "%s: %r steps over the antimeridian, and is read as crossing it there", source, name
            )
        yield crossing


def unrolled(shape: Any, turn: float) -> Any:
    """Polygons whose rings go on beyond the antimeridian in place of a step to its other side.

    A ring is left alone if its steps of more than half a turn are no such steps: because the ring
    goes around a pole, would have no area left, or is more than a quarter of a turn high, as frames
    of whole maps are.

    Args:
        shape: Geometry with longitudes or eastings as x.
        turn: The whole way around the Earth in the unit of x; infinite where x does not go around.

    Returns:
        `shape` itself if no ring changes.

    >>> unrolled(shapely.Polygon([(179, 0), (-179, 0), (-179, 9), (179, 9)]), 360).bounds
    (179.0, 0.0, 181.0, 9.0)
    """
    parts = shapely.get_parts(shapely.get_parts(shape))
    points, ring = shapely.get_coordinates(shapely.get_rings(parts), return_index=True)
    steps = np.abs(np.diff(points[:, 0]))[ring[:-1] == ring[1:]]
    if not (steps > turn / 2).any():
        return shape
    new = [_unrolled_polygon(part, turn) for part in parts]
    if all(one is other for one, other in zip(new, parts, strict=True)):
        return shape
    return new[0] if len(new) == 1 else shapely.geometrycollections(new)


def _unrolled_polygon(polygon: Any, turn: float) -> Any:
    if shapely.get_type_id(polygon) != shapely.GeometryType.POLYGON:
        return polygon
    shell, *holes = (_unrolled_ring(part, turn) for part in shapely.get_rings(polygon))
    if shell is None:
        return polygon
    middle = (shell[:, 0].min() + shell[:, 0].max()) / 2
    moved = []
    for hole, old in zip(holes, shapely.get_rings(polygon)[1:], strict=True):
        points = shapely.get_coordinates(old) if hole is None else hole
        there = (points[:, 0].min() + points[:, 0].max()) / 2
        points[:, 0] += wrap_near(there, middle, turn) - there
        moved.append(points)
    return shapely.Polygon(shell, moved)


def _unrolled_ring(ring: Any, turn: float) -> np.ndarray | None:
    """Points `(n, 2)` of a ring that steps over the antimeridian; None of any other."""
    points = shapely.get_coordinates(ring)
    steps = np.diff(points[:, 0])
    turns = np.cumsum(np.where(np.abs(steps) > turn / 2, np.round(steps / turn), 0))
    if not turns.any() or turns[-1] != 0 or np.ptp(points[:, 1]) > turn / 4:
        return None
    points[1:, 0] -= turn * turns
    return points if shapely.area(shapely.Polygon(points)) > 0 else None


def _polygonal(shape: Any) -> Any | None:
    """The part of a geometry that has an area, made valid; None where there is none."""
    valid = _valid(shape)
    if shapely.get_type_id(valid) in _POLYGONS:
        return valid if shapely.area(valid) > 0 else None
    parts = shapely.get_parts(shapely.get_parts(valid))
    parts = parts[np.isin(shapely.get_type_id(parts), _POLYGONS) & (shapely.area(parts) > 0)]
    return shapely.union_all(parts) if len(parts) else None


def _check_pairs(shape: Any, name: str, source: str) -> None:
    """Refuse a polygon whose edges run through most of it, as each would be held against all."""
    points, ring = shapely.get_coordinates(
        shapely.get_rings(shapely.get_parts(shapely.get_parts(shape))), return_index=True
    )
    steps = np.abs(np.diff(points, axis=0))[ring[:-1] == ring[1:]]
    if not len(steps):
        return
    # How many edges a line across meets on average, which is 2 for a circle.
    met = float((steps.sum(axis=0) / np.maximum(np.ptp(points, axis=0), 1e-300)).min())
    if met * len(steps) > MAX_PAIRS:
        raise ConfigurationError(
            f"{source} has {len(steps):,} edges in {name!r}, of which a line across meets "
            f"{met:,.0f}, and their number times that may be {MAX_PAIRS:,.0f}: simplify it, for "
            f"example with ogr2ogr -simplify"
        )


def _valid(shape: Any) -> Any:
    """A valid geometry in which every place lies that an odd number of rings go around.

    What `make_valid` does takes time with the square of the vertices where a ring crosses itself
    often, so it is done to small ones only; of large ones, lines that are drawn twice are none.
    """
    if shapely.is_valid(shape):
        return shape
    parts = shapely.get_parts(shapely.get_parts(shape))
    has_others = (shapely.get_type_id(parts) != shapely.GeometryType.POLYGON).any()
    if has_others or shapely.get_num_coordinates(shape) <= MADE_VALID:
        return shapely.make_valid(shape)
    faces = shapely.get_parts(shapely.polygonize([shapely.union_all(shapely.boundary(parts))]))
    x, y = shapely.get_coordinates(shapely.point_on_surface(faces)).T
    is_odd = np.zeros(len(faces), bool)
    for ring in shapely.polygons(shapely.get_rings(parts)):
        shapely.prepare(ring)
        is_odd ^= shapely.intersects_xy(ring, x, y)
    return shapely.coverage_union_all(faces[is_odd])


def _joined(polygons: list[Any]) -> bytes:
    """The union of normalized polygons, whatever their order, as WKB."""
    if len(polygons) > 1:
        ordered = sorted(polygons, key=shapely.to_wkb)
        polygons = [shapely.normalize(shapely.union_all(ordered))]
    return bytes(shapely.to_wkb(polygons[0], byte_order=1, include_srid=False, output_dimension=2))
