"""Totals come from the commit records of the plan, and decide how the run ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.cli.values import FailureBudget
from pipelines.results.totals import Totals
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.commits import CommitLog
from pipelines.run.plan import AssemblyUnit, InputFile, Unit, WorkUnit
from pipelines.run.seals import unsealed
from pipelines.storage import filesystem
from segmodel.tiling.windows import Window
from tests.pipelines.corpus import finish, sum_commits, write

FILE = InputFile("/x/a.tif", "x", "a.tif", 3, "1")
COUNTS = {"units_skipped": 0, "seconds": 1.0}


def unit(name: str, blocks: tuple[str, ...] = ()) -> Unit:
    if blocks:
        return AssemblyUnit(name, "scene", (FILE,), blocks)
    return WorkUnit(name, "scene", (FILE,), Window(0, 0, 8, 8))


def planned(work, *units: Unit) -> None:
    plan.write_plan(units, work.run.plan, work.run.scratch)


def commit(work, done: Unit, **fields) -> None:
    CommitLog(work.run.root, work.options).write(done, [], Tally(**fields))


def budget(text: str) -> FailureBudget:
    return FailureBudget.parse(text)


def finished(work, text: str = "0") -> tuple[int, dict, set[str]]:
    """Exit status, summary, and names in the run directory."""
    status = finish(work, budget(text), dict(COUNTS))
    root = Path(work.run.root)
    summary, _ = unsealed((root / "summary.json").read_bytes())
    return status, summary, {path.name for path in root.iterdir()}


def test_totals_sum_the_units_of_the_plan_alone(work):
    planned(work, unit("a"), unit("b"))
    for name, pixels in (("a", 1), ("b", 10), ("not in the plan", 100)):
        commit(work, unit(name), images=1, pixels={"0": pixels})
    actual = sum_commits(work)
    assert (actual.units, actual.missing) == (2, 0)
    assert (actual.tally.images, actual.tally.pixels) == (2, {"0": 11})


def test_blocks_of_a_scene_count_once_through_their_scene(work):
    scene = unit("whole", ("b0", "b1"))
    blocks = [replace(unit(name), scene="whole") for name in ("b0", "b1")]
    planned(work, *blocks, scene, unit("other"))
    for done in blocks:
        commit(work, done, images=1, pixels={"0": 64})
    commit(work, scene, images=1, pixels={"0": 128})
    commit(work, unit("other"), images=1, pixels={"0": 1000})
    actual = sum_commits(work)
    assert (actual.units, actual.missing) == (3, 0)
    assert (actual.tally.images, actual.tally.pixels) == (2, {"0": 1128})


def test_a_scene_that_is_not_put_together_is_missing_although_its_blocks_are_done(work):
    blocks = [replace(unit(name), scene="whole") for name in ("b0", "b1")]
    planned(work, *blocks, unit("whole", ("b0", "b1")))
    for done in blocks:
        commit(work, done, images=1)
    actual = sum_commits(work)
    assert (actual.units, actual.missing, actual.tally) == (2, 1, Tally())


def test_areas_that_do_not_add_up_to_the_footprint_are_a_fault(work):
    planned(work, unit("a"))
    commit(work, unit("a"), images=1, area_m2={"0": 5.0}, footprint_m2=5.0001)
    status, summary, names = finished(work)
    assert (status, summary["reason"], summary["balanced"]) == (1, "fault", False)
    assert "_SUCCESS" not in names


@pytest.mark.parametrize(
    ("missing", "images", "failed", "text", "expected"),
    [
        (0, 5, 0, "0", 0),
        (0, 5, 1, "0", 3),
        (0, 5, 1, "1", 0),
        (0, 5, 2, "1", 3),
        (0, 9, 1, "10%", 0),
        (0, 9, 2, "10%", 3),
        (0, 0, 7, "0", 3),
        (0, 0, 7, "100%", 0),
        (1, 5, 0, "0", 4),
        (1, 5, 5, "0", 4),
        (0, 0, 0, "0", 0),
    ],
)
def test_the_status_is_complete_over_budget_or_incomplete(missing, images, failed, text, expected):
    totals = Totals(10, missing, Tally(images=images, failed_images=failed))
    assert totals.status(budget(text)) == expected


def test_a_complete_run_has_totals_summary_and_success_and_no_scratch(work):
    planned(work, unit("a"))
    commit(
        work,
        unit("a"),
        images=2,
        pixels={"0": 3, "nodata": 1},
        area_m2={"0": 5.0},
        footprint_m2=5.0,
    )
    status, summary, names = finished(work)
    assert status == 0
    assert {"_SUCCESS", "areas.csv", "summary.json"} <= names
    assert "tmp" not in names
    assert summary == {
        "exit_status": 0,
        "reason": "complete",
        "complete": True,
        "balanced": True,
        "units": 1,
        "unfinished_units": 0,
        "units_with_smaller_batches": 0,
        "images": 2,
        "failed_images": 0,
        "failure_budget": "0",
        "failures_by_reason": [],
        "first_failures": [],
        "missing_shards": None,
        "gone_inputs": 0,
        "left_aside": [],
        "pixels": 4,
        "footprint_m2": 5.0,
        "out_of_range": None,
        "this_attempt": COUNTS,
        "files": {
            name: filesystem.sha256(work.run.path(name))
            for name in ("areas.csv", "failures.csv", "labels.json", "preview.png")
        },
    }


def test_a_run_in_which_all_failed_is_no_success(work):
    planned(work, unit("a"))
    commit(work, unit("a"), failed_images=3)
    status, summary, names = finished(work)
    assert (status, summary["reason"]) == (3, "over_budget")
    assert "_SUCCESS" not in names
    assert (summary["complete"], summary["images"], summary["failed_images"]) == (True, 0, 3)


def test_an_incomplete_run_has_partial_totals_and_no_success(work):
    planned(work, unit("a"), unit("b"))
    commit(work, unit("a"), images=1, pixels={"0": 3})
    write(Path(work.run.scratch) / "half", b"")
    status, summary, names = finished(work)
    assert (status, summary["reason"]) == (4, "incomplete")
    assert "_SUCCESS" not in names
    assert (summary["units"], summary["unfinished_units"], summary["pixels"]) == (2, 1, 3)
    assert summary["complete"] is False


def test_success_is_empty_and_written_last_when_no_rows_of_tables_are_left(work, monkeypatch):
    planned(work, unit("a"))
    commit(work, unit("a"), images=1)
    rows = Path(work.run.path("rows/maps/part-00000.jsonl"))
    write(rows, b"")
    written = []
    original = type(work.run).write

    def remember(run, name, content):
        written.append((name, len(content)))
        assert rows.exists() == (name != "_SUCCESS")
        return original(run, name, content)

    monkeypatch.setattr(type(work.run), "write", remember)
    finish(work, budget("0"), dict(COUNTS))
    assert [name for name, _ in written] == ["areas.csv", "preview.png", "summary.json", "_SUCCESS"]
    assert written[-1] == ("_SUCCESS", 0)


def test_totals_do_not_depend_on_the_order_of_the_plan(work):
    units = [unit(str(number)) for number in range(20)]
    for number, done in enumerate(units):
        commit(work, done, images=1, area_m2={"0": 1e15 / 3**number}, footprint_m2=0.1 * number)
    planned(work, *units)
    finish(work, budget("0"), dict(COUNTS))
    expected = Path(work.run.path("areas.csv")).read_bytes()
    planned(work, *reversed(units))
    finish(work, budget("0"), dict(COUNTS))
    assert Path(work.run.path("areas.csv")).read_bytes() == expected
