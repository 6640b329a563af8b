"""Components of a scene from pieces in its blocks, joined over their seams.

In memory are the pieces and the seams, and the corners of some components at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.layers.polygons.components import joined
from pipelines.layers.tracing.blocks import SIDES, Heads, Pieces
from pipelines.layers.tracing.trace_files import TraceFiles, read_corners, read_pieces
from segmodel.errors import DamagedError
from segmodel.tiling.windows import Window


@dataclass(frozen=True)
class JoinedPieces:
    """Components that are more than one block has, by their first pixels.

    Args:
        windows: Blocks of the scene, row by row.
        files: Files of each.
        heads: What is known of each component.
        counts: `(components,)` corners of each.
        of_piece: `(pieces,)` component of each piece; pieces are in order of their blocks.
        ends: `(blocks + 1,)` piece with which each block begins, and the end of the last.
        piece_counts: `(pieces,)` corners of each piece.
    """

    windows: Sequence[Window]
    files: Sequence[TraceFiles]
    heads: Heads
    counts: np.ndarray
    of_piece: np.ndarray
    ends: np.ndarray
    piece_counts: np.ndarray

    @classmethod
    def of(cls, windows: Sequence[Window], files: Sequence[TraceFiles]) -> "JoinedPieces":
        """Join the pieces of a scene.

        Args:
            windows: Blocks that cover the scene in rows of blocks, row by row.
            files: Files of each.

        Raises:
            DamagedError: If blocks do not fit each other.
        """
        across = sum(window.row == windows[0].row for window in windows)
        blocks = [read_pieces(file.pieces) for file in files]
        ends = np.cumsum([0, *(len(block.counts) for block in blocks)])
        pieces = _concatenated([block.heads for block in blocks])
        piece_counts = np.concatenate([block.counts for block in blocks])
        of_piece = joined(len(pieces.first), *_pairs(blocks, ends, across))
        by_component = np.lexsort((pieces.first, of_piece))
        _, starts = np.unique(of_piece[by_component], return_index=True)
        heads = pieces.select(by_component[starts])
        measures, counts = (
            np.add.reduceat(values[by_component], starts) if len(starts) else values
            for values in (pieces.measures, piece_counts)
        )
        order = np.argsort(heads.first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        heads = Heads(heads.first, heads.labels, measures).select(order)
        return cls(windows, files, heads, counts[order], rank[of_piece], ends, piece_counts)

    def groups(self, max_corners: int) -> Iterator[tuple[int, int]]:
        """First and last component, plus one, of groups in order.

        A group has at most `max_corners` corners, or is one component.
        """
        begin = total = 0
        for number, count in enumerate(self.counts.tolist()):
            if total and total + count > max_corners:
                yield begin, number
                begin, total = number, 0
            total += count
        if total:
            yield begin, len(self.counts)

    def corners(
        self, begin: int, end: int, rows: range | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Corners of a group.

        Args:
            begin: Its first component.
            end: Its last component, plus one.
            rows: Rows that blocks need to touch, or None for all blocks.

        Returns:
            Component and key of each corner, row by row.
        """
        chosen = np.flatnonzero((self.of_piece >= begin) & (self.of_piece < end))
        blocks = np.searchsorted(self.ends, chosen, "right") - 1
        of, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for block in np.unique(blocks).tolist():
            window = self.windows[block]
            if rows and (window.row >= rows.stop or window.row + window.height < rows.start):
                continue
            first, last = self.ends[block], self.ends[block + 1]
            counts = self.piece_counts[first:last]
            begins = np.cumsum(counts) - counts
            own = chosen[blocks == block]
            at = own - first
            of.append(np.repeat(self.of_piece[own], counts[at]))
            keys += read_corners(self.files[block].corners, begins[at], counts[at])
        corners = np.concatenate(keys)
        order = np.argsort(corners)
        return np.concatenate(of)[order], corners[order]


def _concatenated(heads: Sequence[Heads]) -> Heads:
    return Heads(
        np.concatenate([head.first for head in heads]),
        np.concatenate([head.labels for head in heads]),
        np.concatenate([head.measures for head in heads]),
    )


def _pairs(
    blocks: Sequence[Pieces], ends: np.ndarray, across: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pieces that meet at a seam, two by two."""
    top, left, bottom, right = range(len(SIDES))
    beside = [(n, n + 1, right, left) for n in range(len(blocks)) if (n + 1) % across]
    below = [(n, n + across, bottom, top) for n in range(len(blocks) - across)]
    lefts, rights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for one, other, side, other_side in beside + below:
        own, beyond = blocks[one].seams[side], blocks[other].seams[other_side]
        if len(own) != len(beyond):
            raise DamagedError(
                "blocks of a label map do not fit each other: run the same command again"
            )
        lefts.append(own + ends[one])
        rights.append(beyond + ends[other])
    return np.concatenate(lefts), np.concatenate(rights)
