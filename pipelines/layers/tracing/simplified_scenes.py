"""Simplified polygons of a scene, from those of its blocks, by the first pixels of components."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import shapely
from affine import Affine

from pipelines.layers.polygons.parts import GEOMETRY, polygons_of
from pipelines.layers.polygons.simplified import dissolved
from pipelines.layers.tracing.joins import JoinedPieces
from pipelines.layers.tracing.scenes import merged
from pipelines.layers.tracing.trace_files import TraceFiles, read_pieces, read_rows
from segmodel.tiling.windows import Window

DRIFT_M2 = "drift_m2"
# Of a block, `first` is the first pixel of each piece, counted row by row in the whole label map,
# and polygons are in pixels of it. Of a scene it is that of a component, and they have coordinates.
SIMPLIFIED = pa.schema(
    [("first", pa.int64()), ("part", pa.int32()), (DRIFT_M2, pa.float64()), (GEOMETRY, pa.binary())]
)
_ROWS = 512
# Corners of the components that are joined at once.
_GROUP_CORNERS = 1_000_000


def simplified_rows(
    first: np.ndarray, parts: np.ndarray, drift_m2: np.ndarray, shapes: np.ndarray
) -> Iterator[pa.RecordBatch]:
    """Rows of `SIMPLIFIED`, some at a time.

    Args:
        first: `(n,)` first pixel of each.
        parts: `(n,)` number of each polygon in its component.
        drift_m2: `(n,)` how much its ground area grew; NaN without ground, which becomes null.
        shapes: `(n,)` polygons.
    """
    columns = [
        pa.array(first, pa.int64()),
        pa.array(parts, pa.int32()),
        pa.array(drift_m2, pa.float64(), from_pandas=True),
        pa.array(shapely.to_wkb(shapes, byte_order=1), pa.binary()),
    ]
    rows = pa.RecordBatch.from_arrays(columns, schema=SIMPLIFIED)
    return (rows.slice(start, _ROWS) for start in range(0, len(rows), _ROWS))


def simplified_scene(
    windows: Sequence[Window],
    traced: Sequence[TraceFiles],
    simplified: Sequence[str],
    grid: tuple[int, Affine],
    max_corners: int,
) -> Iterator[pa.RecordBatch]:
    """Rows of all components of a scene, by their first pixels and then by their parts.

    Args:
        windows: Its blocks, row by row.
        traced: What tracing each block has written, of which pieces are read.
        simplified: Paths of the rows of each block.
        grid: Columns of the scene, and its transform from pixels to coordinates.
        max_corners: Most corners of a component that is one polygon; its pieces stay apart if it
            has more.

    Yields:
        Rows of `SIMPLIFIED`.

    Raises:
        DamagedError: If blocks do not fit each other.
    """
    width, transform = grid
    scene = _Scene(JoinedPieces.of(windows, traced), simplified, transform)
    streams = [(0, scene.joined(max_corners))]
    for block, window in enumerate(windows):
        streams.append((window.row * width, scene.finished(block)))
    yield from merged(streams)


class _Scene:
    """Simplified polygons of the blocks of a scene.

    Args:
        pieces: Components that more than one block has.
        paths: Rows of each block.
        transform: From pixels to coordinates.
    """

    def __init__(self, pieces: JoinedPieces, paths: Sequence[str], transform: Affine) -> None:
        self._pieces, self._paths, self._transform = pieces, paths, transform
        self._firsts = [read_pieces(files.pieces).heads.first for files in pieces.files]

    def finished(self, block: int) -> Iterator[pa.RecordBatch]:
        """Rows of the components that a block alone has."""
        for batch in read_rows(self._paths[block]):
            rows = _filtered(batch, self._firsts[block], is_among=False)
            first, drift = rows["first"].to_numpy(), _drift_of(rows)
            parts, shapes = np.zeros(len(rows), np.int32), self._placed(polygons_of(rows))
            yield from simplified_rows(first, parts, drift, shapes)

    def joined(self, max_corners: int) -> Iterator[pa.RecordBatch]:
        """Rows of the components that more than one block has, or that have too many corners."""
        pieces = self._pieces
        for begin, end in pieces.groups(min(max_corners, _GROUP_CORNERS)):
            of, rows = self._rows_of(begin, end)
            drift, shapes = np.bincount(of, _drift_of(rows), end - begin), polygons_of(rows)
            first, parts = pieces.heads.first[begin:end], np.zeros(end - begin, np.int32)
            if pieces.counts[begin] > max_corners:
                parts = np.arange(len(rows), dtype=np.int32)
                first, drift = (np.repeat(one, len(rows)) for one in (first, drift))
            else:
                shapes = dissolved(of, shapes)
            yield from simplified_rows(first, parts, drift, self._placed(shapes))

    def _rows_of(self, begin: int, end: int) -> tuple[np.ndarray, pa.Table]:
        """Component of each piece of some components, counted from the first one, and its row."""
        pieces = self._pieces
        chosen = np.flatnonzero((pieces.of_piece >= begin) & (pieces.of_piece < end))
        blocks = np.searchsorted(pieces.ends, chosen, "right") - 1
        found = []
        for block in np.unique(blocks).tolist():
            wanted = self._firsts[block][chosen[blocks == block] - pieces.ends[block]]
            found += [_filtered(batch, wanted) for batch in read_rows(self._paths[block])]
        return pieces.of_piece[chosen] - begin, pa.Table.from_batches(found)

    def _placed(self, shapes: np.ndarray) -> np.ndarray:
        """Polygons with coordinates in place of pixels; shells are counterclockwise."""
        a, b, c, d, e, f = tuple(self._transform)[:6]

        def coordinates(points: np.ndarray) -> np.ndarray:
            columns, rows = points.T
            return np.stack([a * columns + b * rows + c, d * columns + e * rows + f], axis=-1)

        return np.asarray(shapely.orient_polygons(shapely.transform(shapes, coordinates)))


def _filtered(batch: pa.RecordBatch, firsts: np.ndarray, is_among: bool = True) -> pa.RecordBatch:
    """Rows whose first pixel is among some, or is not."""
    return batch.filter(pa.array(np.isin(batch["first"].to_numpy(), firsts) == is_among))


def _drift_of(rows: pa.RecordBatch | pa.Table) -> np.ndarray:
    return np.asarray(rows[DRIFT_M2].to_numpy(zero_copy_only=False))
