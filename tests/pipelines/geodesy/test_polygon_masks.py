"""Polygons on pixels: the rule at centres, windows, layers, other CRSs, and the rim of maps."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer
from rasterio.features import rasterize

from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygon_masks import ScenePolygons
from pipelines.geodesy.polygons import Polygons
from segmodel.errors import InputError
from segmodel.tiling.windows import Window
from tests.examples import examples
from tests.pipelines.grounds import MOLLWEIDE, WORLD

HEIGHT, WIDTH = 12, 16
UTM = GroundGrid.of(Affine(10, 0, 300000, 0, -10, 6e6), "EPSG:32633", HEIGHT, WIDTH)
LARGE = GroundGrid.of(Affine(10, 0, 300000, 0, -10, 6e6), "EPSG:32633", 300, 400)
MERCATOR = GroundGrid.of(
    Affine(WORLD / 64, 0, -WORLD, 0, -WORLD / 64, WORLD), "EPSG:3857", 128, 128
)
MOLLWEIDE_WORLD = GroundGrid.of(
    Affine(MOLLWEIDE / 64, 0, -MOLLWEIDE, 0, -MOLLWEIDE / 64, MOLLWEIDE / 2),
    "ESRI:54009",
    64,
    128,
)


def named(shapes: list[Any], crs: str = "EPSG:32633") -> Polygons:
    names = tuple(f"zone {index:03}" for index in range(len(shapes)))
    wkb = tuple(bytes(shapely.to_wkb(shape)) for shape in shapes)
    return Polygons(CRS.from_user_input(crs).to_wkt(), names, wkb)


def ground(points: list[tuple[float, float]], grid: GroundGrid = UTM) -> list[Any]:
    """Columns and rows to coordinates."""
    a, b, c, d, e, f = tuple(grid.transform)[:6]
    return [(a * x + b * y + c, d * x + e * y + f) for x, y in points]


def block(left: float, top: float, right: float, bottom: float, grid: GroundGrid = UTM) -> Any:
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return shapely.Polygon(ground(corners, grid))


def whole(grid: GroundGrid) -> Window:
    return Window(0, 0, grid.height, grid.width)


def by_centres(shape: Any, crs: str, grid: GroundGrid) -> tuple[np.ndarray, np.ndarray]:
    """Which centres a polygon holds, and which are so near its edge that they may be on it.

    Near: one of four places, 0.06 pixels from the centre, is on the other side.
    """
    way = Transformer.from_crs(grid.crs_wkt, crs, always_xy=True)
    rows, columns = np.indices((grid.height, grid.width)) + 0.5
    sides = []
    for right, down in ((0, 0), (0.06, 0), (-0.06, 0), (0, 0.06), (0, -0.06)):
        a, b, c, d, e, f = tuple(grid.transform)[:6]
        column, row = columns + right, rows + down
        x, y = way.transform(a * column + b * row + c, d * column + e * row + f)
        turns = [shapely.contains_xy(shape, x + turn, y) for turn in (-360, 0, 360)]
        sides.append(np.logical_or.reduce(turns))
    return sides[0], (np.array(sides) != sides[0]).any(axis=0)


def test_a_polygon_over_half_of_the_pixels_covers_exactly_those() -> None:
    scene = ScenePolygons.of(named([block(0, 0, 8, 12)]), UTM)

    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:, :8] = True
    assert np.array_equal(scene.mask(whole(UTM)), expected)
    assert np.array_equal(scene.indices(whole(UTM), 0), np.where(expected, 0, -1))
    assert scene.indices(whole(UTM), 0).dtype == np.int32
    assert scene.layers == 1


def test_a_hole_is_not_covered_and_an_island_in_it_is() -> None:
    ring = block(1, 1, 11, 11) - block(3, 3, 9, 9)
    scene = ScenePolygons.of(named([ring | block(5, 5, 7, 7)]), UTM)

    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[1:11, 1:11] = True
    expected[3:9, 3:9] = False
    expected[5:7, 5:7] = True
    assert np.array_equal(scene.mask(whole(UTM)), expected)


@pytest.mark.parametrize(
    ("left", "first"), [(3.49, 3), (3.5, 3), (3.51, 4), (-2.0, 0), (15.5, 15), (15.51, 16)]
)
def test_a_pixel_counts_by_its_centre(left: float, first: int) -> None:
    mask = ScenePolygons.of(named([block(left, 0, 20, 12)]), UTM).mask(whole(UTM))

    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:, first:] = True
    assert np.array_equal(mask, expected)


def test_an_edge_through_centres_gives_each_pixel_to_one_of_two_zones() -> None:
    zones = [block(0, 0, 7.5, 5.5), block(7.5, 0, 16, 5.5), block(0, 5.5, 16, 12)]
    scene = ScenePolygons.of(named(zones), UTM)

    expected = np.zeros((HEIGHT, WIDTH), np.int32)
    expected[:, 7:] = 1
    expected[5:] = 2
    assert scene.layers == 1
    assert np.array_equal(scene.indices(whole(UTM), 0), expected)


def test_a_diagonal_through_centres_gives_each_pixel_to_one_of_two_zones() -> None:
    below = shapely.Polygon(ground([(0, 0), (12, 12), (0, 12)]))
    above = shapely.Polygon(ground([(12, 12), (0, 0), (12, 0)]))
    masks = [ScenePolygons.of(named([half]), UTM).mask(whole(UTM)) for half in (below, above)]

    assert not (masks[0] & masks[1]).any()
    assert (masks[0] | masks[1])[:, :12].all()


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
def test_four_zones_that_tile_a_scene_count_to_the_total(crs: str) -> None:
    way = Transformer.from_crs("EPSG:32633", crs, always_xy=True)
    middle = (151.3, 120.7)
    zones = []
    for x in (-50, 450):
        for y in (-50, 350):
            corner = [(x, y), (x, middle[1]), middle, (middle[0], y)]
            points = np.array(ground(corner, LARGE))
            zones.append(shapely.Polygon(np.column_stack(way.transform(*points.T))))
    scene = ScenePolygons.of(named(zones, crs), LARGE)

    counts = np.unique_counts(scene.indices(whole(LARGE), 0))

    assert counts.values.tolist() == [0, 1, 2, 3]
    assert counts.counts.sum() == 300 * 400
    if crs == "EPSG:32633":
        assert counts.counts.tolist() == [151 * 121, 151 * 179, 249 * 121, 249 * 179]


def test_zones_that_overlap_are_in_layers_and_slivers_go_to_the_first_name() -> None:
    zones = [block(6, 0, 10.05, 12), block(0, 0, 10, 12), block(9.95, 0, 16, 12)]
    scene = ScenePolygons.of(named([zones[0], zones[2], zones[1]]), UTM)
    first, second = (scene.indices(whole(UTM), layer) for layer in (0, 1))

    assert scene.layer_of == (0, 1, 1)
    assert scene.layers == 2
    assert first[0].tolist() == [-1] * 6 + [0] * 4 + [-1] * 6
    assert second[0].tolist() == [2] * 10 + [1] * 6


def test_of_a_sliver_in_two_zones_of_a_layer_the_first_name_has_the_pixels() -> None:
    shapes = [block(0, 0, 8, 1200), block(0, 7, 16, 1200) - block(0, 8, 8, 1200)]
    there, back = (ScenePolygons.of(named(zones), UTM) for zones in (shapes, shapes[::-1]))

    assert there.layers == back.layers == 1
    assert there.indices(whole(UTM), 0)[7].tolist() == [0] * 8 + [1] * 8
    assert back.indices(whole(UTM), 0)[7].tolist() == [0] * 16


halves = st.integers(-4, 40).map(lambda n: n / 2)
free = st.floats(-3, 20, allow_subnormal=False)
corners = st.lists(st.tuples(halves | free, halves | free), min_size=3, max_size=9)


def windows() -> st.SearchStrategy[Window]:
    def sized(at: tuple[int, int]) -> st.SearchStrategy[Window]:
        height, width = st.integers(0, HEIGHT - at[0]), st.integers(0, WIDTH - at[1])
        return st.builds(Window, st.just(at[0]), st.just(at[1]), height, width)

    return st.tuples(st.integers(0, HEIGHT), st.integers(0, WIDTH)).flatmap(sized)


@settings(deadline=None, max_examples=examples(300))
@given(rings=st.lists(corners, min_size=1, max_size=4), window=windows())
def test_a_window_is_the_slice_of_the_scene(rings: list[Any], window: Window) -> None:
    shapes = [shapely.make_valid(shapely.Polygon(ground(ring))) for ring in rings]
    shapes = [shape for shape in shapes if "Polygon" in shape.geom_type and shape.area > 0]
    scene = ScenePolygons.of(named(shapes), UTM)
    mask = scene.mask(whole(UTM))
    layers = [scene.indices(whole(UTM), layer) for layer in range(scene.layers)]

    assert np.array_equal(scene.mask(window), mask[window.slices])
    assert scene.touches(window) == mask[window.slices].any()
    for layer, indices in enumerate(layers):
        assert np.array_equal(scene.indices(window, layer), indices[window.slices])
    assert np.array_equal(np.any([np.zeros_like(mask), *(at >= 0 for at in layers)], axis=0), mask)


@settings(deadline=None, max_examples=examples(100))
@given(xs=st.sets(halves, max_size=5), ys=st.sets(halves, max_size=5))
def test_zones_that_tile_a_scene_have_every_pixel_once(xs: set[float], ys: set[float]) -> None:
    across, down = sorted({-2.0, *xs, 20.0}), sorted({-2.0, *ys, 20.0})
    zones = [
        block(left, top, right, bottom)
        for left, right in pairwise(across)
        for top, bottom in pairwise(down)
    ]
    masks = [ScenePolygons.of(named([zone]), UTM).mask(whole(UTM)) for zone in zones]

    assert (np.sum(masks, axis=0) == 1).all()


def test_polygons_off_centres_are_those_of_gdal() -> None:
    random = np.random.default_rng(5)
    for _ in range(20):
        points = random.uniform([-20, -20], [420, 320], (12, 2))
        shape = shapely.make_valid(shapely.Polygon(ground(points.tolist(), LARGE)))
        expected = rasterize([shape], (300, 400), transform=LARGE.transform).astype(bool)
        assert np.array_equal(ScenePolygons.of(named([shape]), LARGE).mask(whole(LARGE)), expected)


TURNED = Affine(8.66, 5, 3e5, 5, -8.66, 6e6)
TRIANGLE = shapely.Polygon([(11.949, 54.11), (11.995, 54.102), (11.97, 54.125)])
ANTIMERIDIAN = shapely.MultiPolygon([shapely.box(177, 2, 180, 8), shapely.box(-180, 3, -178, 9)])
CASES: dict[str, tuple[Any, str, GroundGrid]] = {
    "utm": (TRIANGLE, "EPSG:4326", LARGE),
    "utm in a country": (shapely.box(-20, 54.11, 60, 80), "EPSG:4326", LARGE),
    "utm in a band of the world": (shapely.box(-180, 54.11, 180, 90), "EPSG:4326", LARGE),
    "south up": (
        TRIANGLE,
        "EPSG:4326",
        GroundGrid.of(Affine(10, 0, 3e5, 0, 10, 6e6 - 3000), "EPSG:32633", 300, 400),
    ),
    "rotated": (TRIANGLE, "EPSG:4326", GroundGrid.of(TURNED, "EPSG:32633", 300, 400)),
    "antimeridian": (
        ANTIMERIDIAN,
        "EPSG:4326",
        GroundGrid.of(Affine(0.05, 0, 175, 0, -0.05, 10), "EPSG:4326", 200, 200),
    ),
    "antimeridian in utm": (
        ANTIMERIDIAN,
        "EPSG:4326",
        GroundGrid.of(Affine(5000, 0, 4e5, 0, -5000, 1e6), "EPSG:32660", 200, 200),
    ),
    "utm over the antimeridian": (
        shapely.box(5e5, 3e5, 12e5, 9e5),
        "EPSG:32660",
        GroundGrid.of(Affine(0.05, 0, 175, 0, -0.05, 10), "EPSG:4326", 200, 200),
    ),
    "pole": (
        shapely.box(-180, -90, 180, -75),
        "EPSG:4326",
        GroundGrid.of(Affine(30000, 0, -3e6, 0, -30000, 3e6), "EPSG:3031", 200, 200),
    ),
    "rim of a world map": (shapely.box(170, -20, 190, 40), "EPSG:4326", MERCATOR),
    "pole outside of a world map": (shapely.box(-180, -90, 60, -60), "EPSG:4326", MERCATOR),
    "corners outside of a world map": (
        shapely.box(-150, -20, 50, 80),
        "EPSG:4326",
        MOLLWEIDE_WORLD,
    ),
    "rim and corners": (shapely.box(150, -20, 200, 80), "EPSG:4326", MOLLWEIDE_WORLD),
    "a pole in degrees": (
        shapely.box(-3e6, -3e6, 3e6, 2e6),
        "EPSG:3031",
        GroundGrid.of(Affine(2, 0, -180, 0, -2, 90), "EPSG:4326", 90, 180),
    ),
    "the world on a map with another rim": (
        shapely.box(-180, -90, 180, 90),
        "EPSG:4326",
        GroundGrid.of(MOLLWEIDE_WORLD.transform, "+proj=moll +lon_0=10 +type=crs", 64, 128),
    ),
    "0 to 360": (
        shapely.box(-61.3, -21.3, 99.3, 41.3),
        "EPSG:4258",
        GroundGrid.of(Affine(2, 0, 0, 0, -2, 90), "EPSG:4326", 90, 180),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_polygons_in_another_crs_cover_what_an_oracle_says_pixel_by_pixel(case: str) -> None:
    shape, crs, grid = CASES[case]
    scene = ScenePolygons.of(named([shape], crs), grid)
    mask = scene.mask(whole(grid))
    expected, unsure = by_centres(shape, crs, grid)

    assert not ((mask != expected) & ~unsure).any()
    assert expected.any()
    assert unsure.mean() < 0.03
    part = Window(11, 17, 40, 60)
    assert np.array_equal(scene.mask(part), mask[part.slices])
    assert np.array_equal(scene.indices(part, 0), np.where(mask[part.slices], 0, -1))
    assert scene.touches(part) == mask[part.slices].any()


@pytest.mark.parametrize("turned", [TURNED, Affine(10, 3, 3e5, 2, 9, 6e6), Affine.scale(3, 3)])
def test_rotated_and_south_up_grids_cover_the_same_pixels(turned: Affine) -> None:
    grid = GroundGrid.of(turned, "EPSG:32633", HEIGHT, WIDTH)
    mask = ScenePolygons.of(named([block(2.2, 3.3, 9.9, 7.7, grid)]), grid).mask(whole(grid))

    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[3:8, 2:10] = True
    expected[7] = expected[3]
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize(
    ("shape", "crs"),
    [
        (block(16, 0, 30, 12), "EPSG:32633"),
        (block(-9, 0, 0.49, 12), "EPSG:32633"),
        (block(3.6, 3.6, 4.4, 4.4), "EPSG:32633"),  # between centres
        (shapely.box(-120, -60, -110, -50), "EPSG:4326"),
        (shapely.box(-180, -90, 180, -80), "EPSG:4326"),
        (shapely.box(2e7, 2e7, 3e7, 3e7), "EPSG:3035"),
    ],
)
def test_polygons_elsewhere_touch_nothing(shape: Any, crs: str) -> None:
    scene = ScenePolygons.of(named([shape], crs), UTM)

    assert not scene.touches(whole(UTM))
    assert not scene.mask(whole(UTM)).any()
    assert (scene.indices(whole(UTM), 0) == -1).all()


def test_no_polygons_and_empty_windows_are_no_trouble() -> None:
    none = ScenePolygons.of(named([]), UTM)
    torn = ScenePolygons.of(named([shapely.box(170, -20, 190, 40)], "EPSG:4326"), MERCATOR)
    empty = Window(3, 3, 0, 4)

    assert none.layers == 0
    assert not none.touches(whole(UTM))
    assert not none.mask(whole(UTM)).any()
    assert torn.mask(empty).shape == none.mask(empty).shape == (0, 4)
    assert not torn.touches(empty)


def test_a_scene_of_polygons_can_be_pickled() -> None:
    for shape, crs, grid in (CASES["utm"], CASES["rim of a world map"]):
        scene = ScenePolygons.of(named([shape], crs), grid)
        copy = pickle.loads(pickle.dumps(scene))
        assert np.array_equal(copy.mask(whole(grid)), scene.mask(whole(grid)))


def test_polygons_of_another_body_are_refused() -> None:
    moon = named([shapely.box(0, 0, 1, 1)], "+proj=longlat +R=1737400 +type=crs")

    with pytest.raises(InputError, match="give them in a CRS of the same body"):
        ScenePolygons.of(moon, UTM)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([block(2, 3, 7, 9)], Window(3, 2, 6, 5)),
        ([block(-5, -5, 2, 1), block(10, 11, 90, 90)], Window(0, 0, 12, 16)),
        ([block(3, 2, 900, 4)], Window(2, 3, 2, 13)),
        ([block(1.6, 1.6, 2.4, 2.4)], Window(0, 0, 0, 0)),
        ([block(100, 100, 120, 120)], Window(0, 0, 0, 0)),
    ],
)
def test_bounds_are_those_of_the_covered_pixels(shapes, expected):
    assert ScenePolygons.of(named(shapes), UTM).bounds() == expected


@pytest.mark.parametrize("at_once", [3, 64, 1 << 20])
def test_masks_do_not_depend_on_how_many_crossings_are_computed_at_a_time(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    away = np.random.default_rng(5).uniform(300, 1500, 400)
    points = np.column_stack([302000 + away * np.cos(angle), 5998500 + away * np.sin(angle)])
    scene = ScenePolygons.of(named([shapely.Polygon(points)]), LARGE)
    columns, rows = np.meshgrid(np.arange(400) + 0.5, np.arange(300) + 0.5)
    shape = shapely.Polygon(points)
    expected = shapely.contains_xy(shape, 300000 + 10 * columns, 6e6 - 10 * rows)
    monkeypatch.setattr("pipelines.geodesy.polygon_masks.CROSSINGS", at_once)
    monkeypatch.setattr("pipelines.geodesy.polygon_masks.STRIP_ROWS", 7)

    assert (scene.mask(Window(0, 0, 300, 400)) == expected).all()
    rows_in, columns_in = np.nonzero(expected)
    bounds = scene.bounds()
    assert (bounds.row, bounds.column) == (rows_in.min(), columns_in.min())
    assert bounds.height == np.ptp(rows_in) + 1
    assert bounds.width == np.ptp(columns_in) + 1
