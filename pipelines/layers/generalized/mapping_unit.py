"""The minimum mapping unit: a component below it takes the class around it.

It takes the class of large neighbours, those that are not below the unit, that it has the longest
border with; of equals the lower id. Borders are counted in sides of pixels. A component without a
large neighbour stays as it is: what it could take would be below the unit too, and would follow
from components ever further away. Nodata is no class: it neither changes nor is taken.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.layers.polygons.measures import WholeAreas

# Areas are good to 1e-7 at best; a unit of 90 m² must not lose ten pixels of 9 m² to rounding.
_ROUNDING = 1 - 1e-9


@dataclass(frozen=True)
class MappingUnit:
    """The minimum mapping unit of a label map.

    Args:
        areas: Ground areas of the pixels of the label map.
        square_metres: Area of the unit in m².
    """

    areas: WholeAreas
    square_metres: float

    def is_large(self, sums: np.ndarray) -> np.ndarray:
        """Whether components are not below the unit, `(components,)` bool.

        Args:
            sums: `(components, 2)` area of each as `WholeAreas` has them.
        """
        return self.areas.square_metres(sums) >= self.square_metres * _ROUNDING


def borders_between(
    ids: np.ndarray, is_owner: np.ndarray, is_neighbour: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Owner and neighbour at each side of a pixel that some components have in common.

    Args:
        ids: `(height, width)` number of the component of each pixel.
        is_owner: `(components,)` bool, whose borders are asked for.
        is_neighbour: `(components,)` bool, with which others.
    """
    found = []
    for before, after in ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:])):
        differs = before != after
        first, second = before[differs], after[differs]
        for owners, others in ((first, second), (second, first)):
            kept = is_owner[owners] & is_neighbour[others]
            found.append((owners[kept], others[kept]))
    owners, others = (np.concatenate(values) for values in zip(*found, strict=True))
    return owners, others


def pairs_with_counts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How often each pair of numbers occurs: `(3, pairs)` int64 first, second and count.

    >>> pairs_with_counts(np.array([2, 0, 2]), np.array([1, 5, 1])).tolist()
    [[0, 2], [5, 1], [1, 2]]
    """
    base = int(second.max(initial=0)) + 1
    keys, counts = np.unique(first.astype(np.int64) * base + second, return_counts=True)
    return np.stack([keys // base, keys % base, counts])


def longest(
    owners: np.ndarray, classes: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The class that each of some components has the longest border with.

    Args:
        owners: `(borders,)` component.
        classes: `(borders,)` class that it has a border with; a pair may occur several times.
        lengths: `(borders,)` int64 length in sides of pixels.

    Returns:
        `(components,)` number of each, in order, and its class; of equals the lower.

    >>> owners, classes, lengths = np.array([[4, 4, 4, 7], [3, 1, 3, 2], [2, 3, 1, 9]])
    >>> [values.tolist() for values in longest(owners, classes, lengths)]
    [[4, 7], [1, 2]]
    """
    base = int(classes.max(initial=0)) + 1
    keys, of_key = np.unique(owners.astype(np.int64) * base + classes, return_inverse=True)
    owners, classes = keys // base, keys % base
    totals = np.bincount(of_key, lengths, len(keys))
    order = np.lexsort((classes, -totals, owners))
    owners, first = np.unique(owners[order], return_index=True)
    return owners, classes[order][first]
