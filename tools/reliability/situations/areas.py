"""Areas of interest and zones: files that are none, and polygons that are no places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.reliability.situations.changes import Change, all_of, closed, cut, empty, link, put
from tools.reliability.situations.files import PLAIN_USER
from tools.reliability.situations.table import SCENES, Situation

AOI, ZONED = f"{SCENES} --aoi=zones.geojson", f"{SCENES} --zones=zones.geojson"
SQUARE = [[15.0, 53.0], [15.01, 53.0], [15.01, 55.0], [15.0, 55.0], [15.0, 53.0]]


def features(*found: dict[str, Any], **more: Any) -> Change:
    """Other features."""
    document = {"type": "FeatureCollection", "features": found} | more
    return put("zones.geojson", json.dumps(document))


def feature(kind: str, places: Any, **properties: Any) -> dict[str, Any]:
    """One feature."""
    geometry = None if not kind else {"type": kind, "coordinates": places}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def ring(*places: list[float]) -> Change:
    """One polygon of these corners."""
    return features(feature("Polygon", [[*places, places[0]]], name="a"))


def written(name: str, driver: str, geometries: list[str], crs: str | None = "EPSG:4326") -> Change:
    """A vector file of geometries in text."""

    def make(folder: Path) -> None:
        import pyogrio
        import shapely

        shapes = shapely.to_wkb(shapely.from_wkt(geometries))
        pyogrio.raw.write(
            folder / name,
            shapes,
            [],
            [],
            driver=driver,
            crs=crs,
            geometry_type="Unknown",
            layer="a",
        )

    return make


def zipped(folder: Path) -> None:
    """The zones in an archive."""
    import zipfile

    with zipfile.ZipFile(folder / "zones.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")


SITUATIONS = (
    # The file.
    Situation(
        "an area that is not there",
        f"{SCENES} --aoi=area.geojson",
        "area.geojson",
        "check the path area.geojson",
    ),
    Situation(
        "an area that is a folder",
        f"{SCENES} --aoi=photos",
        "photos",
        "convert it to GeoPackage (not recognized as being in a",
    ),
    Situation(
        "an area that is an empty folder",
        f"{SCENES} --aoi=none",
        "none",
        "convert it to GeoPackage (not recognized as being in a",
        make=empty("none"),
    ),
    Situation(
        "an area that is an empty file",
        AOI,
        "zones.geojson",
        "convert it to GeoPackage (not recognized as",
        make=put("zones.geojson", ""),
    ),
    Situation(
        "an area that is a text",
        AOI,
        "zones.geojson",
        "convert it to GeoPackage (not recognized as",
        make=put("zones.geojson", "hello"),
    ),
    Situation(
        "an area that is cut",
        AOI,
        "zones.geojson",
        "Unterminated string)",
        make=cut("zones.geojson", 0.6),
    ),
    Situation(
        "an area that is an image",
        f"{SCENES} --aoi=photos/image-000.png",
        "image-000.png",
        "convert it to GeoPackage (not recognized",
    ),
    Situation(
        "an area that is a scene",
        f"{SCENES} --aoi=scenes/scene.tif",
        "scene.tif",
        "convert it to GeoPackage (not recognized as",
    ),
    Situation(
        "an area that is a link to nothing",
        f"{SCENES} --aoi=link.geojson",
        "link.geojson",
        "check the path link.geojson",
        make=link("link.geojson", "nowhere"),
    ),
    Situation(
        "an area that may not be read",
        AOI,
        "zones.geojson",
        "Permission denied)",
        make=closed("zones.geojson"),
        hook=PLAIN_USER,
    ),
    Situation(
        "an area in a scheme that is none",
        f"{SCENES} --aoi=ftp://host/a.geojson",
        "ftp://",
        "copy 'ftp://host/a.geojson' to a local folder or to a store",
    ),
    Situation("an empty name of an area", f"{SCENES} --aoi=", "--aoi", "check the path"),
    Situation(
        "an archive of zones without zones",
        f"{SCENES} --zones=zones.zip",
        "zones.zip",
        "convert it to GeoPackage (not recognized as",
        make=zipped,
    ),
    Situation(
        "an archive of zones that is none",
        f"{SCENES} --zones=zones.zip",
        "zones.zip",
        "convert it to GeoPackage (does not exist in",
        make=put("zones.zip", b"PK\3\4 nothing"),
    ),
    Situation(
        "a Shapefile without its other files",
        f"{SCENES} --zones=zones.shp",
        "zones.shp",
        "convert it to GeoPackage (Unable to open zones.shx or",
        make=put("zones.shp", b"\0\0\x27\x0a" + bytes(96)),
    ),
    Situation(
        "a GeoPackage that is cut",
        f"{SCENES} --zones=zones.gpkg",
        "zones.gpkg",
        "database disk image is malformed; database disk image is",
        make=all_of(
            written("zones.gpkg", "GPKG", ["POLYGON ((15 53, 15 54, 16 54, 15 53))"]),
            cut("zones.gpkg", 0.1),
        ),
    ),
    Situation(
        "a GeoPackage that is empty",
        f"{SCENES} --zones=zones.gpkg",
        "zones.gpkg",
        "name a file with polygons in it",
        make=written("zones.gpkg", "GPKG", []),
    ),
    Situation(
        "a layer that is not there",
        f"{SCENES} '--zones=zones.geojson|layername=west'",
        "west",
        "take one of zones",
    ),
    Situation(
        "a SQL statement for a file",
        f"{SCENES} '--zones=PG:dbname=survey'",
        "PG:dbname=survey",
        "check the path PG:dbname=survey",
    ),
    # Polygons.
    Situation(
        "an area without features",
        AOI,
        "zones.geojson",
        "name a file with polygons in it",
        make=features(),
    ),
    Situation(
        "an area of points",
        AOI,
        "zones.geojson",
        "name a file of polygons, not of points or lines",
        make=features(feature("Point", [15, 54])),
    ),
    Situation(
        "an area of lines",
        AOI,
        "zones.geojson",
        "name a file of polygons, not of points or lines",
        make=features(feature("LineString", [[15, 54], [16, 54]])),
    ),
    Situation(
        "an area of a feature without geometry",
        AOI,
        "zones.geojson",
        "name a file of polygons, not of points or lines",
        make=features(feature("", None)),
    ),
    Situation(
        "an area of an empty polygon",
        AOI,
        "zones.geojson",
        "name a file of polygons, not of points or lines",
        make=features(feature("Polygon", [])),
    ),
    Situation(
        "an area of a polygon of two corners",
        AOI,
        "zones.geojson",
        "name a file of polygons, not of points or lines",
        make=ring([15, 53], [16, 54]),
    ),
    Situation(
        "an area of a polygon without area",
        AOI,
        "zones.geojson",
        "name a file of polygons, not of points or lines",
        make=ring([15, 53], [15, 53], [15, 53]),
    ),
    Situation(
        "an area at latitude 100",
        AOI,
        "zones.geojson",
        "write longitude first, for example with ogr2ogr -swapxy",
        make=ring([15, 100], [16, 100], [16, 101]),
    ),
    Situation(
        "an area at longitude 5000",
        AOI,
        "zones.geojson",
        "assign the CRS of the coordinates with ogr2ogr -a_srs EPSG:...",
        make=ring([5000, 53], [5001, 53], [5001, 54]),
    ),
    Situation(
        "an area of infinite places",
        AOI,
        "zones.geojson",
        "repair or remove it",
        make=put(
            "zones.geojson",
            '{"type": "Polygon", "coordinates": [[[15, 53], [1e999, 53], [16, 54], [15, 53]]]}',
        ),
    ),
    Situation(
        "an area of metres that are said to be degrees",
        AOI,
        "zones.geojson",
        "assign the CRS of the coordinates with ogr2ogr -a_srs EPSG:...",
        make=ring([500000, 5900000], [501000, 5900000], [501000, 5990000]),
    ),
    Situation(
        "an area of a ring that is text",
        AOI,
        "zones.geojson",
        "convert it to GeoPackage (Failed to read GeoJSON data)",
        make=put("zones.geojson", '{"type": "Polygon", "coordinates": "here"}'),
    ),
    Situation(
        "an area beside all scenes",
        AOI,
        "--aoi",
        "'a' is at longitude 100.7500 and latitude 10.5000,",
        make=ring([100, 10], [101, 10], [101, 11]),
    ),
    Situation(
        "an area without reference system",
        f"{SCENES} --aoi=area.shp",
        "area.shp",
        "assign one in a GIS, or with ogr2ogr -a_srs EPSG:...",
        make=written(
            "area.shp", "ESRI Shapefile", ["POLYGON ((15 53, 15 54, 16 54, 15 53))"], None
        ),
    ),
    Situation(
        "zones with two layers",
        f"{SCENES} --zones=two",
        "two",
        "name one, as in 'two|layername=a'",
        make=all_of(
            empty("two"),
            written("two/a.shp", "ESRI Shapefile", ["POLYGON ((15 53, 15 54, 16 54, 15 53))"]),
            written("two/b.shp", "ESRI Shapefile", ["POLYGON ((15 53, 15 54, 16 54, 15 53))"]),
        ),
    ),
    # Names.
    Situation(
        "zones without the field of names",
        f"{ZONED} --zone_field=district",
        "district",
        "take one of name",
    ),
    Situation(
        "zones without a name",
        ZONED,
        "zones.geojson",
        "name the field of names by --zone_field (district)",
        make=features(feature("Polygon", [SQUARE], district="a")),
    ),
    Situation(
        "zones of which one has an empty name",
        ZONED,
        "zones.geojson",
        "--zones zones.geojson has no name in the field 'name' for 1 of",
        make=features(
            feature("Polygon", [SQUARE], name="a"), feature("Polygon", [SQUARE], name="")
        ),
    ),
    Situation(
        "an empty field of names", f"{ZONED} --zone_field=", "zones.geojson", "take one of name"
    ),
)
