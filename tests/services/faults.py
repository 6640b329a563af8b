"""A proxy that fails requests: a seeded share of them, or all that concern some names.

`FaultyProxy` runs in a process of its own (see `proxy`); tests hold a `Faults`, which asks it and
tells it by requests to `/_faults` at the same address. Those are neither counted nor failed.
"""

from __future__ import annotations

import json
import random
import re
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from tests.services.exchange import (
    Answer,
    ConnectionDropped,
    Request,
    amazon_error,
    answer,
    google_error,
    json_answer,
    object_of,
)
from tests.services.processes import server_process
from tests.services.proxy import Proxy

UNAVAILABLE = "503 before"  # Not carried out.
TOO_MANY = "429 before"  # Not carried out; with Retry-After.
REFUSED = "closed before"  # Not carried out; no answer.
LOST = "closed after"  # Carried out, but the client never hears of it.
CUT = "cut body"  # Carried out; the answer ends in its middle. As LOST where it has no body.
SLOW = "slow"  # Carried out; the first byte of the answer comes late.
KINDS = (UNAVAILABLE, TOO_MANY, REFUSED, LOST, CUT, SLOW)
# Answers to GET and HEAD that look whole and are not: of a proxy or a gateway before the store.
HALVED, EMPTIED, PAGE = "half body", "no body", "page"
WRONG = (HALVED, EMPTIED, PAGE)
PASSED, PERMANENT = "passed", "permanent"
CONTROL = "/_faults"


@dataclass(frozen=True)
class Plan:
    """Which requests fail, and how.

    Attributes:
        share: Of requests that fail, in [0, 1].
        seed: Of the sequence; which requests fail depends on it and on their order alone.
        kinds: The ways to fail that are drawn from, all alike.
        slow_seconds: What `SLOW` waits.
        permanent: Regular expression: every request about an object with it in its `bucket/name`
            fails. Empty for none.
        permanent_status: 503 as a store that stays down, 403 as one that refuses.
        only: Number of the one request that fails, from 0, whatever the share; None for none.
    """

    share: float = 0.2
    seed: int = 1
    kinds: tuple[str, ...] = KINDS
    slow_seconds: float = 0.2
    permanent: str = ""
    permanent_status: int = 503
    only: int | None = None


class Faults:
    """A faulty proxy as tests see it.

    Args:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def follow(self, plan: Plan) -> None:
        """Start the plan's sequence, and count from zero."""
        self._control(json.dumps(asdict(plan)).encode())

    def off(self) -> None:
        """Pass everything on from now on, and count from zero."""
        self.follow(Plan(share=0.0))

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """Requests by method and by what became of them: one of `KINDS`, passed, permanent."""
        return Counter({(method, kind): n for method, kind, n in self._control(None)})

    def count(self, *kinds: str) -> int:
        """Requests of all methods that ended in one of these kinds."""
        return sum(n for (_, kind), n in self.counts.items() if kind in kinds)

    def _control(self, body: bytes | None) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + CONTROL, body, timeout=30) as got:
            return json.load(got)


class FaultyProxy(Proxy):
    """Fails requests by a plan; see `Plan`."""

    def __init__(self, upstream: str, port: int = 0) -> None:
        super().__init__(upstream, port)
        self._lock = threading.Lock()
        self._follow(Plan(share=0.0))

    def _follow(self, plan: Plan) -> None:
        with self._lock:
            self._plan = plan
            self._random = random.Random(plan.seed)
            self._counts: Counter[tuple[str, str]] = Counter()

    def answer(self, request: Request) -> Answer:
        if request.path == CONTROL:
            return self._controlled(request)
        kind, plan = self._draw(request)
        if kind == PERMANENT:
            return refusal(request, plan.permanent_status)
        if kind == UNAVAILABLE:
            return refusal(request, 503)
        if kind == TOO_MANY:
            refused = refusal(request, 429)
            refused.headers.append(("Retry-After", "0"))
            return refused
        if kind == REFUSED:
            raise ConnectionDropped
        got = self.forward(request)
        if kind == LOST or (kind == CUT and (not got.size or request.method == "HEAD")):
            with got.body:
                got.body.read()
            raise ConnectionDropped
        if kind == CUT and got.size:
            got.cut_after = got.size // 2
        if kind in WRONG and request.method == "GET" and got.status in (200, 206):
            return _wrong(kind, got)
        if kind == PAGE and request.method == "HEAD":
            return answer(200, headers=[("Content-Type", "text/html")])
        if kind == SLOW:
            time.sleep(plan.slow_seconds)
        return got

    def _controlled(self, request: Request) -> Answer:
        if request.method == "POST":
            settings = json.loads(request.body.read())
            self._follow(Plan(**{**settings, "kinds": tuple(settings["kinds"])}))
        with self._lock:
            return json_answer(200, [[*key, count] for key, count in self._counts.items()])

    def _draw(self, request: Request) -> tuple[str, Plan]:
        about = object_of(request)
        with self._lock:
            plan = self._plan
            # Two draws for every request: the sequence does not depend on what was asked.
            fails, which = self._random.random() < plan.share, self._random.random()
            kind = plan.kinds[int(which * len(plan.kinds))] if fails else PASSED
            if plan.permanent and about and re.search(plan.permanent, "/".join(about)):
                kind = PERMANENT
            if plan.only is not None and self._counts.total() == plan.only:
                kind = plan.kinds[0]
            self._counts[request.method, kind] += 1
        return kind, plan


@contextmanager
def faulty_server(upstream: str) -> Iterator[Faults]:
    """A faulty proxy before a server; without faults until it gets a plan."""
    with server_process(__name__, lambda port: [upstream, str(port)]) as port:
        yield Faults(f"http://127.0.0.1:{port}")


def _wrong(kind: str, got: Answer) -> Answer:
    """Another body in place of that of an answer, with a length that fits."""
    with got.body:
        content = got.body.read()
    if kind == PAGE:
        page = b"<html><body>Sign in to the network.</body></html>"
        return answer(200, page, [("Content-Type", "text/html")])
    return answer(got.status, content[: len(content) // 2 if kind == HALVED else 0], got.headers)


def refusal(request: Request, status: int) -> Answer:
    """The answer of a store that fails a request, in its own form."""
    message = "failed by the proxy of the tests"
    if request.path.startswith(("/storage/", "/upload/", "/download/", "/b/", "/batch")):
        return google_error(status, message)
    codes = {503: "ServiceUnavailable", 429: "SlowDown", 403: "AccessDenied", 404: "NoSuchKey"}
    return amazon_error(status, codes.get(status, "InternalError"), message)


if __name__ == "__main__":
    FaultyProxy(sys.argv[1], int(sys.argv[2])).serve()
