"""`items.parquet`: all items of a catalogue in one table, as stac-geoparquet lays it out."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import shapely.geometry

from pipelines.layers.generalized.generalize import MAPS

ROWS_AT_ONCE = 1000  # in a row group
SIDES = ("xmin", "ymin", "xmax", "ymax")
_TIMES = ("datetime", "start_datetime", "end_datetime")
_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_NUMBERS, _COUNTS = pa.list_(pa.float64()), pa.list_(pa.int64())
_CLASS = pa.struct(
    {
        "value": pa.int64(),
        "name": _TEXT,
        "title": _TEXT,
        "color_hint": _TEXT,
        "nodata": pa.bool_(),
        "count": pa.int64(),
        "percentage": pa.float64(),
    }
)
# Of all files of an item, and what more some have.
_FILE = {"href": _TEXT, "title": _TEXT, "type": _TEXT, "roles": _TEXTS}
_CHECKS = {"file:size": pa.int64(), "file:checksum": _TEXT}
_SHARE = {"data_type": _TEXT, "raster:scale": pa.float64()}
_LABELS = {
    "data_type": _TEXT,
    "nodata": pa.int64(),
    "classification:classes": pa.list_(_CLASS),
}
_ASSETS = {
    "labels": _LABELS,
    MAPS: _LABELS,
    "confidence": _SHARE,
    "probabilities": _SHARE | {"bands": pa.list_(pa.struct({"name": _TEXT}))},
}


def items_schema(assets: Sequence[str], software: Iterable[str]) -> pa.Schema:
    """Columns of the table.

    Args:
        assets: Names of the files that items have.
        software: Names of the programs of `processing:software`.

    Source: stac-geoparquet 1.1.0 and GeoParquet 1.1.0.
    """
    files = {name: pa.struct(_FILE | _ASSETS.get(name, {}) | _CHECKS) for name in assets}
    link = pa.struct(dict.fromkeys(("rel", "href", "type", "title"), _TEXT))
    return pa.schema(
        {
            "id": _TEXT,
            "collection": _TEXT,
            "stac_version": _TEXT,
            "stac_extensions": _TEXTS,
            "geometry": pa.binary(),
            "bbox": pa.struct(dict.fromkeys(SIDES, pa.float64())),
            "links": pa.list_(link),
            "assets": pa.struct(files),
            "title": _TEXT,
            **dict.fromkeys(_TIMES, pa.timestamp("us", "UTC")),
            "gsd": pa.float64(),
            "proj:code": _TEXT,
            "proj:wkt2": _TEXT,
            "proj:shape": _COUNTS,
            "proj:transform": _NUMBERS,
            "proj:bbox": _NUMBERS,
            "processing:lineage": _TEXT,
            "processing:software": pa.struct(dict.fromkeys(software, _TEXT)),
        }
    )


def write_items(
    path: str,
    items: Iterable[Mapping[str, Any]],
    schema: pa.Schema,
    collection: Callable[[], Mapping[str, Any]],
) -> None:
    """Write the table, a row for each item, in row groups of `ROWS_AT_ONCE`.

    Args:
        path: File of this machine to write.
        items: Items in order; streamed.
        schema: See `items_schema`.
        collection: Gives the collection of the items, once all are written.
    """
    rows, kinds = iter(items), set[str]()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := [_row(item, kinds) for item in islice(rows, ROWS_AT_ONCE)]:
            writer.write_table(pa.Table.from_pylist(group, schema))
        writer.add_key_value_metadata(dict(_metadata(collection(), kinds)))


def _row(item: Mapping[str, Any], kinds: set[str]) -> dict[str, Any]:
    """An item as a row; the kind of its geometry is added to those that were found."""
    geometry, box = item["geometry"], item.get("bbox")
    if geometry is not None:
        kinds.add(geometry["type"])
    own = ("id", "collection", "stac_version", "stac_extensions", "links", "assets")
    properties = item["properties"]
    times = {name: properties.get(name) for name in _TIMES}
    return {
        **{name: item[name] for name in own},
        **properties,
        **{name: time and datetime.fromisoformat(time) for name, time in times.items()},
        "geometry": geometry and shapely.to_wkb(shapely.geometry.shape(geometry)),
        "bbox": box and dict(zip(SIDES, box, strict=True)),
    }


def _metadata(collection: Mapping[str, Any], kinds: set[str]) -> Iterator[tuple[str, str]]:
    geometry = {
        "encoding": "WKB",
        "geometry_types": sorted(kinds),
        "orientation": "counterclockwise",
        "bbox": collection["extent"]["spatial"]["bbox"][0],
        "covering": {"bbox": {side: ["bbox", side] for side in SIDES}},
    }
    columns = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    yield "geo", json.dumps(columns)
    found = {"version": "1.1.0", "collections": {collection["id"]: collection}}
    yield "stac-geoparquet", json.dumps(found)
