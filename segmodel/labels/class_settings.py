"""Classes as configuration files state them: one `[[classes]]` table for each."""

from __future__ import annotations

from typing import Any

from pydantic import StrictInt

from segmodel.labels.classes import ClassTable, LabelClass, parse_color
from segmodel.settings import settings


@settings("classes")
class ClassConfig:
    """A class: one `[[classes]]` table for each."""

    id: StrictInt
    """Value of the class in label maps."""
    name: str
    """Name of the class."""
    color: str
    """Color of the class, such as `#8429F6`."""


@settings("")
class ClassList:
    """The classes of a configuration, in the order of the score channels."""

    classes: list[ClassConfig]


def class_table(entries: Any) -> ClassTable:
    """The class table of `[[classes]]` tables.

    Args:
        entries: Parsed tables, or the table that was made of them.

    Raises:
        ConfigurationError: If it is no list of tables, or a key is missing or wrong.
        ContractError: If a class cannot be or has a reserved name, or there is none.
    """
    if isinstance(entries, ClassTable):
        return entries
    found = ClassList(classes=entries).classes
    table = ClassTable(tuple(LabelClass(c.id, c.name, parse_color(c.color)) for c in found))
    table.check_names()
    return table
