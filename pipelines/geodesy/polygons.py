"""Polygons with names, as a run keeps them; knows no scene."""

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import shapely

from pipelines.geodesy.ellipsoid import turn_of
from pipelines.storage.digests import digest
from segmodel.errors import ConfigurationError

# Share of the smaller polygon that two polygons may have in common and still count as neighbours.
SLIVER = 0.01


@dataclass(frozen=True)
class Polygons:
    """Named polygons in one CRS; a value: picklable, hashable.

    Attributes:
        crs_wkt: The CRS as WKT 2; coordinates are x (longitude, easting) first.
        names: One name a polygon, ascending, each once.
        geometries: WKB of valid, non-empty, two-dimensional Polygons or MultiPolygons.
    """

    crs_wkt: str
    names: tuple[str, ...]
    geometries: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """JSON in ASCII, with WKB as hex; equal polygons give equal bytes."""
        return json.dumps(self._document(), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Polygons":
        """What `to_bytes` wrote.

        Raises:
            ConfigurationError: If `content` is something else.

        >>> polygons = Polygons("WKT", ("park",), (b"geometry",))
        >>> Polygons.from_bytes(polygons.to_bytes()) == polygons
        True
        """
        try:
            document = json.loads(content)
            geometries = tuple(bytes.fromhex(text) for text in document["geometries"])
            return cls(document["crs_wkt"], tuple(document["names"]), geometries)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"the stored polygons must be JSON with crs_wkt, names and geometries, but they "
                f"are damaged ({error!r}): begin the run anew with --overwrite"
            ) from error

    @property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 of `to_bytes`."""
        return digest(self._document())

    def layers(self) -> tuple[int, ...]:
        """A layer for every polygon, so that those of one layer overlap in slivers at most.

        Polygons in the order of their names get the lowest layer that holds no polygon with which
        they share more than `SLIVER` of the smaller one; planar areas in `crs_wkt`.

        Returns:
            Layers from 0, as many as `names`.
        """
        return _layers(self)

    def _document(self) -> dict[str, Any]:
        geometries = [geometry.hex() for geometry in self.geometries]
        return {"crs_wkt": self.crs_wkt, "names": list(self.names), "geometries": geometries}


@lru_cache(maxsize=4)
def _layers(polygons: Polygons) -> tuple[int, ...]:
    shapes = shapely.from_wkb(np.array(polygons.geometries, dtype=object))
    shapes = _within_one_turn(shapes, polygons.crs_wkt)
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    one, other = one[other < one], other[other < one]
    areas = shapely.area(shapes)
    shared = shapely.area(shapely.intersection(shapes[one], shapes[other]))
    rivals = defaultdict(list)
    apart = shared > SLIVER * np.minimum(areas[one], areas[other])
    for later, earlier in zip(one[apart].tolist(), other[apart].tolist(), strict=True):
        rivals[later].append(earlier)
    layers: list[int] = []
    for index in range(len(shapes)):
        taken = {layers[rival] for rival in rivals[index]}
        layers.append(next(layer for layer in range(len(taken) + 1) if layer not in taken))
    return tuple(layers)


def _within_one_turn(shapes: np.ndarray, crs_wkt: str) -> np.ndarray:
    """Polygons with all of their parts in the same longitudes, so that they can be compared."""
    if not len(shapes):
        return shapes
    west, _, east, _ = shapely.total_bounds(shapes)
    turn = turn_of(crs_wkt)
    first, last = np.floor(west / turn + 0.5), np.ceil(east / turn - 0.5)
    if first == last == 0:
        return shapes
    moved = []
    for number in range(int(first), int(last) + 1):
        x, endless = turn * number, 2 * turn
        world = shapely.box(x - turn / 2, -endless, x + turn / 2, endless)
        parts = shapely.intersection(shapes, world)
        moved.append(shapely.transform(parts, np.array([-x, 0]).__add__))
    return np.asarray(shapely.union_all(np.stack(moved), axis=0))
