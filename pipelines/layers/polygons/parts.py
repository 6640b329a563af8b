"""Tables of polygons: what stages hand to each other, and what files for others are made of.

A row is a polygon. A component of a label map is one row, or several above the limit of vertices,
which then share their id.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

GEOMETRY = "geometry"
BOUNDS = ("minx", "miny", "maxx", "maxy")
PARTS = pa.schema(
    [
        ("scene", pa.string()),  # key of the scene
        ("component", pa.string()),  # scene, row and column of the first pixel in row order
        ("part", pa.int32()),
        ("class_id", pa.int32()),
        ("class", pa.string()),
        ("pixels", pa.int64()),  # of the whole component, as the two that follow
        ("area_m2", pa.float64()),  # null without ground
        ("confidence", pa.float64()),  # mean; null where the run has none
        (GEOMETRY, pa.binary()),  # WKB of a polygon in coordinates of the scene's CRS
        *((name, pa.float64()) for name in BOUNDS),
    ]
)
# What of a table is held in memory and written at once.
GROUP_ROWS, GROUP_BYTES = 16_384, 32 << 20


def with_geometry(table: pa.Table, polygons: np.ndarray) -> pa.Table:
    """A table of parts with other polygons, and the bounds that they have.

    Args:
        table: Rows of parts; those columns are appended that are missing.
        polygons: A polygon for each row.
    """
    columns = {GEOMETRY: pa.array(shapely.to_wkb(polygons, byte_order=1), pa.binary())}
    columns |= dict(zip(BOUNDS, map(pa.array, shapely.bounds(polygons).T), strict=True))
    for name, column in columns.items():
        place = table.schema.get_field_index(name)
        if place < 0:
            table = table.append_column(name, column)
        else:
            table = table.set_column(place, name, column)
    return table


def polygons_of(table: pa.Table | pa.RecordBatch) -> np.ndarray:
    """The polygons of rows of parts, `(n,)` shapely geometries."""
    return np.asarray(shapely.from_wkb(table[GEOMETRY].to_numpy(zero_copy_only=False)))


def row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows in tables of bounded size, which do not depend on how they came.

    Args:
        batches: Rows of parts.

    Yields:
        Tables of at most `GROUP_ROWS` rows, which have at most `GROUP_BYTES` of geometry if they
        are several.
    """
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        ends = np.cumsum(pc.binary_length(batch[GEOMETRY]).to_numpy(zero_copy_only=False))
        start = used = 0
        while start < len(ends):
            fitting = int(np.searchsorted(ends, used + GROUP_BYTES - size, side="right"))
            stop = min(fitting, start + GROUP_ROWS - rows)
            stop = max(stop, start if rows else start + 1)
            held.append(batch.slice(start, stop - start))
            rows += stop - start
            size += int(ends[stop - 1]) - used if stop > start else 0
            if stop == len(ends):
                break
            yield pa.Table.from_batches(held)
            held, rows, size = [], 0, 0
            start, used = stop, int(ends[stop - 1]) if stop else 0
    if rows:
        yield pa.Table.from_batches(held)
