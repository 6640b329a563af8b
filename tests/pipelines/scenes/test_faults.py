"""What may go wrong with one scene, and must neither end the run nor falsify its numbers."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from pipelines.cli.values import FailureBudget
from pipelines.formats.work import ReadOptions
from pipelines.rasters.header import Headers
from pipelines.run.commits import CommitLog
from pipelines.scenes.task import BlockTask
from segmodel.errors import TransientError
from tests.fakes import brightness_labels, contract
from tests.pipelines.corpus import (
    failure_rows,
    failure_rows_in,
    finish,
    make_work,
    pixels,
    read_band,
    run_all,
    run_unit,
    small_blocks,
    units_in,
    write,
    write_scene,
)
from tests.pipelines.raster_kinds import name_bands, source_of, write_vrt
from tests.pipelines.scene_runs import run_scenes

HALF_TURN_M = 20037508.342789244


def test_nodata_of_a_later_band_alone_is_nodata(tmp_path):
    values = np.maximum(pixels(40, 50), 1)
    values[:20, :, 1] = 0
    source = write_scene(tmp_path / "in" / "pixels.tif", values)
    bodies = [source_of(source, band) for band in (1, 2, 3)]
    bodies[1] = f"<NoDataValue>0</NoDataValue>{bodies[1]}"
    vrt = write_vrt(tmp_path / "in" / "a.vrt", 40, 50, bodies)
    work = make_work(tmp_path / "run", contract=contract(value_range=(1, 255)))
    totals = run_all(work, vrt)
    assert totals.tally.pixels["nodata"] == 20 * 50


def test_a_description_of_another_encoding_is_no_name_and_no_fault(tmp_path, work):
    values = pixels(40, 50)
    path = name_bands(write_scene(tmp_path / "in" / "a.tif", values), ["grXn", None, None])
    content = path.read_bytes()
    assert content.count(b"grXn") == 1
    write(path, content.replace(b"grXn", b"gr\xfcn"))
    assert run_all(work, path).tally.images == 1
    labels = read_band(Path(work.run.root) / "labels" / "in" / "a.tif")
    np.testing.assert_array_equal(labels, brightness_labels(values))


def test_both_sides_of_the_antimeridian_count_once_in_mercator_too(tmp_path, model_folder):
    for name, x in (("a", HALF_TURN_M), ("b", -HALF_TURN_M)):
        place = ("EPSG:3857", Affine(10, 0, x - 500, 0, -10, 0))
        write_scene(tmp_path / "in" / f"{name}.tif", pixels(100, 100), place)
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", overlap="first")
    assert (run.status, run.pixels["elsewhere"]) == (0, 100 * 100)


def test_a_scene_that_is_whole_only_after_planning_is_left_to_the_next_run(tmp_path, work):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(40, 50))
    content = path.read_bytes()
    write(path, content[:100])
    (unit,) = units_in(work, path)
    write(path, content)
    assert run_unit(unit, replace(work, headers=Headers())).incomplete == 1
    assert not CommitLog(work.run.root, work.options).is_done(unit)


@pytest.mark.parametrize("reading", [ReadOptions(), ReadOptions(resample_to=20.0)])
def test_a_server_that_is_away_leaves_a_unit_undone(tmp_path, monkeypatch, reading):
    work = make_work(tmp_path / "run", reading=reading)
    path = write_scene(tmp_path / "in" / "a.tif", pixels(200, 200))
    (unit,) = units_in(work, path)

    def read(headers, file):
        raise TransientError("the server answers 503")

    monkeypatch.setattr(Headers, "read", read)
    assert run_unit(unit, work).incomplete == 1
    assert failure_rows(work) == []


@pytest.mark.parametrize("reading", [ReadOptions(), ReadOptions(resample_to=20.0)])
def test_a_scene_that_is_gone_when_its_turn_comes_fails_alone(tmp_path, reading):
    work = make_work(tmp_path / "run", reading=reading)
    path = write_scene(tmp_path / "in" / "a.tif", pixels(200, 200))
    (unit,) = units_in(work, path)
    path.unlink()
    assert run_unit(unit, replace(work, headers=Headers())).done == 1
    tally = CommitLog(work.run.root, work.options).read(unit).tally
    assert (tally.images, tally.failed_images, tally.pixels) == (0, 1, {"failed": 40_000})


def test_blocks_out_of_reach_are_failed_ground_that_balances_when_counted_once(
    tmp_path, monkeypatch, model_folder
):
    small_blocks(monkeypatch, 64)
    write_scene(tmp_path / "in" / "a.tif", pixels(128, 128))
    original = BlockTask._open
    calls = []

    def sometimes(task, on_read):
        calls.append(task)
        if len(calls) == 2:
            raise OSError(2, "No such file or directory", "a.tif")
        return original(task, on_read)

    monkeypatch.setattr(BlockTask, "_open", sometimes)
    asked = {"overlap": "first", "max_failures": FailureBudget.parse("9")}
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in", **asked)
    assert run.status == 0
    assert run.pixels["failed"] == 64 * 64
    assert run.area_m2["total"] == pytest.approx(run.area_m2["footprint"], rel=1e-6)


def test_the_end_of_a_run_needs_no_scene_any_more(tmp_path, model_folder):
    path = write_scene(tmp_path / "in" / "a.tif", pixels(40, 50))
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    before = (run.root / "labels.vrt").read_bytes()
    path.unlink()
    assert finish(replace(run.work, headers=Headers()), FailureBudget.parse("0"), {}) == 0
    assert (run.root / "labels.vrt").read_bytes() == before
    with rasterio.open(run.root / "labels.vrt") as mosaic:
        assert mosaic.shape == (40, 50)


def test_a_scene_that_was_cut_short_fails_and_the_others_are_labelled(tmp_path, model_folder):
    write_scene(tmp_path / "in" / "whole.tif", pixels(40, 50))
    short = write_scene(tmp_path / "in" / "short.img", pixels(40, 50), driver="ENVI")
    os.truncate(short, 40 * 50 * 3 - 1)
    run = run_scenes(tmp_path / "run", model_folder, tmp_path / "in")
    (row,) = failure_rows_in(run.root)
    reason = "the file is shorter than its header says: 5999 of 6000 bytes"
    assert (row["code"], row["reason"]) == ("incomplete", reason)
    assert (run.pixels["failed"], run.summary["images"]) == (2000, 1)
