"""Operations of TensorFlow by kind, and which of them a model may hold: see `operations.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType


class Permission(StrEnum):
    """Where operations of a kind are allowed: everywhere, in savers of variables, or nowhere."""

    ALLOWED = "allowed"
    SAVERS = "savers"
    REFUSED = "refused"


@dataclass(frozen=True)
class Kind:
    """Operations that have the same reason to be allowed or refused.

    Args:
        name: Name of the kind.
        permission: Where its operations are allowed.
        why: What such an operation does.
        operations: Names of the operations.
    """

    name: str
    permission: Permission
    why: str
    operations: tuple[str, ...]


@cache
def operation_kinds() -> tuple[Kind, ...]:
    """All kinds, in the order of the file."""
    text = Path(__file__).with_name("operations.toml").read_text("utf-8")
    return tuple(
        Kind(
            kind["name"],
            Permission(kind["permission"]),
            kind["why"],
            tuple(kind["operations"].split()),
        )
        for kind in tomllib.loads(text)["kinds"]
    )


@cache
def kind_by_operation() -> MappingProxyType[str, Kind]:
    """The kind of each operation that is known."""
    found = {name: kind for kind in operation_kinds() for name in kind.operations}
    return MappingProxyType(found)
