"""Indexes of mosaics of many files: GDAL opens what it needs of them, and reads no list of all."""

from collections.abc import Sequence

import numpy as np
import pyogrio.raw
import shapely

from pipelines.geodesy.geopackages import stop_clock
from pipelines.scenes.vrt import Piece
from pipelines.storage.copies import named_for_gdal


def write_tile_index(path: str, pieces: Sequence[Piece]) -> None:
    """Write a GeoPackage that GDAL opens as a raster, if its name ends with `.gti.gpkg`.

    Args:
        path: File of this machine.
        pieces: North-up files of one CRS and one resolution, which do not overlap.

    Source: GDAL's GTI driver, https://gdal.org/en/stable/drivers/raster/gti.html.
    """
    west, east, north, south = np.array([piece.edges for piece in pieces]).T
    first = pieces[0].transform
    stop_clock()
    with named_for_gdal(path, "gpkg") as file:
        pyogrio.raw.write(
            file,
            shapely.to_wkb(shapely.box(west, south, east, north)),
            [np.array([piece.path for piece in pieces], object)],
            ["location"],
            geometry_type="Polygon",
            crs=pieces[0].crs_wkt,
            layer="index",
            driver="GPKG",
            layer_metadata={"RESX": repr(first.a), "RESY": repr(-first.e)},
        )
