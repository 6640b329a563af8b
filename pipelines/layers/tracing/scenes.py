"""All polygons of a scene, from the files of its blocks, by their first pixels."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from affine import Affine

from pipelines.layers.polygons.rings import rings_of
from pipelines.layers.tracing.blocks import unpacked
from pipelines.layers.tracing.cells import parts_of
from pipelines.layers.tracing.joins import JoinedPieces
from pipelines.layers.tracing.trace_files import (
    TraceFiles,
    polygon_rows,
    read_rows,
)
from segmodel.tiling.windows import Window

_ROWS = 1024
# Corners that are sorted at once.
_GROUP_CORNERS = 1_000_000


def scene_polygons(
    windows: Sequence[Window],
    files: Sequence[TraceFiles],
    size: tuple[int, int],
    transform: Affine,
    max_corners: int,
) -> Iterator[pa.RecordBatch]:
    """Rows of all polygons of a scene, by their first pixels and then by their parts.

    Args:
        windows: Its blocks, row by row.
        files: Files of each.
        size: Rows and columns of the scene.
        transform: Pixels to coordinates of the scene.
        max_corners: Most corners of a polygon.

    Raises:
        DamagedError: If blocks do not fit each other.
    """
    pieces = JoinedPieces.of(windows, files)
    tops = sorted({window.row for window in windows})
    bands = [
        [read_rows(f.polygons) for w, f in zip(windows, files, strict=True) if w.row == top]
        for top in tops
    ]
    finished = (batch for band in bands for batch in merged(band))
    yield from merged([finished, _joined_polygons(pieces, size, transform, max_corners)])


def merged(streams: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Rows of several streams by `first`, each of which has them so; equal ones stay together.

    Of each stream, one batch is in memory.
    """
    held: dict[int, pa.RecordBatch] = {}
    for number, stream in enumerate(streams):
        if (batch := _next(stream)) is not None:
            held[number] = batch
    while held:
        # What comes later of any stream does not come before the last of the batch at hand.
        limit = min(batch["first"][-1].as_py() for batch in held.values())
        ready = []
        for number, batch in list(held.items()):
            count = int(np.searchsorted(batch["first"].to_numpy(), limit, "right"))
            ready.append(batch.slice(0, count))
            rest = batch.slice(count) if count < len(batch) else _next(streams[number])
            if rest is None:
                del held[number]
            else:
                held[number] = rest
        table = pa.Table.from_batches(ready)
        order = np.argsort(table["first"].to_numpy(), kind="stable")
        yield from table.take(order).combine_chunks().to_batches()


def _next(stream: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next((batch for batch in stream if len(batch)), None)


def _joined_polygons(
    pieces: JoinedPieces, size: tuple[int, int], transform: Affine, max_corners: int
) -> Iterator[pa.RecordBatch]:
    """Rows of the components that more than one block has, or that have too many corners."""
    for begin, end in pieces.groups(min(max_corners, _GROUP_CORNERS)):
        if pieces.counts[begin] > max_corners:
            yield from _parts(pieces, begin, size, transform, max_corners)
            continue
        of, keys = pieces.corners(begin, end)
        shapes = rings_of(of, *unpacked(keys, size[1])).geometries(transform)
        heads = pieces.heads.select(np.arange(begin, end))
        rows = polygon_rows(heads, np.zeros(end - begin, np.int32), shapes)
        yield from (rows.slice(start, _ROWS) for start in range(0, len(rows), _ROWS))


def _parts(
    pieces: JoinedPieces, component: int, size: tuple[int, int], transform: Affine, max_corners: int
) -> Iterator[pa.RecordBatch]:
    """Rows of the parts of a component."""

    def corners_in(rows: range) -> np.ndarray:
        return pieces.corners(component, component + 1, rows)[1]

    top = int(pieces.heads.first[component]) // size[1]
    count = 0
    for shapes in parts_of(corners_in, size, top, transform, max_corners):
        heads = pieces.heads.select(np.full(len(shapes), component))
        rows = polygon_rows(heads, np.arange(count, count + len(shapes)), shapes)
        count += len(shapes)
        yield from (rows.slice(start, _ROWS) for start in range(0, len(rows), _ROWS))
