"""A proxy before a store that fails one request, in one of many ways; or kills who asks."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree import ElementTree

from tests.services.exchange import (
    GCS_OBJECT,
    Answer,
    ConnectionDropped,
    Request,
    answer,
    object_of,
)
from tests.services.faults import refusal
from tests.services.gcs import GcsGateway
from tests.services.proxy import Proxy, content, replaced
from tests.services.s3 import S3Gateway

LATE_SECONDS = 1.5
PAGE = b"<!DOCTYPE html><html><body><h1>Sign in to this network</h1></body></html>"
STATUSES = (403, 404, 429, 500, 503)
BEFORE, AFTER = "killed before", "killed after"
CLOSED_BEFORE, CLOSED_AFTER, LATE = "closed before", "closed after", "late"
HALF, SHORT, EMPTY, HTML = "half a body", "short body", "empty body", "page of HTML"
VERSION = "other version"
MISSING, TWICE = "a name is missing", "a name is there twice"
# Of each request; the others are of some only.
ALWAYS = (*map(str, STATUSES), CLOSED_BEFORE, CLOSED_AFTER, LATE, HTML, BEFORE, AFTER)
OF_READS = (HALF, SHORT, EMPTY, VERSION)
OF_LISTS = (HALF, SHORT, EMPTY, MISSING, TWICE)
READS = ("read", "read of a part")
LISTS = "list"


def ways_of(kind: str) -> tuple[str, ...]:
    """In which ways a kind of request can fail.

    >>> "a name is missing" in ways_of("list of run"), HALF in ways_of("stat")
    (True, False)
    """
    if kind.startswith(LISTS):
        # What is not listed is no input: nobody can know.
        return (*ALWAYS, *(way for way in OF_LISTS if way != MISSING or kind != "list of in"))
    return (*ALWAYS, *OF_READS) if kind in READS else (*ALWAYS, *((VERSION,) * (kind == "stat")))


def kind_of(request: Request) -> str:
    """What a request does, of either store.

    >>> from email.message import Message
    >>> kind_of(Request("GET", "/bucket?list-type=2&prefix=in/photos", Message()))
    'list of in'
    >>> kind_of(Request("GET", "/storage/v1/b/bucket/o/run%2Fa?alt=media", Message()))
    'read'
    """
    query, headers = request.query, request.headers
    if request.method == "HEAD":
        return "stat"
    if request.method == "DELETE":
        return "removal"
    if request.method in ("PUT", "POST"):
        conditional = "ifGenerationMatch" in query or "If-None-Match" in headers
        return "create" if conditional else "upload"
    if object_of(request) is None:
        return f"{LISTS} of {'in' if query.get('prefix', '').startswith('in') else 'run'}"
    if GCS_OBJECT.match(request.path) and query.get("alt") != "media":
        return "stat"
    return READS["Range" in headers]


@dataclass(frozen=True)
class Fault:
    """A request to fail.

    Args:
        kind: As `kind_of` says.
        way: How.
        place: Where among the requests of this kind: 0 for the first, 0.5 for the one in the
            middle, 1 for the last.
    """

    kind: str
    way: str
    place: float


class Trap(Proxy):
    """Fails one request.

    Args:
        upstream: Address of the store.
        fault: Which and how; None for none.
        count: Requests of its kind in a run without faults.
    """

    def __init__(self, upstream: str, fault: Fault | None = None, count: int = 1) -> None:
        super().__init__(upstream)
        self.counts: Counter[str] = Counter()
        self.is_sprung = False
        self.kill: Callable[[], object] = lambda: None
        self._fault, self._lock = fault, threading.Lock()
        self._occurrence = 0 if fault is None else 1 + round(fault.place * (count - 1))

    def answer(self, request: Request) -> Answer:
        kind = kind_of(request)
        with self._lock:
            self.counts[kind] += 1
            fault = self._fault
            if fault and (kind, self.counts[kind]) == (fault.kind, self._occurrence):
                self.is_sprung = True
            else:
                fault = None
        if fault is None:
            return super().answer(request)
        if fault.way.isdigit():
            return refusal(request, int(fault.way))
        if fault.way == HTML:
            return answer(200, PAGE, [("Content-Type", "text/html")])
        if fault.way in (CLOSED_BEFORE, BEFORE):
            self._drop(fault.way == BEFORE)
        got = super().answer(request)
        if fault.way in (CLOSED_AFTER, AFTER):
            content(got)
            self._drop(fault.way == AFTER)
        if fault.way == LATE:
            time.sleep(LATE_SECONDS)
            return got
        return spoiled(got, fault.way, has_body=request.method != "HEAD")

    def _drop(self, kills: bool) -> None:
        if kills:
            self.kill()
        raise ConnectionDropped


class GoogleTrap(Trap, GcsGateway):
    """A trap in the gateway of the emulator."""


class AmazonTrap(Trap, S3Gateway):
    """A trap in the gateway of the emulator."""


def spoiled(got: Answer, way: str, has_body: bool = True) -> Answer:
    """A good answer, spoiled in a way."""
    if way == VERSION:
        other = {"etag": '"1"', "x-goog-generation": "1"}
        got.headers = [(k, other.get(k.lower(), v)) for k, v in got.headers]
        if not has_body:
            return got
        body = content(got)
        return replaced(got, re.sub(rb'("(?:etag|generation)": ")[^"]*', rb"\g<1>1", body))
    body = content(got)
    if way == HALF:
        got = replaced(got, body)
        got.cut_after = len(body) // 2
        return got
    made = {
        SHORT: lambda: body[: len(body) // 2],
        EMPTY: lambda: b"",
        MISSING: lambda: _listing(body, lambda items: items[:-1]),
        TWICE: lambda: _listing(body, lambda items: [*items, *items[-1:]]),
    }
    return replaced(got, made[way]())


def _listing(body: bytes, change: Callable[[list], list]) -> bytes:
    """A page of a listing with other objects."""
    if body.startswith(b"{"):
        page = json.loads(body)
        return json.dumps(page | {"items": change(page.get("items", []))}).encode()
    tree = ElementTree.fromstring(body)
    items = [child for child in tree if child.tag.endswith("}Contents")]
    for child in items:
        tree.remove(child)
    tree.extend(change(items))
    return ElementTree.tostring(tree)
