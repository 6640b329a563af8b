"""Scenes whose ground area is known, and constants of the WGS 84 ellipsoid."""

import numpy as np
from affine import Affine

from pipelines.geodesy.ground import GroundGrid

A, F = 6378137.0, 1 / 298.257223563  # WGS 84
E2 = F * (2 - F)
E = np.sqrt(E2)
ELLIPSOID_M2 = 2 * np.pi * A**2 * (1 + (1 - E2) / E * np.arctanh(E))  # textbook closed form
WORLD = np.pi * A  # half the width of Web Mercator
MOLLWEIDE = 2 * np.sqrt(2) * A  # half the width of the world
LOCAL = 'LOCAL_CS["site plan",UNIT["metre",1]]'

SCENES = {
    "geographic": (Affine(0.01, 0, 10, 0, -0.01, 50), "EPSG:4326", 300, 400),
    "south up": (Affine(0.01, 0, 10, 0, 0.01, 47), "EPSG:4326", 300, 400),
    "paris grads": (Affine(0.01, 0, -2, 0, -0.01, 50), "EPSG:4807", 300, 300),
    "web mercator": (Affine(10, 0, 1e6, 0, -10, 8.4e6), "EPSG:3857", 300, 400),
    "web mercator world": (
        Affine(WORLD / 256, 0, -WORLD, 0, -WORLD / 256, WORLD),
        "EPSG:3857",
        512,
        512,
    ),
    "web mercator antimeridian": (Affine(500, 0, WORLD - 1e5, 0, -500, 2e6), "EPSG:3857", 300, 400),
    "utm": (Affine(10, 0, 300000, 0, -10, 6e6), "EPSG:32633", 300, 400),
    "utm antimeridian": (Affine(500, 0, 700000, 0, -500, 2e6), "EPSG:32660", 300, 900),
    "utm 0.1 m": (Affine(0.1, 0, 300000, 0, -0.1, 6e6), "EPSG:32633", 300, 400),
    "utm one pixel": (Affine(10, 0, 300000, 0, -10, 6e6), "EPSG:32633", 1, 1),
    "utm rotated": (
        Affine(8.66, 5, 3e5, 5, -8.66, 6e6),
        "EPSG:32633",
        300,
        400,
    ),
    "utm sheared": (Affine(10, 3, 300000, 2, -9, 6e6), "EPSG:32633", 300, 400),
    "geographic rotated": (
        Affine(8.66e-5, 5e-5, 179.99, 5e-5, -8.66e-5, 50),
        "EPSG:4326",
        300,
        400,
    ),
    "equal area cylinder": (Affine(1000, 0, 1e6, 0, -1000, 5.5e6), "EPSG:6933", 300, 400),
    "europe equal area": (Affine(10000, 0, 2.4e6, 0, -10000, 5.5e6), "EPSG:3035", 410, 420),
    "polar": (Affine(10000, 0, -3e6, 0, -10000, 3e6), "EPSG:3031", 600, 600),
    "state plane in feet": (Affine(1, 0, 980000, 0, -1, 200000), "EPSG:2263", 300, 400),
    "moon": (Affine(10, 0, 0, 0, -10, 0), "+proj=eqc +R=1737400 +type=crs", 300, 400),
    "rotated pole": (
        Affine(0.05, 0, -10, 0, -0.05, 10),
        "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39 +lon_0=18 +ellps=WGS84 +type=crs",
        400,
        400,
    ),
}
EQUAL_AREA = ("equal area cylinder", "europe equal area")


def whole(grid: GroundGrid) -> np.ndarray:
    """All pixel areas of a scene at full shape."""
    areas = grid.pixel_areas_m2(0, 0, grid.height, grid.width)
    return np.broadcast_to(areas, (grid.height, grid.width))


def density_m2(latitude: np.ndarray) -> np.ndarray:
    """Ground area per square radian of longitude and latitude: the radii of curvature."""
    return A**2 * (1 - E2) * np.cos(latitude) / (1 - E2 * np.sin(latitude) ** 2) ** 2


def geographic(step: float, west: float, north: float, height: int, width: int) -> GroundGrid:
    return GroundGrid.of(Affine(step, 0, west, 0, -step, north), "EPSG:4326", height, width)
