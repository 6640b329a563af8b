"""Seals: the digest of a JSON file of a run, in that file, so that a changed byte is found.

The seal is the last entry of the object: the first 16 hex digits of the SHA-256 of all bytes before
it. No other bytes have the same seal, as the way that the entry is written follows from them.
"""

import hashlib
import json
import re
from typing import Any

NAME = "seal"
_MARK = f'"{NAME}":'.encode()
# Most bytes from the name of the entry to the end of the file.
_LONGEST = len(_MARK + b' "0123456789abcdef"\n}\n')
_INDENT = re.compile(rb"\{(\n *)")


def sealed(text: str) -> bytes:
    r"""A JSON object, not empty, as the bytes of a file with a seal.

    Args:
        text: The object, as `json.dumps` writes it, with or without indentation.

    >>> sealed('{"a":1}')
    b'{"a":1,"seal":"8b0f0d75aabe01bb"}\n'
    """
    head = text.rstrip()[:-1].rstrip().encode()
    return head + _tail(head)


def json_file(document: dict[str, Any], is_sealed: bool) -> bytes:
    """The bytes of an indented JSON file, with a seal or without."""
    text = json.dumps(document, indent=2)
    return sealed(text) if is_sealed else f"{text}\n".encode()


def unsealed(content: bytes) -> tuple[Any, bool]:
    """The document in a file, without its seal, and whether it had one.

    Args:
        content: Bytes of a JSON file, with or without a seal.

    Raises:
        ValueError: If it is no JSON, or another document than the seal was made for.

    >>> unsealed(sealed('{"a":1}')), unsealed(b'{"a":1}')
    (({'a': 1}, True), ({'a': 1}, False))
    """
    place = content.rfind(_MARK, max(0, len(content) - _LONGEST))
    if place < 0:
        return json.loads(content), False
    head = content[:place].rstrip().removesuffix(b",")
    if head + _tail(head) != content:
        raise ValueError("the seal is that of other bytes")
    return json.loads(head + b"}"), True


def _tail(head: bytes) -> bytes:
    """The rest of a file behind the last entry of its object."""
    indent = _INDENT.match(head)
    gap, space, end = (indent[1], b" ", b"\n") if indent else (b"", b"", b"")
    digest = hashlib.sha256(head).hexdigest()[:16].encode()
    return b"," + gap + _MARK + space + b'"' + digest + b'"' + end + b"}\n"
