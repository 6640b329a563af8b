"""Tables of settings as frozen dataclasses that pydantic checks, with errors on one line."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StrictFloat,
    StrictInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from segmodel.errors import BeamsegError, ConfigurationError, explained
from segmodel.escaping import holds_credentials

Kind = TypeVar("Kind")

# How a value was read of which there are several kinds: in the place of an error, but no key.
WORD, LIST = "<word>", "<list>"

CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True)

# Likewise of choices between plain types, last in a place.
_KINDS = ("str", "int", "float", "bool")

# As errors say it in place of what pydantic says.
_PLAIN = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "a valid dictionary": "a table",
}


class OneOf:
    """Limits a text to some words, as in `Annotated[str, OneOf(["adamw", "sgd"])]`.

    Args:
        words: Words that are allowed.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = list(words)

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(self.words)


def as_list(value: Any) -> Any:
    """A list of one value where that is no list.

    >>> as_list("a"), as_list(["a", "b"])
    (['a'], ['a', 'b'])
    """
    return value if isinstance(value, list | tuple) else [value]


# An integer is read as a float, a boolean or a text never is a number.
Number = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Amount = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
ShareBelow1 = Annotated[Number, Field(ge=0, lt=1)]
Count = Annotated[StrictInt, Field(ge=1)]
Whole = Annotated[StrictInt, Field(ge=0)]
Words = Annotated[tuple[str, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])]
Integers = Annotated[
    tuple[StrictInt, ...], BeforeValidator(as_list, json_schema_input_type=int | list[int])
]
Numbers = Annotated[
    tuple[StrictFloat, ...], BeforeValidator(as_list, json_schema_input_type=float | list[float])
]


@typing.dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def settings(section: str) -> Callable[[type[Kind]], type[Kind]]:
    """Declare a table of settings: a frozen dataclass that refuses unknown keys and wrong values.

    Args:
        section: Name of the table in a configuration file; empty for the whole file.

    Returns:
        A decorator of the class. Making an object of it raises `ConfigurationError`, which names
        the key, what must hold and what was found.
    """

    def decorate(plain: type[Kind]) -> type[Kind]:
        kind = dataclass(frozen=True, config=CONFIG)(plain)
        validate = kind.__init__

        def init(self: Kind, *values: Any, **named: Any) -> None:
            try:
                validate(self, *values, **named)
            except ValidationError as error:
                raise ConfigurationError(_explained(error, kind, section)) from None

        kind.__init__ = init  # type: ignore[method-assign,assignment]
        return kind  # type: ignore[return-value]

    return decorate


@contextmanager
def parsed_toml(path: str | Path) -> Iterator[dict[str, Any]]:
    """The document in a TOML file; errors in it, also those that the block finds, name the file.

    Raises:
        ConfigurationError: If the file cannot be read, an address in it holds credentials, or the
            block finds an error in it.
    """
    try:
        document = tomllib.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigurationError(explained(error, str(path))) from error
    except RecursionError:
        raise ConfigurationError(f"{path}: it is nested too deeply") from None
    except ValueError as error:
        # No TOML, no UTF-8, or a number of thousands of digits.
        raise ConfigurationError(f"{path}: {error}") from error
    try:
        _check_addresses(document, "")
        yield document
    except BeamsegError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _check_addresses(value: Any, name: str) -> None:
    """Refuse credentials, which would stand in the files of a run and in messages.

    Args:
        value: A value of a document, or all of it.
        name: Dotted name of the value.

    Raises:
        ConfigurationError: Names the value, and not what it is.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_addresses(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for inner in value:
            _check_addresses(inner, name)
    elif isinstance(value, str) and holds_credentials(value):
        raise ConfigurationError(
            f"{name}: an address holds credentials, and settings are written to files: write it "
            f"without user and signature"
        )


@contextmanager
def naming_file(path: str | Path) -> Iterator[None]:
    """Have errors of the block that concern its settings name the file that they stand in."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def keys_of(kind: Any) -> list[str]:
    """Names of the settings of a table, in the order of their declaration."""
    return [field.name for field in fields(kind)]


def check_keys(given: Any, known: Sequence[str], section: str) -> None:
    """Refuse what is no table, and keys that are not known.

    Args:
        given: Parsed table.
        known: Keys that the table may have.
        section: Name of the table; empty for the whole file.

    Raises:
        ConfigurationError: Names the key, and the one that may be meant.
    """
    if not isinstance(given, dict):
        raise ConfigurationError(f"{section or 'the file'} must be a table")
    for key in given:
        if key not in known:
            raise ConfigurationError(_unknown(key, known, section))


def _unknown(key: str, known: Iterable[str], section: str) -> str:
    known, prefix = sorted(known), f"{section}." if section else ""
    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {known}"
    return f"unknown key {prefix}{key}: {hint}"


def _explained(error: ValidationError, kind: Any, section: str) -> str:
    """The first thing that is wrong, on one line; an unknown key before what follows from it."""
    details = error.errors(include_url=False)
    unknown = [detail for detail in details if detail["type"] == "unexpected_keyword_argument"]
    detail = (unknown or details)[0]
    place = [part for part in detail["loc"] if part not in (WORD, LIST)]
    if len(place) > 1 and place[-1] in _KINDS:
        place.pop()
    if place[-1:] == ["[key]"]:
        place = place[:-2]
    if unknown:
        *above, key = place
        for part in above:
            is_item = isinstance(part, int)
            kind = typing.get_args(kind)[0] if is_item else typing.get_type_hints(kind)[str(part)]
        return _unknown(str(key), keys_of(kind), _dotted([section, *above]))
    return _message(detail, _dotted([section, *place]))


def _dotted(place: Iterable[str | int]) -> str:
    """A place in a file as TOML has it, with the number of an item in brackets.

    >>> _dotted(["", "classes", 0, "id"])
    'classes[0].id'
    """
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return "".join(parts).lstrip(".")


def _message(detail: ErrorDetails, key: str) -> str:
    if detail["type"] == "missing":
        return f"{key} is missing"
    if detail["type"] == "dataclass_type":
        return f"{key} must be a table"
    if detail["type"] == "value_error":
        reason = detail["ctx"]["error"]
        return str(reason) if isinstance(reason, BeamsegError) else f"{key} {reason}"
    text = re.sub(r"^\w+ should ", "must ", detail["msg"])
    for long, short in _PLAIN.items():
        text = text.replace(long, short)
    return f"{key} {text}, got {detail['input']!r}"


def table_of_settings(tables: Mapping[str, Any]) -> str:
    """Settings as rows of a Markdown table: key, type, default and meaning.

    Args:
        tables: Classes that `settings` made, by the names of their tables; an empty name for
            keys at the top of the file.

    Returns:
        Head and rows, a line each; the default is written as in TOML, and empty where there is
        none, because the setting must be given.
    """
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for table, kind in tables.items():
        properties = TypeAdapter(kind).json_schema()["properties"]
        for name, field in kind.__pydantic_fields__.items():
            value = field.get_default(call_default_factory=True)
            default = (
                "" if field.is_required() else "none" if value is None else f"`{_toml(value)}`"
            )
            meaning = " ".join((field.description or "").removesuffix(".").split())
            cells = (f"`{_dotted([table, name])}`", _type(properties[name]), default, meaning)
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _toml(value: Any) -> str:
    """A value as TOML has it.

    >>> _toml(("a", "b")), _toml({"dice": 0.5}), _toml(1e-4), _toml(False)
    ('["a", "b"]', '{ dice = 0.5 }', '0.0001', 'false')
    """
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {_toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return str(value) if isinstance(value, Fraction) else json.dumps(value)


def _type(schema: Mapping[str, Any]) -> str:
    """What a JSON Schema takes, in words.

    >>> _type({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "number"}}]})
    'string or list of numbers'
    """
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        # One value stands for a list of one, so that a list takes what the other choice says.
        words = [_type(choice) for choice in choices if choice.get("type") != "null"]
        return next((word for word in words if word == f"list of {words[0]}s"), " or ".join(words))
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}s"
    if schema["type"] == "object":
        return f"table of {_type(schema['additionalProperties'])}s"
    return str(schema["type"])
