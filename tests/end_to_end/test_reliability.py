"""A short series of each kind of harm; `python -m tools.reliability` does the full ones."""

from __future__ import annotations

import pytest

from pipelines.commands.main import COMMANDS
from tests.end_to_end.conftest import files_of
from tests.examples import PROFILE
from tests.services.fixtures import need_packages
from tools.reliability.__main__ import HARMS, Report, measured
from tools.reliability.bench import Bench, Ended, Outcome, differences
from tools.reliability.disks import can_mount
from tools.reliability.situations.harm import SUBJECTS, TABLE, Situations, faults_of
from tools.reliability.situations.table import Situation
from tools.reliability.stores import STORES

# Which part of a full series.
SHARE = 20 if PROFILE == "ci" else 200
MIN_SITUATIONS = 15


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Inputs of every kind, and a run over them that nothing harms."""
    return Bench.made(tmp_path_factory.mktemp("reliability"))


def short(bench: Bench, name: str) -> Report:
    with HARMS[name](bench, 1) as harm:
        return measured(harm, max(1, harm.count // SHARE))


def test_what_an_operator_does_wrong_ends_in_one_line_that_says_what_to_do(bench):
    with Situations(bench, 1) as harm:
        report = measured(harm, max(MIN_SITUATIONS, harm.count // SHARE))

    assert report.faults == []
    assert report.counts.total() >= MIN_SITUATIONS


def test_situations_have_different_names_and_commands_of_all_kinds():
    situations = [one for subject in SUBJECTS for one in subject.SITUATIONS]
    assert len(TABLE) == len(situations) >= 300
    assert {one.line.partition(" ")[0] for one in situations} >= {*COMMANDS}
    assert all(one.at and len(one.says) > 5 for one in situations)


@pytest.mark.parametrize(
    ("ended", "fault"),
    [
        (Ended(0, ""), "status 0, expected 2: "),
        (Ended(2, "beamseg: --window is odd\n"), "does not say 'even': beamseg: --window is odd\n"),
        (Ended(2, "beamseg: it must be even\n"), "does not say '--window': "),
        (Ended(2, "Traceback\n--window even\n"), "not one line: "),
    ],
)
def test_a_situation_that_ends_otherwise_is_a_fault(ended, fault):
    situation = Situation("odd", "segment --window=3", "--window", "even")
    assert any(found.startswith(fault) for found in faults_of(situation, ended))
    assert faults_of(situation, Ended(2, "beamseg: --window must be even\n")) == []


@pytest.mark.parametrize("name", ["kills", "pairs", "disks", "stores", "flips", "models", "layers"])
def test_a_run_that_is_harmed_ends_with_the_same_bytes_or_says_what_to_do(bench, name, tmp_path):
    if name == "disks" and not can_mount("tmpfs", tmp_path / "disk"):
        pytest.skip("disks are not tested: this process may not mount file systems")
    if name == "stores":
        for store in STORES:
            need_packages(store)

    report = short(bench, name)

    assert report.faults == []
    assert report.counts.total() > 0


def test_other_bytes_beside_a_mark_of_success_are_a_fault(bench):
    run = bench.folder / "whole"
    assert bench.whole.status == 0
    assert bench.judged("nothing", Ended(0, ""), run) == Outcome("nothing", "same bytes")
    changed = dict(bench.expected) | {"areas.csv": b"", "more": b""}
    assert differences(changed, files_of(run)) == [
        "areas.csv differs from that of a run without harm",
        "more differs from that of a run without harm",
    ]


@pytest.mark.parametrize(
    ("ended", "fault"),
    [
        (Ended(4, "one\ntwo\n"), "not one line: one\ntwo\n"),
        (Ended(1, "one\n"), "ended with 1: one\n"),
        (Ended(-11, ""), "ended with -11: "),
        (Ended(4, ""), "not one line: "),
    ],
)
def test_an_end_that_does_not_say_in_one_line_what_to_do_is_a_fault(ended, fault):
    assert ended.faults == [fault]


def test_lines_about_single_files_are_no_fault():
    errors = "failed: a.png: empty file\n1 of 1 image failed: see run/failures.csv\n"
    assert Ended(3, errors).faults == []


def test_a_failure_of_one_line_is_no_fault():
    assert Ended(2, "beamseg: the model is damaged: copy it again\n").faults == []
