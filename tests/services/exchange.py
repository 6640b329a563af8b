"""Requests and answers as plain values, and which object a request is about."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.message import Message
from typing import IO, Any
from urllib.parse import parse_qs, unquote, urlsplit

HEAD_BYTES = 65536
GCS_OBJECT = re.compile(
    r"^(?:/download|/upload|/resumable/upload)?(?:/storage/v1)?/b/(?P<bucket>[^/]+)/o(?:/(?P<name>[^/]+))?"
    r"(?:/compose|/(?:copyTo|rewriteTo)/b/(?P<other>[^/]+)/o/(?P<target>[^/]+))?$"
)


@dataclass
class Request:
    """One request, with its whole body at hand.

    Attributes:
        method: As sent, in capitals.
        target: Path and query, percent-encoded as sent.
        headers: Without those that concern one connection only.
        body: At its start; of `size` bytes.
    """

    method: str
    target: str
    headers: Message
    body: IO[bytes] = field(default_factory=io.BytesIO)
    size: int = 0

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        pairs = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {key: values[0] for key, values in pairs.items()}

    def head(self) -> bytes:
        """The first 64 KiB of the body, which stays at its start."""
        start = self.body.read(HEAD_BYTES)
        self.body.seek(0)
        return start


@dataclass
class Answer:
    """One answer.

    Attributes:
        status: HTTP status.
        headers: Without those that concern one connection only.
        body: Read in blocks as it is passed on, then closed.
        size: Bytes of the body; None if not known before its end.
        cut_after: Close the connection after so many bytes of the body; None to send all.
    """

    status: int
    headers: list[tuple[str, str]]
    body: IO[bytes]
    size: int | None
    cut_after: int | None = None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class ConnectionDropped(Exception):  # noqa: N818 - what the client sees, not a fault of the proxy
    """The connection is to be closed without an answer."""


def answer(status: int, content: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> Answer:
    return Answer(status, list(headers), io.BytesIO(content), len(content))


def json_answer(status: int, content: Any) -> Answer:
    headers = [("Content-Type", "application/json; charset=UTF-8")]
    return answer(status, json.dumps(content).encode(), headers)


def google_error(status: int, message: str) -> Answer:
    return json_answer(status, {"error": {"code": status, "message": message, "errors": []}})


def amazon_error(status: int, code: str, message: str) -> Answer:
    text = f"<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>{code}</Code>"
    text += f"<Message>{message}</Message></Error>"
    return answer(status, text.encode(), [("Content-Type", "application/xml")])


def gcs_object(request: Request) -> tuple[str, str] | None:
    """Bucket and name of the object that a request of the JSON API reads or writes.

    For copies it is the target. Multipart and resumable uploads may give the name in the JSON at
    the start of the body only.
    """
    match = GCS_OBJECT.match(request.path)
    if match is None:
        return None
    bucket, name = match["other"] or match["bucket"], match["target"] or match["name"]
    if name is not None:
        return bucket, unquote(name)
    if "name" in request.query:
        return bucket, request.query["name"]
    if request.query.get("uploadType") in ("multipart", "resumable") and request.size:
        found = _name_in_metadata(request.head())
        return (bucket, found) if found else None
    return None


def _name_in_metadata(head: bytes) -> str | None:
    """`name` of the first JSON object in the start of an upload's body.

    >>> _name_in_metadata(b'--x\\r\\ncontent-type: x\\r\\n\\r\\n{"name": "a"}\\r\\n--x')
    'a'
    """
    start = head.find(b"{")
    if start < 0:
        return None
    try:
        # Latin-1 first would spoil names; what follows the JSON need not be UTF-8.
        metadata, _ = json.JSONDecoder().raw_decode(head[start:].decode("utf-8", "replace"))
    except ValueError:
        return None
    return metadata.get("name") if isinstance(metadata, dict) else None


def path_object(request: Request) -> tuple[str, str] | None:
    """Bucket and name of `/bucket/name`, as S3 and the XML API of GCS have it.

    >>> path_object(Request("GET", "/b/a%20b/c?x=1", Message()))
    ('b', 'a b/c')
    """
    bucket, _, name = request.path.lstrip("/").partition("/")
    return (unquote(bucket), unquote(name)) if name else None


def object_of(request: Request) -> tuple[str, str] | None:
    """Bucket and name in either API; None for requests about buckets and lists."""
    if GCS_OBJECT.match(request.path):
        return gcs_object(request)
    if request.path.startswith(("/storage/v1", "/upload/", "/download/", "/batch")):
        return None
    return path_object(request)
