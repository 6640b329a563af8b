"""Scenes against rasters and polygons: blocks, other grids, zones, ground area, boundaries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import Transformer

from pipelines.cli.values import FailureBudget
from pipelines.geodesy.ground import GroundGrid
from segmodel.errors import ConfigurationError
from segmodel.evaluation.boundary import boundary_counts
from segmodel.tiling.windows import Window
from tests.fakes import CLASSES
from tests.pipelines.accuracy.evaluated import counted_by_hand, evaluated, random_ids
from tests.pipelines.corpus import DEGREES, UTM, pixels, read_band, small_blocks, tree, write_scene
from tests.pipelines.scene_runs import run_scenes, write_polygons

HEIGHT, WIDTH = 150, 200


def scenes_of(tmp_path, place=UTM, names=("a.tif",)):
    for number, name in enumerate(names):
        write_scene(tmp_path / "scenes" / name, pixels(HEIGHT, WIDTH, number), place)
    return tmp_path / "scenes"


@pytest.fixture
def run(tmp_path, model_folder, monkeypatch):
    """A run over one scene of 150 x 200 pixels in blocks of 64."""
    small_blocks(monkeypatch, 64)
    return run_scenes(tmp_path / "run", model_folder, scenes_of(tmp_path), confidence=True).root


def write_ids(path, ids, place=UTM, **profile):
    write_scene(path, ids[..., None], place, **profile)
    return path


def labels_of(run, name="a.tif"):
    return read_band(run / "labels" / "scenes" / name)


def test_a_mask_under_the_path_of_the_scene_is_compared_block_by_block(run, tmp_path):
    truth = random_ids(HEIGHT, WIDTH, 1, 255)
    write_ids(tmp_path / "masks" / "a.tif", truth)

    found = evaluated(run, tmp_path / "masks")

    assert (found.status, len(found.done)) == (0, 12)
    assert found.matrix == counted_by_hand(truth, labels_of(run))
    (row,) = found.rows("images.csv")
    assert (row["kind"], row["reference"]) == ("scene", "masks of the same grid")
    assert found.scores["compared"] == [
        {"kind": "scene", "reference": "masks of the same grid", "images": 1}
    ]


def test_blocks_do_not_change_boundary_iou_and_confidence(run, tmp_path):
    truth = random_ids(15, 20, 1).repeat(10, 0).repeat(10, 1)
    write_ids(tmp_path / "masks" / "a.tif", truth)

    found = evaluated(run, tmp_path / "masks", boundary_px=3).scores["all"]

    index = np.full(256, -1)
    index[list(CLASSES.ids)] = range(3)
    whole = Window(0, 0, HEIGHT, WIDTH)
    expected = boundary_counts(index[truth], index[labels_of(run)], 3, 3, whole)
    assert tuple(found["boundary_iou"].values()) == expected.iou
    confidence = read_band(run / "confidence" / "scenes" / "a.tif")
    pixels_of_bins = [row["pixels"] for row in found["reliability"]["bins"]]
    assert sum(pixels_of_bins) == HEIGHT * WIDTH
    assert pixels_of_bins[0] == np.count_nonzero(confidence <= 17)


def test_areas_are_those_of_the_pixels(tmp_path, model_folder):
    run = run_scenes(tmp_path / "run", model_folder, scenes_of(tmp_path, DEGREES)).root
    truth = random_ids(HEIGHT, WIDTH, 1)
    write_ids(tmp_path / "masks" / "a.tif", truth, DEGREES)

    found = evaluated(run, tmp_path / "masks").scores["all"]

    grid = GroundGrid.of(DEGREES[1], DEGREES[0], HEIGHT, WIDTH)
    areas = np.broadcast_to(grid.pixel_areas_m2(0, 0, HEIGHT, WIDTH), truth.shape)
    expected = areas[(truth == 3) & (labels_of(run) == 7)].sum()
    assert found["matrix_m2"][1][2] == pytest.approx(expected, rel=1e-12)
    assert found["scores_by_area"]["pixel_accuracy"] == pytest.approx(
        areas[truth == labels_of(run)].sum() / areas.sum(), rel=1e-12
    )


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3857"])
def test_a_raster_on_another_grid_counts_where_it_is_nearest_to_pixel_centres(run, tmp_path, crs):
    way = Transformer.from_crs("EPSG:32633", crs, always_xy=True)
    middle = way.transform(301_000, 5_999_250)
    step = 1e-4 if crs == "EPSG:4326" else 7.3
    transform = Affine(step, 0, middle[0] - 60 * step, 0, -step, middle[1] + 40 * step)
    reference = random_ids(80, 120, 3, 255)
    write_ids(tmp_path / "land.tif", reference, (crs, transform), nodata=255)

    found = evaluated(run, tmp_path / "land.tif")

    rows, columns = np.indices((HEIGHT, WIDTH)) + 0.5
    x, y = way.transform(300_000 + 10 * columns, 6_000_000 - 10 * rows)
    across = np.floor((x - transform.c) / step).astype(int)
    down = np.floor((transform.f - y) / step).astype(int)
    inside = (across >= 0) & (across < 120) & (down >= 0) & (down < 80)
    truth = np.full((HEIGHT, WIDTH), 255)
    truth[inside] = reference[down[inside], across[inside]]
    assert np.count_nonzero(truth != 255) > 1000
    assert found.matrix == counted_by_hand(truth, labels_of(run))
    assert found.rows("images.csv")[0]["reference"] == "the nearest pixel of a raster"


def test_a_reference_that_is_much_finer_is_read_in_parts(run, tmp_path, monkeypatch):
    transform = Affine(2, 0, 300_000, 0, -2, 6_000_000)
    reference = random_ids(5 * HEIGHT, 5 * WIDTH, 3)
    write_ids(tmp_path / "land.tif", reference, (UTM[0], transform))
    monkeypatch.setattr("pipelines.accuracy.evaluation.references.MAX_READ_PIXELS", 1000)

    found = evaluated(run, tmp_path / "land.tif")

    assert found.matrix == counted_by_hand(reference[2::5, 2::5], labels_of(run))


def test_polygons_count_at_pixel_centres_and_nowhere_where_two_classes_lie(run, tmp_path):
    def box(top, left, bottom, right):
        return shapely.box(
            300_000 + 10 * left, 6_000_000 - 10 * bottom, 300_000 + 10 * right, 6_000_000 - 10 * top
        )

    # 3 is the id of the middle class.
    named = [("dark", box(0, 0, 40, 60.4)), ("3", box(30, 50, 80, 90)), ("3", box(80, 0, 90, 10))]
    file = write_polygons(tmp_path / "plots.geojson", UTM[0], named)

    found = evaluated(run, file)

    truth = np.full((HEIGHT, WIDTH), 255)
    truth[:40, :60] = 0
    truth[30:80, 50:90] = 3
    truth[30:40, 50:60] = 255
    truth[80:90, :10] = 3
    assert found.matrix == counted_by_hand(truth, labels_of(run))
    assert found.rows("images.csv")[0]["reference"] == "polygons"


def test_zones_have_matrices_of_their_own(run, tmp_path):
    truth = random_ids(HEIGHT, WIDTH, 1)
    write_ids(tmp_path / "masks" / "a.tif", truth)
    west = shapely.box(300_000, 5_998_500, 301_000, 6_000_000)
    north = shapely.box(300_000, 5_999_500, 302_000, 6_000_000)
    zones = write_polygons(tmp_path / "zones.geojson", UTM[0], [("west", west), ("north", north)])

    found = evaluated(run, tmp_path / "masks", zones=zones)

    cells = {(z, t, g): n for z, t, g, n in found.cells("zone")}
    labels = labels_of(run)
    for zone, part in (("west", np.s_[:, :100]), ("north", np.s_[:50])):
        expected = counted_by_hand(truth[part], labels[part])
        names = CLASSES.names
        counts = [[cells.get((zone, t, g), 0) for g in names] for t in names]
        assert counts == expected, zone
    assert sorted(found.scores["zones"]) == ["north", "west"]


def test_nodata_of_the_map_is_unlabelled_and_in_no_score(tmp_path, model_folder):
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:30] = 0
    write_scene(tmp_path / "scenes/a.tif", pixels(HEIGHT, WIDTH), UTM, mask=mask)
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "scenes").root
    truth = random_ids(HEIGHT, WIDTH, 1)
    write_ids(tmp_path / "masks" / "a.tif", truth)

    found = evaluated(run, tmp_path / "masks")

    assert found.scores["all"]["unlabelled_pixels"] == 30 * WIDTH
    assert found.matrix == counted_by_hand(truth, labels_of(run))
    assert sum(n for _, _, label, n in found.cells("all") if label is None) == 30 * WIDTH


def test_a_block_that_cannot_be_compared_costs_its_scene(tmp_path, model_folder, monkeypatch):
    small_blocks(monkeypatch, 64)
    folder = scenes_of(tmp_path, names=("a.tif", "b.tif"))
    run = run_scenes(tmp_path / "run", model_folder, folder).root
    truth = random_ids(HEIGHT, WIDTH, 1)
    write_ids(tmp_path / "masks" / "b.tif", truth)
    truth = truth.copy()
    truth[140, 190] = 99
    write_ids(tmp_path / "masks" / "a.tif", truth)

    found = evaluated(run, tmp_path / "masks", max_failures=FailureBudget(1, None))

    assert (found.status, found.scores["images"], found.scores["failed_images"]) == (0, 1, 1)
    (row,) = found.rows("failures.csv")
    assert (row["uri"], row["code"]) == ("scenes/a.tif", "unknown_class")
    truth = read_band(tmp_path / "masks" / "b.tif")
    assert found.matrix == counted_by_hand(truth, labels_of(run, "b.tif"))


def test_label_maps_of_another_run_are_a_reference(run, tmp_path):
    found = evaluated(run, run / "labels")

    assert found.scores["all"]["scores"]["pixel_accuracy"] == 1.0
    assert found.scores["images"] == 1


def test_a_scene_cut_into_other_blocks_gives_the_same_scores(tmp_path, model_folder, monkeypatch):
    folder = scenes_of(tmp_path)
    write_ids(tmp_path / "masks" / "a.tif", random_ids(HEIGHT, WIDTH, 1, 255))
    whole = run_scenes(tmp_path / "one/run", model_folder, folder).root
    small_blocks(monkeypatch, 64)
    blocks = run_scenes(tmp_path / "many/run", model_folder, folder).root

    found = [evaluated(run, tmp_path / "masks", boundary_px=2) for run in (whole, blocks)]

    assert [len(entry.done) for entry in found] == [1, 12]
    one, many = (entry.scores["all"] for entry in found)
    assert (one["matrix"], one["boundary_iou"]) == (many["matrix"], many["boundary_iou"])


def test_a_class_of_polygons_that_the_run_has_not_is_refused(run, tmp_path):
    square = shapely.box(300_000, 5_999_000, 301_000, 6_000_000)
    file = write_polygons(
        tmp_path / "plots.geojson", UTM[0], [(name, square) for name in ("dark", "shrub")]
    )

    with pytest.raises(ConfigurationError, match="'shrub' is neither the name nor the id of a"):
        evaluated(run, file)


@pytest.mark.parametrize(
    ("properties", "remedy"),
    [
        ({"cover": "dark"}, r"no field called name, NAME or Name: .* --class_field \(cover\)"),
        ({}, "no field called name, NAME or Name: it has no fields"),
        ({"name": None, "cover": "dark"}, r"feature id 0: .* --class_field \(cover\)"),
    ],
)
def test_feature_ids_of_polygons_are_no_classes(run, tmp_path, properties, remedy):
    square = shapely.box(300_000, 5_999_000, 301_000, 6_000_000)
    file = write_polygons(tmp_path / "plots.geojson", UTM[0], [("dark", square)])
    document = json.loads(Path(file).read_text())
    document["features"][0]["properties"] = properties
    Path(file).write_text(json.dumps(document))

    with pytest.raises(ConfigurationError, match=remedy):
        evaluated(run, file)


def test_polygons_elsewhere_are_no_failure_and_no_image(run, tmp_path):
    square = shapely.box(500_000, 5_000_000, 501_000, 5_001_000)
    file = write_polygons(tmp_path / "plots.geojson", UTM[0], [("dark", square)])

    found = evaluated(run, file)

    assert (found.status, found.scores["images"], found.rows("images.csv")) == (0, 0, [])
    assert found.scores["all"]["scores"]["mean_iou"] is None


def test_an_evaluation_leaves_the_run_as_it_is(run, tmp_path):
    before = tree(run)
    write_ids(tmp_path / "masks" / "a.tif", random_ids(HEIGHT, WIDTH, 1))

    evaluated(run, tmp_path / "masks")

    assert tree(run) == before


def test_points_count_in_the_pixels_that_they_lie_in(run, tmp_path):
    random = np.random.default_rng(6)
    columns, rows = random.uniform(-20, WIDTH, 300), random.uniform(0, HEIGHT + 9, 300)
    names = random.choice(CLASSES.names, 300)
    to_degrees = Transformer.from_crs(UTM[0], "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(300_000 + 10 * columns, 6_000_000 - 10 * rows)
    lines = [f"{x:.9f},{y:.9f},{name}" for x, y, name in zip(lon, lat, names, strict=True)]
    table = tmp_path / "seen.csv"
    table.write_text("\n".join(["lon,lat,Class", *lines, f"{lon[0]},{lat[0]},"]))

    found = evaluated(run, table)

    inside = (columns >= 0) & (rows < HEIGHT)
    at = rows[inside].astype(int), columns[inside].astype(int)
    ids = np.array([CLASSES.ids[CLASSES.names.index(name)] for name in names[inside]])
    assert found.matrix == counted_by_hand(ids, labels_of(run)[at])
    whole = found.scores["all"]
    assert (whole["matrix_m2"], found.rows("images.csv")[0]["reference"]) == (None, "points")
    assert sum(row["pixels"] for row in whole["reliability"]["bins"]) == inside.sum()


def test_points_of_a_vector_file_have_the_field_of_classes_that_is_named(run, tmp_path):
    named = [
        ("bright", shapely.Point(300_005, 5_999_995)),
        ("0", shapely.Point(300_015, 5_999_995)),
    ]
    file = write_polygons(tmp_path / "seen.geojson", UTM[0], named)

    found = evaluated(run, file, class_field="name")

    assert found.matrix == counted_by_hand(np.array([7, 0]), labels_of(run)[0, :2])
    with pytest.raises(ConfigurationError, match="--boundary_px needs boundaries"):
        evaluated(run, file, class_field="name", boundary_px=1)
    with pytest.raises(ConfigurationError, match="no layer with the fields class: a reference of"):
        evaluated(run, file)
