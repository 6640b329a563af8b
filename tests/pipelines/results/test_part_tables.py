"""Rows of tables are made part by part of the plan, and merged in its order."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipelines.formats.work import Counting
from pipelines.results.part_sums import sum_part, sum_plan
from pipelines.results.part_tables import FAILURES, OVERLAPS, store_rows
from pipelines.run import plan
from pipelines.run.areas import ELSEWHERE, Tally
from pipelines.run.commits import Output
from pipelines.run.failures import Failure
from pipelines.run.plan import CountUnit, InputFile, WorkUnit
from pipelines.scenes.results import overlaps_csv


def file(number: int) -> InputFile:
    return InputFile(f"/x/{number}.tif", "x", f"{number}.tif", 3, "1")


@pytest.fixture
def failing(work, monkeypatch):
    """A plan of three parts with two units each; of the fourth and fifth unit images failed."""
    monkeypatch.setattr(plan, "UNITS_PER_PART", 2)
    units = [WorkUnit(f"u{number}", "images", (file(number),)) for number in range(6)]
    plan.write_plan(units, work.run.plan, work.run.scratch)
    for number, unit in enumerate(units):
        failures = [failure(number)] if number in (3, 4) else []
        rows = "".join(json.dumps(asdict(one)) + "\n" for one in failures)
        path = f"failures/{unit.id}.jsonl"
        written = [Output.of(path, work.run.write(path, rows.encode()))] if failures else []
        work.log.write(unit, written, Tally(images=1, failed_images=len(failures)))
    return work


def failure(number: int) -> Failure:
    return Failure(f"x/{number}.tif", None, "decode", f"broken \udce9 {number}")


def rows_below(work) -> list[str]:
    root = Path(work.run.path("rows"))
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_only_parts_with_failed_images_have_rows_of_failures_and_they_merge_in_order(failing):
    sums = [sum_part(f"part-{number:05d}.jsonl", failing) for number in range(3)]
    for one in reversed(sums):
        store_rows(one.with_rows, failing)
    assert rows_below(failing) == ["failures/part-00001.jsonl", "failures/part-00002.jsonl"]
    parts = sums[2].with_rows | sums[1].with_rows
    found = [Failure(**row) for row in FAILURES.merged(parts, failing)]
    assert found == [failure(3), failure(4)]


def test_rows_that_another_run_has_removed_are_made_again(failing):
    found = sum_plan(failing).with_rows
    store_rows(found, failing)
    stored = list(FAILURES.merged(found, failing))
    failing.run.clear_rows()
    assert not Path(failing.run.path("rows")).exists()
    assert list(FAILURES.merged(found, failing)) == stored == [asdict(failure(n)) for n in (3, 4)]


def test_rows_of_an_earlier_attempt_are_replaced(failing):
    found = sum_plan(failing).with_rows
    for name, part in found:
        failing.run.write(f"rows/{name}/{part}", b'{"left": "by a kill"}\n')
    store_rows(found, failing)
    assert len(list(FAILURES.merged(found, failing))) == 2
    assert all(row["stage"] == "decode" for row in FAILURES.merged(found, failing))


def test_rows_of_overlaps_are_those_of_the_table(work, monkeypatch):
    monkeypatch.setattr(plan, "UNITS_PER_PART", 1)
    work = replace(work, counting=Counting(None, "first"))
    units = [CountUnit(f"counts-{n}", "scene", (file(0), file(1)), n) for n in range(2)]
    plan.write_plan(units, work.run.plan, work.run.scratch)
    for number, unit in enumerate(units):
        elsewhere = [
            {
                "counted_in": "x/0.tif",
                "pixels": {ELSEWHERE: 7 * number},
                "area_m2": {ELSEWHERE: "1/4"},
            }
        ]
        content = json.dumps({"zones": [], "elsewhere": elsewhere}).encode()
        path = f"counts/{unit.id}.json"
        output = Output.of(path, work.run.write(path, content))
        work.log.write(unit, [output], Tally(images=1, footprint_m2=2.0))
    found = sum_plan(work).with_rows
    assert found == {("overlaps", "counts-00000.jsonl"), ("overlaps", "counts-00001.jsonl")}
    store_rows(found, work)
    rows = [["x/0.tif", "x/0.tif", 0, "0.25", "0.125"], ["x/1.tif", "x/0.tif", 7, "0.25", "0.125"]]
    assert list(OVERLAPS.merged(found, work)) == rows
    lines = [",".join(map(str, row)) for row in rows]
    assert overlaps_csv(work.run, work.log).decode().splitlines()[1:] == lines
