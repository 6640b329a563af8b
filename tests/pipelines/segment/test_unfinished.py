"""Workers look, part by part, for what is left to do of a plan that earlier attempts have begun."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.formats.work import Counting
from pipelines.run import plan
from pipelines.run.attempts import UnitReport
from pipelines.run.commits import CommitLog
from pipelines.run.plan import AssemblyUnit, CountUnit, InputFile, UnitReference, WorkUnit
from pipelines.scenes.assembly import finish_scene
from pipelines.segment.unfinished import forget_counts, unfinished_among, unfinished_units
from segmodel.errors import TransientError
from tests.pipelines.corpus import (
    pixels,
    png,
    run_unit,
    small_blocks,
    units_in,
    write,
    write_scene,
)


@pytest.fixture
def finished(tmp_path, work, monkeypatch):
    """A scene of four blocks and a group of images of which one failed; each unit is a part."""
    small_blocks(monkeypatch, 64)
    monkeypatch.setattr(plan, "UNITS_PER_PART", 1)
    write_scene(tmp_path / "in" / "scene.tif", pixels(128, 128))
    write(tmp_path / "in" / "a.png", png(pixels(8, 8)))
    write(tmp_path / "in" / "broken.png", b"no image")
    for unit in units_in(work, tmp_path / "in"):
        if isinstance(unit, WorkUnit):
            run_unit(unit, work)
    for scene in plan.read_units(work.run.plan, AssemblyUnit):
        assert finish_scene(scene, work)
    return work


def left(work, retry_failures: bool = False, backwards: bool = False) -> tuple[set[str], int]:
    """Ids of the units that are to be done, and how many are done."""
    ids, done = set(), 0
    for part in sorted(plan.part_names(work.run.plan, WorkUnit), reverse=backwards):
        for entry in unfinished_units(part, work, retry_failures):
            if isinstance(entry, UnitReference):
                ids.add(plan.read_unit(work.run.plan, entry, WorkUnit).id)
            else:
                assert entry == UnitReport(entry.done, entry.done)
                done += entry.done
    return ids, done


def blocks(work) -> list[WorkUnit]:
    return [unit for unit in plan.read_units(work.run.plan, WorkUnit) if unit.is_block]


def group(work) -> WorkUnit:
    (found,) = (u for u in plan.read_units(work.run.plan, WorkUnit) if u.format == "images")
    return found


def scene(work) -> AssemblyUnit:
    (found,) = plan.read_units(work.run.plan, AssemblyUnit)
    return found


def test_nothing_is_left_of_what_is_finished_although_blocks_are_removed(finished):
    assert left(finished) == (set(), 5)


@pytest.mark.parametrize("backwards", [False, True])
def test_all_blocks_of_a_scene_whose_label_map_is_gone_are_left_in_whatever_order_parts_come(
    finished, backwards
):
    (path,) = finished.log.read(scene(finished)).outputs_in("labels")[:1]
    Path(finished.run.path(path)).unlink()
    assert left(finished, backwards=backwards) == ({unit.id for unit in blocks(finished)}, 1)
    assert not finished.log.is_done(scene(finished))
    assert not any(map(finished.log.is_done, blocks(finished)))


def test_a_block_of_a_scene_without_a_record_is_judged_by_its_own_outputs(finished):
    finished.log.invalidate(scene(finished))
    first, *others = blocks(finished)
    finished.log.invalidate(first)
    run_unit(first, finished)
    assert left(finished) == ({unit.id for unit in others}, 2)


def test_what_failed_is_left_where_failures_are_tried_again(finished):
    assert left(finished, retry_failures=True) == ({group(finished).id}, 4)
    assert not finished.log.is_done(group(finished))


def test_a_damaged_record_is_none(finished):
    Path(finished.log.path(group(finished))).write_bytes(b"{")
    assert left(finished) == ({group(finished).id}, 4)
    assert not Path(finished.log.path(group(finished))).exists()


def test_blocks_of_a_plan_of_an_earlier_release_do_not_say_how_many_they_are(finished):
    known = [replace(unit, siblings=None) for unit in blocks(finished)]
    plan.write_plan([*known, scene(finished)], finished.run.plan, finished.run.scratch)
    assert left(finished) == (set(), 4)
    finished.log.invalidate(scene(finished))
    assert left(finished) == ({unit.id for unit in known}, 0)


def test_a_store_that_does_not_answer_leaves_the_unit_to_whoever_does_it(finished, monkeypatch):
    def load_of(log, unit):
        raise TransientError("the store is down")

    monkeypatch.setattr(CommitLog, "load_of", load_of)
    assert len(left(finished)[0]) == 5
    monkeypatch.undo()
    assert finished.log.is_done(group(finished))


def counted(work) -> CountUnit:
    """A count of the scene, in the plan and done."""
    count = CountUnit("count-scene", "scene", scene(work).files, 0)
    units = [*plan.read_units(work.run.plan, WorkUnit), scene(work), count]
    plan.write_plan(units, work.run.plan, work.run.scratch)
    commit = work.log.read(scene(work))
    work.log.write(count, [], commit.tally)
    return count


@pytest.mark.parametrize("damaged", [False, True])
def test_counts_of_label_maps_that_are_made_again_are_forgotten_also_by_a_later_attempt(
    finished, damaged
):
    work = replace(finished, counting=Counting(None, "first"))
    count = counted(work)
    if damaged:
        (path,) = work.log.read(scene(work)).outputs_in("labels")[:1]
        Path(work.run.path(path)).unlink()
    left(work)
    # Killed here; by now the next attempt finds nothing wrong.
    forget_counts(work)
    assert work.log.is_done(count) != damaged
    work.log.write(count, [], work.log.read(group(work)).tally)
    forget_counts(work)
    assert work.log.is_done(count)


def test_of_units_that_follow_only_those_are_done_that_are_not_finished_or_cannot_be_asked_for(
    work, monkeypatch
):
    monkeypatch.setattr(plan, "UNITS_PER_PART", 3)
    file = InputFile("/x/a.tif", "x", "a.tif", 3, "1")
    units = [AssemblyUnit(f"scene-{n}", "scene", (file,), ("b",)) for n in range(5)]
    plan.write_plan(units, work.run.plan, work.run.scratch)
    first, second = plan.part_names(work.run.plan, AssemblyUnit)

    def is_finished(unit):
        if unit.id == "scene-1":
            raise TransientError("the store is down")
        return unit.id != "scene-4"

    def left_of(part):
        found = unfinished_among(part, work, is_finished)
        return [plan.read_unit(work.run.plan, place, AssemblyUnit).id for place in found]

    assert left_of(first) == ["scene-1"]
    assert left_of(second) == ["scene-4"]
