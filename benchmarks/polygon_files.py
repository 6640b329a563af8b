"""How does the memory of files of polygons grow with the polygons?

    python benchmarks/polygon_files.py --polygons 100000,1000000

Octagons of eleven columns are written to each kind of file, as `beamseg layers --polygons` writes
them; `none` makes them and writes nothing. Each in a process of its own: time, and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely
from comparison import in_process
from pyproj import CRS

from pipelines.layers.options import POLYGON_KINDS
from pipelines.layers.polygons.feature_files import write_features
from pipelines.layers.polygons.geojson import write_geojson
from pipelines.layers.polygons.geoparquet import write_geoparquet
from pipelines.layers.polygons.parts import PARTS, with_geometry
from segmodel.savedmodel.memory import peak_bytes

BATCH, ACROSS = 10_000, 1000
UTM = CRS("EPSG:32633").to_wkt()
SCENE = "scenes/2024/tile_0001.tif"


def octagons(count: int) -> Iterator[pa.RecordBatch]:
    """Rows of parts."""
    for start in range(0, count, BATCH):
        number = np.arange(start, min(count, start + BATCH))
        row, column = np.divmod(number, ACROSS)
        places = shapely.points(400_000 + 10 * column, 5_000_000 - 10 * row)
        columns = {
            "scene": [SCENE] * len(number),
            "component": [f"{SCENE}#{y},{x}" for y, x in zip(row, column, strict=True)],
            "part": np.zeros(len(number)),
            "class_id": number % 5,
            "class": [f"class {one}" for one in number % 5],
            "pixels": number,
            "area_m2": number / 7,
            "confidence": number / count,
        }
        empty = {field.name: pa.nulls(len(number), field.type) for field in PARTS}
        arrays = empty | {name: pa.array(values) for name, values in columns.items()}
        typed = [arrays[field.name].cast(field.type) for field in PARTS]
        table = pa.Table.from_arrays(typed, schema=PARTS)
        shapes = shapely.buffer(places, 4, quad_segs=2)
        yield from with_geometry(table, shapes).combine_chunks().to_batches()


def write(kind: str, path: str, count: int) -> None:
    if kind == "parquet":
        write_geoparquet(path, PARTS, octagons(count), UTM)
    elif kind == "geojson":
        write_geojson(path, PARTS, octagons(count), UTM)
    elif kind == "none":
        assert sum(len(batch) for batch in octagons(count)) == count
    else:
        write_features(path, kind, PARTS, octagons(count), UTM)


def measure(kind: str, count: int) -> list[float]:
    """Seconds and bytes at the peak, in a process of its own."""
    found: list[float] = in_process(__file__, kind, count)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polygons", default="100000,1000000", help="how many, fewest first")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.peak:
        kind, count = parsed.peak
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            write(kind, str(Path(folder, "polygons")), int(count))
        print(json.dumps([time.perf_counter() - started, peak_bytes()]))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    counts = [int(count) for count in parsed.polygons.split(",")]
    for kind in ("none", *POLYGON_KINDS):
        found = [measure(kind, count) for count in counts]
        for count, (seconds, peak) in zip(counts, found, strict=True):
            print(f"{kind}: {count:,} polygons, {seconds:.1f} s, peak {peak / 2**20:.0f} MiB")
        growth = (found[-1][1] - found[0][1]) / max(1, counts[-1] - counts[0])
        print(f"{kind}: {growth:.0f} bytes of memory a polygon", flush=True)


if __name__ == "__main__":
    main()
