"""Sums of parts of the plan add up to those of the whole, however they are grouped."""

from __future__ import annotations

import pickle
from collections import Counter
from fractions import Fraction

import pytest

from pipelines.results.part_sums import PartSum, add_parts, sum_part, sum_plan
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.commits import Output
from pipelines.run.plan import AssemblyUnit, CountUnit, InputFile, UnitReference, WorkUnit
from segmodel.tiling.windows import Window

FILE = InputFile("/x/a.tif", "x", "a.tif", 3, "1")


def scene(number: int) -> WorkUnit:
    return WorkUnit(f"u{number:04d}", "scene", (FILE,), Window(0, 0, 8, 8))


@pytest.fixture
def many(work, monkeypatch):
    """A plan of 25 parts with ten units each, of which the last is missing."""
    monkeypatch.setattr(plan, "UNITS_PER_PART", 10)
    units = [scene(number) for number in range(250)]
    plan.write_plan(units, work.run.plan, work.run.scratch)
    for number, unit in enumerate(units[:-1]):
        share = Fraction(number % 7, 70)
        fields = {"images": 1, "pixels": {"0": number}, "worst_share": float(share)}
        work.log.write(unit, [], Tally(area_m2={"0": 0.1 * number}, **fields))
    return work


def test_a_part_has_the_sum_of_its_records(many):
    found = sum_part("part-00002.jsonl", many)
    assert (found.units, found.missing) == (Counter(part=10), Counter(part=0))
    assert found.tally.pixels == {"0": sum(range(20, 30))}
    assert found.tally.area_m2 == {"0": sum(Fraction(0.1 * number) for number in range(20, 30))}
    # 20 and 27 have the greatest share; of equal ones the first of the plan comes first.
    units = dict(plan.read_part(many.run.plan, "part-00002.jsonl"))
    assert [(share, units[place].id) for share, place in found.worst[:3]] == [
        (6 / 70, "u0020"),
        (6 / 70, "u0027"),
        (5 / 70, "u0026"),
    ]


def test_parts_add_up_to_the_plan_in_any_order_and_grouping(many):
    parts = [sum_part(f"part-{number:05d}.jsonl", many) for number in range(25)]
    whole = sum_plan(many)
    backwards = add_parts(reversed(parts))
    grouped = add_parts([add_parts(parts[:3]), add_parts([]), add_parts(parts[3:])])
    assert whole == backwards == grouped
    assert (whole.units["part"], whole.missing["part"], whole.unfinished) == (250, 1, 1)
    assert whole.tally.pixels == {"0": sum(range(249))}


def test_a_sum_is_as_small_for_many_parts_as_for_few_but_for_the_names_of_those_with_rows(many):
    few, whole = sum_part("part-00000.jsonl", many), sum_plan(many)
    assert whole.with_rows == {("maps", f"part-{number:05d}.jsonl") for number in range(25)}
    assert len(pickle.dumps(whole)) < len(pickle.dumps(few)) + 500 + 25 * 20
    assert (len(whole.worst), len(whole.sample.ranked)) == (10, 6)


def test_what_is_missing_counts_once_by_the_first_kind_that_misses_it():
    missing = {AssemblyUnit.kind: 2, CountUnit.kind: 3}
    assert PartSum(missing=Counter(missing)).unfinished == 2
    assert PartSum(missing=Counter({**missing, WorkUnit.kind: 5})).unfinished == 5
    assert PartSum().unfinished == 0


def test_only_parts_in_which_images_failed_are_read_again(work):
    fine, failed = scene(1), scene(2)
    plan.write_plan([fine], work.run.plan, work.run.scratch, kept=[failed])
    work.log.write(fine, [], Tally(images=1))
    table = work.run.write(f"failures/{failed.id}.jsonl", b"{}\n")
    output = Output.of(f"failures/{failed.id}.jsonl", table)
    work.log.write(failed, [output], Tally(failed_images=1))
    assert sum_plan(work).with_rows == {
        ("failures", "part-gone-00000.jsonl"),
        ("maps", "part-00000.jsonl"),
        ("maps", "part-gone-00000.jsonl"),
    }


def test_the_worst_units_are_named_by_their_places():
    places = [UnitReference("part-00000.jsonl", number, 1) for number in range(12)]
    one = PartSum(worst=tuple((0.5, place) for place in places[2:]))
    other = PartSum(worst=((0.5, places[1]), (0.25, places[0])))
    found = add_parts([one, other]).worst
    assert [place for _, place in found] == places[1:11]
