"""Where scenes are, as a page finds them: few places, however many scenes there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipelines.geodesy.longitudes import Bounds, from_west, longitude_span
from segmodel.errors import counted
from segmodel.escaping import inert

# Most places of a page.
MAX_PLACES = 500
# Cells along a side of the world, as a power of 2, by which scenes that are near are one place.
_FINEST = 24


class ScenePlace(NamedTuple):
    """A scene, or several that are near each other.

    Attributes:
        name: Key of the scene, as tables have it; of several, that of the first and their number.
        bounds: West, south, east and north in degrees.
    """

    name: str
    bounds: Bounds


@dataclass(frozen=True)
class ScenePlaces:
    """Where scenes are on a map that holds them all, across the antimeridian where that is smaller.

    Args:
        bounds: West, south, east and north of all in degrees; east is above 180 across the
            antimeridian.
        places: The places, between these bounds.
    """

    bounds: Bounds
    places: tuple[ScenePlace, ...]

    @property
    def data(self) -> dict[str, Any]:
        """What the scripts of a page read."""
        return {"bounds": self.bounds, "places": [place._asdict() for place in self.places]}


def scene_places(keys: Sequence[str], bounds: np.ndarray) -> ScenePlaces:
    """Places of scenes.

    Args:
        keys: Key of each scene, at least one.
        bounds: `(scenes, 4)` west, south, east and north in degrees; east is not less than west,
            and above 180 across the antimeridian.
    """
    west, _ = longitude_span(bounds[:, [0, 2]])
    placed = from_west(bounds, west)
    groups = _groups(placed)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    members = sorted((found.tolist() for found in np.split(order, starts[1:])), key=min)
    places = (ScenePlace(_name(keys, found), _around(placed[found])) for found in members)
    return ScenePlaces(_around(placed), tuple(places))


def _groups(bounds: np.ndarray) -> np.ndarray:
    """`(scenes,)` numbers of groups: a group a scene, or what is in one cell of the finest grid."""
    if len(bounds) <= MAX_PLACES:
        return np.arange(len(bounds))
    lon, lat = bounds[:, [0, 2]].mean(axis=1), bounds[:, [1, 3]].mean(axis=1)
    down = 0.5 - np.arcsinh(np.tan(np.radians(lat))) / (2 * np.pi)
    shares = np.stack([lon / 360 + 0.5, down])
    for zoom in range(_FINEST, -1, -1):
        column, row = np.floor(shares * (1 << zoom)).astype(np.int64)
        cells, groups = np.unique((column << 32) + row, return_inverse=True)
        if len(cells) <= MAX_PLACES:
            break
    return groups


def _name(keys: Sequence[str], members: Sequence[int]) -> str:
    more = len(members) - 1
    return str(inert(keys[members[0]])) + (f" and {counted(more, 'more scene')}" if more else "")


def _around(bounds: np.ndarray) -> Bounds:
    (west, south), (east, north) = bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)
    return float(west), float(south), float(east), float(north)
