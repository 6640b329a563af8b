"""GeoPackage and FlatGeobuf, as GDAL writes them: rows go through it one batch after another.

The same rows give the same bytes. GDAL keeps what the index needs of all features until the end:
up to 75 bytes of memory for each of a GeoPackage, and 140 of a FlatGeobuf.
"""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyogrio.raw import write_arrow

from pipelines.geodesy.geopackages import stop_clock
from pipelines.layers.polygons.parts import BOUNDS, GEOMETRY, row_groups
from pipelines.storage.copies import named_for_gdal

DRIVERS = {"gpkg": "GPKG", "fgb": "FlatGeobuf"}
LAYER_NAME = "polygons"
# By this GDAL knows the column of geometry.
_WKB = {"ARROW:extension:name": "ogc.wkb"}


def write_features(
    path: str, kind: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], crs_wkt: str
) -> None:
    """Write polygons to a file with an index.

    Args:
        path: File of this machine.
        kind: A key of `DRIVERS`.
        schema: Columns of the rows: those of parts, or more.
        batches: Rows, in order.
        crs_wkt: The CRS as WKT; empty if there is none.
    """
    columns = pa.schema(
        field.with_metadata(_WKB) if field.name == GEOMETRY else field
        for field in schema
        if field.name not in BOUNDS
    )
    faults: list[Exception] = []

    def rows() -> Iterator[pa.RecordBatch]:
        try:
            # GDAL ends a transaction with each batch, and other ones make other bytes.
            for table in row_groups(batches):
                yield from table.select(columns.names).cast(columns).combine_chunks().to_batches()
        except Exception as error:
            faults.append(error)
            raise

    stop_clock()
    try:
        with named_for_gdal(path, kind) as file:
            write_arrow(
                pa.RecordBatchReader.from_batches(columns, rows()),
                file,
                layer=LAYER_NAME,
                driver=DRIVERS[kind],
                geometry_type="Polygon",
                crs=crs_wkt or None,
            )
    except RuntimeError as error:
        # Of an error in its input GDAL does not say what it was.
        raise (faults[0] if faults else error) from None
