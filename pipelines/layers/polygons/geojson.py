"""GeoJSON by RFC 7946: a line for each feature, on WGS 84.

Names are escaped as JSON has it, so that the file is ASCII whatever classes and scenes are called.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import shapely

from pipelines.layers.polygons.parts import BOUNDS, GEOMETRY, polygons_of, row_groups
from pipelines.layers.polygons.wgs84 import on_wgs84


def write_geojson(
    path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], crs_wkt: str
) -> None:
    """Write polygons to a file; memory is that of one group of rows.

    A polygon that leaves its projection is a feature without geometry.

    Args:
        path: File of this machine.
        schema: Columns of the rows: those of parts, or more.
        batches: Rows, in order.
        crs_wkt: The CRS as WKT.
    """
    names = [name for name in schema.names if name not in (GEOMETRY, *BOUNDS)]
    with Path(path).open("w", encoding="ascii") as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        comma = ""
        for table in row_groups(batches):
            shapes = shapely.to_geojson(on_wgs84(polygons_of(table), crs_wkt))
            rows = table.select(names).to_pylist()
            for shape, row in zip(shapes, rows, strict=True):
                properties = json.dumps(row)
                stream.write(
                    f'{comma}\n{{"type": "Feature", "properties": {properties}, '
                    f'"geometry": {shape or "null"}}}'
                )
                comma = ","
        stream.write("\n]}\n")
