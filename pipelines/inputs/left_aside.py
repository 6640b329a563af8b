"""Files that are found and not read, by suffix."""

from pathlib import PurePosixPath
from typing import Any

from segmodel.errors import counted
from segmodel.escaping import on_one_line

EXAMPLES = 3
MAX_SUFFIXES = 1000
IN_LINE = 5
NO_SUFFIX, OTHERS = "(no suffix)", "(others)"


class LeftAside:
    """Files that no format reads, counted by suffix, with a few examples of each.

    >>> found = LeftAside()
    >>> for name in ("in/a.txt", "in/b.TXT", "in/README"):
    ...     found.add(name)
    >>> found.line()
    '3 files are left aside: 2 .txt (in/a.txt, in/b.TXT), 1 (no suffix) (in/README)'
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, name: str) -> None:
        """Count a file."""
        suffix = PurePosixPath(name).suffix.lower() or NO_SUFFIX
        if suffix not in self._counts and len(self._counts) >= MAX_SUFFIXES:
            suffix = OTHERS
        self._counts[suffix] = self._counts.get(suffix, 0) + 1
        examples = self._examples.setdefault(suffix, [])
        if len(examples) < EXAMPLES:
            examples.append(name)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def to_json(self) -> list[dict[str, Any]]:
        """Suffix, number and examples of each kind, the most frequent first."""
        kinds = sorted(self._counts, key=lambda suffix: (-self._counts[suffix], suffix))
        return [
            {"suffix": suffix, "files": self._counts[suffix], "examples": self._examples[suffix]}
            for suffix in kinds
        ]

    def line(self) -> str:
        """All of it as a line, with the most frequent kinds."""
        kinds = self.to_json()
        parts = [
            on_one_line(f"{kind['files']} {kind['suffix']} ({', '.join(kind['examples'])})")
            for kind in kinds
        ]
        more = [f"and {counted(len(parts) - IN_LINE, 'kind')} more"] if len(parts) > IN_LINE else []
        verb = "is" if len(self) == 1 else "are"
        named = ", ".join([*parts[:IN_LINE], *more])
        return f"{counted(len(self), 'file')} {verb} left aside: {named}"
