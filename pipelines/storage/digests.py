"""Digests of JSON documents and of what is read."""

import hashlib
import json
from typing import Any

import google_crc32c
import numpy as np

# Of the length of a part, before the part.
_LENGTH_BYTES = 8


def digest(document: dict[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of a JSON document.

    Args:
        document: Document that `json` can write; the order of its keys does not matter.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Checksum:
    """CRC-32C of some parts in order, in the memory of one part.

    The length of each part counts too, so that bytes which move from one to the next change it. It
    finds damage, and files that were mixed up; whoever wants to can make other parts with the same.

    Source: RFC 3720, appendix B.4.

    >>> checksum = Checksum()
    >>> checksum.add(b"ab", np.array([1, 2], np.uint8))
    >>> str(checksum)
    '379eb4d1'
    """

    def __init__(self) -> None:
        self._crc = 0

    def add(self, *parts: bytes | np.ndarray) -> None:
        """Go on with parts; of an array, the values in order of its rows."""
        for part in parts:
            content = part if isinstance(part, bytes) else _read_only(part)
            length = part.nbytes if isinstance(part, np.ndarray) else len(part)
            self._crc = google_crc32c.extend(self._crc, length.to_bytes(_LENGTH_BYTES, "little"))
            self._crc = google_crc32c.extend(self._crc, content)

    def __str__(self) -> str:
        return f"{self._crc:08x}"


def _read_only(values: np.ndarray) -> np.ndarray:
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view
