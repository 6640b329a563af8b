"""Polygons of a run, kept in the run directory and read by workers there."""

import hashlib
from functools import lru_cache

from pipelines.geodesy.polygons import Polygons
from pipelines.run.directory import RunDirectory
from segmodel.errors import DamagedError

AOI, ZONES = "aoi.json", "zones.json"
# Zones that a run with soft areas was begun with.
SOFT_ZONES = "soft_zones.json"


def store(run: RunDirectory, name: str, polygons: Polygons | None) -> None:
    """Write polygons to the run directory, or remove those of an earlier attempt."""
    if polygons is None:
        run.remove(name)
    else:
        run.write(name, polygons.to_bytes())


@lru_cache(8)
def stored(run: RunDirectory, name: str, digest: str) -> Polygons:
    """Polygons of the run directory, read once in a process.

    Raises:
        DamagedError: If they are not those of this digest.
    """
    content = run.read(name)
    if not is_stored(content, digest):
        raise DamagedError(
            f"{name} is damaged, or was replaced by another run into the same directory: run the "
            f"same command again"
        )
    return Polygons.from_bytes(content)


def is_stored(content: bytes, digest: str) -> bool:
    """Whether a file of polygons holds those of this digest."""
    return hashlib.sha256(content).hexdigest()[:16] == digest
