"""TOML tables as frozen dataclasses: unknown keys, missing keys and wrong types are errors."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from segmodel.errors import ConfigurationError


def read_table(kind: type, given: Any, name: str) -> Any:
    """One table as its dataclass, with every value of the declared type.

    Args:
        kind: A dataclass of `str`, `int`, `float`, `bool`, tuples and mappings of them, and
            unions of those.
        given: The parsed table.
        name: Of the table, for errors.

    Raises:
        ConfigurationError: If a key is unknown or missing, or a value of another type.
    """
    declared = typing.get_type_hints(kind)
    only_known(given, declared, f"{name}.")
    required = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    required -= {
        f.name for f in dataclasses.fields(kind) if f.default_factory is not dataclasses.MISSING
    }
    if missing := sorted(required - set(given)):
        raise ConfigurationError(f"{name}.{missing[0]} is missing")
    return kind(
        **{key: typed(value, declared[key], f"{name}.{key}") for key, value in given.items()}
    )


def only_known(given: Any, known: Iterable[str], prefix: str) -> None:
    """Refuse what is no table, and keys that are not known.

    Raises:
        ConfigurationError: Names the key, and the one that may be meant.
    """
    if not isinstance(given, dict):
        raise ConfigurationError(f"{prefix.rstrip('.') or 'the file'} must be a table")
    known = sorted(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {known}"
            raise ConfigurationError(f"unknown key {prefix}{key}: {hint}")


def typed(value: Any, kind: Any, name: str) -> Any:
    """A value as the declared type; integers are floats where those are declared.

    >>> typed([1, 2], tuple[float, ...], "range")
    (1.0, 2.0)
    >>> typed("cosine", str | tuple[float, ...], "weights")
    'cosine'

    Raises:
        ConfigurationError: If it is of another type.
    """
    if isinstance(kind, types.UnionType):
        for choice in typing.get_args(kind):
            try:
                return typed(value, choice, name)
            except ConfigurationError:
                continue
        words = " or ".join(_word(choice) for choice in typing.get_args(kind))
        raise ConfigurationError(f"{name} must be {words}, got {value!r}")
    if isinstance(kind, types.GenericAlias):
        if typing.get_origin(kind) is Mapping:
            if not isinstance(value, dict):
                raise ConfigurationError(f"{name} must be a table, got {value!r}")
            inner = typing.get_args(kind)[1]
            return {key: typed(item, inner, f"{name}.{key}") for key, item in value.items()}
        values = value if isinstance(value, list) else [value]
        return tuple(typed(item, typing.get_args(kind)[0], name) for item in values)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigurationError(f"{name} must be {_word(kind)}, got {value!r}")
    return value


def override(document: dict[str, Any], name: str, text: str) -> None:
    """Replace one value of a parsed document by TOML text, or by the text itself.

    Args:
        document: Changed in place.
        name: `SECTION.KEY` or longer, as TOML writes dotted keys.
        text: The value.

    Raises:
        ConfigurationError: If the name is no such key.

    >>> document = {}
    >>> override(document, 'export.min_iou."bare soil"', "0.5")
    >>> document
    {'export': {'min_iou': {'bare soil': 0.5}}}
    """
    *sections, key = _parts_of(name)
    table = document
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            sections = []
            break
        table = inner
    if not sections or not key:
        raise ConfigurationError(f"--set needs SECTION.KEY=VALUE, got {name!r}")
    try:
        table[key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[key] = text


def _parts_of(name: str) -> list[str]:
    """Parts of a dotted key.

    Raises:
        ConfigurationError: If it is none.
    """
    try:
        inner: Any = tomllib.loads(f"{name} = 0")
    except tomllib.TOMLDecodeError:
        raise ConfigurationError(f"--set needs SECTION.KEY=VALUE, got {name!r}") from None
    parts = []
    while isinstance(inner, dict):
        ((part, inner),) = inner.items()
        parts.append(part)
    return parts


def _word(kind: Any) -> str:
    if isinstance(kind, types.GenericAlias):
        inner = typing.get_args(kind)
        return "a table" if typing.get_origin(kind) is Mapping else f"a list of {_word(inner[0])}"
    return str(kind.__name__)
