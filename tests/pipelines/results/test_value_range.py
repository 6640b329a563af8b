"""Values outside the range of the model are counted, told, and judged at the end of a run."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from pipelines.run.area_tables import SCHEMA
from pipelines.runners.execute import print_result
from segmodel.tiling.raster import out_of_range
from tests.fakes import CLASSES, brightness_labels
from tests.pipelines.corpus import (
    UTM,
    pixels,
    png,
    record,
    small_blocks,
    spoil_strip,
    write,
    write_model_folder,
    write_scene,
    write_shard,
)
from tests.pipelines.scene_runs import Finished, run_scenes, write_polygons

HIGH = 200


@pytest.fixture
def model(tmp_path) -> Path:
    """A model of bytes up to 200."""
    return write_model_folder(tmp_path / "model", value_range=(0.0, float(HIGH)))


def within(height: int, width: int, seed: int) -> np.ndarray:
    return np.minimum(pixels(height, width, seed), HIGH)


def beyond(values: np.ndarray) -> np.ndarray:
    return (values > HIGH).any(axis=-1)


def rows_of(run: Finished) -> dict[tuple[str, str | None, int | None], dict]:
    found = {}
    for path in sorted((run.root / "areas").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            found[row["source"], row["key"], row["class_id"]] = row
    return found


def out_of_classes(run: Finished, source: str, key: str | None = None) -> list[int]:
    rows = rows_of(run)
    return [rows[source, key, number]["out_of_range"] for number in CLASSES.ids]


def by_class(labels: np.ndarray, where: np.ndarray) -> list[int]:
    return [int(((labels == number) & where).sum()) for number in CLASSES.ids]


def odd_scene(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A scene whose right part has values out of range, and whose left edge is nodata (255)."""
    values = within(150, 140, 1)
    values[:, 100:, 1] = 230
    values[:, :20] = 255
    write_scene(path, values, nodata=255, compress="deflate", blockysize=16)
    valid = np.ones((150, 140), bool)
    valid[:, :20] = False
    return values, valid


@pytest.mark.parametrize("halo", [0, 32])
def test_pixels_of_a_scene_of_blocks_are_counted_once_by_class(tmp_path, model, monkeypatch, halo):
    small_blocks(monkeypatch, 64)
    values, valid = odd_scene(tmp_path / "in" / "a.tif")

    run = run_scenes(tmp_path / "run", model, tmp_path / "in", halo=halo, window=32)

    where = beyond(values) & valid
    assert out_of_classes(run, "in/a.tif") == by_class(brightness_labels(values), where)
    told = run.summary["out_of_range"]
    assert (told["pixels"], told["compared_pixels"]) == (150 * 40, 150 * 120)
    assert told["share"] == 1 / 3
    assert told["worst_images"] == [
        {"uri": "in/a.tif", "key": None, "pixels": 6000, "compared": 18000, "share": 1 / 3}
    ]


def test_another_limit_only_reads_again_and_the_map_stays(tmp_path, model, monkeypatch, capsys):
    small_blocks(monkeypatch, 64)
    odd_scene(tmp_path / "in" / "a.tif")
    write_scene(tmp_path / "in" / "b.tif", within(90, 80, 2))

    failed = run_scenes(tmp_path / "run", model, tmp_path / "in")

    assert failed.status == 3
    assert (failed.summary["images"], failed.summary["failed_images"]) == (1, 1)
    (row,) = failed.rows("failures.csv")
    assert (row["uri"], row["key"], row["stage"]) == ("in/a.tif", "", "range")
    assert "33.3 % of the labelled pixels hold values outside 0 to 200" in row["reason"]
    assert "--max_out_of_range allows 25 %" in row["reason"]
    assert failed.summary["out_of_range"]["failed_images"] == 1
    assert failed.verified() == (failed.verified()[0], [])
    assert print_result(failed.summary, {}, "failures.csv", 0) == 3
    assert "then raise --max_failures or --max_out_of_range, or correct" in capsys.readouterr().err
    labels, areas = failed.labels("in/a.tif"), (failed.root / "areas.csv").read_bytes()

    passed = run_scenes(tmp_path / "run", model, tmp_path / "in", max_out_of_range=Fraction(1, 3))

    assert passed.status == 0
    assert all(report.skipped for report in passed.reports)
    assert (passed.summary["images"], passed.summary["failed_images"]) == (2, 0)
    assert passed.rows("failures.csv") == []
    np.testing.assert_array_equal(passed.labels("in/a.tif"), labels)
    assert (passed.root / "areas.csv").read_bytes() == areas
    assert passed.verified()[0].is_good
    policy = json.loads((passed.root / "run.json").read_text())["policy"]
    assert policy == {"max_failures": "0", "max_out_of_range": "1/3"}


def test_images_fail_each_by_its_own_share(tmp_path, model):
    images = [within(40, 50, number) for number in range(4)]
    images[1][:10] = 255
    images[2][:11] = 255
    images[3][0, 0, 2] = 201
    for number, values in enumerate(images):
        write(tmp_path / "in" / f"{number}.png", png(values))
    write_shard(tmp_path / "in" / "s.tfrecord", [record(images[0], "x"), record(images[2], "y")])

    run = run_scenes(tmp_path / "run", model, tmp_path / "in")

    assert run.status == 3
    assert {(row["uri"], row["key"]) for row in run.rows("failures.csv")} == {
        ("in/2.png", ""),
        ("in/s.tfrecord", "#1 y"),
    }
    assert sum(out_of_classes(run, "in/1.png")) == 500
    assert sum(out_of_classes(run, "in/3.png")) == 1
    assert sum(out_of_classes(run, "in/s.tfrecord", "#1 y")) == 550
    told = run.summary["out_of_range"]
    assert (told["pixels"], told["failed_images"]) == (500 + 550 + 1 + 550, 2)
    assert [(image["uri"], image["key"], image["pixels"]) for image in told["worst_images"]] == [
        ("in/2.png", None, 550),
        ("in/s.tfrecord", "#1 y", 550),
        ("in/1.png", None, 500),
        ("in/3.png", None, 1),
    ]
    assert run.verified()[1] == []


def test_what_is_outside_the_area_of_interest_is_no_part_of_it(tmp_path, model):
    values, _ = odd_scene(tmp_path / "in" / "a.tif")
    crs, transform = UTM
    left, top = transform.c, transform.f
    inside = shapely.box(left, top - 1500, left + 1100, top)
    aoi = write_polygons(tmp_path / "aoi.json", crs, [("a", inside)])

    run = run_scenes(tmp_path / "run", model, tmp_path / "in", aoi=aoi)

    told = run.summary["out_of_range"]
    assert (told["pixels"], told["compared_pixels"]) == (150 * 10, 150 * 90)
    assert (run.status, values.shape) == (0, (150, 140, 3))


def test_a_resampled_scene_counts_its_own_pixels(tmp_path, model):
    values = within(120, 100, 3)
    values[:, 60:] = 255
    write_scene(tmp_path / "in" / "a.tif", values)

    run = run_scenes(tmp_path / "run", model, tmp_path / "in", resample_to=20.0)

    told = run.summary["out_of_range"]
    assert (told["pixels"], told["compared_pixels"]) == (120 * 40, 120 * 100)


def test_a_model_whose_range_holds_all_values_compares_none(tmp_path, model_folder):
    write(tmp_path / "in" / "a.png", png(pixels(40, 50)))

    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")

    assert run.summary["out_of_range"] is None
    (path,) = (run.root / "areas").glob("*.parquet")
    assert pq.read_table(path).schema.equals(SCHEMA)
    (path,) = (run.root / "commits").glob("*.json")
    tally = json.loads(path.read_text())["tally"]
    assert not {"compared_pixels", "out_of_range", "worst_share"} & set(tally)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("limits", [(10.0, 90.0), (9.5, 90.5), (-np.inf, 50.0), (0.0, np.inf)])
def test_pixels_out_of_range_are_those_with_a_band_beyond_a_limit(dtype, limits):
    values = np.random.default_rng(4).integers(0, 100, (30, 40, 3)).astype(dtype)
    labelled = np.random.default_rng(5).random((30, 40)) > 0.2
    expected = ((values < limits[0]) | (values > limits[1])).any(axis=-1) & labelled

    found = out_of_range(values, labelled, limits)

    np.testing.assert_array_equal(np.zeros_like(expected) if found is None else found, expected)


def test_rounding_of_floating_point_is_not_out_of_range():
    values = np.array([1.0, np.nextafter(np.float32(1), np.float32(2)), 1.00001], np.float32)
    assert out_of_range(values[None, :, None], None, (0.0, 1.0)).tolist() == [[False, False, True]]
    missing = np.array([np.nan, np.inf, 0.5], np.float32)
    finite = np.isfinite(missing)[None]
    assert out_of_range(missing[None, :, None], finite, (0.0, 1.0)) is None


@pytest.mark.parametrize(("tag", "expected"), [(-9999, 0), (None, 600)])
def test_a_nodata_value_that_the_file_states_is_no_part_of_it(tmp_path, tag, expected):
    fields = {"dtype": "int16", "value_range": (0.0, 255.0)}
    model = write_model_folder(tmp_path / "model", **fields)
    values = pixels(60, 50).astype(np.int16)
    values[:12, :, 1] = -9999
    write_scene(tmp_path / "in" / "a.tif", values, nodata=tag)

    run = run_scenes(tmp_path / "run", model, tmp_path / "in")

    told = run.summary["out_of_range"]
    assert (told["pixels"], told["compared_pixels"]) == (expected, 60 * 50 - 600 + expected)


def test_a_scene_that_failed_already_does_not_fail_twice(tmp_path, model):
    path = tmp_path / "in" / "a.tif"
    odd_scene(path)
    spoil_strip(path, 0)

    run = run_scenes(tmp_path / "run", model, path, max_out_of_range=Fraction(0), window=32)

    assert (run.summary["images"], run.summary["failed_images"]) == (0, 1)
    assert {row["stage"] for row in run.rows("failures.csv")} == {"read"}
    assert run.summary["out_of_range"]["failed_images"] == 0
    assert run.summary["out_of_range"]["worst_images"][0]["uri"] == "in/a.tif"
    assert run.verified()[1] == []
