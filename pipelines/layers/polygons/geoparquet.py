"""GeoParquet 1.1: parts of it can be read by place, as each row and each group has its bounds.

Rows come as they are given, so that the same rows give the same bytes: scene after scene, and in a
scene by the first pixel of each component in row order. A group of rows is a strip of a scene.

Source: https://geoparquet.org/releases/v1.1.0/.
"""

import json
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyproj import CRS

from pipelines.layers.polygons.parts import BOUNDS, GEOMETRY, row_groups

BOX_SIDES = ("xmin", "ymin", "xmax", "ymax")
_REPEATED = ["scene", "class_id", "class"]


def write_geoparquet(
    path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], crs_wkt: str
) -> None:
    """Write polygons to a file; memory is that of one group of rows.

    Args:
        path: File of this machine.
        schema: Columns of the rows: those of parts, or more.
        batches: Rows, in order.
        crs_wkt: The CRS as WKT; empty if there is none.
    """
    others = [field for field in schema if field.name not in BOUNDS]
    bbox = pa.struct([(side, pa.float64()) for side in BOX_SIDES])
    columns = pa.schema([*others, pa.field("bbox", bbox)])
    measured = [field.name for field in others if field.name != GEOMETRY]
    bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
    writer = pq.ParquetWriter(
        path,
        columns,
        compression="zstd",
        use_dictionary=_REPEATED,
        write_statistics=[*measured, *(f"bbox.{side}" for side in BOX_SIDES)],
        write_page_index=True,
    )
    with closing(writer):
        for table in row_groups(batches):
            sides = [table[name].combine_chunks() for name in BOUNDS]
            rows = pa.table(
                [
                    *(table[field.name] for field in others),
                    pa.StructArray.from_arrays(sides, BOX_SIDES),
                ],
                schema=columns,
            )
            writer.write_table(rows, row_group_size=rows.num_rows)
            low, high = np.array([[pc.min(side).as_py(), pc.max(side).as_py()] for side in sides]).T
            bounds[:2] = np.minimum(bounds[:2], low[:2])
            bounds[2:] = np.maximum(bounds[2:], high[2:])
        writer.add_key_value_metadata({"geo": json.dumps(_geo(crs_wkt, bounds))})


def _geo(crs_wkt: str, bounds: np.ndarray) -> dict[str, Any]:
    """What the file says of its geometry."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": CRS.from_wkt(crs_wkt).to_json_dict() if crs_wkt else None,
        "covering": {"bbox": {side: ["bbox", side] for side in BOX_SIDES}},
    }
    if np.isfinite(bounds).all():
        column["bbox"] = bounds.tolist()
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
