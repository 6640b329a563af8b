"""All failures of a run in one table, and how often each kind occurs."""

from __future__ import annotations

import csv
import io

from pipelines.results.failure_table import FIRST, MAX_KINDS, FailureTable
from pipelines.run.failures import Failure
from segmodel.errors import ContractError, FailureCode, InputError


def table(*failures: Failure) -> tuple[FailureTable, list[dict[str, str]]]:
    stream = io.StringIO()
    made = FailureTable(stream)
    made.add(failures)
    return made, list(csv.DictReader(io.StringIO(stream.getvalue())))


def test_every_failure_is_a_row_whatever_its_name_holds():
    names = ["a.jpg", 'comma, quote" and line.jpg', "", "ünï.png"]
    failures = [Failure(name, None, "open", "empty file") for name in names]

    _, rows = table(*failures)

    assert [row["uri"] for row in rows] == names
    assert set(rows[0]) == {"uri", "key", "stage", "reason", "transient", "code"}
    assert (rows[0]["key"], rows[0]["transient"], rows[0]["code"]) == ("", "False", "other")


def test_names_and_reasons_are_no_formulas_and_hold_no_controls():
    made, rows = table(Failure("=1+1\n.jpg", "-\x1b[2J", "open", "@a"))
    expected = ("'=1+1\\n.jpg", "'-\\x1b[2J", "'@a")
    assert (rows[0]["uri"], rows[0]["key"], rows[0]["reason"]) == expected
    assert made.first[0]["uri"] == "=1+1\n.jpg"


def test_a_run_without_failures_has_a_table_with_its_heading_alone():
    made, rows = table()
    assert rows == []
    assert (made.first, made.by_reason()) == ([], [])


def test_failures_of_one_code_count_together_and_the_most_frequent_is_first():
    wrong_bands = [
        ContractError(text, code=FailureCode.WRONG_BANDS, name=text)
        for text in ("the scene has 1 (red)", "the scene has 2 (nir, swir)")
    ]
    made, rows = table(
        Failure.of("a", None, "read", InputError("cut", code=FailureCode.CORRUPT_IMAGE)),
        Failure.of("b", "#1 b.jpg", "open", wrong_bands[0]),
        Failure.of("c", None, "open", wrong_bands[1]),
    )
    assert made.by_reason() == [
        {
            "count": 2,
            "stage": "open",
            "code": "wrong_bands",
            "reason": "the scene has 1 (red)",
            "example": "b #1 b.jpg",
        },
        {
            "count": 1,
            "stage": "read",
            "code": "corrupt_image",
            "reason": "cut",
            "example": "a",
        },
    ]
    assert [row["code"] for row in rows] == ["corrupt_image", "wrong_bands", "wrong_bands"]


def test_failures_without_a_code_that_differ_in_numbers_count_together():
    made, _ = table(
        Failure("a", None, "open", "10x10 pixels exceed the limit of 99"),
        Failure("b", None, "open", "20x30 pixels exceed the limit of 99"),
        Failure("c", None, "open", "truncated"),
    )
    assert [(row["count"], row["code"]) for row in made.by_reason()] == [(2, "other"), (1, "other")]


def test_the_same_reason_at_two_stages_is_two_kinds():
    made, _ = table(Failure("a", None, "open", "gone"), Failure("b", None, "read", "gone"))
    assert [row["stage"] for row in made.by_reason()] == ["open", "read"]


def test_the_first_rows_are_kept_as_they_are():
    failures = [Failure(str(number), "k", "open", "r") for number in range(FIRST + 5)]
    made, rows = table(*failures)
    assert [row["uri"] for row in made.first] == [str(number) for number in range(FIRST)]
    assert len(rows) == FIRST + 5


def test_memory_does_not_grow_with_the_number_of_reasons():
    letters = "abcdefghijklmnopqrstuvwxyz"
    reasons = [f"{a}{b}{c}" for a in letters for b in letters for c in letters[:4]]
    made, _ = table(*(Failure("f", None, "open", reason) for reason in reasons))
    assert len(reasons) > MAX_KINDS
    assert made.by_reason()[0]["count"] == len(reasons) - MAX_KINDS
    assert len(made._counts) == MAX_KINDS + 1
