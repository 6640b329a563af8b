"""The draw of a sample: in proportion to ground, from few blocks, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from scipy.stats import chisquare

from pipelines.accuracy import draw as drawing
from pipelines.accuracy import map_blocks
from pipelines.accuracy.buffers import Buffer, BufferWork, count_block, prepare_pass, spread
from pipelines.accuracy.draw import DrawnPixel, draw
from pipelines.accuracy.map_blocks import MapBlock
from pipelines.accuracy.strata import ANY, Population, StratumKey
from pipelines.geodesy.ground import GroundGrid
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.plan import InputFile, WorkUnit
from pipelines.scenes.results import OUTSIDE
from segmodel.errors import ConfigurationError, DamagedError
from segmodel.tiling.windows import Window
from tests.fakes import BRIGHT, DARK, MIDDLE
from tests.pipelines.corpus import UTM, pixels, small_blocks, spoil_strip, write_scene
from tests.pipelines.counted_scenes import ANY as ANY_FAILURES
from tests.pipelines.counted_scenes import box, one_scene, parts_of
from tests.pipelines.scene_runs import Finished, run_scenes, write_polygons

CLASSES = {DARK: "dark", MIDDLE: "middle", BRIGHT: "bright"}
DRAWS = 100_000
# Chance of a test with a new seed to fail by chance alone; seeds are fixed.
LEAST_P = 1e-3


def drawn_from(run: Finished, size: int, strata: str = "class", seed: int = 1) -> dict:
    population = Population.of(run.work, strata)
    return draw(population, dict.fromkeys(population.areas_m2, size), seed, {})


def ground_of(run: Finished, name: str) -> GroundGrid:
    return drawing.label_ground(str(run.root / "labels" / "in" / name))


def frequencies(found: list[DrawnPixel], shape: tuple[int, int], key: str) -> np.ndarray:
    """How often each pixel of a scene was drawn."""
    counts = np.zeros(shape, np.int64)
    here = [(pixel.row, pixel.column) for pixel in found if pixel.file.key == key]
    np.add.at(counts, tuple(np.array(here).reshape(-1, 2).T), 1)
    return counts


def chance(seen: np.ndarray, weights: np.ndarray) -> float:
    """Chance to draw numbers as far from the weights, or farther; 1 where there is one cell."""
    there = weights > 0
    assert seen[~there].sum() == 0
    expected = weights[there] / weights.sum() * seen.sum()
    return float(chisquare(seen[there], expected).pvalue) if there.sum() > 1 else 1.0


# Ground


@pytest.fixture
def tall_run(tmp_path, model_folder) -> Finished:
    """Scenes of 14 degrees each from the equator to 70 N, of several blocks."""
    for number in range(5):
        north = 14.0 * (number + 1)
        grid = ("EPSG:4326", Affine(0.2, 0, 10, 0, -0.1, north))
        write_scene(tmp_path / "in" / f"{number}.tif", pixels(140, 80, number), grid)
    return run_scenes(tmp_path / "run", model_folder, tmp_path / "in")


@pytest.mark.usefixtures("several_tiles_and_blocks")
def test_draws_from_the_equator_to_70_north_follow_ground_and_not_pixels(tall_run):
    found = drawn_from(tall_run, DRAWS // len(CLASSES) + 1)
    observed, by_ground, by_pixels = [], [], []
    for class_id in CLASSES:
        of_class = found[StratumKey(class_id, "")]
        for number in range(5):
            mask = tall_run.labels(f"in/{number}.tif") == class_id
            rows = ground_of(tall_run, f"{number}.tif").pixel_areas_m2(0, 0, 140, 80)
            counts = frequencies(of_class, mask.shape, f"in/{number}.tif")
            assert counts[~mask].sum() == 0
            observed.append(counts.reshape(10, -1).sum(axis=1))
            by_ground.append((mask * rows).reshape(10, -1).sum(axis=1))
            by_pixels.append(mask.reshape(10, -1).sum(axis=1))
    for values, is_right in ((by_ground, True), (by_pixels, False)):
        for first in range(0, 15, 5):
            seen = np.concatenate(observed[first : first + 5])
            weights = np.concatenate(values[first : first + 5]).astype(float)
            p = chance(seen, weights)
            assert (p > LEAST_P) if is_right else (p < 1e-100)


def test_no_point_lies_on_nodata_or_on_what_failed(tmp_path, model_folder):
    valid = np.random.default_rng(1).random((128, 128)) < 0.6
    extra = {"compress": "deflate", "blockysize": 64}
    path = write_scene(tmp_path / "in" / "a.tif", pixels(128, 128), mask=valid, **extra)
    spoil_strip(path, 1)
    run = run_scenes(tmp_path / "run", model_folder, path, max_failures=ANY_FAILURES)
    for found in drawn_from(run, 500).values():
        assert all(pixel.row < 64 and valid[pixel.row, pixel.column] for pixel in found)


def test_areas_of_strata_are_those_of_the_totals(tmp_path, model_folder):
    path, _ = one_scene(tmp_path)
    run = run_scenes(tmp_path / "run", model_folder, path)
    areas = Population.of(run.work, "class").areas_m2
    assert areas == {StratumKey(i, ""): run.area_m2[name] for i, name in CLASSES.items()}


# Blocks


def far_blocks(count: int) -> list[MapBlock]:
    """Blocks of 8 x 8 pixels of one class below each other in a scene."""
    file = InputFile("a.tif", "in", "a.tif", 1, "1")
    tally = Tally(pixels={"0": 64}, area_m2={"0": 64.0})
    return [MapBlock(file, Window(8 * number, 0, 8, 8), tally) for number in range(count)]


def test_500_points_of_20000_blocks_read_500_blocks_at_most(run_of_blocks):
    population, opened = run_of_blocks(20_000)
    found = draw(population, {StratumKey(0, ""): 500}, 1, {})
    assert len(found[StratumKey(0, "")]) == 500
    assert 480 < len(opened) <= 500
    assert len(set(opened)) == len(opened)


@pytest.fixture
def run_of_blocks(monkeypatch, work):
    """A population of so many blocks whose label maps are not there, and what is read of them."""
    opened: list[Window] = []

    def read(uri: str, window: Window) -> np.ndarray:
        opened.append(window)
        return np.zeros((window.height, window.width), np.uint8)

    def population(count: int) -> tuple[Population, list[Window]]:
        grid = GroundGrid.of(UTM[1], UTM[0], 8 * count, 8)
        monkeypatch.setattr(
            "pipelines.accuracy.strata.placed_blocks", lambda *_: iter(far_blocks(count))
        )
        monkeypatch.setattr(drawing, "label_ground", lambda uri: grid)
        monkeypatch.setattr(drawing, "read_block", read)
        whole = {StratumKey(0, ""): 64.0 * count}
        return Population(work, "class", areas_m2=whole, picked_m2=whole), opened

    return population


def test_neither_threads_nor_other_strata_change_what_is_drawn(tmp_path, model_folder, monkeypatch):
    path, _ = one_scene(tmp_path)
    run = run_scenes(tmp_path / "run", model_folder, path)
    population = Population.of(run.work, "class")
    key = StratumKey(MIDDLE, "")
    first = draw(population, dict.fromkeys(population.areas_m2, 50), 1, {})
    monkeypatch.setattr(drawing, "DRAWING_THREADS", 1)
    assert draw(population, {key: 50}, 1, {})[key] == first[key]
    assert draw(population, {key: 50}, 2, {})[key] != first[key]
    assert draw(population, {key: 50}, 1, {key: 50})[key] != first[key]


def test_a_changed_label_map_is_named(tmp_path, model_folder):
    path, _ = one_scene(tmp_path)
    run = run_scenes(tmp_path / "run", model_folder, path)
    write_scene(run.root / "labels/in/a.tif", np.full((150, 130, 1), DARK, np.uint8))
    with pytest.raises(DamagedError, match=r"labels/in/a\.tif is not what its commit record says"):
        drawn_from(run, 5)


# Ground that counts once


@pytest.fixture(params=["passed over", "measured first"])
def own_ground(request, monkeypatch) -> None:
    """Strata that need many numbers, and the same where their own ground is measured first."""
    if request.param == "measured first":
        monkeypatch.setattr(drawing, "MAX_NUMBERS", 0)
        monkeypatch.setattr(drawing, "NUMBERS_PER_POINT", 0)


@pytest.mark.usefixtures("several_tiles_and_blocks", "own_ground")
def test_ground_that_scenes_share_is_drawn_where_it_counts_and_uniformly(tmp_path, model_folder):
    folder, parts = parts_of(tmp_path, [(0, 0), (40, 30)])
    run = run_scenes(tmp_path / "run", model_folder, folder, overlap="first")
    population = Population.of(run.work, "class")
    assert population.areas_m2 == {StratumKey(i, ""): run.area_m2[n] for i, n in CLASSES.items()}
    found = draw(population, dict.fromkeys(population.areas_m2, 4000), 1, {})
    first, second = parts
    shown = np.zeros(second.labels.shape, bool)
    overlap = first.labels[second.row :, second.column :]
    shown[: overlap.shape[0], : overlap.shape[1]] = overlap != 255
    for class_id in CLASSES:
        net = [first.labels == class_id, (second.labels == class_id) & ~shown]
        of_class = found[StratumKey(class_id, "")]
        counts = [frequencies(of_class, net[n].shape, f"in/{n}.tif") for n in range(2)]
        assert all(c[~mask].sum() == 0 for c, mask in zip(counts, net, strict=True))
        seen = np.array([c.sum() for c in counts])
        expected = np.array([mask.sum() for mask in net])
        assert chance(seen, expected) > LEAST_P


# Zones


def zoned_run(tmp_path, model_folder) -> Finished:
    path, _ = one_scene(tmp_path)
    named = [("west", box(0, 0, 40, 150)), ("a speck", box(100, 100, 104, 104))]
    zones = write_polygons(tmp_path / "zones.geojson", UTM[0], named)
    return run_scenes(tmp_path / "run", model_folder, path, zones=zones)


@pytest.mark.usefixtures("several_tiles_and_blocks", "own_ground")
@pytest.mark.parametrize("strata", ["zone", "class*zone"])
def test_points_of_zones_lie_in_them_uniformly(tmp_path, model_folder, strata):
    run = zoned_run(tmp_path, model_folder)
    labels = run.labels("in/a.tif")
    zone = np.full(labels.shape, OUTSIDE, object)
    zone[:, :40], zone[100:104, 100:104] = "west", "a speck"
    found = drawn_from(run, 300, strata)
    assert {key.zone for key in found} == {"west", "a speck", OUTSIDE}
    for key, pixels_found in found.items():
        inside = (zone == key.zone) & (labels != 255)
        if key.class_id != ANY:
            inside &= labels == key.class_id
        counts = frequencies(pixels_found, labels.shape, "in/a.tif")
        assert counts[~inside].sum() == 0
        areas = inside.reshape(3, 50, -1).sum(axis=(1, 2))
        assert chance(counts.reshape(3, 50, -1).sum(axis=(1, 2)), areas) > LEAST_P


CORNER = StratumKey(ANY, "corner")


@pytest.fixture
def corner(tmp_path, model_folder, monkeypatch) -> Finished:
    """A run over a scene with a zone of 20 pixels where its four blocks meet."""
    small_blocks(monkeypatch, 128)
    path, _ = one_scene(tmp_path)
    named = [("corner", box(126, 126, 131, 131)), ("rest", box(0, 0, 126, 150))]
    zones = write_polygons(tmp_path / "zones.geojson", UTM[0], named)
    return run_scenes(tmp_path / "run", model_folder, path, zones=zones)


def test_a_zone_in_a_corner_takes_a_number_for_each_point_and_has_them_uniformly(
    corner, monkeypatch
):
    labels, population = corner.labels("in/a.tif"), Population.of(corner.work, "zone")
    taken: list[int] = []
    next_numbers = drawing._Drawing.next_numbers

    def noted(self: drawing._Drawing) -> np.ndarray:
        found = next_numbers(self)
        taken.append(len(found))
        return found

    monkeypatch.setattr(drawing._Drawing, "next_numbers", noted)
    found = draw(population, {CORNER: 5000}, 1, {})[CORNER]

    assert taken == [5000]
    counts = frequencies(found, labels.shape, "in/a.tif")[126:131, 126:130]
    inside = labels[126:131, 126:130] != 255
    assert counts.sum() == 5000
    assert chance(counts[inside], np.ones(inside.sum())) > LEAST_P


def test_strata_need_so_many_numbers_at_most(corner):
    population = Population.of(corner.work, "zone")
    share = population.areas_m2[CORNER] / population.picked_m2[CORNER]
    assert 1 / 900 < share < 1 / 890
    for wanted, is_hard in ((10, False), (20, True), (5000, True)):
        assert drawing._Drawing(CORNER, wanted, None, share).is_hard is is_hard
    assert not drawing._Drawing(CORNER, 20_000, None, 1 / 50).is_hard


def test_a_zone_without_the_ground_that_was_counted_is_refused(corner, monkeypatch):
    population = Population.of(corner.work, "zone")
    monkeypatch.setattr(map_blocks, "_zones_on", lambda *_: None)
    with pytest.raises(DamagedError, match="label maps do not have the ground that was counted"):
        draw(population, {CORNER: 50}, 1, {})


def test_areas_of_zones_are_those_of_the_table(tmp_path, model_folder):
    run = zoned_run(tmp_path, model_folder)
    by_zone = run.zones("area_m2")
    areas = Population.of(run.work, "class*zone").areas_m2
    expected = {
        StratumKey(i, zone): by_zone[zone][name]
        for zone in by_zone
        for i, name in CLASSES.items()
        if name in by_zone[zone]
    }
    assert areas == expected


def test_strata_by_zone_need_zones_that_do_not_overlap(tmp_path, model_folder):
    path, _ = one_scene(tmp_path)
    plain = run_scenes(tmp_path / "plain", model_folder, path)
    with pytest.raises(ConfigurationError, match="--strata zone needs zones, and the run has none"):
        Population.of(plain.work, "zone")
    named = [("a", box(0, 0, 60, 60)), ("b", box(30, 0, 90, 60))]
    zones = write_polygons(tmp_path / "zones.geojson", UTM[0], named)
    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)
    with pytest.raises(ConfigurationError, match="zones that do not overlap"):
        Population.of(run.work, "class*zone")


# Buffers


def within(mask: np.ndarray, distance: int) -> np.ndarray:
    """Pixels with one of the mask within so many rows and columns, one by one."""
    found = np.zeros(mask.shape, bool)
    for row, column in np.argwhere(mask).tolist():
        top, left = max(0, row - distance), max(0, column - distance)
        found[top : row + distance + 1, left : column + distance + 1] = True
    return found


@pytest.mark.parametrize("distance", [0, 1, 2, 4, 5, 13, 40])
def test_a_mask_is_spread_as_far_as_the_distance(distance):
    mask = np.random.default_rng(distance).random((31, 23)) < 0.01
    mask[0, 4] = mask[30, 0] = True
    np.testing.assert_array_equal(spread(mask, distance), within(mask, distance))


def counted(run: Finished, buffer: Buffer, by_zone: bool = False) -> BufferWork:
    """A buffer that a pass over a run has counted."""
    folder = str(run.root / "sample")
    prepared = prepare_pass(run.work, folder, buffer, "0" * 64, by_zone=by_zone)
    for unit in plan.read_units(prepared.work.run.plan, WorkUnit):
        count_block(unit, prepared.work)
    return prepared.work


def rare(tmp_path) -> Path:
    """A scene with a few bright pixels, also where blocks meet, among others and nodata."""
    values = pixels(150, 260) // 2
    for row, column in ((127, 127), (128, 20), (60, 130), (149, 259), (3, 0)):
        values[row, column] = 240
    valid = np.random.default_rng(1).random((150, 260)) < 0.9
    valid[[127, 128, 60, 149, 3], [127, 20, 130, 259, 0]] = True
    return write_scene(tmp_path / "in" / "a.tif", values, mask=valid)


@pytest.mark.usefixtures("several_tiles_and_blocks")
def test_a_buffer_takes_the_pixels_near_its_class_from_all_others(tmp_path, model_folder):
    run = run_scenes(tmp_path / "run", model_folder, rare(tmp_path))
    labels = run.labels("in/a.tif")
    near = within(labels == BRIGHT, 5) & (labels != BRIGHT) & (labels != 255)
    assert (labels == BRIGHT).sum() == 5
    population = Population.of(run.work, "class", counted(run, Buffer(BRIGHT, 5)))
    around = StratumKey(ANY, "", BRIGHT)
    masks = {
        StratumKey(DARK, ""): (labels == DARK) & ~near,
        StratumKey(MIDDLE, ""): (labels == MIDDLE) & ~near,
        StratumKey(BRIGHT, ""): labels == BRIGHT,
        around: near,
    }
    rows = ground_of(run, "a.tif").pixel_areas_m2(0, 0, 150, 260)
    assert list(population.areas_m2) == list(masks)
    for key, mask in masks.items():
        assert population.areas_m2[key] == pytest.approx((mask * rows).sum(), rel=1e-9)
    total = sum(run.area_m2[name] for name in CLASSES.values())
    assert sum(population.areas_m2.values()) == pytest.approx(total, rel=1e-12)
    for key, found in draw(population, dict.fromkeys(masks, 3000), 1, {}).items():
        counts = frequencies(found, labels.shape, "in/a.tif")
        assert counts[~masks[key]].sum() == 0
        weights = (masks[key] * rows).reshape(10, 15, 260).sum(axis=(1, 2))
        assert chance(counts.reshape(10, 15, 260).sum(axis=(1, 2)), weights) > LEAST_P


@pytest.mark.usefixtures("several_tiles_and_blocks", "own_ground")
def test_each_zone_has_a_buffer_of_its_own(tmp_path, model_folder):
    path = rare(tmp_path)
    zones = write_polygons(tmp_path / "zones.geojson", UTM[0], [("west:1", box(0, 0, 125, 150))])
    run = run_scenes(tmp_path / "run", model_folder, path, zones=zones)
    labels = run.labels("in/a.tif")
    near = within(labels == BRIGHT, 5) & (labels != BRIGHT) & (labels != 255)
    west = np.zeros(labels.shape, bool)
    west[:, :125] = True
    masks = {}
    for zone, inside in (("west:1", west), (OUTSIDE, ~west)):
        for class_id in (DARK, MIDDLE):
            masks[StratumKey(class_id, zone)] = (labels == class_id) & ~near & inside
        masks[StratumKey(BRIGHT, zone)] = (labels == BRIGHT) & inside
        masks[StratumKey(ANY, zone, BRIGHT)] = near & inside
    # The buffer of a pixel in the east reaches into the west.
    assert masks[StratumKey(ANY, "west:1", BRIGHT)][:, 122:].any()

    population = Population.of(run.work, "class*zone", counted(run, Buffer(BRIGHT, 5), True))

    rows = ground_of(run, "a.tif").pixel_areas_m2(0, 0, 150, 260)
    expected = {key: (mask * rows).sum() for key, mask in masks.items()}
    assert population.areas_m2 == pytest.approx(expected, rel=1e-9)
    names = {key.name(CLASSES) for key in population.areas_m2}
    assert {"dark in west:1", "around bright in west:1"} <= names
    for key, found in draw(population, dict.fromkeys(masks, 300), 1, {}).items():
        counts = frequencies(found, labels.shape, "in/a.tif")
        assert counts[~masks[key]].sum() == 0
        weights = (masks[key] * rows).reshape(10, 15, 260).sum(axis=(1, 2))
        assert chance(counts.reshape(10, 15, 260).sum(axis=(1, 2)), weights) > LEAST_P


@pytest.mark.usefixtures("several_tiles_and_blocks")
def test_a_buffer_counts_ground_that_scenes_share_once(tmp_path, model_folder):
    folder, parts = parts_of(tmp_path, [(0, 0), (40, 30)])
    run = run_scenes(tmp_path / "run", model_folder, folder, overlap="first")
    population = Population.of(run.work, "class", counted(run, Buffer(BRIGHT, 1)))
    first, second = parts
    covered = np.zeros(second.labels.shape, bool)
    overlap = first.labels[second.row :, second.column :]
    covered[: overlap.shape[0], : overlap.shape[1]] = overlap != 255
    near = [within(p.labels == BRIGHT, 1) & (p.labels != BRIGHT) & (p.labels != 255) for p in parts]
    near[1] &= ~covered
    around = StratumKey(ANY, "", BRIGHT)
    pixel = run.area_m2["bright"] / run.pixels["bright"]
    expected = sum(mask.sum() for mask in near) * pixel
    assert population.areas_m2[around] == pytest.approx(expected, rel=1e-5)
    total = sum(run.area_m2[name] for name in CLASSES.values())
    assert sum(population.areas_m2.values()) == pytest.approx(total, rel=1e-12)
    found = draw(population, {around: 500}, 1, {})[around]
    counts = [frequencies(found, mask.shape, f"in/{n}.tif") for n, mask in enumerate(near)]
    assert all(c[~mask].sum() == 0 for c, mask in zip(counts, near, strict=True))
    assert chance(np.array([c.sum() for c in counts]), np.array([m.sum() for m in near])) > LEAST_P


def test_scenes_without_a_place_are_left_out_and_counted(tmp_path, model_folder):
    path, _ = one_scene(tmp_path)
    plain = (None, Affine(1, 0, 5, 0, -1, 9))
    write_scene(tmp_path / "in" / "plain.tif", pixels(64, 64), plain)
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", pixel_size=2.0)
    population = Population.of(run.work, "class")
    assert population.unplaced == 1
    only = run_scenes(tmp_path / "only", model_folder, path)
    assert population.areas_m2 == Population.of(only.work, "class").areas_m2
    none = run_scenes(tmp_path / "none", model_folder, tmp_path / "in" / "plain.tif")
    with pytest.raises(ConfigurationError, match="no labelled scene with a place"):
        Population.of(none.work, "class")
