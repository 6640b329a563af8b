"""Counts of a finished run: made again without the model, verified, and gone with their scene."""

from __future__ import annotations

import pytest

from tests.pipelines.corpus import (
    UTM,
    small_blocks,
    tree,
)
from tests.pipelines.counted_scenes import (
    THREE,
    TWO,
    box,
    check_once,
    parts_of,
)
from tests.pipelines.scene_runs import Finished, run_scenes, write_polygons

pytestmark = pytest.mark.usefixtures("several_tiles_and_blocks")


def same_tables(one: Finished, other: Finished, *names: str) -> None:
    for name in ("areas.csv", "failures.csv", *names):
        assert (one.root / name).read_bytes() == (other.root / name).read_bytes(), name


ZONES = (box(0, 0, 50, 99), box(0, 0, 51, 99))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"zones": 0}),
        ({"zones": 0}, {"zones": 0, "overlap": "first"}),
        ({"zones": 0, "overlap": "first"}, {"zones": 1, "overlap": "newest"}),
        ({"zones": 1, "overlap": "newest"}, {}),
    ],
    ids=str,
)
def test_zones_and_another_rule_do_not_run_the_model_again(tmp_path, model_folder, before, after):
    dates = ["2020:01:01 10:00:00", "2024:01:01 10:00:00", "2022:06:01 00:00:00"]
    folder, parts = parts_of(tmp_path, THREE, dates)

    def run_into(name: str, options: dict) -> Finished:
        if "zones" in options:
            shapes = [("a", ZONES[options["zones"]])]
            options = options | {"zones": write_polygons(tmp_path / "z.geojson", UTM[0], shapes)}
        return run_scenes(tmp_path / name, model_folder, folder, **options)

    run_into("run", before)
    run, fresh = run_into("run", after), run_into("fresh", after)

    assert run.status == 0
    assert all(report.skipped for report in run.reports)
    assert run.model.batches == []
    assert tree(run.root) == tree(fresh.root)
    assert run.verified()[1] == []
    if "overlap" in after:
        check_once(run, parts, [0, 1, 2] if after["overlap"] == "first" else [1, 2, 0])


@pytest.mark.parametrize("options", [{}, {"overlap": "first"}])
def test_a_scene_that_is_removed_leaves_no_trace(tmp_path, model_folder, options):
    folder, parts = parts_of(tmp_path, THREE)
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], [("a", box(0, 0, 50, 99))])
    run_scenes(tmp_path / "run", model_folder, folder, zones=zones, **options)
    (folder / "1.tif").unlink()

    run = run_scenes(tmp_path / "run", model_folder, folder, zones=zones, gone="prune", **options)
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


@pytest.mark.parametrize("name", ["0.tif", "1.tif", "2.tif"])
@pytest.mark.parametrize("overlap", ["first", "newest"])
def test_kept_scenes_stay_in_all_tables(tmp_path, model_folder, overlap, name):
    dates = ["2020:01:01 10:00:00", "2024:01:01 10:00:00", "2022:06:01 00:00:00"]
    folder, _ = parts_of(tmp_path, THREE, dates)
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], [("a", box(0, 0, 50, 99))])
    options = {"overlap": overlap, "zones": zones}
    before = run_scenes(tmp_path / "run", model_folder, folder, **options)
    expected = tree(before.root)
    (folder / name).unlink()

    run = run_scenes(tmp_path / "run", model_folder, folder, gone="keep", **options)

    assert run.model.batches == []
    tables = {"areas.csv", "zones.csv", "overlaps.csv", "failures.csv", "labels.vrt", "labels.json"}
    actual = tree(run.root)
    assert {table: actual[table] for table in tables} == {t: expected[t] for t in tables}
    assert run.verified()[1] == []
    assert run.summary["gone_inputs"] == 1


@pytest.mark.parametrize("side", [4096, 64])
def test_zones_that_are_added_while_scenes_are_away_are_those_of_all(
    tmp_path, model_folder, monkeypatch, side
):
    small_blocks(monkeypatch, side)
    folder, _ = parts_of(tmp_path, THREE)
    zones = write_polygons(tmp_path / "z.geojson", UTM[0], [("a", box(0, 0, 50, 99))])
    options = {"overlap": "first", "zones": zones}
    whole = run_scenes(tmp_path / "whole", model_folder, folder, **options)
    run_scenes(tmp_path / "run", model_folder, folder)
    for name in ("0.tif", "2.tif"):
        (folder / name).unlink()

    run = run_scenes(tmp_path / "run", model_folder, folder, gone="keep", **options)

    assert run.zones() == whole.zones()
    assert (run.pixels, run.rows("overlaps.csv")) == (whole.pixels, whole.rows("overlaps.csv"))
    assert run.area_m2 == pytest.approx(whole.area_m2)
    assert run.verified()[1] == []
