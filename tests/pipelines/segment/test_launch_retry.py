"""`--retry_failures`: what failed is done again, and only that."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.run import plan
from pipelines.scenes.assembly import finish_scene
from pipelines.segment.options import SegmentOptions
from tests.fakes import brightness_labels
from tests.pipelines.corpus import (
    begun,
    pixels,
    read_band,
    run_unit,
    small_blocks,
    spoil_strip,
    sum_commits,
    write,
    write_scene,
)


def run_launch(options: SegmentOptions):
    """Ids of the units that were done now, and the totals."""
    work = begun(options)
    folder = work.run.plan
    units = list(plan.read_units(folder, plan.WorkUnit))
    done = [unit.id for unit in units if not run_unit(unit, work).skipped]
    for unit in plan.read_units(folder, plan.AssemblyUnit):
        finish_scene(unit, work)
    return done, sum_commits(work)


@pytest.fixture
def options(tmp_path, model_folder) -> SegmentOptions:
    return SegmentOptions(
        (str(tmp_path / "in"),), str(model_folder), str(tmp_path / "run"), window=64
    )


def test_units_with_a_failure_are_done_again_and_others_are_not(tmp_path, options):
    write(tmp_path / "in" / "broken.png", b"")
    write_scene(tmp_path / "in" / "scene.tif", pixels(40, 40))
    first, totals = run_launch(options)
    assert len(first) == 2
    assert totals.tally.failed_images == 1
    assert run_launch(options)[0] == []
    again, totals = run_launch(replace(options, retry_failures=True))
    assert again == ["images-00000of00001"]
    assert (totals.missing, totals.tally.failed_images) == (0, 1)


def test_a_finished_scene_with_a_failed_block_is_done_again_as_a_whole(
    tmp_path, options, monkeypatch
):
    small_blocks(monkeypatch, 64)
    values = pixels(120, 120)
    path = write_scene(tmp_path / "in" / "a.tif", values, compress="deflate", blockysize=8)
    whole, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    spoil_strip(path, 0)
    os.utime(path, ns=times)
    first, totals = run_launch(options)
    assert len(first) == 4
    assert totals.tally.failed_images == 1
    path.write_bytes(whole)  # the store gives the right bytes now; size and time are the same
    os.utime(path, ns=times)
    assert run_launch(options)[0] == []
    again, totals = run_launch(replace(options, retry_failures=True))
    assert len(again) == 4
    assert (totals.missing, totals.tally.failed_images, totals.tally.images) == (0, 0, 1)
    actual = read_band(Path(options.output) / "labels" / "in" / "a.tif")
    np.testing.assert_array_equal(actual, brightness_labels(values))
