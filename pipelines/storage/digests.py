"""Digests of JSON documents."""

import hashlib
import json
from typing import Any


def digest(document: dict[str, Any]) -> str:
    """16 hex digits of the SHA-256 of a JSON document."""
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
