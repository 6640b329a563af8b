"""A finished run loses nothing to inputs that are not found any more, unless it is asked to."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.results.verify import verify
from pipelines.run import plan
from pipelines.scenes.assembly import finish_scene
from pipelines.segment import kept
from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions
from pipelines.segment.plan_report import report
from segmodel.errors import ConfigurationError, TransientError
from tests.pipelines.corpus import (
    begun,
    failure_rows_in,
    flipped,
    pixels,
    png,
    record,
    run_unit,
    small_blocks,
    sum_commits,
    tree,
    write,
    write_scene,
    write_shard,
)

KINDS = ("a/0.png", "a/1.png", "b/one.tif", "b/several.tif", "b/shard.tfrecord")


@pytest.fixture
def options(tmp_path, model_folder, monkeypatch) -> SegmentOptions:
    """Two images, a shard, a scene of one block and one of four."""
    small_blocks(monkeypatch, 64)
    for number in range(2):
        write(tmp_path / "a" / f"{number}.png", png(pixels(8, 8 + number, number)))
    write_scene(tmp_path / "b" / "one.tif", pixels(40, 40))
    write_scene(tmp_path / "b" / "several.tif", pixels(128, 128))
    write_shard(tmp_path / "b" / "shard.tfrecord", [record(pixels(8, 8, n)) for n in range(2)])
    inputs = tuple(str(tmp_path / name) for name in "ab")
    return SegmentOptions(inputs, str(model_folder), str(tmp_path / "run"), window=64)


def run(options: SegmentOptions):
    """Do all of a run; its totals, and how many units were computed."""
    work = begun(options)
    units = list(plan.read_units(work.run.plan, plan.WorkUnit))
    reports = [run_unit(unit, work) for unit in units]
    for scene in plan.read_units(work.run.plan, plan.AssemblyUnit):
        assert finish_scene(scene, work)
    return sum_commits(work), sum(report.done - report.skipped for report in reports)


def remove(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name(f"other{path.suffix}"))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def test_a_run_stops_before_anything_is_changed_where_an_input_is_gone(options, tmp_path):
    run(options)
    before = tree(options.output)
    for name in KINDS:
        shutil.copy2(tmp_path / name, tmp_path / "copy")
        for change in (remove, rename, empty):
            change(tmp_path / name)

            with pytest.raises(ConfigurationError, match=rf"was begun with .*: 1 input \({name}\)"):
                prepare_run(check_run(options))

            assert tree(options.output) == before
            renamed = (tmp_path / name).with_name(f"other{(tmp_path / name).suffix}")
            renamed.unlink(missing_ok=True)
            shutil.copy2(tmp_path / "copy", tmp_path / name)


def test_the_remedies_are_named_with_number_and_examples(options, tmp_path):
    run(options)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(ConfigurationError, match="a matches no file"):
        check_run(options)
    with pytest.raises(ConfigurationError) as caught:
        check_run(replace(options, inputs=(options.inputs[1],)))
    text = str(caught.value)
    assert "2 inputs (a/0.png, a/1.png)" in text
    assert all(remedy in text for remedy in ("Mount", "--input", "--output", "--gone prune"))


@pytest.mark.parametrize("others", ["c", "b/*.tif", "b/one.tif"])
def test_other_folders_into_the_same_run_are_refused(options, tmp_path, others):
    run(options)
    write(tmp_path / "c" / "0.png", png(pixels(8, 8)))
    before = tree(options.output)
    with pytest.raises(ConfigurationError, match="not found, empty or unusable now"):
        prepare_run(check_run(replace(options, inputs=(str(tmp_path / others),))))
    assert tree(options.output) == before


def test_an_added_input_needs_no_word(options, tmp_path):
    before, _ = run(options)
    write(tmp_path / "a" / "new.png", png(pixels(8, 8)))
    after, _ = run(options)
    assert (before.tally.images, after.tally.images) == (6, 7)


@pytest.mark.parametrize("name", KINDS[1:])
def test_pruned_results_leave_neither_label_map_nor_rows(options, tmp_path, name):
    run(options)
    (tmp_path / name).unlink()
    total, computed = run(replace(options, gone="prune"))
    left = [path for path in tree(tmp_path / "run" / "labels") if path.startswith(name)]
    assert left == []
    assert (total.missing, total.tally.failed_images) == (0, 0)
    assert total.tally.images == (4 if "shard" in name else 5)
    assert computed == (1 if name.startswith("a/") else 0)


def test_a_run_that_has_finished_nothing_takes_other_inputs(options, tmp_path):
    prepare_run(check_run(options))
    (tmp_path / "a" / "0.png").unlink()
    assert run(options)[0].tally.images == 5


def test_a_changed_input_keeps_its_label_map_until_the_new_one_is_there(options, tmp_path):
    run(options)
    before = tree(tmp_path / "run" / "labels")
    for name in KINDS[:4]:
        status = os.stat(tmp_path / name)
        os.utime(tmp_path / name, ns=(status.st_atime_ns, status.st_mtime_ns + 1))

    prepare_run(check_run(options))

    assert tree(tmp_path / "run" / "labels") == before
    assert run(options)[0].tally.images == 6


def test_a_plan_says_what_is_gone_and_what_becomes_of_it(options, tmp_path):
    run(options)
    (tmp_path / "b" / "one.tif").unlink()
    lines = "\n".join(report(options))
    assert "gone      1 input (b/one.tif) of " in lines
    assert "segment stops before anything is changed" in lines
    lines = "\n".join(report(replace(options, gone="prune")))
    assert "their results are removed" in lines
    lines = report(replace(options, overwrite=True))
    assert [line for line in lines if line.startswith("gone ")] == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, remove) for name in KINDS[1:]),
        *((name, rename) for name in ("a/0.png", "b/several.tif")),
        *((name, empty) for name in ("a/0.png", "b/one.tif", "b/shard.tfrecord")),
    ],
)
def test_kept_results_are_there_and_counted_as_often_as_the_run_is_repeated(
    options, tmp_path, name, change
):
    before, _ = run(options)
    labels = tree(tmp_path / "run" / "labels")
    change(tmp_path / name)
    images = before.tally.images + (2 if "shard" in name else 1) * (change is rename)
    keep = replace(options, gone="keep")

    first, _ = run(keep)
    again, computed = run(keep)

    assert computed == 0
    assert first.tally == again.tally
    assert (again.missing, again.tally.images, again.tally.failed_images) == (0, images, 0)
    if change is not rename:
        assert replace(again.tally, footprint_m2=0.0) == replace(before.tally, footprint_m2=0.0)
    after = tree(tmp_path / "run" / "labels")
    assert {path: after[path] for path in labels} == labels
    findings: list = []
    verify(options.output, findings.append)
    assert [found for found in findings if not found.path.endswith((".csv", ".json", ".png"))] == []


@pytest.mark.parametrize("name", ["a/0.png", "b/several.tif", "b/shard.tfrecord"])
def test_an_input_that_comes_back_is_as_if_it_had_never_been_gone(options, tmp_path, name):
    run(options)
    before = tree(options.output)
    status = os.stat(tmp_path / name)
    shutil.copy2(tmp_path / name, tmp_path / "copy")
    (tmp_path / name).unlink()
    run(replace(options, gone="keep"))
    shutil.copy2(tmp_path / "copy", tmp_path / name)
    os.utime(tmp_path / name, ns=(status.st_atime_ns, status.st_mtime_ns))

    run(options)

    assert tree(options.output) == before


def test_a_group_is_taken_apart_the_same_however_many_rows_are_in_memory(
    options, tmp_path, monkeypatch
):
    images = replace(options, inputs=options.inputs[:1], gone="keep")
    run(images)
    shutil.copytree(images.output, tmp_path / "other")
    (tmp_path / "a" / "1.png").unlink()
    total, _ = run(images)
    # An image has four rows.
    monkeypatch.setattr(kept, "GROUP_ROWS", 3)
    assert run(replace(images, output=str(tmp_path / "other")))[0].tally == total.tally
    names = [name for name in tree(images.output) if name.startswith(("areas/", "commits/"))]
    assert len(names) == 4
    left, right = tree(images.output), tree(tmp_path / "other")
    assert {name: left[name] for name in names} == {name: right[name] for name in names}


def test_a_group_of_which_files_are_gone_added_and_changed_keeps_what_is_gone(options, tmp_path):
    run(options)
    kept = (tmp_path / "run" / "labels" / "a" / "0.png.png").read_bytes()
    (tmp_path / "a" / "0.png").unlink()
    write(tmp_path / "a" / "1.png", png(pixels(8, 20, 7)))
    write(tmp_path / "a" / "2.png", png(pixels(8, 21, 8)))

    total, _ = run(replace(options, gone="keep"))

    assert total.tally.images == 7
    assert (tmp_path / "run" / "labels" / "a" / "0.png.png").read_bytes() == kept
    areas = tmp_path / "run" / "areas"
    rows = [row for path in areas.glob("images-*") for row in pq.read_table(path).to_pylist()]
    assert sum(row["pixels"] for row in rows) == 8 * (8 + 20 + 21)
    assert {row["source"] for row in rows} == {"a/0.png", "a/1.png", "a/2.png"}

    (tmp_path / "a" / "2.png").unlink()
    assert run(replace(options, gone="keep"))[0].tally == total.tally
    assert run(replace(options, gone="prune"))[0].tally.images == 5


def test_an_unfinished_scene_that_is_gone_fails_and_its_blocks_wait_for_it(options, tmp_path):
    work = prepare_run(check_run(options)).work
    units = list(plan.read_units(work.run.plan, plan.WorkUnit))
    blocks = [unit for unit in units if unit.scene is not None]
    for unit in units:
        if unit not in blocks[2:]:
            run_unit(unit, work)
    path = (tmp_path / "b" / "several.tif").rename(tmp_path / "several.tif")

    total, _ = run(replace(options, gone="keep"))

    assert (total.missing, total.tally.images, total.tally.failed_images) == (0, 5, 1)
    (row,) = failure_rows_in(options.output)
    assert (row["uri"], row["code"]) == ("b/several.tif", "not_found")
    path.rename(tmp_path / "b" / "several.tif")
    total, computed = run(options)
    assert (total.tally.images, total.tally.failed_images, computed) == (6, 0, 2)


def test_options_that_repeat_all_units_are_refused_where_inputs_are_gone(options, tmp_path):
    run(options)
    (tmp_path / "b" / "one.tif").unlink()
    before = tree(options.output)
    with pytest.raises(ConfigurationError, match=r"^--gone keep: pixel_size_m was None and is 2.0"):
        prepare_run(check_run(replace(options, gone="keep", pixel_size=2.0)))
    assert tree(options.output) == before


def test_a_smaller_limit_is_refused(options, tmp_path):
    run(replace(options, limit=5))
    before = tree(options.output)
    with pytest.raises(ConfigurationError, match="a part of it would be removed"):
        prepare_run(check_run(replace(options, limit=3)))
    assert tree(options.output) == before


def test_a_scene_that_cannot_be_opened_for_a_while_keeps_its_results(
    options, tmp_path, monkeypatch
):
    run(options)
    before = tree(options.output)

    def busy(uri, version, reach):
        raise TransientError("busy")

    monkeypatch.setattr("pipelines.rasters.header.read_header", busy)
    total, computed = run(options)

    assert (computed, total.tally.images) == (0, 6)
    after = tree(options.output)
    changed = [path for path in before if after.get(path) != before[path]]
    assert changed == ["plan/run.json", "run.json"]


def test_a_scene_that_was_cut_is_gone(options, tmp_path):
    run(options)
    (tmp_path / "b" / "one.tif").write_bytes(b"II*\0broken")
    before = tree(options.output)
    with pytest.raises(ConfigurationError, match=r"b/one\.tif"):
        prepare_run(check_run(options))
    assert tree(options.output) == before
    assert run(replace(options, gone="keep"))[0].tally.failed_images == 0
    assert run(replace(options, gone="prune"))[0].tally.failed_images == 1


def test_a_raw_scene_of_which_half_is_left_is_gone(options, tmp_path):
    path = write_scene(tmp_path / "b" / "raw.bsq", pixels(40, 40), driver="ENVI")
    run(options)
    before = tree(options.output)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ConfigurationError, match=r"b/raw\.bsq"):
        prepare_run(check_run(options))
    assert tree(options.output) == before
    assert run(replace(options, gone="keep"))[0].tally.images == 7


@pytest.mark.parametrize("name", ["a/0.png", "b/one.tif"])
def test_a_damaged_result_whose_input_is_gone_is_a_failure(options, tmp_path, name):
    run(options)
    (tmp_path / name).unlink()
    labels = tmp_path / "run" / "labels" / (f"{name}.png" if name.endswith("png") else name)
    labels.unlink()
    total, _ = run(replace(options, gone="keep"))
    assert (total.missing, total.tally.images, total.tally.failed_images) == (0, 5, 1)
    (row,) = failure_rows_in(options.output)
    assert (row["uri"], row["code"]) == (name, "not_found")


@pytest.mark.parametrize("name", ["0.png", "1.png"])
def test_rows_of_failures_go_with_their_files(options, tmp_path, name):
    write(tmp_path / "a" / "1.png", b"no image")
    run(options)
    (tmp_path / "a" / name).unlink()
    shutil.copy(tmp_path / "b" / "one.tif", tmp_path / "a" / "one.tif")

    total, computed = run(replace(options, gone="keep"))

    assert (computed, total.tally.images, total.tally.failed_images) == (1, 6, 1)
    findings: list = []
    verify(options.output, findings.append)
    assert [found for found in findings if "unknown" in found.wrong] == []


@pytest.mark.parametrize("rule", ["keep", "prune"])
def test_of_inputs_that_were_gone_some_come_back(options, tmp_path, rule):
    whole, _ = run(options)
    (tmp_path / "away").mkdir()
    away = [("a/0.png", "0.png"), ("a/1.png", "1.png"), ("b/one.tif", "one.tif")]
    away.append(("b/several.tif", "several.tif"))
    for name, short in away:
        (tmp_path / name).rename(tmp_path / "away" / short)
    write(tmp_path / "a" / "2.png", png(pixels(8, 21, 8)))
    assert run(replace(options, gone="keep"))[0].tally.images == 7
    for name, short in (away[0], away[2]):
        (tmp_path / "away" / short).rename(tmp_path / name)

    total, _ = run(replace(options, gone=rule))

    assert (total.missing, total.tally.images) == (0, 7 if rule == "keep" else 5)
    assert whole.tally.images == 6
    findings: list = []
    verify(options.output, findings.append)
    assert [found for found in findings if "unknown" in found.wrong] == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a/0.png", b"\x89PNG\r\n\x1a\n"),
        ("b/one.tif", b"<html>Not found</html>"),
        ("b/several.tif", b"x" * 100),
        ("b/shard.tfrecord", b"<html>Not found</html>"),
    ],
)
def test_an_input_that_is_not_what_it_was_is_gone(options, tmp_path, name, content):
    run(options)
    (tmp_path / name).write_bytes(content)
    before = tree(options.output)
    with pytest.raises(ConfigurationError, match=re.escape(name)):
        prepare_run(check_run(options))
    assert tree(options.output) == before
    for _ in range(2):
        assert run(replace(options, gone="keep"))[0].tally.images == 6
    total, _ = run(replace(options, gone="prune"))
    assert (total.tally.images, total.tally.failed_images) == (5 - ("shard" in name), 1)


@pytest.mark.parametrize("is_scene", [False, True])
def test_an_image_that_gets_or_loses_a_place_is_gone(options, tmp_path, is_scene):
    place = tmp_path / "a" / "0.pgw"
    text = "10\n0\n0\n-10\n400005\n5799995\n"
    if is_scene:
        place.write_text(text)
    run(options)
    before = tree(options.output)
    if is_scene:
        place.unlink()
    else:
        place.write_text(text)
    with pytest.raises(ConfigurationError, match=r"a/0\.png"):
        prepare_run(check_run(options))
    assert tree(options.output) == before
    assert run(replace(options, gone="keep"))[0].tally.images == 6
    assert run(replace(options, gone="prune"))[0].tally.images == 6


def test_an_image_that_failed_may_become_a_scene(options, tmp_path):
    path = tmp_path / "a" / "late.tif"
    path.write_bytes(b"not yet here")
    run(options)
    write_scene(path, pixels(40, 40))
    total, _ = run(options)
    assert (total.tally.images, total.tally.failed_images) == (7, 0)


def damage_plan(options: SegmentOptions, name: str) -> None:
    """Flip a bit in the line of the plan that has an input."""
    (path,) = (
        p for p in (Path(options.output) / "plan").glob("part-*") if name.encode() in p.read_bytes()
    )
    content = path.read_bytes()
    path.write_bytes(flipped(content, content.index(name.encode())))


@pytest.mark.parametrize("name", ["0.png", "shard.tfrecord", "one.tif", "several.tif"])
def test_a_damaged_plan_is_made_anew_and_finished_work_stays(options, tmp_path, name):
    run(options)
    before = tree(options.output)
    damage_plan(options, name)

    assert run(options)[1] == 0

    assert tree(options.output) == before


@pytest.mark.parametrize("name", ["shard.tfrecord", "one.tif"])
@pytest.mark.parametrize("gone", ["stop", "keep"])
@pytest.mark.parametrize("change", [remove, lambda path: path.write_bytes(b"II*\0broken")])
def test_what_a_damaged_plan_does_not_say_is_gone_is_not_lost(
    options, tmp_path, name, gone, change
):
    run(options)
    damage_plan(options, name)
    change(tmp_path / "b" / name)
    before = tree(options.output)

    with pytest.raises(ConfigurationError, match=r"plan is damaged \(in part-00000") as told:
        prepare_run(check_run(replace(options, gone=gone)))

    assert tree(options.output) == before
    assert "1 finished units had" in str(told.value)
    assert "give --gone prune" in str(told.value)
    assert run(replace(options, gone="prune"))[0].missing == 0
