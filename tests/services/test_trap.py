"""The proxy of `tools.reliability` fails one request, and no other."""

from __future__ import annotations

import http.client
import json
from email.message import Message
from urllib.parse import urlsplit

import pytest

from tests.services.exchange import Answer, Request, answer, json_answer
from tests.services.proxy import Proxy, content
from tools.reliability.requests import (
    AFTER,
    BEFORE,
    CLOSED_AFTER,
    CLOSED_BEFORE,
    EMPTY,
    HALF,
    HTML,
    MISSING,
    PAGE,
    SHORT,
    TWICE,
    VERSION,
    Fault,
    Trap,
    kind_of,
    spoiled,
    ways_of,
)

BODY = b"abcdef"
TAG = [("ETag", '"abc"')]


class Store(Proxy):
    """Counts requests, and gives the same answer to all."""

    asked = 0

    def answer(self, request: Request) -> Answer:
        self.asked += 1
        return answer(200, BODY, TAG)


def asked(url: str) -> tuple[int, bytes] | str:
    """Status and body of an answer, or the name of the error without one."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", "/bucket/name")
        got = connection.getresponse()
        return got.status, got.read()
    except (http.client.HTTPException, ConnectionError) as error:
        return type(error).__name__
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("way", "got", "carried_out"),
    [
        (HTML, (200, PAGE), 2),
        (CLOSED_BEFORE, "RemoteDisconnected", 2),
        (CLOSED_AFTER, "RemoteDisconnected", 3),
        (HALF, "IncompleteRead", 3),
        (SHORT, (200, BODY[:3]), 3),
        (EMPTY, (200, b""), 3),
    ],
)
def test_one_request_fails_and_no_other(way, got, carried_out):
    with Store("") as store, Trap(store.url, Fault("read", way, 0.5), 3) as trap:
        assert [asked(trap.url) for _ in range(3)] == [(200, BODY), got, (200, BODY)]
        assert (store.asked, trap.is_sprung) == (carried_out, True)


@pytest.mark.parametrize(("way", "carried_out"), [(BEFORE, 0), (AFTER, 1)])
def test_who_asks_is_killed_before_or_after_the_request_is_carried_out(way, carried_out):
    counts = []
    with Store("") as store, Trap(store.url, Fault("read", way, 0.0)) as trap:
        trap.kill = lambda: counts.append(store.asked)
        asked(trap.url)
    assert counts == [carried_out]


def test_a_status_is_answered_in_the_form_of_the_store():
    with Store("") as store, Trap(store.url, Fault("read", "403", 1.0)) as trap:
        status, body = asked(trap.url)
    assert status == 403
    assert b"<Code>AccessDenied</Code>" in body


@pytest.mark.parametrize(("way", "names"), [(MISSING, ["a"]), (TWICE, ["a", "b", "b"])])
def test_lists_of_both_stores_lose_a_name_or_have_one_twice(way, names):
    google = spoiled(json_answer(200, {"items": [{"name": "a"}, {"name": "b"}]}), way)
    assert [item["name"] for item in json.loads(content(google))["items"]] == names
    page = '<R xmlns="urn:x"><Contents><Key>a</Key></Contents><Contents><Key>b</Key></Contents></R>'
    amazon = content(spoiled(answer(200, page.encode()), way)).decode()
    assert [part[0] for part in amazon.split("Key>")[1::2]] == names


def test_another_version_is_in_headers_and_in_descriptions():
    got = spoiled(answer(200, b'{"generation": "17", "size": "3"}', TAG), VERSION)
    assert (got.headers, content(got)) == ([("ETag", '"1"')], b'{"generation": "1", "size": "3"}')


def test_requests_of_both_stores_have_the_same_kinds():
    conditional = Message()
    conditional["If-None-Match"] = "*"
    ranged = Message()
    ranged["Range"] = "bytes=0-9"
    place, upload = (
        "/storage/v1/b/bucket/o",
        "/upload/storage/v1/b/bucket/o?uploadType=media&name=a",
    )
    pairs = [
        ("list of run", Request("GET", f"{place}?prefix=run", Message())),
        ("list of run", Request("GET", "/bucket?list-type=2&prefix=run", Message())),
        ("stat", Request("GET", f"{place}/a", Message())),
        ("stat", Request("HEAD", "/bucket/a", Message())),
        ("read", Request("GET", f"{place}/a?alt=media", Message())),
        ("read of a part", Request("GET", "/bucket/a", ranged)),
        ("upload", Request("POST", upload, Message())),
        ("create", Request("POST", f"{upload}&ifGenerationMatch=0", Message())),
        ("create", Request("PUT", "/bucket/a", conditional)),
        ("removal", Request("DELETE", "/bucket/a", Message())),
    ]
    assert [kind_of(request) for _, request in pairs] == [kind for kind, _ in pairs]


def test_a_list_of_inputs_is_believed():
    assert MISSING in ways_of("list of run")
    assert MISSING not in ways_of("list of in")
