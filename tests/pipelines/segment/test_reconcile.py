"""What earlier attempts left agrees with the plan before any work begins."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.run import plan
from pipelines.scenes.assembly import finish_scene
from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions
from pipelines.worker.unit import segment_unit
from tests.fakes import BrightnessModel
from tests.pipelines.corpus import (
    begun,
    dying,
    encoded,
    failure_rows_in,
    pixels,
    small_blocks,
    sum_commits,
    tree,
    write,
    write_scene,
)


@pytest.fixture
def options(tmp_path, brightness_savedmodel, monkeypatch) -> SegmentOptions:
    small_blocks(monkeypatch, 32)
    for number in range(3):
        write(tmp_path / "in" / f"{number}.png", encoded(pixels(20, 30 + number), "PNG"))
    write_scene(tmp_path / "in" / "scene.tif", pixels(64, 64))
    return SegmentOptions(
        inputs=(str(tmp_path / "in"),),
        model=str(brightness_savedmodel),
        output=str(tmp_path / "run"),
        window=32,
    )


def run(options: SegmentOptions):
    """Do all of a run; gives how many units were computed, and the totals."""
    work = begun(options)
    computed = 0
    for unit in plan.read_units(work.run.plan, plan.WorkUnit):
        report = segment_unit(unit, work, model=lambda work: BrightnessModel())
        computed += report.done - report.skipped
    for scene in plan.read_units(work.run.plan, plan.AssemblyUnit):
        assert finish_scene(scene, work)
    return computed, sum_commits(work)


def rows(options: SegmentOptions) -> list[dict]:
    """Rows of all tables of images."""
    folder = Path(options.output) / "areas"
    return [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]


def label_maps(options: SegmentOptions) -> set[str]:
    return {name for name in tree(Path(options.output) / "labels") if not name.endswith(".xml")}


def test_nothing_is_done_again_where_nothing_changed(options):
    first, _ = run(options)
    before = tree(options.output)

    again, _ = run(options)

    assert (first, again) == (1 + 4, 0)
    assert tree(options.output) == before


def test_a_look_and_then_the_whole_leaves_the_whole(options):
    run(replace(options, limit=2))

    _, total = run(options)

    assert total.tally.images == 4
    assert sum(row["pixels"] for row in rows(options)) == sum(total.tally.pixels.values())


def test_another_pixel_size_and_back_leaves_tables_that_agree(options):
    for size in (1.0, 2.0, 1.0):
        _, total = run(replace(options, pixel_size=size))

    summed = sum(row["area_m2"] for row in rows(options))
    assert summed == pytest.approx(sum(total.tally.area_m2.values()), rel=1e-12)


def test_a_file_that_changed_and_changed_back_is_labelled_as_it_is(options, tmp_path):
    path = tmp_path / "in" / "scene.tif"
    first, status = path.read_bytes(), os.stat(path)
    run(options)
    before = tree(options.output)
    path.write_bytes(b"")
    write_scene(path, 255 - pixels(64, 64))
    run(options)

    path.write_bytes(first)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    computed, _ = run(options)

    assert computed == 4
    assert tree(options.output) == before


def test_a_removed_input_leaves_neither_label_map_nor_rows(options, tmp_path):
    run(options)
    (tmp_path / "in" / "scene.tif").unlink()

    _, total = run(replace(options, gone="prune"))

    assert label_maps(options) == {f"in/{n}.png.png" for n in range(3)}
    assert sum(row["pixels"] for row in rows(options)) == sum(total.tally.pixels.values())
    assert total.tally.images == 3


@pytest.mark.parametrize(("name", "computed"), [("in/1.png.png", 1), ("in/scene.tif", 4)])
def test_a_label_map_that_was_deleted_is_made_again(options, name, computed):
    run(options)
    before = tree(options.output)
    (Path(options.output) / "labels" / name).unlink()

    actual, _ = run(options)

    assert actual == computed
    assert tree(options.output) == before


def test_a_scene_that_turns_unreadable_loses_its_label_map(options, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.run.attempts.RETRY_SECONDS", 0)
    run(options)
    (tmp_path / "in" / "scene.tif").write_bytes(b"II*\0broken")

    _, total = run(replace(options, gone="prune"))

    assert (total.tally.images, total.tally.failed_images) == (3, 1)
    assert "in/scene.tif" not in label_maps(options)
    (row,) = failure_rows_in(options.output)
    assert "scene.tif" in row["uri"]
    assert str(tmp_path) not in row["reason"]


def test_what_an_unfinished_unit_wrote_goes_with_its_input(options, monkeypatch):
    work = prepare_run(check_run(options)).work
    unit = next(u for u in plan.read_units(work.run.plan, plan.WorkUnit) if u.format == "images")
    monkeypatch.setattr("pipelines.run.commits.CommitLog.write", dying)
    with pytest.raises(KeyError, match="died"):
        segment_unit(unit, work, model=lambda work: BrightnessModel())
    assert "labels/in/0.png.png" in tree(options.output)
    monkeypatch.undo()
    small_blocks(monkeypatch, 32)

    os.remove(Path(options.inputs[0]) / "0.png")
    prepare_run(check_run(options))

    left = tree(options.output)
    assert "labels/in/0.png.png" not in left
    assert "labels/in/1.png.png" in left


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"unit": "a"}', b"\xff\xfe"])
def test_a_damaged_commit_record_is_done_again(options, content):
    _, total = run(options)
    before = tree(options.output)
    record = next(path for path in (Path(options.output) / "commits").glob("images-*"))
    record.write_bytes(content)

    computed, again = run(options)

    assert computed == 1
    assert again == total
    assert tree(options.output) == before


def test_a_stray_file_among_the_commit_records_is_removed(options):
    run(options)
    before = tree(options.output)
    write(Path(options.output) / "commits" / ".DS_Store", b"\0\0")

    assert run(options)[0] == 0
    assert tree(options.output) == before
