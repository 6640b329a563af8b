"""Components of a label map: pixels of one label that hang together by their sides."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


class Components(NamedTuple):
    """The 4-connected components of a label map; nodata is a label like others here.

    Args:
        ids: `(height, width)` int32 number of the component of each pixel; components are numbered
            by their first pixels, row by row.
        labels: `(components,)` label of each, of the dtype of the label map.
        first: `(components,)` int64 first pixel of each: row times width plus column.
    """

    ids: np.ndarray
    labels: np.ndarray
    first: np.ndarray


def components_of(labels: np.ndarray) -> Components:
    """The components of a label map.

    Args:
        labels: `(height, width)` label map.

    >>> components_of(np.array([[7, 5, 7], [7, 7, 7], [5, 5, 5]])).ids.tolist()
    [[0, 1, 0], [0, 0, 0], [2, 2, 2]]
    """
    starts = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts[:, 1:])
    runs = np.cumsum(starts, dtype=np.int32).reshape(labels.shape)
    runs -= 1
    first = np.flatnonzero(starts)
    # Two runs of consecutive rows hang together where they begin to lie side by side.
    meet = labels[1:] == labels[:-1]
    meet[:, 1:] &= (starts[1:] | starts[:-1])[:, 1:] | ~meet[:, :-1]
    numbers = joined(len(first), runs[:-1][meet], runs[1:][meet])
    # Runs are in order, so that the first of each number has its first pixel.
    _, of_first = np.unique(numbers, return_index=True)
    first = first[of_first]
    return Components(numbers[runs], labels.ravel()[first], first)


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
    _, first, groups = np.unique(groups, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int32)
    place[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return place[groups]
