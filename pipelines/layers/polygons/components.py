"""Components of a label map: pixels of one label that hang together by their sides."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

# What is compared at once: it stays in the cache of a processor, and costs no new memory.
STRIP_ROWS = 64


@dataclass(frozen=True)
class Components:
    """The 4-connected components of a label map; nodata is a label like others here.

    They are numbered by their first pixels, row by row. Pixels are counted in the same order: row
    times width plus column.

    Args:
        shape: Rows and columns of the label map.
        starts: `(runs,)` int64 first pixels of runs of equal labels; a run is part of one row.
        of_run: `(runs,)` int32 component of each run.
        labels: `(components,)` label of each component, of the dtype of the label map.
        first: `(components,)` int64 first pixel of each.
    """

    shape: tuple[int, int]
    starts: np.ndarray
    of_run: np.ndarray
    labels: np.ndarray
    first: np.ndarray

    @cached_property
    def ids(self) -> np.ndarray:
        """`(height, width)` int32 number of the component of each pixel."""
        return np.repeat(self.of_run, self.lengths).reshape(self.shape)

    @cached_property
    def pixels(self) -> np.ndarray:
        """`(components,)` int64 number of pixels of each."""
        return self._by_component(self.lengths)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over the pixels of each component.

        Args:
            values: `(height, width)` whole numbers or bool; sums stay below 2^53.

        Returns:
            `(components,)` int64.
        """
        return self._by_component(np.add.reduceat(values.ravel(), self.starts, dtype=np.int64))

    def at(self, pixels: np.ndarray) -> np.ndarray:
        """The component of each of some pixels; int32."""
        return np.asarray(self.of_run[_runs_at(self.starts, pixels)])

    @cached_property
    def lengths(self) -> np.ndarray:
        """`(runs,)` int64 number of pixels of each run."""
        return np.diff(self.starts, append=self.shape[0] * self.shape[1])

    def _by_component(self, values: np.ndarray) -> np.ndarray:
        # Sums of whole numbers are exact in floating point below 2^53.
        return np.bincount(self.of_run, values, len(self.first)).astype(np.int64)


def components_of(labels: np.ndarray) -> Components:
    """The components of a label map.

    Args:
        labels: `(height, width)` label map; not empty.

    >>> components_of(np.array([[7, 5, 7], [7, 7, 7], [5, 5, 5]])).ids.tolist()
    [[0, 1, 0], [0, 0, 0], [2, 2, 2]]
    """
    height, width = labels.shape
    found, touching = [], []
    for top in range(0, height, STRIP_ROWS):
        strip = labels[top : top + STRIP_ROWS + 1]
        begins = np.ones(strip.shape, bool)
        np.not_equal(strip[:, 1:], strip[:, :-1], out=begins[:, 1:])
        found.append(np.flatnonzero(begins[:STRIP_ROWS]) + top * width)
        # Runs of one label in two rows touch where one of them begins above or below the other.
        touches = (begins[1:] | begins[:-1]) & (strip[1:] == strip[:-1])
        touching.append(np.flatnonzero(touches) + top * width)
    starts, upper = np.concatenate(found), np.concatenate(touching)
    of_run = joined(len(starts), _runs_at(starts, upper), _runs_at(starts, upper + width))
    # Runs are in order, so that the first of each component has its first pixel.
    first = starts[firsts_of(of_run)]
    return Components((height, width), starts, of_run, labels.ravel()[first], first)


def _runs_at(starts: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(np.searchsorted(starts, pixels, "right") - 1)


def joined(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Number of the group of each of some things, of which pairs belong together.

    Args:
        count: How many there are.
        left: `(pairs,)` indices of things.
        right: `(pairs,)` indices of what each belongs to.

    Returns:
        `(count,)` int32; groups are numbered by the first thing of each.

    >>> joined(4, np.array([3]), np.array([1])).tolist()
    [0, 1, 2, 1]
    """
    graph = coo_array((np.ones(len(left), bool), (left, right)), (count, count))
    _, groups = connected_components(graph, directed=False)
    first = firsts_of(groups)
    place = np.empty(len(first), np.int32)
    place[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return np.asarray(place[groups])


def grouped(groups: np.ndarray, count: int) -> np.ndarray:
    """Indices of things, group after group; those of a group stay in order.

    A counting sort: for many things and few groups a multiple faster than `np.argsort`.

    Args:
        groups: `(things,)` number of the group of each.
        count: How many groups there may be.

    >>> grouped(np.array([1, 0, 1, 0]), 2).tolist()
    [1, 3, 0, 2]
    """
    size = len(groups)
    things = csr_array((np.ones(size, bool), groups, np.arange(size + 1)), (size, count))
    return np.asarray(things.tocsc().indices)


def firsts_of(groups: np.ndarray) -> np.ndarray:
    """Index of the first thing of each group.

    Args:
        groups: `(things,)` number of the group of each; none between 0 and the last is left out.

    >>> firsts_of(np.array([1, 0, 1, 0])).tolist()
    [1, 0]
    """
    backwards = np.arange(len(groups) - 1, -1, -1)
    first = np.empty(groups.max(initial=-1) + 1, np.int64)
    # Of what is assigned to one place, the last stays.
    first[groups[backwards]] = backwards
    return first
