"""What tracing a block writes for its scene: polygons that are finished, and pieces of others.

Three Arrow files. Each has batches of bounded size, so that a scene reads a part of it at a time.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import shapely

from pipelines.layers.polygons.measures import MEASURES
from pipelines.layers.tracing.blocks import SIDES, Heads, Pieces

POLYGONS = pa.schema(
    [
        ("first", pa.int64()),
        ("part", pa.int32()),
        ("label", pa.int32()),
        *((name, pa.int64()) for name in MEASURES),
        ("geometry", pa.binary()),
        *((name, pa.float64()) for name in ("minx", "miny", "maxx", "maxy")),
    ]
)
# Of pieces there is one row, a list in each column.
_PIECES = pa.schema(
    (name, pa.list_(pa.int64())) for name in ("first", "labels", *MEASURES, "counts", *SIDES)
)
_CORNERS = pa.schema([("key", pa.int64())])
_BATCH_ROWS, _BATCH_CORNERS = 128, 1 << 16
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


class TraceFiles(NamedTuple):
    """Paths of the files of a block."""

    polygons: str
    pieces: str
    corners: str

    @classmethod
    def of(cls, unit_id: str) -> "TraceFiles":
        """Names of the files of a unit.

        >>> TraceFiles.of("trace-a").pieces
        'trace-a.pieces.arrow'
        """
        return cls(*(f"{unit_id}.{name}.arrow" for name in cls._fields))


def polygon_rows(heads: Heads, parts: np.ndarray, shapes: np.ndarray) -> pa.RecordBatch:
    """Rows of polygons.

    Args:
        heads: What is known of their components.
        parts: `(n,)` number of each polygon in its component.
        shapes: `(n,)` polygons of shapely in coordinates of the scene.
    """
    geometry = pa.array(shapely.to_wkb(shapes, byte_order=1), pa.binary())
    columns = [heads.first, parts, heads.labels, *heads.measures.T]
    bounds = list(shapely.bounds(shapes).T)
    arrays = [*map(pa.array, columns), geometry, *map(pa.array, bounds)]
    typed = [array.cast(kind) for array, kind in zip(arrays, POLYGONS.types, strict=True)]
    return pa.RecordBatch.from_arrays(typed, schema=POLYGONS)


def write_rows(path: str, rows: pa.RecordBatch) -> None:
    """Write the polygons that are finished, by their first pixels."""
    starts = range(0, len(rows), _BATCH_ROWS)
    write_batches(path, POLYGONS, (rows.slice(start, _BATCH_ROWS) for start in starts))


def read_rows(path: str) -> Iterator[pa.RecordBatch]:
    """Those polygons, some at a time."""
    with closing(pa.OSFile(path)) as file, pa.ipc.open_file(file) as reader:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def write_pieces(path: str, pieces: Pieces) -> None:
    """Write the pieces of a block, but for their corners."""
    heads = pieces.heads
    lists = [heads.first, heads.labels, *heads.measures.T, pieces.counts, *pieces.seams]
    row = [pa.array([values], kind) for values, kind in zip(lists, _PIECES.types, strict=True)]
    write_batches(path, _PIECES, [pa.RecordBatch.from_arrays(row, schema=_PIECES)])


def read_pieces(path: str) -> Pieces:
    """Those pieces, without corners."""
    (batch,) = read_rows(path)
    first, labels, *others = (column[0].values.to_numpy() for column in batch.columns)
    *measures, counts = others[: len(MEASURES) + 1]
    heads = Heads(first, labels.astype(np.int32), np.stack(measures, axis=1))
    return Pieces(heads, counts, np.zeros(0, np.int64), tuple(others[len(MEASURES) + 1 :]))


def write_corners(path: str, keys: np.ndarray) -> None:
    """Write corners of pieces, piece after piece."""
    starts = range(0, len(keys), _BATCH_CORNERS)
    parts = (pa.array(keys[start : start + _BATCH_CORNERS]) for start in starts)
    write_batches(
        path, _CORNERS, (pa.RecordBatch.from_arrays([part], schema=_CORNERS) for part in parts)
    )


def read_corners(path: str, begins: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Corners of some pieces.

    Args:
        path: File of corners.
        begins: Index of the first corner of each piece; ascending.
        counts: Number of its corners.
    """
    with closing(pa.OSFile(path)) as file, pa.ipc.open_file(file) as reader:
        number, batch = -1, np.zeros(0, np.int64)
        found = []
        for begin, count in zip(begins.tolist(), counts.tolist(), strict=True):
            parts, end = [batch[:0]], begin + count
            while begin < end:
                if begin // _BATCH_CORNERS != number:
                    number = begin // _BATCH_CORNERS
                    batch = reader.get_batch(number).column(0).to_numpy()
                start = begin - number * _BATCH_CORNERS
                parts.append(batch[start : start + end - begin])
                begin += len(parts[-1])
            found.append(np.concatenate(parts))
    return found


def write_batches(path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write an Arrow file, which `read_rows` reads."""
    with (
        closing(pa.OSFile(path, "wb")) as file,
        pa.ipc.new_file(file, schema, options=_OPTIONS) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
