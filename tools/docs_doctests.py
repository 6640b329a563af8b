"""Extension of griffe: examples in docstrings become code blocks of the API reference."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"(^>>> .*(?:\n(?!\s*$).*)*)", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts each doctest that stands among the text into a block of its own."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring before it is parsed."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    r"""The text with its examples in code fences.

    >>> fenced("One more.\n\n>>> 1 + 1\n2").split("```")[1]
    'pycon\n>>> 1 + 1\n2\n'
    """
    return _EXAMPLE.sub(r"```pycon\n\1\n```", text)
