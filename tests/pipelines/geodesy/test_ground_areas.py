"""The same ground has the same area in every system of coordinates; counting pixels has not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from pyproj import Geod, Transformer

from pipelines.cli.values import FailureBudget
from tests.fakes import BRIGHT, DARK, BrightnessModel
from tests.pipelines.corpus import spoil_strip, write_model_folder, write_scene
from tests.pipelines.scene_runs import PARTS, Finished, run_scenes

WGS84 = Geod(ellps="WGS84")
# Pixels of the polygon, at least; rows below it, of which the last ones cannot be read.
POLYGON_PIXELS, MARGIN, BELOW, STRIP = 4_000_000, 40, 400, 64
WINDOW = 256
SITES = {
    "california": (
        -118.2,
        34.2,
        ["EPSG:4326", "EPSG:3857", "EPSG:32611", "EPSG:6933", "EPSG:2229"],
    ),
    "norway": (10.7, 60.0, ["EPSG:4326", "EPSG:3857", "EPSG:32632", "EPSG:3035", "EPSG:6933"]),
}
CASES = [(site, crs) for site, (_, _, systems) in SITES.items() for crs in systems]


class GreyModel(BrightnessModel):
    """Bright above 99, of one band."""

    def __init__(self) -> None:
        super().__init__(1)

    def labels(self, images: np.ndarray) -> np.ndarray:
        return np.where(images[..., 0] > 99, np.uint8(BRIGHT), np.uint8(DARK))


@dataclass(frozen=True)
class Ground:
    """A run over a scene that shows the polygon.

    Args:
        run: The run.
        pixel: Side of a pixel in units of the system.
        outline_m2: Area of the scene, from points along its edges.
        holes: Pixels of nodata.
    """

    run: Finished
    pixel: float
    outline_m2: float
    holes: int


def polygon(longitude: float, latitude: float) -> np.ndarray:
    """A shape with bays and capes, of about 25 km, as dense longitudes and latitudes."""
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    radius = 0.1 * (1 + 0.25 * np.sin(3 * angle) + 0.1 * np.cos(7 * angle))
    x = longitude + radius * np.cos(angle) / math.cos(math.radians(latitude))
    return np.column_stack([x, latitude + radius * np.sin(angle)])


def geodesic_m2(points: np.ndarray) -> float:
    """Area of dense longitudes and latitudes."""
    return abs(WGS84.polygon_area_perimeter(points[:, 0], points[:, 1])[0])


def outline_m2(crs: str, transform: Affine, height: int, width: int) -> float:
    """Area of a grid from dense points along its edges."""
    side = np.linspace(0, 1, 5000, endpoint=False)
    zero, one = np.zeros_like(side), np.ones_like(side)
    columns = np.concatenate([side, one, 1 - side, zero]) * width
    rows = np.concatenate([zero, side, one, 1 - side]) * height
    way = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return geodesic_m2(np.column_stack(way.transform(*(transform @ (columns, rows)))))


@pytest.fixture(scope="module")
def grounds(tmp_path_factory):
    """Runs by site and system, each made when it is asked for."""

    @cache
    def ground(site: str, crs: str) -> Ground:
        folder = tmp_path_factory.mktemp("ground")
        longitude, latitude, _ = SITES[site]
        way = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        shape = shapely.Polygon(np.column_stack(way.transform(*polygon(longitude, latitude).T)))
        pixel = math.sqrt(shape.area / POLYGON_PIXELS) * 0.999
        west, south, east, north = shape.bounds
        # Edges of pixels are nowhere in particular.
        place = Affine(pixel, 0, west - MARGIN * pixel * 1.01, 0, -pixel, north + MARGIN * pixel)
        height = math.ceil((north - south) / pixel) + MARGIN + BELOW
        width = math.ceil((east - west) / pixel) + 2 * MARGIN
        values = rasterio.features.rasterize(
            [(shape, 200)], (height, width), fill=10, transform=place, dtype="uint8"
        )
        holes = values[:MARGIN, : width // 2]
        holes[...] = 0
        path = folder / "in" / "scene.tif"
        profile = {"nodata": 0, "compress": "deflate", "blockysize": STRIP}
        write_scene(path, values[..., np.newaxis], (crs, place), **profile)
        spoil_strip(path, (height - 1) // STRIP)
        model = write_model_folder(folder / "model", bands=("grey",), nodata_fill=(0.0,))
        run = run_scenes(
            folder / "run",
            model,
            path,
            model=GreyModel(),
            window=WINDOW,
            max_failures=FailureBudget(1, None),
        )
        path.unlink()
        return Ground(run, pixel, outline_m2(crs, place, height, width), holes.size)

    return ground


@pytest.mark.parametrize(("site", "crs"), CASES)
def test_the_area_of_a_class_is_that_of_its_ground_in_every_system(grounds, site, crs):
    run = grounds(site, crs).run

    expected = geodesic_m2(polygon(*SITES[site][:2]))

    assert run.pixels["bright"] >= POLYGON_PIXELS
    # Promised is 1e-3; what is left is rounding of the outline to pixels.
    assert run.area_m2["bright"] == pytest.approx(expected, rel=5e-5)


@pytest.mark.parametrize(("site", "crs"), CASES)
def test_classes_nodata_and_failed_are_the_footprint(grounds, site, crs):
    ground = grounds(site, crs)
    run = ground.run

    assert run.status == 0
    assert run.pixels["nodata"] == ground.holes
    assert run.pixels["failed"] > 0
    assert all(run.area_m2[line] > 0 for line in ("dark", "bright", "nodata", "failed"))
    summed = math.fsum(run.area_m2[line] for line in PARTS)
    assert summed == pytest.approx(run.area_m2["footprint"], rel=1e-6)
    assert run.area_m2["footprint"] == pytest.approx(ground.outline_m2, rel=1e-6)
    assert run.summary["footprint_m2"] == run.area_m2["footprint"]


def test_counting_pixels_of_web_mercator_at_60_degrees_is_wrong_by_a_factor_of_4(grounds):
    ground = grounds("norway", "EPSG:3857")
    naive = ground.run.pixels["bright"] * ground.pixel**2
    assert 3.9 < naive / ground.run.area_m2["bright"] < 4.1
    # On the ellipsoid it is less than on the sphere.
    assert naive / ground.run.area_m2["bright"] < 3.995


def test_counting_pixels_of_an_equal_area_projection_is_right(grounds):
    ground = grounds("norway", "EPSG:3035")
    naive = ground.run.pixels["bright"] * ground.pixel**2
    assert naive == pytest.approx(ground.run.area_m2["bright"], rel=1e-6)


def authalic_m2(south: float, north: float, degrees: float) -> float:
    """Ground between two parallels; Snyder 1987, eq. 3-12 and 3-13."""
    a, f = WGS84.a, WGS84.f
    e = math.sqrt(f * (2 - f))

    def q(latitude: float) -> float:
        s = math.sin(math.radians(latitude))
        return (1 - e**2) * (s / (1 - (e * s) ** 2) + math.atanh(e * s) / e)

    return a**2 / 2 * math.radians(degrees) * (q(north) - q(south))


def test_the_formula_of_the_test_gives_the_known_values():
    assert authalic_m2(0, 1, 1) / 1e6 == pytest.approx(12_308.46, abs=0.005)
    assert authalic_m2(-90, 90, 360) / 1e6 == pytest.approx(510_065_622, abs=0.5)


@pytest.mark.parametrize("south_up", [False, True])
def test_the_cell_of_a_degree_at_the_equator_has_its_known_area(tmp_path, south_up):
    side = 2000
    step = 1 / side
    place = Affine(step, 0, 10, 0, step if south_up else -step, 0 if south_up else 1)
    values = np.full((side, side, 1), 200, np.uint8)
    values[: side // 4] = 10
    path = write_scene(tmp_path / "in" / "cell.tif", values, ("EPSG:4326", place))
    model = write_model_folder(tmp_path / "model", bands=("grey",), nodata_fill=(0.0,))

    run = run_scenes(tmp_path / "run", model, path, model=GreyModel(), window=512)

    expected = authalic_m2(0, 1, 1)
    assert run.area_m2["footprint"] == pytest.approx(expected, rel=1e-9)
    assert run.area_m2["total"] == pytest.approx(expected, rel=1e-9)
    dark = authalic_m2(0, 0.25, 1) if south_up else authalic_m2(0.75, 1, 1)
    assert run.area_m2["dark"] == pytest.approx(dark, rel=1e-9)
