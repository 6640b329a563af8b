"""Documents of training runs: JSON that is read, text and Markdown that are written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segmodel.errors import ConfigurationError, counted
from segmodel.escaping import on_one_line
from segmodel.labels.classes import format_color


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of a run that holds one JSON object.

    Raises:
        ConfigurationError: If the file cannot be read or holds something else.
    """
    try:
        document = json.loads(_read_text(path))
    except ValueError as error:
        raise ConfigurationError(f"{path}: is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: must hold an object, got {type(document).__name__}")
    return document


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read `history.jsonl` of a run; a last line that a killed run did not finish is left out.

    Returns:
        One object for each validation, in order: step, stage, loss, and scores as in
        `scores.json`.

    Raises:
        ConfigurationError: If the file cannot be read.
    """
    lines, history = _read_text(path).splitlines(), []
    for number, line in enumerate(lines, 1):
        try:
            history.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise ConfigurationError(f"{path}: line {number} is not JSON") from None
    return history


def flattened(document: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values of nested objects by dotted name; lists stay as they are.

    >>> flattened({"training": {"loss": {"dice": 1.0}, "stages": []}, "run": "a"})
    {'training.loss.dice': 1.0, 'training.stages': [], 'run': 'a'}
    """
    values: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{above}{key}"
        values |= flattened(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return values


def render(template: str, **values: Any) -> str:
    """Fill in a template of this folder.

    Text of users is not escaped by itself: the template does it with the filter `md`.

    Args:
        template: File name of the template.
        values: What the template refers to.
    """
    # Segmenting draws with what is here, and writes no document.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("segmodel.reports", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": escaped, "decimal": decimal, "setting": setting_text}
    environment.filters |= {"color": format_color, "table": markdown_table, "counted": counted}
    return environment.get_template(template).render(values)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Format columns of equal width: the first to the left, the others to the right.

    Args:
        rows: Cells of each row; rows are of one length, and the first one is the head.

    >>> print(text_table([["class", "IoU"], ["sea", "0.512"]]))
    class    IoU
    sea    0.512
    """
    rows = [[*map(on_one_line, row)] for row in rows]
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    cells = ([row[0].ljust(first), *map(str.rjust, row[1:], others)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in cells)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    r"""Format a Markdown table: the first column to the left, the others to the right.

    Args:
        rows: Cells of each row, which are escaped here; the first row is the head.

    >>> print(markdown_table([["class", "IoU"], ["a|b", "0.512"]]))
    | class | IoU |
    | --- | ---: |
    | a\|b | 0.512 |
    """
    lines = [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    rule = f"| --- |{' ---: |' * (len(rows[0]) - 1)}"
    return "\n".join([lines[0], rule, *lines[1:]])


def escaped(text: str) -> str:
    r"""Escape text so that Markdown shows it as it is, on one line.

    >>> escaped("a_b|<c>")
    'a\\_b\\|\\<c\\>'
    """
    return re.sub(r"[\\`*_\[\]<>|#$]", r"\\\g<0>", one_line(text))


def one_line(text: str) -> str:
    r"""Replace what cannot be printed, such as line breaks, by spaces.

    >>> one_line("two\nlines")
    'two lines'
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def decimal(value: float | None) -> str:
    """Format a score with three digits; what is absent is a hyphen.

    >>> decimal(0.51249), decimal(None)
    ('0.512', '-')
    """
    return "-" if value is None else f"{value:.3f}"


def setting_text(value: Any) -> str:
    """Format the value of a setting as TOML would have it, near enough.

    >>> setting_text([1, "a"]), setting_text("adamw"), setting_text(True), setting_text([])
    ('[1, "a"]', 'adamw', 'true', '[]')
    """
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
