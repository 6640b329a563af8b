"""Soft areas from units to the table: of known probabilities and ground, under every change."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from affine import Affine

from pipelines.cli.values import FailureBudget
from pipelines.geodesy.ground import GroundGrid
from pipelines.results.verify import verify
from pipelines.run import plan
from pipelines.scenes.results import result_lines
from pipelines.segment.options import SegmentOptions
from segmodel.errors import ConfigurationError
from tests.fakes import BRIGHT, DARK, MIDDLE, brightness_labels
from tests.pipelines.corpus import (
    DEGREES,
    UTM,
    begun,
    finish,
    photos,
    pixels,
    png,
    run_unit,
    small_blocks,
    spoil_strip,
    sum_commits,
    tree,
    write,
    write_scene,
)
from tests.pipelines.counted_scenes import TWO, box, holes, parts_of
from tests.pipelines.grounds import whole
from tests.pipelines.scene_runs import Finished, run_scenes, write_polygons

IDS, NAMES = (DARK, MIDDLE, BRIGHT), ("dark", "middle", "bright")
# The fake gives 0.8 to the label and 0.2 to the next class.
NEXT = {DARK: MIDDLE, MIDDLE: BRIGHT, BRIGHT: DARK}


def expected_by_class(of_label: dict[int, float]) -> dict[str, float]:
    """What each class has by the fake's probabilities, from what each label has."""
    found = {label: 0.8 * of_label[label] for label in IDS}
    for label in IDS:
        found[NEXT[label]] += 0.2 * of_label[label]
    return {name: found[label] for name, label in zip(NAMES, IDS, strict=True)}


def column(run: Finished, name: str) -> dict[str, float]:
    """A column of `soft_areas.csv` by class."""
    return {row["class"]: float(row[name]) for row in run.rows("soft_areas.csv")}


def scene(folder: Path, place=UTM, side: int = 150) -> tuple[Path, np.ndarray]:
    """A scene with nodata, and the labels that it gets."""
    values, valid = pixels(side, side - 20), holes(side, side - 20, 1)
    path = write_scene(folder / "in" / "a.tif", values, place, mask=valid)
    return path, np.where(valid, brightness_labels(values), 255)


@pytest.mark.parametrize("place", [UTM, DEGREES, ("EPSG:32633", Affine(0, 10, 3e5, 10, 0, 6e6))])
def test_sums_over_windows_nodata_and_ground_are_those_of_the_map(tmp_path, model_folder, place):
    path, labels = scene(tmp_path, place)
    run = run_scenes(tmp_path / "run", model_folder, path, window=64, halo=32, soft_areas=True)
    count = {label: int((labels == label).sum()) for label in IDS}
    areas = whole(GroundGrid.of(place[1], place[0], *labels.shape))
    ground = {label: float(areas[labels == label].sum()) for label in IDS}
    expected = {**expected_by_class(count), "total": sum(count.values())}
    assert column(run, "soft_pixels") == pytest.approx(expected, rel=1e-15)
    expected = {**expected_by_class(ground), "total": sum(ground.values())}
    assert column(run, "soft_m2") == pytest.approx(expected, rel=1e-6)
    assert column(run, "pixels")["middle"] == count[MIDDLE]
    assert column(run, "area_m2")["total"] == pytest.approx(column(run, "soft_m2")["total"])
    assert run.verified()[1] == []


def test_records_and_rows_have_exact_sums_by_label_and_class(tmp_path, model_folder):
    folder = write(tmp_path / "in" / "a.png", png(np.full((3, 5, 3), 200, np.uint8))).parent
    run = run_scenes(tmp_path / "run", model_folder, folder, soft_areas=True, pixel_size=2.0)
    (record,) = (json.loads(path.read_bytes()) for path in (run.root / "commits").iterdir())
    assert record["tally"]["sums"] == {
        "confidence_bins": {"7:12": 15},
        "soft_m2": {"7:0": "12", "7:7": "48"},
        "soft_pixels": {"7:0": "3", "7:7": "12"},
    }
    (table,) = (run.root / "soft").iterdir()
    row = {"source": "in/a.png", "key": None, "label_id": 7, "label": "bright"}
    assert pq.read_table(table).to_pylist() == [
        {**row, "class_id": 0, "class": "dark", "soft_pixels": 3.0, "soft_m2": 12.0},
        {**row, "class_id": 7, "class": "bright", "soft_pixels": 12.0, "soft_m2": 48.0},
    ]
    (table,) = (run.root / "areas").iterdir()
    bins = {row["class"]: row["confidence_bins"] for row in pq.read_table(table).to_pylist()}
    assert bins["bright"] == [0] * 12 + [15, 0, 0, 0]
    assert (bins["dark"], bins["nodata"]) == ([0] * 16, None)
    assert (run.root / "soft_areas.csv").read_text().splitlines() == [
        "class_id,class,pixels,soft_pixels,area_m2,soft_m2",
        "0,dark,0,3.0,0.0,12.0",
        "3,middle,0,0.0,0.0,0.0",
        "7,bright,15,12.0,60.0,48.0",
        ",total,15,15.0,60.0,60.0",
    ]


def test_pixels_without_ground_have_soft_pixels_only(tmp_path, model_folder):
    run = run_scenes(tmp_path / "run", model_folder, photos(tmp_path), soft_areas=True)
    assert {row["soft_m2"] for row in run.rows("soft_areas.csv")} == {""}
    assert column(run, "soft_pixels")["total"] == 50 * (40 + 41 + 42)


def test_a_scene_in_blocks_has_the_sums_of_one_block(tmp_path, model_folder, monkeypatch):
    path, _ = scene(tmp_path, DEGREES)
    one = run_scenes(tmp_path / "whole", model_folder, path, soft_areas=True)
    small_blocks(monkeypatch, 64)
    run = run_scenes(tmp_path / "run", model_folder, path, soft_areas=True)
    assert column(run, "soft_pixels") == column(one, "soft_pixels")
    assert column(run, "soft_m2") == pytest.approx(column(one, "soft_m2"), rel=1e-6)
    assert len(list((run.root / "soft").iterdir())) == 1
    assert run.verified()[1] == []


def test_windows_that_are_lost_and_windows_across_borders_are_in_no_sum(tmp_path, model_folder):
    values = pixels(150, 130)
    path = write_scene(tmp_path / "in" / "a.tif", values, compress="deflate", blockysize=64)
    spoil_strip(path, 1)
    budget = FailureBudget(1, None)
    options = {"soft_areas": True, "check_seams": True, "max_failures": budget}
    run = run_scenes(tmp_path / "run", model_folder, path, **options)
    labels = brightness_labels(values)
    labels[64:128] = 255
    count = {label: int((labels == label).sum()) for label in IDS}
    expected = {**expected_by_class(count), "total": sum(count.values())}
    assert column(run, "soft_pixels") == pytest.approx(expected, rel=1e-15)
    assert column(run, "pixels")["total"] == sum(count.values()) == 86 * 130
    assert run.verified()[1] == []


def test_what_is_outside_the_area_of_interest_is_in_no_sum(tmp_path, model_folder):
    path, labels = scene(tmp_path)
    aoi = write_polygons(tmp_path / "aoi.geojson", UTM[0], [("a", box(10, 20, 90, 100))])
    run = run_scenes(tmp_path / "run", model_folder, path, soft_areas=True, aoi=aoi)
    inside = labels[20:100, 10:90]
    assert column(run, "soft_pixels")["total"] == (inside != 255).sum()
    assert column(run, "soft_m2")["total"] == pytest.approx(column(run, "area_m2")["total"])


@pytest.mark.parametrize(("resample_to", "side"), [(5.0, 1024), (17.0, 64), (23.0, 1024)])
def test_of_resampled_scenes_the_pixels_of_the_label_map_are_summed(
    tmp_path, model_folder, monkeypatch, resample_to, side
):
    small_blocks(monkeypatch, side)
    path, _ = scene(tmp_path)
    options = {"soft_areas": True, "probabilities": True, "resample_to": resample_to}
    aoi = write_polygons(tmp_path / "aoi.geojson", UTM[0], [("a", box(10, 20, 90, 100))])
    run = run_scenes(tmp_path / "run", model_folder, path, aoi=aoi, **options)
    labels = run.labels("in/a.tif")
    with rasterio.open(run.root / "probabilities" / "in" / "a.tif") as source:
        levels = source.read().astype(int)
    areas = whole(GroundGrid.of(UTM[1], UTM[0], *labels.shape))
    assert (
        0
        < (labels != 255).sum()
        == run.pixels["dark"] + run.pixels["middle"] + (run.pixels["bright"])
    )
    expected = {name: levels[n].sum() / 255 for n, name in enumerate(NAMES)}
    found = column(run, "soft_pixels")
    assert {name: found[name] for name in NAMES} == pytest.approx(expected, rel=1e-15)
    expected = {name: (levels[n] * areas).sum() / 255 for n, name in enumerate(NAMES)}
    found = column(run, "soft_m2")
    assert {name: found[name] for name in NAMES} == pytest.approx(expected, rel=1e-6)
    assert run.verified()[1] == []


@pytest.mark.parametrize("resize", [(64, 32), (16, 96), (41, 50)])
def test_of_scaled_images_the_pixels_of_the_label_map_are_summed(tmp_path, model_folder, resize):
    folder = photos(tmp_path)
    options = {"soft_areas": True, "confidence": True, "resize": resize}
    run = run_scenes(tmp_path / "run", model_folder, folder, **options)
    count = {label: run.pixels[name] for label, name in zip(IDS, NAMES, strict=True)}
    assert sum(count.values()) == 50 * (40 + 41 + 42)
    expected = {**expected_by_class(count), "total": sum(count.values())}
    assert column(run, "soft_pixels") == pytest.approx(expected, rel=1e-15)
    tally = sum_commits(run.work).tally
    assert sum(tally.sums["confidence_bins"].values()) == sum(count.values())


def test_zones_of_resampled_scenes_have_empty_cells_and_a_line(tmp_path, model_folder):
    path, _ = scene(tmp_path)
    zones = write_polygons(tmp_path / "zones.geojson", UTM[0], [("a", box(10, 20, 90, 100))])
    options = {"soft_areas": True, "resample_to": 17.0, "zones": zones}
    run = run_scenes(tmp_path / "run", model_folder, path, **options)
    assert {row["soft_pixels"] for row in run.rows("soft_zones.csv")} == {""}
    assert column(run, "soft_pixels")["total"] == column(run, "pixels")["total"]
    assert "with --resample_to" in "".join(result_lines(run.summary))


def test_a_run_without_the_option_has_nothing_of_it(tmp_path, model_folder):
    run = run_scenes(tmp_path / "run", model_folder, photos(tmp_path))
    (record,) = (json.loads(path.read_bytes()) for path in (run.root / "commits").iterdir())
    assert "sums" not in record["tally"]
    assert not list(run.root.glob("soft*"))
    assert "soft_areas" not in json.loads((run.root / "run.json").read_bytes())["labels"]
    (table,) = (run.root / "areas").iterdir()
    assert "confidence_bins" not in pq.read_schema(table).names


def test_adding_the_option_to_a_finished_run_is_refused_with_the_remedy(tmp_path, model_folder):
    folder = photos(tmp_path)
    run = run_scenes(tmp_path / "run", model_folder, folder)
    before = tree(run.root)
    with pytest.raises(ConfigurationError, match=r"soft_areas was False and is True.*--overwrite"):
        run_scenes(tmp_path / "run", model_folder, folder, soft_areas=True)
    assert tree(run.root) == before


def test_a_damaged_table_is_found_and_done_again(tmp_path, model_folder):
    folder = photos(tmp_path)
    run = run_scenes(tmp_path / "run", model_folder, folder, soft_areas=True)
    before = tree(run.root)
    (table,) = (run.root / "soft").iterdir()
    table.unlink()
    with (run.root / "soft_areas.csv").open("a") as stream:
        stream.write("more\n")
    assert [finding.path for finding in run.verified()[1]] == [
        f"soft/{table.name}",
        "soft_areas.csv",
    ]
    again = run_scenes(tmp_path / "run", model_folder, folder, soft_areas=True)
    after = tree(again.root)
    del before["summary.json"], after["summary.json"]
    assert after == before


def test_rows_that_are_not_those_of_the_record_are_found(tmp_path, model_folder):
    one = run_scenes(tmp_path / "one", model_folder, photos(tmp_path), soft_areas=True)
    (table,) = (one.root / "soft").iterdir()
    rows = pq.read_table(table).slice(1)
    pq.write_table(rows, table)
    (record,) = (one.root / "commits").iterdir()
    unit = next(iter(plan.read_units(one.work.run.plan, plan.WorkUnit)))
    commit = one.work.log.load(record.name)
    content = table.read_bytes()
    outputs = tuple(
        replace(o, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        if o.path.startswith("soft/")
        else o
        for o in commit.outputs
    )
    record.write_bytes(replace(commit, outputs=outputs).to_bytes())
    assert one.work.log.contradiction(unit, one.work.log.read(unit)) == f"soft/{table.name}"


def test_ground_that_counts_once_has_no_soft_areas_and_a_line_says_why(tmp_path, model_folder):
    folder, _ = parts_of(tmp_path, TWO)
    run = run_scenes(tmp_path / "run", model_folder, folder, soft_areas=True, overlap="first")
    rows = run.rows("soft_areas.csv")
    assert {(row["soft_pixels"], row["soft_m2"]) for row in rows} == {("", "")}
    assert [int(row["pixels"]) for row in rows[:3]] == [run.pixels[name] for name in NAMES]
    assert list(result_lines(run.summary)) == [
        "cells of soft_areas.csv are empty: probabilities are summed scene by scene, and some "
        "ground counts in another scene; begin a run with --probabilities to have them"
    ]
    assert run.verified()[1] == []


def test_ground_that_counts_once_has_soft_areas_where_probabilities_are_written(
    tmp_path, model_folder
):
    folder, _ = parts_of(tmp_path, TWO)
    options = {"soft_areas": True, "probabilities": True, "overlap": "first"}
    run = run_scenes(tmp_path / "run", model_folder, folder, **options)
    count = {label: run.pixels[name] for label, name in zip(IDS, NAMES, strict=True)}
    expected = {**expected_by_class(count), "total": sum(count.values())}
    assert column(run, "soft_pixels") == pytest.approx(expected, rel=1e-15)
    ground = {label: run.area_m2[name] for label, name in zip(IDS, NAMES, strict=True)}
    expected = {**expected_by_class(ground), "total": sum(ground.values())}
    assert column(run, "soft_m2") == pytest.approx(expected, rel=1e-12)
    assert run.pixels["elsewhere"] > 0
    assert list(result_lines(run.summary)) == []
    assert run.verified()[1] == []


def test_scenes_that_share_no_ground_have_soft_areas_where_ground_counts_once(
    tmp_path, model_folder
):
    folder, _ = parts_of(tmp_path, [(0, 0), (200, 0)])
    twice = run_scenes(tmp_path / "twice", model_folder, folder, soft_areas=True)
    run = run_scenes(tmp_path / "run", model_folder, folder, soft_areas=True, overlap="first")
    rows = run.rows("soft_areas.csv")
    assert [(row["soft_pixels"], row["soft_m2"]) for row in rows] == [
        (row["soft_pixels"], row["soft_m2"]) for row in twice.rows("soft_areas.csv")
    ]
    assert float(rows[0]["soft_pixels"]) > 0
    assert list(result_lines(run.summary)) == []


def test_groups_that_are_taken_apart_keep_their_sums(tmp_path, model_folder):
    folder = photos(tmp_path)
    paths, output = (str(folder),), str(tmp_path / "run")
    options = SegmentOptions(paths, str(model_folder), output, window=64, soft_areas=True)

    def totals(options: SegmentOptions):
        work = begun(options)
        for unit in plan.read_units(work.run.plan, plan.WorkUnit):
            run_unit(unit, work)
        finish(work, FailureBudget(0, None), {"units_skipped": 0, "seconds": 0.0})
        return sum_commits(work).tally

    before = totals(options)
    (folder / "1.png").unlink()
    after = totals(replace(options, gone="keep"))
    assert after == before
    assert before.sums["soft_pixels"]["7:0"] == Fraction(before.pixels["7"], 5)
    assert len(list((tmp_path / "run" / "soft").iterdir())) == 2
    assert verify(output, print).is_good
