"""Digests of JSON documents."""

import hashlib
import json
from typing import Any


def digest(document: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of a JSON document.

    Args:
        document: Document that `json` can write; the order of its keys does not matter.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
