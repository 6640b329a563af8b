"""Areas of interest and zones that lie on no scene, found before any work."""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygons import Polygons
from pipelines.geodesy.touching import first_crossed, first_touched, middle_of, with_axes_swapped
from pipelines.rasters.header import Headers
from pipelines.run.plan import InputFile
from pipelines.scenes.overlaps import grounds_of
from segmodel.errors import ConfigurationError, GroundError

_log = logging.getLogger("beamseg")


def check_touching(
    aoi: tuple[str | None, Polygons | None],
    zones: tuple[str | None, Polygons | None],
    files: Sequence[InputFile],
    headers: Headers,
) -> None:
    """Refuse an area of interest that lies on no scene, and warn of zones that lie on none.

    Args:
        aoi: Value of `--aoi` and its polygons; None twice without the option.
        zones: The same of `--zones`.
        files: The scenes of the run.
        headers: Their headers.

    Raises:
        ConfigurationError: If no pixel of any scene lies in the area of interest.
    """
    if text := _untouched("--aoi", *aoi, files, headers):
        raise ConfigurationError(text)
    if text := _untouched("--zones", *zones, files, headers):
        _log.warning("%s", text)


def _untouched(
    option: str,
    path: str | None,
    polygons: Polygons | None,
    files: Sequence[InputFile],
    headers: Headers,
) -> str:
    """What is wrong if no polygon lies on a scene; empty if one does, or no scene has a place."""
    if path is None or polygons is None:
        return ""
    grounds = grounds_of(files, headers)
    grids, keys = list(grounds.values()), [files[index].key for index in grounds]
    if not grids or first_touched(polygons, grids) is not None:
        return ""
    scenes = f"the scene {keys[0]}" if len(keys) == 1 else f"the {len(keys)} scenes"
    text = f"{option} {os.path.basename(path)} covers no pixel of {scenes}"
    if (crossed := first_crossed(polygons, grids)) is not None:
        return (
            f"{text}: it lies on {keys[crossed]}, but the centre of no pixel is in it, and a pixel "
            f"belongs to what its centre is in; draw it larger than a pixel"
        )
    swapped = None
    with suppress(GroundError):
        places = [middle_of(polygons), _middle_of_scene(grids[0])]
        if np.isfinite(places).all():
            (lon, lat), (other_lon, other_lat) = places
            text += (
                f": {polygons.names[0]!r} is at longitude {lon:.4f} and latitude {lat:.4f}, "
                f"{keys[0]} at longitude {other_lon:.4f} and latitude {other_lat:.4f}"
            )
        if (turned := with_axes_swapped(polygons)) is not None:
            swapped = first_touched(turned, grids)
    if swapped is None:
        return f"{text}; check the file, its CRS, --input and --limit"
    return (
        f"{text}; with x and y swapped it would cover {keys[swapped]}: write longitude (or "
        f"easting) first, for example with ogr2ogr -swapxy"
    )


def _middle_of_scene(grid: GroundGrid) -> tuple[float, float]:
    """Longitude and latitude of the middle of a scene in degrees; NaN if it has none."""
    column, row = np.array(grid.middle)[:, np.newaxis]
    lon, lat = np.degrees(grid.lon_lat(column, row)).ravel().tolist()
    return lon, lat
