"""Ground counted by zone, and once where scenes overlap: exact tables, without the model."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from pipelines import scene_counts
from pipelines.count_tables import OUTSIDE
from pipelines.options import FailureBudget
from tests.fakes import BRIGHT, DARK, MIDDLE, brightness_labels
from tests.pipelines.corpus import (
    DEGREES,
    UTM,
    pixels,
    read_band,
    small_blocks,
    spoil_strip,
    tree,
    write_scene,
)
from tests.pipelines.scene_runs import PARTS, Finished, run_scenes, write_polygons

NAMES = {DARK: "dark", MIDDLE: "middle", BRIGHT: "bright", 255: "nodata"}
ANY = FailureBudget(1000, None)


@pytest.fixture(autouse=True)
def _several_tiles_and_blocks(monkeypatch):
    monkeypatch.setattr(scene_counts, "TILE_PX", 48)
    small_blocks(monkeypatch, 128)


def place(column: float = 0, row: float = 0) -> tuple[str, Affine]:
    """On the grid of UTM, so many pixels from its origin."""
    return UTM[0], UTM[1] @ Affine.translation(column, row)


def box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """A rectangle in pixels of the grid of UTM, as a polygon in UTM."""
    (west, north), (east, south) = UTM[1] @ (left, top), UTM[1] @ (right, bottom)
    return shapely.box(west, south, east, north)


def holes(height: int, width: int, seed: int, share: float = 0.2) -> np.ndarray:
    """Where pixels are valid: neither in specks nor in a corner."""
    valid = np.random.default_rng(seed).random((height, width)) >= share
    valid[: height // 4, : width // 3] = False
    return valid


def lines(labels: np.ndarray, chosen: np.ndarray | None = None) -> dict[str, int]:
    """Pixels by line of a table."""
    values, counts = np.unique(labels if chosen is None else labels[chosen], return_counts=True)
    return {NAMES[int(v)]: int(n) for v, n in zip(values, counts, strict=True)}


# Zones


def one_scene(tmp_path: Path, height: int = 150, width: int = 130) -> tuple[Path, np.ndarray]:
    """A scene with nodata, and the labels that it must get."""
    values, valid = pixels(height, width), holes(height, width, 1)
    path = write_scene(tmp_path / "in" / "a.tif", values, mask=valid)
    return path, np.where(valid, brightness_labels(values), 255)


def cells(height: int, width: int, seed: int) -> list[tuple[str, shapely.Polygon]]:
    """Zones of any shape that tile more than a scene, as names and polygons in pixels."""
    random = np.random.default_rng(seed)
    points = shapely.MultiPoint(random.uniform([0, 0], [width, height], (12, 2)))
    around = shapely.box(-9, -9, width + 9, height + 9)
    found = shapely.voronoi_polygons(points, extend_to=around.buffer(99)).geoms
    return [(f"zone {n}", shapely.intersection(cell, around)) for n, cell in enumerate(found)]


def to_ground(shape, crs: str):
    """From pixels of the grid of UTM to a CRS."""
    way = Transformer.from_crs(UTM[0], crs, always_xy=True)

    def move(points):
        x, y = UTM[1] @ points.T
        return np.column_stack(way.transform(x, y))

    return shapely.transform(shape, move)


def check_sum_of_zones(run: Finished) -> None:
    """All zones together are the total, to the pixel and to 1e-9 of its area."""
    by_pixels, by_area = run.zones(), run.zones("area_m2")
    for line in PARTS:
        assert sum(zone.get(line, 0) for zone in by_pixels.values()) == run.pixels[line]
        summed = math.fsum(zone.get(line, 0.0) for zone in by_area.values())
        assert summed == pytest.approx(run.area_m2[line], rel=1e-9)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3035"])
def test_zones_that_tile_the_footprint_sum_to_the_totals(tmp_path, model_folder, crs):
    path, labels = one_scene(tmp_path)
    named = [(name, to_ground(shape, crs)) for name, shape in cells(150, 130, 1)]
    zones = write_polygons(tmp_path / "zones.geojson", crs, named)

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    assert run.status == 0
    assert {k: n for k, n in run.pixels.items() if k in NAMES.values()} == lines(labels)
    check_sum_of_zones(run)
    assert run.zones().get(OUTSIDE, {}) == {}
    assert run.verified() == (run.verified()[0], [])


def test_borders_of_zones_between_pixels_are_exact(tmp_path, model_folder):
    path, labels = one_scene(tmp_path)
    parts = {"nw": (0, 0, 51, 70), "ne": (51, 0, 130, 70), "s": (0, 70, 130, 100)}
    zones = write_polygons(
        tmp_path / "z.geojson", UTM[0], [(name, box(*part)) for name, part in parts.items()]
    )

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    expected = {
        name: lines(labels[top:bottom, left:right])
        for name, (left, top, right, bottom) in parts.items()
    }
    assert run.zones() == expected | {OUTSIDE: lines(labels[100:])}
    check_sum_of_zones(run)


def test_borders_of_zones_through_pixel_centres_put_each_pixel_in_one_zone(tmp_path, model_folder):
    path, labels = one_scene(tmp_path)
    rows, columns = [-0.5, 20.5, 64.5, 149.5], [-3, 0.5, 47.5, 129.5]
    named = [
        (f"{top} {left}", box(left, top, right, bottom))
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], named)

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    # A centre on an edge is in what is below it and to its right.
    assert run.zones()["20.5 0.5"] == lines(labels[20:64, 0:47])
    outside = np.ones(labels.shape, bool)
    outside[:149, :129] = False
    assert run.zones()[OUTSIDE] == lines(labels, outside)
    check_sum_of_zones(run)


def test_diagonal_borders_through_pixel_centres_put_each_pixel_in_one_zone(tmp_path, model_folder):
    path, labels = one_scene(tmp_path, 64, 64)
    corners = [(0, 0), (64, 0), (64, 64), (0, 64)]
    triangles = [
        ("upper", shapely.Polygon([UTM[1] @ corners[n] for n in (0, 1, 2)])),
        ("lower", shapely.Polygon([UTM[1] @ corners[n] for n in (0, 2, 3)])),
    ]
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], triangles)

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    total = {name: sum(zone.values()) for name, zone in run.zones().items()}
    assert sorted((total["upper"], total["lower"])) == [64 * 63 // 2, 64 * 65 // 2]
    assert total[OUTSIDE] == 0
    check_sum_of_zones(run)
    assert sum(lines(labels).values()) == 64 * 64


def test_zones_that_overlap_each_count_all_of_their_own_ground(tmp_path, model_folder):
    path, labels = one_scene(tmp_path)
    parts = {
        "all": (0, 0, 130, 150),
        "left": (0, 0, 60, 150),
        "middle": (40, 50, 90, 100),
        "elsewhere": (900, 900, 990, 990),
    }
    zones = write_polygons(
        tmp_path / "z.geojson", UTM[0], [(name, box(*part)) for name, part in parts.items()]
    )

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)

    found = run.zones()
    assert found["all"] == lines(labels)
    assert found["left"] == lines(labels[:, :60])
    assert found["middle"] == lines(labels[50:100, 40:90])
    assert found.get("elsewhere", {}) == found.get(OUTSIDE, {}) == {}
    assert run.area_m2["bright"] == pytest.approx(run.zones("area_m2")["all"]["bright"], rel=1e-9)


def test_zones_are_told_of_failed_windows(tmp_path, model_folder):
    values = pixels(128, 128)
    path = write_scene(tmp_path / "in" / "a.tif", values, compress="deflate", blockysize=64)
    spoil_strip(path, 1)
    named = [("upper", box(0, 0, 128, 64)), ("lower", box(0, 64, 128, 128))]
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], named)

    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones, max_failures=ANY)

    assert run.status == 0
    assert run.zones()["upper"] == lines(brightness_labels(values)[:64])
    assert run.zones()["lower"] == {"failed": 64 * 128}
    check_sum_of_zones(run)


# Overlaps


@dataclass(frozen=True)
class Part:
    """A scene on the common grid: where it is, and what must be in its label map."""

    column: int
    row: int
    labels: np.ndarray
    failed: np.ndarray


def parts_of(tmp_path: Path, places, dates=None, failing=()) -> tuple[Path, list[Part]]:
    """Scenes `0.tif`, `1.tif` ... at columns and rows of one grid, each with nodata of its own."""
    found = []
    for number, (column, row) in enumerate(places):
        height, width = 128, 128 - 10 * number
        values, valid = pixels(height, width, number), holes(height, width, number)
        path = tmp_path / "in" / f"{number}.tif"
        extra = {"compress": "deflate", "blockysize": 64} if number in failing else {}
        write_scene(path, values, place(column, row), mask=valid, **extra)
        if dates is not None:
            with rasterio.open(path, "r+") as target:
                target.update_tags(TIFFTAG_DATETIME=dates[number])
        failed = np.zeros(valid.shape, bool)
        if number in failing:
            spoil_strip(path, 1)
            failed[64:] = True
        labels = np.where(valid & ~failed, brightness_labels(values), 255)
        found.append(Part(column, row, labels, failed))
    return tmp_path / "in", found


def expected_once(parts: list[Part], order: list[int]) -> tuple[dict, dict, np.ndarray]:
    """Pixels by line, pixels of each scene that count in which other one, and the map of all."""
    height = max(part.row + part.labels.shape[0] for part in parts)
    width = max(part.column + part.labels.shape[1] for part in parts)
    rank = np.full((len(parts), height, width), 99)
    labels = np.full((len(parts), height, width), 255)
    for number, part in enumerate(parts):
        at = np.s_[
            part.row : part.row + part.labels.shape[0],
            part.column : part.column + part.labels.shape[1],
        ]
        state = np.where(part.failed, 2, np.where(part.labels == 255, 1, 0))
        rank[number][at] = state * len(parts) + order.index(number)
        labels[number][at] = part.labels
    winner, least = rank.argmin(axis=0), rank.min(axis=0)
    shown = np.take_along_axis(labels, winner[None], 0)[0]
    is_failed = (least >= 2 * len(parts)) & (least < 99)
    by_line = lines(shown, (least < 99) & ~is_failed)
    by_line["failed"] = int(is_failed.sum())
    elsewhere = {}
    for one, other in itertools.permutations(range(len(parts)), 2):
        count = int(((rank[one] < 99) & (winner == other)).sum())
        if count:
            elsewhere[f"in/{one}.tif", f"in/{other}.tif"] = count
    by_line["elsewhere"] = sum(elsewhere.values())
    return dict.fromkeys(PARTS, 0) | by_line, elsewhere, np.where(is_failed, 255, shown)


def check_once(run: Finished, parts: list[Part], order: list[int]) -> None:
    """Tables and map are what the order of precedence makes of the scenes."""
    by_line, elsewhere, shown = expected_once(parts, order)
    assert {line: run.pixels[line] for line in PARTS} == by_line
    found = {
        (row["scene"], row["counted_in"]): int(row["pixels"]) for row in run.rows("overlaps.csv")
    }
    assert found == elsewhere
    assert run.pixels["footprint"] == run.pixels["total"] == sum(p.labels.size for p in parts)
    summed = math.fsum(run.area_m2[line] for line in PARTS)
    assert summed == pytest.approx(run.area_m2["footprint"], rel=1e-9)
    areas = math.fsum(float(row["area_m2"]) for row in run.rows("overlaps.csv"))
    assert areas == pytest.approx(run.area_m2["elsewhere"], rel=1e-9)
    np.testing.assert_array_equal(read_band(run.root / "labels.vrt"), shown)
    assert run.verified()[1] == []


TWO = [(0, 0), (40, 30)]
THREE = [(0, 0), (40, 30), (20, 70)]


@pytest.mark.parametrize("places", [TWO, THREE, [(0, 0)] * 2, [(0, 0)] * 3, [(0, 0), (500, 0)]])
def test_ground_counts_once_in_the_first_scene_that_shows_it(tmp_path, model_folder, places):
    folder, parts = parts_of(tmp_path, places)

    run = run_scenes(tmp_path / "run", model_folder, folder, overlap="first")

    assert run.status == 0
    check_once(run, parts, list(range(len(places))))


@pytest.mark.parametrize("failing", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_a_failed_window_is_filled_by_what_another_scene_shows(
    tmp_path, monkeypatch, model_folder, failing
):
    small_blocks(monkeypatch, 64)
    folder, parts = parts_of(tmp_path, THREE, failing=failing)

    run = run_scenes(tmp_path / "run", model_folder, folder, overlap="first", max_failures=ANY)

    assert (run.status, run.summary["failed_images"]) == (0, len(failing))
    check_once(run, parts, [0, 1, 2])


def test_the_order_of_inputs_is_the_order_of_scenes(tmp_path, model_folder):
    folder, parts = parts_of(tmp_path, THREE)
    named = [folder / f"{number}.tif" for number in (2, 0, 1)]

    run = run_scenes(tmp_path / "run", model_folder, *named, overlap="first")

    check_once(run, parts, [2, 0, 1])


@pytest.mark.parametrize(
    ("dates", "order"),
    [
        (["2020:01:01 10:00:00", "2024:01:01 10:00:00", "2022:06:01 00:00:00"], [1, 2, 0]),
        (["2024-05-01T10:00:00Z", "2024:05:01 10:00:01", "2024:05:01 09:59:59"], [1, 0, 2]),
        (["2024:05:01 10:00:00", "2024:05:01 10:00:00", "2025:05:01 10:00:00"], [2, 0, 1]),
    ],
)
def test_ground_counts_once_in_the_newest_scene_that_shows_it(tmp_path, model_folder, dates, order):
    folder, parts = parts_of(tmp_path, THREE, dates)

    run = run_scenes(tmp_path / "run", model_folder, folder, overlap="newest")

    assert run.status == 0
    check_once(run, parts, order)


def test_zones_of_scenes_that_overlap_sum_to_the_totals(tmp_path, model_folder):
    folder, parts = parts_of(tmp_path, THREE, failing=(1,))
    zones = write_polygons(
        tmp_path / "z.geojson",
        "EPSG:4326",
        [(name, to_ground(shape, "EPSG:4326")) for name, shape in cells(120, 120, 3)],
    )

    run = run_scenes(
        tmp_path / "run", model_folder, folder, overlap="first", zones=zones, max_failures=ANY
    )

    check_once(run, parts, [0, 1, 2])
    check_sum_of_zones(run)
    assert sum(run.zones()[OUTSIDE].values()) > 0


def test_scenes_in_two_systems_of_coordinates_count_their_ground_once(tmp_path, model_folder):
    values = np.full((120, 120, 3), 200, np.uint8)
    write_scene(tmp_path / "in" / "0.tif", values)
    corner = Transformer.from_crs(UTM[0], "EPSG:4326", always_xy=True)
    west, north = corner.transform(*(UTM[1] @ (50, 50)))
    # Pixels of about 10 m, turned against those of UTM.
    degrees = Affine(1.5e-4, 0, west, 0, -9e-5, north)
    dark = np.full((100, 100, 3), 10, np.uint8)
    write_scene(tmp_path / "in" / "1.tif", dark, ("EPSG:4326", degrees))

    alone = run_scenes(tmp_path / "alone", model_folder, tmp_path / "in")
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", overlap="first")
    again = run_scenes(
        tmp_path / "again",
        model_folder,
        *sorted((tmp_path / "in").iterdir())[::-1],
        overlap="first",
    )

    for once in (run, again):
        assert once.status == 0
        summed = math.fsum(once.area_m2[line] for line in PARTS)
        assert summed == pytest.approx(once.area_m2["footprint"], rel=1e-9)
        assert once.pixels["footprint"] == sum(once.pixels[line] for line in PARTS) == 24_400
        assert once.verified()[1] == []
        repeated = once.summary["overlap"]["repeated_m2"]
        # The border of what both show is about 4 x 70 pixels long; half of a pixel at most is off,
        # to either side.
        assert once.area_m2["elsewhere"] == pytest.approx(repeated, abs=70 * 4 * 50)
        assert once.area_m2["elsewhere"] == pytest.approx(repeated, rel=0.01)
    assert run.area_m2["bright"] == pytest.approx(alone.area_m2["bright"], rel=1e-12)
    assert again.area_m2["dark"] == pytest.approx(alone.area_m2["dark"], rel=1e-12)
    both = math.fsum(alone.area_m2[line] for line in ("bright", "dark"))
    assert run.area_m2["bright"] + run.area_m2["dark"] == pytest.approx(
        both - alone.summary["overlap"]["repeated_m2"], rel=2e-3
    )


def test_scenes_on_both_sides_of_the_antimeridian_count_their_ground_once(tmp_path, model_folder):
    for number, west in enumerate((179, -181)):
        values = pixels(50, 200, number)
        place = Affine(0.01, 0, west, 0, -0.01, 10)
        write_scene(tmp_path / "in" / f"{number}.tif", values, ("EPSG:4326", place))

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", overlap="first")

    assert run.pixels["elsewhere"] == 50 * 200
    expected = lines(brightness_labels(pixels(50, 200, 0)))
    assert {line: run.pixels[line] for line in expected} == expected
    assert run.summary["overlap"]["repeated_m2"] == pytest.approx(run.area_m2["elsewhere"], 1e-6)


def test_a_scene_of_another_body_is_in_no_zone_and_costs_nothing_else(tmp_path, model_folder):
    moon = ("IAU_2015:30110", Affine(100, 0, 0, 0, -100, 0))
    for number, at in enumerate((UTM, moon)):
        write_scene(tmp_path / "in" / f"{number}.tif", pixels(50, 60, number), at)
    zones = write_polygons(tmp_path / "z.geojson", "EPSG:4326", [("n", shapely.box(0, 0, 40, 80))])

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", zones=zones, overlap="first")

    assert run.status == 0
    earth, lunar = (lines(brightness_labels(pixels(50, 60, number))) for number in range(2))
    assert run.zones() == {"n": earth, OUTSIDE: lunar}
    check_sum_of_zones(run)
    assert run.verified()[1] == []


def test_without_a_rule_the_summary_says_how_much_ground_counts_more_than_once(
    tmp_path, model_folder
):
    folder, parts = parts_of(tmp_path, THREE)

    run = run_scenes(tmp_path / "run", model_folder, folder)

    _, elsewhere, _ = expected_once(parts, [0, 1, 2])
    assert run.pixels["elsewhere"] == 0
    assert run.pixels["total"] == sum(part.labels.size for part in parts)
    overlap = run.summary["overlap"]
    assert (overlap["counted_once_by"], overlap["scenes"], overlap["overlapping"]) == (None, 3, 3)
    pixel_m2 = run.area_m2["footprint"] / run.pixels["footprint"]
    assert overlap["repeated_m2"] == pytest.approx(sum(elsewhere.values()) * pixel_m2, rel=1e-4)
    assert overlap["footprint_m2"] == pytest.approx(run.area_m2["footprint"], rel=1e-9)
    assert not (run.root / "overlaps.csv").exists()


def test_a_mosaic_for_each_system_takes_the_place_of_the_one_for_all(tmp_path, model_folder):
    write_scene(tmp_path / "in" / "0.tif", pixels(50, 60))
    run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    write_scene(tmp_path / "in" / "1.tif", pixels(50, 60), DEGREES)

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")

    names = sorted(path.name for path in run.root.glob("*.vrt"))
    assert names == ["labels-EPSG-32633.vrt", "labels-EPSG-4326.vrt"]
    for name, path in zip(names, ("in/0.tif", "in/1.tif"), strict=True):
        np.testing.assert_array_equal(read_band(run.root / name), run.labels(path))


def test_tiles_that_abut_show_nothing_twice(tmp_path, model_folder):
    for number in range(4):
        values = pixels(64, 64, number)
        at = place(64 * (number % 2), 64 * (number // 2))
        write_scene(tmp_path / "in" / f"{number}.tif", values, at)

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", overlap="first")

    assert run.summary["overlap"]["overlapping"] == 0
    assert run.pixels["elsewhere"] == 0
    assert run.rows("overlaps.csv") == []


# Runs that go on


def same_tables(one: Finished, other: Finished, *names: str) -> None:
    for name in ("areas.csv", "failures.csv", *names):
        assert (one.root / name).read_bytes() == (other.root / name).read_bytes(), name


def test_zones_and_another_rule_do_not_run_the_model_again(tmp_path, model_folder):
    dates = ["2020:01:01 10:00:00", "2024:01:01 10:00:00", "2022:06:01 00:00:00"]
    folder, parts = parts_of(tmp_path, THREE, dates)
    zones = [
        write_polygons(tmp_path / f"{n}.geojson", UTM[0], [("a", box(0, 0, 50 + n, 99))])
        for n in range(2)
    ]
    steps = [
        {},
        {"zones": zones[0]},
        {"zones": zones[0], "overlap": "first"},
        {"zones": zones[1], "overlap": "newest"},
        {},
    ]
    for number, options in enumerate(steps):
        run = run_scenes(tmp_path / "run", model_folder, folder, **options)
        fresh = run_scenes(tmp_path / f"fresh-{number}", model_folder, folder, **options)

        assert run.status == 0
        if number:
            assert all(report.skipped for report in run.reports)
            assert run.model.batches == []
        assert tree(run.root) == tree(fresh.root)
        assert run.verified()[1] == []
        if "overlap" in options:
            order = [0, 1, 2] if options["overlap"] == "first" else [1, 2, 0]
            check_once(run, parts, order)


@pytest.mark.parametrize("options", [{}, {"overlap": "first"}])
def test_a_scene_that_is_removed_leaves_no_trace(tmp_path, model_folder, options):
    folder, parts = parts_of(tmp_path, THREE)
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], [("a", box(0, 0, 50, 99))])
    run_scenes(tmp_path / "run", model_folder, folder, zones=zones, **options)
    (folder / "1.tif").unlink()

    run = run_scenes(tmp_path / "run", model_folder, folder, zones=zones, **options)
    fresh = run_scenes(tmp_path / "fresh", model_folder, folder, zones=zones, **options)

    assert run.model.batches == []
    assert tree(run.root) == tree(fresh.root)
    assert run.pixels["total"] == parts[0].labels.size + parts[2].labels.size
    assert run.verified()[1] == []


def test_a_scene_that_is_added_changes_the_counts_of_those_it_overlaps(tmp_path, model_folder):
    folder, _ = parts_of(tmp_path, THREE)
    kept = (folder / "0.tif").rename(tmp_path / "0.tif")
    run_scenes(tmp_path / "run", model_folder, folder, overlap="first")
    kept.rename(folder / "0.tif")

    run = run_scenes(tmp_path / "run", model_folder, folder, overlap="first")
    fresh = run_scenes(tmp_path / "fresh", model_folder, folder, overlap="first")

    assert [report.skipped for report in run.reports] == [0, 1, 1]
    assert tree(run.root) == tree(fresh.root)


@pytest.mark.parametrize("name", ["zones.csv", "overlaps.csv", "areas.csv"])
def test_verify_finds_a_changed_table(tmp_path, model_folder, name):
    folder, _ = parts_of(tmp_path, TWO)
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], [("a", box(0, 0, 50, 99))])
    run = run_scenes(tmp_path / "run", model_folder, folder, zones=zones, overlap="first")
    verdict, findings = run.verified()
    assert verdict.is_good, findings

    content = (run.root / name).read_text()
    row = content.splitlines()[1]
    (run.root / name).write_text(content.replace(row, row.replace("1", "2", 1)))

    verdict, findings = run.verified()
    assert not verdict.is_good
    assert [(found.path, found.wrong) for found in findings] == [
        (name, "is not what the commit records add up to")
    ]


@pytest.mark.parametrize("name", ["zones.csv", "overlaps.csv"])
def test_verify_misses_a_table_that_is_gone(tmp_path, model_folder, name):
    folder, _ = parts_of(tmp_path, TWO)
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], [("a", box(0, 0, 50, 99))])
    run = run_scenes(tmp_path / "run", model_folder, folder, zones=zones, overlap="first")
    (run.root / name).unlink()

    verdict, findings = run.verified()

    assert not verdict.is_good
    assert [found.path for found in findings] == [name]
