"""What verification refuses, and that neither memory nor output grow with a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.commands import verify as command
from pipelines.results.failure_table import write_failures
from pipelines.results.verify import Verdict, verify
from pipelines.results.verify_units import AGAIN, Finding
from pipelines.run import plan
from pipelines.run.area_tables import totals_csv
from pipelines.run.areas import Tally
from pipelines.run.commits import CommitLog, Output
from pipelines.run.directory import MARK, RunDirectory
from pipelines.run.plan import InputFile, WorkUnit
from pipelines.storage.digests import digest
from pipelines.storage.threads import AHEAD
from segmodel.errors import ConfigurationError, ContractError
from tests.fakes import CLASSES, contract
from tests.pipelines.corpus import tree, write

LABELS = {"window_px": 512, "halo_px": 0, "batch": None}
STATISTICS = {"pixel_size_m": None}
OPTIONS = digest({"labels": LABELS, "statistics": STATISTICS})


def document(**changes: object) -> dict:
    return (
        MARK
        | {
            "labels": LABELS,
            "statistics": STATISTICS,
            "digests": {"labels": digest(LABELS), "statistics": digest(STATISTICS)},
            "model": contract().to_json(),
        }
        | changes
    )


def unit(number: int) -> WorkUnit:
    file = InputFile(f"/x/{number}", "x", str(number), 1, "1")
    return WorkUnit(f"images-{number:05d}", "images", (file,))


def planned(root: Path, units: int) -> RunDirectory:
    """A run of so many units, of which none is done."""
    run = RunDirectory(str(root))
    run.write_json("run.json", document())
    plan.write_plan(map(unit, range(units)), run.plan, run.scratch)
    return run


def finish(run: RunDirectory, units: int) -> None:
    """One map with its number as text for each unit, and the end of the run."""
    log = CommitLog(run.root, OPTIONS)
    for number in range(units):
        path = f"labels/x/{number}.png"
        output = Output.of(path, run.write(path, str(number).encode()))
        log.write(unit(number), [output], Tally(images=1, pixels={"0": number}))
    total = Tally(images=units, pixels={"0": units * (units - 1) // 2})
    run.write("areas.csv", totals_csv(total, CLASSES))
    write_failures(run, lambda table: table.add([]))
    run.write_json("summary.json", {"exit_status": 0})
    run.write("preview.png", b"")
    run.write("_SUCCESS", b"")


def found(root: Path) -> list[Finding]:
    findings: list[Finding] = []
    verify(str(root), findings.append)
    return findings


@pytest.mark.parametrize("units", [1, AHEAD - 1, AHEAD, AHEAD + 1, 1001])
def test_every_unit_is_checked_once_and_findings_come_in_the_order_of_the_plan(tmp_path, units):
    run = planned(tmp_path, units)
    finish(run, units)
    size = sum(len(str(number)) for number in range(units))
    assert verify(str(tmp_path), [].append) == Verdict(units, units, size, 0, 0)

    for number in range(units):
        (tmp_path / f"labels/x/{number}.png").write_bytes(b"-" * len(str(number)))

    assert [f.path for f in found(tmp_path)] == [f"labels/x/{n}.png" for n in range(units)]


def test_the_plan_is_read_only_a_little_ahead_of_what_is_told(tmp_path, monkeypatch):
    planned(tmp_path, 500)
    read = told = most = 0
    original = plan.read_units

    def counted(folder: str, kind: type[WorkUnit], *others: object) -> Iterator[WorkUnit]:
        nonlocal read
        for entry in original(folder, kind, *others):
            read += 1
            yield entry

    def tell(finding: Finding) -> None:
        nonlocal told, most
        told += 1
        most = max(most, read - told)

    monkeypatch.setattr(plan, "read_units", counted)
    actual = verify(str(tmp_path), tell)

    assert (actual.unfinished, told) == (500, 500)
    assert most < AHEAD


def test_a_line_of_the_plan_that_is_no_unit_is_found_and_names_are_not_judged(tmp_path):
    run = planned(tmp_path, 2)
    finish(run, 2)
    (part,) = (tmp_path / "plan").glob("part-*")
    part.write_bytes(part.read_bytes()[:-9])
    assert found(tmp_path) == [Finding("plan/part-00000.jsonl", "is damaged", AGAIN)]


def test_a_run_without_a_plan_has_no_units(tmp_path):
    planned(tmp_path, 0)
    assert found(tmp_path) == [Finding("plan", "has no work units", AGAIN)]


def refuse(root: Path, match: str, error: type[Exception] = ConfigurationError) -> None:
    before = tree(root)
    with pytest.raises(error, match=match):
        found(root)
    assert tree(root) == before


def test_what_is_no_folder_is_no_run(tmp_path):
    refuse(tmp_path / "none", "none is no folder: name the folder that `beamseg segment` was given")
    refuse(write(tmp_path / "file", b""), "file is no folder: name the folder")


def test_a_folder_without_run_json_is_no_run(tmp_path):
    refuse(tmp_path, "holds no run.json: name the folder that `beamseg segment` was given")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_run_json_of_others_is_no_run(tmp_path, content):
    write(tmp_path / "run.json", content)
    refuse(tmp_path, "run.json was not written by this beamseg: name the folder")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"labels": {"window_px": 513}}, "labels"),
        ({"labels": None}, "labels"),
        ({"statistics": {"pixel_size_m": 1.0}}, "statistics"),
    ],
)
def test_options_that_were_changed_after_the_fact_are_refused(tmp_path, changes, name):
    write(tmp_path / "run.json", json.dumps(document(**changes)).encode())
    refuse(
        tmp_path, f"run.json: {name} are not those that the run was begun with: put it back from"
    )


def test_a_model_contract_that_is_none_is_refused(tmp_path):
    write(tmp_path / "run.json", json.dumps(document(model={})).encode())
    refuse(tmp_path, "format_version", ContractError)


def test_object_stores_are_refused():
    with pytest.raises(ConfigurationError, match="gs://"):
        verify("gs://bucket/run", print)


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str]]:
    status = command.run([str(word) for word in words])
    return status, capsys.readouterr().out.splitlines()


def test_the_command_says_in_one_line_that_all_is_as_recorded(tmp_path, capsys):
    finish(planned(tmp_path, 3), 3)
    expected = (0, ["3 units, 3 files, 3 bytes: all as recorded"])
    assert printed(capsys, tmp_path) == expected
    assert printed(capsys, tmp_path, "--invalidate") == expected


@pytest.mark.parametrize(("units", "more"), [(20, []), (21, ["and 1 more"]), (50, ["and 30 more"])])
def test_the_command_prints_twenty_findings_and_counts_the_rest(tmp_path, capsys, units, more):
    planned(tmp_path, units)
    status, lines = printed(capsys, tmp_path)
    assert status == 4
    assert all(line.startswith("commits/images-000") for line in lines[:20])
    assert lines[20:] == [
        *more,
        f"{units} units, 0 files, 0 bytes: {units} not finished, 0 not as recorded",
    ]


def test_the_command_prints_any_name_on_one_line(tmp_path, capsys):
    finish(planned(tmp_path, 1), 1)
    write(tmp_path / "labels" / "a\nb\udc80", b"")
    status, lines = printed(capsys, tmp_path)
    assert status == 4
    assert lines == [
        r"labels/a\nb\udc80 is an unknown file: no commit record names it: remove it",
        "1 unit, 1 file, 1 byte: 0 not finished, 1 not as recorded",
    ]
