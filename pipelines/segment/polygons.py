"""Polygons of a run: read when it is launched, kept in the run directory, read by workers there."""

from pipelines.geodesy.polygons import Polygons
from pipelines.geodesy.vector_files import read_polygons
from pipelines.segment.options import SegmentOptions


def read_aoi(options: SegmentOptions) -> Polygons | None:
    """The area of interest, if one is asked for.

    Raises:
        ConfigurationError: If the file holds no polygons, or cannot be read.
    """
    return None if options.aoi is None else read_polygons(options.aoi, "--aoi")


def read_zones(options: SegmentOptions) -> Polygons | None:
    """The zones, if any are asked for.

    Raises:
        ConfigurationError: If the file holds no polygons, or cannot be read.
    """
    if options.zones is None:
        return None
    return read_polygons(options.zones, "--zones", options.zone_field)
