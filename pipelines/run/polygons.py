"""Polygons of a run, kept in the run directory and read by workers there."""

from functools import lru_cache

from pipelines.geodesy.polygons import Polygons
from pipelines.run.directory import RunDirectory
from pipelines.storage import filesystem
from segmodel.errors import TransientError

AOI, ZONES = "aoi.json", "zones.json"


def store(run: RunDirectory, name: str, polygons: Polygons | None) -> None:
    """Write polygons to the run directory, or remove those of an earlier attempt."""
    if polygons is None:
        filesystem.remove(run.path(name))
    else:
        run.write(name, polygons.to_bytes())


@lru_cache(8)
def stored(run: RunDirectory, name: str, digest: str) -> Polygons:
    """Polygons of the run directory, read once in a process.

    Raises:
        TransientError: If they are not those of this digest.
    """
    polygons = Polygons.from_bytes(run.read(name))
    if polygons.digest != digest:
        raise TransientError(
            "the polygons of the run were replaced by another run into the same directory: run the "
            "same command again"
        )
    return polygons
