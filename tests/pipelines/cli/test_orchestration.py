"""How a command ended, said to programs as one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import segmodel
from pipelines.cli import process
from pipelines.cli.parser import beam_options, parse
from pipelines.commands import main, pack, segment
from segmodel.errors import ConfigurationError, TransientError

ROOT = Path(__file__).parents[3]
WORDS = ["segment", "--input=a", "--model=m", "--output=runs/a", "--json"]
NAMES = [
    *("beamseg", "run", "exit_status", "reason", "error", "images", "failed_images", "pixels"),
    *("units", "unfinished_units", "this_attempt", "seconds"),
]
SUMMARY = {
    "exit_status": 3,
    "reason": "over_budget",
    "images": 5,
    "failed_images": 2,
    "pixels": 70,
    "units": 4,
    "unfinished_units": 0,
    "first_failures": [{"uri": "a.jpg"}],
    "this_attempt": {"units_done": 1, "units_skipped": 3, "seconds": 0.5},
}


@pytest.fixture(autouse=True)
def _no_signals(monkeypatch):
    monkeypatch.setattr(process, "end_at_signals", lambda: None)


def guarded(command, words, capsys):
    """Exit status, the last line of standard output as JSON, and the error stream."""
    status = main.guarded(command, words)
    printed = capsys.readouterr()
    return status, json.loads(printed.out.splitlines()[-1]), printed.err


def test_the_line_has_the_numbers_of_the_summary_under_the_same_names(capsys):
    def command(words):
        print("human words")
        process.record_result(SUMMARY)
        return 3

    status, said, _ = guarded(command, WORDS, capsys)

    assert (status, list(said)) == (3, NAMES)
    assert said.pop("seconds") >= 0
    assert said == {
        "beamseg": segmodel.__version__,
        "run": "runs/a",
        "exit_status": 3,
        "reason": "over_budget",
        "error": None,
        "images": 5,
        "failed_images": 2,
        "pixels": 70,
        "units": 4,
        "unfinished_units": 0,
        "this_attempt": SUMMARY["this_attempt"],
    }


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ConfigurationError("--window is odd"), 2, "usage"),
        (TransientError("out of memory"), 4, "incomplete"),
        (FileNotFoundError(2, "No such file", "model"), 2, "usage"),
        (OSError(28, "No space left on device"), 4, "incomplete"),
        (KeyError("surprise"), 1, "fault"),
    ],
)
def test_a_run_that_failed_says_why_and_knows_no_numbers(error, status, reason, capsys):
    def command(words):
        raise error

    actual, said, printed = guarded(command, WORDS, capsys)

    assert (actual, said["exit_status"], said["reason"]) == (status, status, reason)
    assert said["error"] in printed
    assert list(said) == NAMES
    assert {said[name] for name in NAMES[5:-1]} == {None}


def test_numbers_of_one_command_are_not_those_of_the_next(capsys):
    def first(words):
        process.record_result(SUMMARY)
        return 3

    guarded(first, WORDS, capsys)
    _, said, _ = guarded(lambda words: 0, WORDS, capsys)

    assert (said["exit_status"], said["reason"], said["images"]) == (0, "complete", None)


@pytest.mark.parametrize(
    ("words", "run"),
    [
        (["--json"], None),
        (["--json", "--output"], None),
        (["--output", "a", "--json"], "a"),
        (["--output=a", "--json", "--output=gs://b/c"], "gs://b/c"),
    ],
)
def test_the_run_is_named_as_it_was_given_even_if_the_command_line_is_wrong(words, run, capsys):
    _, said, _ = guarded(lambda words: 2, words, capsys)
    assert said["run"] == run


@pytest.mark.parametrize("word", ["--json", "--json=true", "--json=True"])
def test_a_line_is_printed_where_it_is_asked_for(word, capsys):
    _, said, _ = guarded(lambda words: 0, [word], capsys)
    assert said["reason"] == "complete"


@pytest.mark.parametrize("words", [[], ["--json=false"], ["--input=--json"]])
def test_no_line_is_printed_where_none_is_asked_for(words, capsys):
    def command(words):
        raise ConfigurationError("no")

    assert main.guarded(command, words) == 2
    assert capsys.readouterr().out == ""


def test_help_is_no_end_of_a_run(capsys):
    assert main.guarded(main.dispatch, ["segment", "--help", "--json"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("  143  terminated")


@pytest.mark.parametrize("command", [segment, pack])
def test_the_options_are_known_and_do_not_reach_beam(command):
    words = ["--output=o", "--json", "--runner=FlinkRunner", "--stop_with_parent"]

    parsed, spelled = parse(command.parser(), words, with_beam=True)

    assert (parsed.json, parsed.stop_with_parent) == (True, True)
    assert process.without_process_options(spelled) == ["--output=o", "--runner=FlinkRunner"]
    assert not {"--json", "--stop_with_parent"} & set(beam_options())


def test_a_reader_that_is_gone_does_not_change_how_a_run_ended():
    program = (
        "import sys, time; from pipelines.commands import main\n"
        "def command(words):\n"
        "    time.sleep(0.5)\n"
        "    return 3\n"
        "sys.exit(main.guarded(command, ['--json']))"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    started.stdout.close()

    assert started.stderr.read() == b""
    assert started.wait() == 3
