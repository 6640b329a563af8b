"""Options of a command, declared once: at the fields of the dataclass that holds their values.

Our parser, Beam's options, the parameters of the Flex Template, the checks and the tables in the
docs follow from these declarations.
"""

import argparse
import ast
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

from segmodel.errors import ConfigurationError

T = TypeVar("T")
N = TypeVar("N", int, float)
_KEY = "option"
# Characters of a value that a message repeats.
_MAX_SHOWN = 40


@dataclass(frozen=True)
class Option:
    """One option of a command; what it does is the docstring of the field that holds its value.

    Args:
        metavar: Name of the value in the help; None for a flag.
        type: Makes a number of the word on the command line, or None for a text. Beam passes the
            result to its workers, so that JSON must be able to hold it.
        parse: Makes the value of the field from that. It raises ValueError with what must hold,
            such as "must be at least 0", or ConfigurationError with the whole message.
        default: Value where the option is not given, as `type` returns it; None leaves the
            field None.
        default_help: The default in words, where other options or the model decide it.
        example: Value to suggest where the option is missing; None if it may be missing.
        choices: All values that are possible, if they are few.
        is_repeatable: Whether the option may be given several times; `parse` gets a tuple then.
        takes_several: Whether several values may follow the option; it is repeatable then.
        place: `paramType` of the parameter in a Flex Template.
        pattern: Regular expression in RE2 of the values that a Flex Template accepts, where
            `type` and `choices` do not tell it.
        name: Name without hyphens; empty for that of the field.
        help: What the option does, in lower case and without a full stop; empty for the docstring
            of the field.
    """

    metavar: str | None = None
    type: Callable[[str], Any] | None = None
    parse: Callable[[Any], Any] | None = None
    default: Any = None
    default_help: str | None = None
    example: str | None = None
    choices: tuple[str, ...] = ()
    is_repeatable: bool = False
    takes_several: bool = False
    place: str = "TEXT"
    pattern: str | None = None
    name: str = ""
    help: str = ""

    @property
    def is_flag(self) -> bool:
        """Whether the option has no value."""
        return self.metavar is None

    @property
    def help_text(self) -> str:
        """What the option does, and its default or that it is required."""
        default = self.default_help or self.default
        if default is not None:
            return f"{self.help} (default: {default})"
        return self.help if self.example is None else f"{self.help} (required)"

    def field(self) -> Any:
        """The field of a dataclass that holds the value of this option."""
        metadata = {_KEY: self}
        if self.example is not None:
            return field(metadata=metadata)
        return field(default=self.value_of(self.default), metadata=metadata)

    def value_of(self, parsed: Any) -> Any:
        """The value of the field, from what argparse made of the command line.

        Raises:
            ConfigurationError: If the value is missing or not possible; names the option.
        """
        if self.example is not None and not parsed:
            raise ConfigurationError(
                f"--{self.name} is missing, for example --{self.name} {self.example}"
            )
        if self.is_flag:
            return bool(parsed)
        if self.is_repeatable or self.takes_several:
            parsed = tuple(parsed or ())
        if parsed is None or (self.choices and parsed in self.choices):
            return parsed
        if self.choices:
            raise ConfigurationError(
                f"--{self.name} must be one of {', '.join(self.choices)}, got {parsed!r}"
            )
        try:
            return parsed if self.parse is None else self.parse(parsed)
        except ValueError as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(f"--{self.name} {error}, got {parsed!r}") from None


def options_of(kind: type) -> Mapping[str, Option]:
    """The options that a dataclass declares, by the name of their field, in order."""
    docs = _field_docstrings(kind)
    declared = {entry.name: entry.metadata[_KEY] for entry in fields(kind)}
    return {
        name: replace(option, name=option.name or name, help=option.help or docs[name])
        for name, option in declared.items()
    }


@cache
def _field_docstrings(kind: type) -> dict[str, str]:
    """The docstrings below the fields of a class, by name, each on one line."""
    try:
        source = inspect.getsource(kind)
    except OSError:
        # It does not say why: too many files are open, say.
        with open(inspect.getfile(kind), encoding="utf-8"):
            raise
    (definition,) = ast.parse(textwrap.dedent(source)).body
    found = {}
    for entry, below in pairwise(definition.body):  # type: ignore[attr-defined]
        if isinstance(entry, ast.AnnAssign) and isinstance(below, ast.Expr):
            found[ast.unparse(entry.target)] = " ".join(ast.literal_eval(below.value).split())
    return found


def add_options(parser: argparse.ArgumentParser, kind: type, without: Container[str] = ()) -> None:
    """Register the options that a dataclass declares, spelled as Beam spells its own.

    None is marked as required, because Beam parses all options classes in every pipeline.

    Args:
        parser: Parser of a command, or of Beam's options.
        kind: Dataclass with declared options.
        without: Names of options to leave out.
    """
    for option in options_of(kind).values():
        if option.name in without:
            continue
        text = option.help_text.replace("%", "%%")
        if option.is_flag:
            parser.add_argument(f"--{option.name}", action="store_true", help=text)
            continue
        parser.add_argument(
            f"--{option.name}",
            action=_action(option),
            nargs="+" if option.takes_several else None,
            type=_reader(option),
            default=option.default,
            metavar=option.metavar,
            help=text,
        )


def _reader(option: Option) -> Callable[[str], Any]:
    """What makes a value of a word, and says what it must be."""
    kind = option.type
    if kind not in (int, float):
        return kind or str
    what = "a whole number" if kind is int else "a number"

    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            short = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
            raise argparse.ArgumentTypeError(f"must be {what}, got {short!r}") from None

    return read


def _action(option: Option) -> str:
    if option.takes_several:
        return "extend"
    return "append" if option.is_repeatable else "store"


def parse_options(kind: type[T], parsed: argparse.Namespace) -> T:
    """Checked values of all options that a dataclass declares.

    Args:
        kind: Dataclass with declared options.
        parsed: Result of a parser with these options.

    Returns:
        An instance of `kind`.

    Raises:
        ConfigurationError: If an option is missing or its value is not possible; names it.
    """
    options = options_of(kind).items()
    return kind(**{name: option.value_of(getattr(parsed, option.name)) for name, option in options})


def options_table(parser: argparse.ArgumentParser) -> str:
    """All arguments of a command as a table in Markdown: name, default and meaning.

    >>> parser = argparse.ArgumentParser(add_help=False)
    >>> _ = parser.add_argument("--halo", metavar="PX", help="context (default: by the contract)")
    >>> print(options_table(parser))
    | option | default | meaning |
    | --- | --- | --- |
    | `--halo PX` | by the contract | context |
    """
    rows = ["| option | default | meaning |", "| --- | --- | --- |"]
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or action.dest == "help":
            continue
        name = action.option_strings[0] if action.option_strings else ""
        value = "" if action.nargs == 0 else action.metavar or action.dest.upper()
        text = " ".join((action.help or "").replace("%%", "%").split())
        found = re.search(r" \((?:default:? ([^()]*)|(required))\)", text)
        default = (found[1] or found[2]) if found else ""
        meaning = text.replace(found[0], "", 1) if found else text
        cells = (f"`{f'{name} {value}'.strip()}`", default, meaning)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def positive(value: N) -> N:
    """A number, unless it is 0, negative, infinite or no number.

    Raises:
        ValueError: If it is one of these.
    """
    if not 0 < value < math.inf:
        raise ValueError("must be greater than 0")
    return value
