"""Tables of settings as frozen dataclasses that pydantic checks, with errors on one line."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Annotated, Any, TypeVar

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StrictFloat,
    StrictInt,
    ValidationError,
)
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from segmodel.errors import BeamsegError, ConfigurationError

Kind = TypeVar("Kind")

# How a value was read of which there are several kinds: in the place of an error, but no key.
WORD, LIST = "<word>", "<list>"

CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True)

_MESSAGES = {
    "string_type": "must be str",
    "int_type": "must be int",
    "float_type": "must be float",
    "bool_type": "must be bool",
    "mapping_type": "must be a table",
    "dict_type": "must be a table",
    "finite_number": "must be a finite number",
    "string_too_short": "must not be empty",
}
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("greater than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
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


def keys_of(kind: Any) -> list[str]:
    """Names of the settings of a table, in the order of their declaration."""
    return [field.name for field in fields(kind)]


def check_keys(given: Any, known: Iterable[str], section: str) -> None:
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
    known = sorted(known)
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
    *parts, last = [str(part) for part in detail["loc"] if part not in (WORD, LIST)] or [""]
    if unknown:
        for part in parts:
            kind = typing.get_type_hints(kind)[part]
        return _unknown(last, keys_of(kind), ".".join([section, *parts]).strip("."))
    return _message(detail, section)


def _message(detail: ErrorDetails, section: str) -> str:
    place = list(detail["loc"])
    if place[-1:] == ["[key]"]:
        place = place[:-2]
    # Items of a list have the key of the list.
    keys = [part for part in place if isinstance(part, str) and part not in (WORD, LIST)]
    key, kind, given = ".".join(filter(None, [section, *keys])), detail["type"], detail["input"]
    if kind == "missing":
        return f"{key} is missing"
    if kind == "dataclass_type":
        return f"{key} must be a table"
    if kind == "value_error":
        reason = detail["ctx"]["error"]
        return str(reason) if isinstance(reason, BeamsegError) else f"{key} {reason}"
    if kind == "literal_error":
        words = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
        return f"{key} must be one of {words}, got {given!r}"
    if kind in _LIMITS:
        word, name = _LIMITS[kind]
        limit = detail["ctx"][name]
        limit = int(limit) if limit == int(limit) else limit
        return f"{key} must be {word} {limit}, got {given!r}"
    return f"{key} {_MESSAGES.get(kind, detail['msg'])}, got {given!r}"
