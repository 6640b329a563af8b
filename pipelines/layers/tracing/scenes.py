"""All polygons of a scene, from the files of its blocks, by their first pixels."""

import math
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from affine import Affine

from pipelines.layers.polygons.rings import rings_of
from pipelines.layers.tracing.blocks import unpacked
from pipelines.layers.tracing.cells import parts_of
from pipelines.layers.tracing.joins import JoinedPieces
from pipelines.layers.tracing.trace_files import (
    POLYGONS,
    TraceFiles,
    polygon_rows,
    read_rows,
)
from segmodel.tiling.windows import Window

_ROWS = 1024
# Corners that are sorted at once.
_GROUP_CORNERS = 200_000


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
    streams = [(0, _joined_polygons(pieces, size, transform, max_corners))]
    for window, file in zip(windows, files, strict=True):
        streams.append((window.row * size[1], read_rows(file.polygons)))
    yield from merged(streams)


def merged(streams: Sequence[tuple[int, Iterator[pa.RecordBatch]]]) -> Iterator[pa.RecordBatch]:
    """Rows of several streams by `first`, each of which has them so; equal ones stay together.

    Of each stream that has begun, one batch is in memory.

    Args:
        streams: Streams in the order in which they begin, each with a number that none of its
            rows comes before.
    """
    waiting, held = deque(streams), list[_Held]()
    while waiting or held:
        # What comes later of any stream does not come before the last row of the batch at hand.
        limit = min((batch.last for batch in held), default=math.inf)
        while waiting and waiting[0][0] <= limit:
            batch = _Held(waiting.popleft()[1])
            if batch.advance(0):
                held.append(batch)
                limit = min(limit, batch.last)
        ready = [rows for batch in held if len(rows := batch.until(limit))]
        held = [batch for batch in held if batch.advance(limit)]
        if len(ready) == 1:
            yield ready[0]
        elif ready:
            table = pa.Table.from_batches(ready).combine_chunks()
            order = np.argsort(table["first"].to_numpy(), kind="stable")
            yield from table.take(order).to_batches()


class _Held:
    """A batch of a stream.

    Args:
        stream: Batches.
    """

    def __init__(self, stream: Iterator[pa.RecordBatch]) -> None:
        self._stream = stream
        self._rows = pa.RecordBatch.from_pylist([], POLYGONS)

    @property
    def last(self) -> int:
        """The greatest `first` of the batch."""
        return int(self._rows["first"][-1].as_py())

    def until(self, limit: float) -> pa.RecordBatch:
        """Rows up to a `first`."""
        count = np.searchsorted(self._rows["first"].to_numpy(), limit, "right")
        return self._rows.slice(0, int(count))

    def advance(self, limit: float) -> bool:
        """Pass over rows up to a `first`; whether there are more."""
        self._rows = self._rows.slice(len(self.until(limit)))
        while not len(self._rows):
            batch = next(self._stream, None)
            if batch is None:
                return False
            self._rows = batch
        return True


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
