"""What our GeoPackages have in common: no clock, and styles by which QGIS draws layers."""

import sqlite3
from contextlib import closing

import pyogrio

# A time in the file would make other bytes of the same content.
_CLOCK = {"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z"}
_STYLES = """
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256),
  f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
  styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
  owner TEXT(30), ui TEXT(30), update_time DATETIME DEFAULT CURRENT_TIMESTAMP)
"""


def stop_clock() -> None:
    """Have GDAL write one fixed time into all GeoPackages of this process."""
    pyogrio.set_gdal_config_options(_CLOCK)


def write_style(path: str, layer: str, geometry: str, name: str, qml: str) -> None:
    """Give a layer the style by which QGIS draws it.

    Args:
        path: GeoPackage of this machine, without styles.
        layer: Name of the layer.
        geometry: Name of its column of geometry.
        name: Name of the style, of at most 30 characters.
        qml: The style, in the XML of QGIS.
    """
    time = _CLOCK["OGR_CURRENT_DATE"]
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(_STYLES)
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, "
            "last_change) VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?)",
            [time],
        )
        values = ("", "", layer, geometry, name, qml, "", True, "", "", None, time)
        marks = ", ".join("?" * len(values))
        database.execute(f"INSERT INTO layer_styles VALUES (NULL, {marks})", values)
