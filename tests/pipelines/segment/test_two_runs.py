"""Another run into the same directory ends, and clears what this one was about to use."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from pipelines.cli.values import FailureBudget
from pipelines.run import plan
from pipelines.run.attempts import UnitReport
from pipelines.run.commits import CommitLog
from pipelines.run.directory import RESULTS
from pipelines.scenes.assembly import finish_scene
from pipelines.segment.unfinished import unfinished_units
from pipelines.storage import filesystem
from segmodel.errors import TransientError
from tests.pipelines.corpus import (
    failure_rows,
    finish,
    pixels,
    png,
    read_shard,
    record,
    run_all,
    run_unit,
    small_blocks,
    sum_commits,
    tree,
    units_in,
    write,
    write_scene,
    write_shard,
)


@pytest.fixture
def cleared(monkeypatch, tmp_path):
    """Have the scratch folder cleared so many times, just before a file gets its final name."""
    original = os.fsync

    def clear(times: int) -> list[None]:
        left: list[None] = [None] * times

        def fsync(descriptor: int) -> None:
            original(descriptor)
            if left:
                left.pop()
                shutil.rmtree(tmp_path / "run" / "tmp")

        monkeypatch.setattr(os, "fsync", fsync)
        return left

    return clear


@pytest.mark.parametrize("write_to", [filesystem.write_bytes, filesystem.create])
def test_a_file_whose_temporary_file_was_cleared_is_written_again(tmp_path, cleared, write_to):
    target, scratch = tmp_path / "run" / "a.json", tmp_path / "run" / "tmp"
    target.parent.mkdir()
    left = cleared(2)

    write_to(str(target), b"content", str(scratch))

    assert (left, target.read_bytes()) == ([], b"content")
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("write_to", [filesystem.write_bytes, filesystem.create])
def test_a_scratch_folder_that_is_cleared_again_and_again_is_a_passing_fault(
    tmp_path, cleared, write_to
):
    target = tmp_path / "run" / "a.json"
    cleared(100)

    with pytest.raises(TransientError, match=r"run the same command again"):
        write_to(str(target), b"content", str(tmp_path / "run" / "tmp"))

    assert not target.exists()


def test_what_the_block_itself_does_not_find_is_no_fault_of_the_scratch_folder(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="input"),
        filesystem.write_atomic(str(tmp_path / "a"), str(tmp_path / "tmp")),
    ):
        (tmp_path / "input").read_bytes()


def test_a_shard_whose_temporary_file_was_cleared_is_done_again(tmp_path, work, cleared):
    write_shard(tmp_path / "in" / "a.tfrecord", [record(pixels(40, 50, n)) for n in range(3)])
    (unit,) = units_in(work, tmp_path / "in")
    cleared(1)

    assert run_unit(unit, work) == UnitReport(done=1, computed_pixels=3 * 2000)

    assert len(read_shard(Path(work.run.path("labels/in/a.tfrecord")))) == 3
    assert failure_rows(work) == []


def test_the_end_of_a_run_survives_that_of_another_one(tmp_path, work, cleared):
    for number in range(2):
        write(tmp_path / "in" / f"{number}.png", png(pixels(40, 50, number)))
    run_all(work, tmp_path / "in")
    finish(work, FailureBudget(0, None), {})
    expected = tree(work.run.root)

    for name in RESULTS:
        filesystem.remove(work.run.path(name))
    left = cleared(filesystem.CLEARED - 1)
    assert finish(work, FailureBudget(0, None), {}) == 0

    assert left == []
    assert tree(work.run.root) == expected


def test_a_scratch_folder_that_another_run_writes_to_is_left(tmp_path, monkeypatch):
    scratch = write(tmp_path / "tmp" / "a", b"").parent
    original = os.rmdir

    def rmdir(path, **options):
        write(scratch / "of another run", b"")
        original(path, **options)

    monkeypatch.setattr(os, "rmdir", rmdir)
    filesystem.remove_below(str(scratch))
    assert [path.name for path in scratch.iterdir()] == ["of another run"]


def test_whatever_else_keeps_a_folder_from_being_removed_is_raised(tmp_path, monkeypatch):
    scratch = write(tmp_path / "tmp" / "a", b"").parent

    def rmdir(path, **options):
        raise OSError(errno.EBUSY, "Device or resource busy", path)

    monkeypatch.setattr(os, "rmdir", rmdir)
    with pytest.raises(OSError, match="busy"):
        filesystem.remove_below(str(scratch))


def test_blocks_of_a_scene_that_another_run_finishes_meanwhile_stay_done(
    tmp_path, work, monkeypatch
):
    small_blocks(monkeypatch, 64)
    write_scene(tmp_path / "in" / "scene.tif", pixels(128, 128))
    units = units_in(work, tmp_path / "in")
    (scene,) = (unit for unit in units if isinstance(unit, plan.AssemblyUnit))
    for unit in units:
        if isinstance(unit, plan.WorkUnit):
            run_unit(unit, work)
    original = CommitLog.is_intact

    def is_intact(log, commit):
        finish_scene(scene, work)
        return original(log, commit)

    monkeypatch.setattr(CommitLog, "is_intact", is_intact)
    assert list(unfinished_units("part-00000.jsonl", work, False)) == [UnitReport(4, 4)]

    assert sum_commits(work).missing == 0
    log = CommitLog(work.run.root, work.options)
    assert all(log.is_done(unit) for unit in plan.read_units(work.run.plan, plan.WorkUnit))
    assert json.loads(Path(log.path(scene)).read_bytes())["tally"]["images"] == 1


def test_what_another_run_finds_under_a_final_name_is_whole(tmp_path, work, monkeypatch):
    write(tmp_path / "in" / "a.png", png(pixels(40, 50)))
    write(tmp_path / "in" / "broken.png", b"no image")
    write_shard(tmp_path / "in" / "a.tfrecord", [record(pixels(40, 50, n)) for n in range(3)])
    write_scene(tmp_path / "in" / "scene.tif", pixels(64, 64))
    original, found = os.replace, {}

    def replace(source, target):
        found[os.path.relpath(target, work.run.root)] = Path(source).read_bytes()
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)
    run_all(work, tmp_path / "in")

    left = {name: content for name, content in tree(work.run.root).items() if name in found}
    assert found == left
    assert {name.split("/")[0] for name in left} >= {"areas", "failures", "labels", "plan"}
