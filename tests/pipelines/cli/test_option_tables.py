"""Options are declared once: tables, checks and parser follow from the declarations."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass

import pytest

from pipelines.cli.options import Option, add_options, options_table, parse_options, positive
from pipelines.cli.parser import Parser, parse
from pipelines.commands.main import COMMANDS
from pipelines.commands.verify import parser as verify_parser
from segmodel.errors import ConfigurationError


@dataclass(frozen=True)
class Chosen:
    """Options of no command."""

    place: str = Option(help="where", metavar="DIR", example="here").field()
    sizes: tuple[str, ...] = Option(
        help="how | large", metavar="N", is_repeatable=True, name="size"
    ).field()
    count: int = Option(help="how many", metavar="N", type=int, parse=positive, default=3).field()
    kind: str | None = Option(
        help="50% or 100%", metavar="KIND", choices=("50%", "100%"), default_help="by place"
    ).field()
    quick: bool = Option(help="at once").field()


def chosen(*words: str) -> Chosen:
    parser = Parser()
    add_options(parser, Chosen)
    return parse_options(Chosen, parser.parse_args(words))


def test_values_and_defaults_are_those_of_the_declarations():
    assert chosen("--place", "here") == Chosen("here") == Chosen("here", (), 3, None, False)
    words = ["--place=a", "--size=1", "--size=2", "--count=7", "--kind=50%", "--quick"]
    assert chosen(*words) == Chosen("a", ("1", "2"), 7, "50%", True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--place is missing, for example --place here"),
        (["--place="], "--place is missing, for example --place here"),
        (["--place=a", "--count=0"], "--count must be greater than 0, got 0"),
        (["--place=a", "--kind=5%"], "--kind must be one of 50%, 100%, got '5%'"),
    ],
)
def test_a_value_that_is_missing_or_not_possible_is_refused_by_name(words, message):
    with pytest.raises(ConfigurationError) as refused:
        chosen(*words)
    assert str(refused.value) == message


def test_a_table_has_name_default_and_meaning_of_every_option():
    parser = Parser()
    add_options(parser, Chosen, without=("quick",))
    assert options_table(parser).splitlines() == [
        "| option | default | meaning |",
        "| --- | --- | --- |",
        "| `--place DIR` | required | where |",
        "| `--size N` |  | how \\| large |",
        "| `--count N` | 3 | how many |",
        "| `--kind KIND` | by place | 50% or 100% |",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_table(command):
    parser: argparse.ArgumentParser = importlib.import_module(COMMANDS[command][0]).parser()
    rows = options_table(parser).splitlines()
    assert len(rows) > 2
    assert all(row.count(" | ") >= 2 and row.startswith("| ") for row in rows)


def test_an_old_name_of_an_option_is_accepted_with_a_note(capsys):
    for word in ("--forget", "--forget=true"):
        assert parse(verify_parser(), ["run", word], with_beam=False)[0].invalidate is True
    note = "beamseg: --forget is now called --invalidate: use the new name\n"
    assert capsys.readouterr().err == 2 * note


def test_the_help_has_no_old_name(capsys):
    assert "--forget" not in verify_parser().format_help()
