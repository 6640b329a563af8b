"""A zone across the antimeridian is the same zone, however its longitudes are written."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine

from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygon_masks import ScenePolygons
from pipelines.geodesy.polygons import Polygons
from pipelines.geodesy.vector_files import read_polygons, unrolled
from segmodel.tiling.windows import Window

S, N = -5, 5


def box(west: float, east: float) -> list[list[float]]:
    return [[west, S], [east, S], [east, N], [west, N], [west, S]]


def dense() -> list[list[float]]:
    x = np.arange(178, 182.01, 0.5)
    ring = [(a, S) for a in x] + [(a, N) for a in x[::-1]] + [(178, S)]
    return [[a - 360 if a > 180 else a, b] for a, b in ring]


# Polygons of the zone from 178 degrees east to 178 degrees west: each a list of rings.
FORMS = {
    "beyond 180": [[box(178, 182)]],
    "beyond -180": [[box(-182, -178)]],
    "two parts, as RFC 7946 has it": [[box(178, 180)], [box(-180, -178)]],
    "two parts in 0 to 360": [[box(178, 180)], [box(180, 182)]],
    "the second part again": [[box(178, 182)], [box(-180, -178)]],
    "both again": [[box(178, 182)], [box(-182, -178)]],
    "two rings of one polygon": [[box(178, 182), box(-180, -178)]],
    "a mix": [[box(-182, -179)], [box(178, 181)], [box(180, 182)]],
    "another turn": [[box(538, 542)]],
    "a step": [[box(178, -178)]],
    "a step the other way": [[box(-178, 178)]],
    "a step in many points": [[dense()]],
    "a step at 180": [[[[178, S], [180, S], [-180, S], [-178, S], [-178, N], [178, N], [178, S]]]],
    "a step after 180": [[[[178, S], [181, S], [-178, S], [-178, N], [178, N], [178, S]]]],
}
SCENES = {
    "degrees beyond 180": GroundGrid.of(Affine(0.05, 0, 175, 0, -0.05, 10), "EPSG:4326", 400, 200),
    "the world": GroundGrid.of(Affine(0.5, 0, -180, 0, -0.5, 90), "EPSG:4326", 360, 720),
    "0 to 360": GroundGrid.of(Affine(0.5, 0, 0, 0, -0.5, 90), "EPSG:4326", 360, 720),
    "utm 60": GroundGrid.of(Affine(5000, 0, 4e5, 0, -5000, 1e6), "EPSG:32660", 400, 240),
    "utm 1": GroundGrid.of(Affine(5000, 0, -2e5, 0, -5000, 1e6), "EPSG:32601", 400, 240),
    "pacific": GroundGrid.of(Affine(5000, 0, 2.5e6, 0, -5000, 1e6), "EPSG:3832", 400, 400),
    "web mercator": GroundGrid.of(Affine(5000, 0, 1.95e7, 0, -5000, 1e6), "EPSG:3857", 400, 400),
    "polar": GroundGrid.of(Affine(60000, 0, -12e6, 0, -60000, 12e6), "EPSG:3413", 400, 400),
    "mollweide": GroundGrid.of(Affine(1e5, 0, -18.1e6, 0, -1e5, 9.1e6), "ESRI:54009", 182, 362),
}


def write(path: Path, polygons: list[list[list[list[float]]]], crs: str = "") -> str:
    features = [
        {
            "type": "Feature",
            "properties": {"name": "zone"},
            "geometry": {"type": "MultiPolygon", "coordinates": polygons},
        }
    ]
    named = {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | named))
    return str(path)


def covered(polygons: Polygons, grid: GroundGrid) -> np.ndarray:
    scene = ScenePolygons.of(polygons, grid)
    window = Window(0, 0, grid.height, grid.width)
    mask = scene.mask(window)
    assert np.array_equal(scene.indices(window, 0), np.where(mask, 0, -1))
    return mask


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """The zone in each scene, by longitude and latitude of the centres."""
    found = {}
    for name, grid in SCENES.items():
        rows, columns = np.indices((grid.height, grid.width)) + 0.5
        lon, lat = np.degrees(grid.lon_lat(columns, rows))
        found[name] = (np.abs(np.mod(lon, 360) - 180) < 2) & (np.abs(lat) < N)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_write_a_zone_covers_the_same_pixels(form, tmp_path, expected) -> None:
    polygons = read_polygons(write(tmp_path / "zone.geojson", FORMS[form]), "--zones")

    for name, grid in SCENES.items():
        mask = covered(polygons, grid)

        assert expected[name].sum() > 20
        assert (mask != expected[name]).sum() <= 0.02 * expected[name].sum(), name


def test_zone_in_web_mercator_may_be_split_or_go_on(tmp_path, expected) -> None:
    edge, beyond = 20037508.342789244, 20260148.0
    start, stop = 19814868.0, edge - (beyond - edge)
    y = 557305.257
    for index, (parts, name) in enumerate(
        [
            ([(start, -stop)], "a step"),
            ([(start, beyond)], "beyond"),
            ([(start, edge), (-edge, -stop)], "split"),
            ([(start - 2 * edge, -stop)], "beyond the west"),
        ]
    ):
        rings = [[[[w, -y], [e, -y], [e, y], [w, y], [w, -y]]] for w, e in parts]
        path = write(tmp_path / f"{index}.geojson", rings, "urn:ogc:def:crs:EPSG::3857")
        polygons = read_polygons(path, "--zones")

        for scene in ("web mercator", "degrees beyond 180", "utm 60"):
            mask = covered(polygons, SCENES[scene])
            differing = (mask != expected[scene]).sum()
            assert differing <= 0.03 * expected[scene].sum(), (name, scene)


def test_zones_that_overlap_in_other_longitudes_are_in_two_layers(tmp_path) -> None:
    shapes = [shapely.box(178, S, 182, N), shapely.box(-180, S, -178, N), shapely.box(0, S, 9, N)]
    wkt = SCENES["the world"].crs_wkt
    polygons = Polygons(wkt, ("a", "b", "c"), tuple(map(shapely.to_wkb, shapes)))

    assert polygons.layers() == (0, 1, 0)


def test_a_step_over_the_antimeridian_is_told(tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING, "beamseg"):
        read_polygons(write(tmp_path / "a.geojson", FORMS["beyond 180"]), "--zones")
        assert not caplog.records
        read_polygons(write(tmp_path / "a.geojson", FORMS["a step"]), "--zones")

    (record,) = caplog.records
    assert record.getMessage() == (
        "--zones a.geojson: 'zone' steps over the antimeridian, and is read as crossing it there"
    )


@pytest.mark.parametrize(
    "shape",
    [
        shapely.box(-180, -90, 180, 90),
        shapely.box(-180, -5, 180, 5),
        shapely.box(-179.5, -60, 179.5, 60),
        shapely.box(-89, -5, 89, 5),
        # Around a pole, as Antarctica is drawn.
        shapely.Polygon([(-180, -80), (0, -70), (180, -80), (180, -90), (-180, -90)]),
        shapely.Point(0, 0),
        shapely.MultiPolygon(),
    ],
)
def test_what_steps_over_no_antimeridian_stays(shape) -> None:
    assert unrolled(shape, 360) is shape


def test_holes_stay_in_a_ring_that_goes_on() -> None:
    shell = [(170, 0), (-170, 0), (-170, 10), (170, 10)]
    holes = [
        [(-178, 4), (-176, 4), (-176, 6), (-178, 6)],
        [(179, 1), (-179, 1), (-179, 2), (179, 2)],
    ]

    actual = unrolled(shapely.Polygon(shell, holes), 360)

    assert actual.is_valid
    assert actual.area == 20 * 10 - 4 - 2
    assert actual.bounds == (170, 0, 190, 10)
