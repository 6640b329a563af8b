"""Answers that are almost those of a store: numbers and dates that are none, missing parts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.storage import clients, filesystem
from pipelines.storage.clients import retry
from pipelines.storage.clients.interface import WrongAnswerError
from tests.services.s3 import s3_environment

OBJECT = {"name": "in/a", "size": "3", "generation": "7"}
GIVEN = {"Content-Length": "3", "X-Goog-Generation": "7", "ETag": '"7"'}
ENTRY = "<Key>in/a</Key><Size>3</Size><ETag>7</ETag>"
MORE = "<NextContinuationToken>t</NextContinuationToken>"


class Server(ThreadingHTTPServer):
    """A server with one answer to everything."""

    headers: dict[str, str]
    body: bytes

    def answers(self, body: str | object, **headers: str) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "application/xml" if text.startswith("<") else "application/json"
        self.body, self.headers = text.encode(), {"Content-Type": kind}
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        self.send_response(200)
        for name, value in {"Content-Length": str(len(server.body)), **server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(server.body)

    do_HEAD = do_GET  # noqa: N815 - the name that the standard library calls

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)
    clients._store.cache_clear()
    with Server(("127.0.0.1", 0), _Handler) as running:
        url = f"http://127.0.0.1:{running.server_address[1]}"
        for name, value in {"STORAGE_EMULATOR_HOST": url, **s3_environment(url)}.items():
            monkeypatch.setenv(name, value)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()
    clients._store.cache_clear()


def listing(entry: str, rest: str = "<IsTruncated>false</IsTruncated>") -> str:
    return f"<ListBucketResult>{rest}<Contents>{entry}</Contents></ListBucketResult>"


def test_answers_that_are_whole_are_read(server: Server) -> None:
    server.answers({**OBJECT, "items": [OBJECT]})
    assert list(filesystem.files_below("gs://b/in")) == [filesystem.stat("gs://b/in/a")]
    server.answers("abc", **GIVEN)
    assert filesystem.read_bytes("gs://b/in/a", (3, "7")) == b"abc"
    assert filesystem.read_bytes("s3://b/in/a", (3, "7")) == b"abc"
    assert filesystem.stat("s3://b/in/a") == next(_listed(server, listing(ENTRY)))


def _listed(server: Server, text: str) -> Iterator[filesystem.StoredObject]:
    server.answers(text)
    return filesystem.files_below("s3://b/in")


@pytest.mark.parametrize(
    "wrong", [{"generation": "x"}, {"generation": None}, {"size": "x"}, {"size": None}]
)
def test_an_object_of_google_with_odd_numbers_is_no_answer(
    server: Server, wrong: dict[str, str | None]
) -> None:
    server.answers({**OBJECT, **wrong, "items": [{**OBJECT, **wrong}]})

    with pytest.raises(WrongAnswerError, match=r"gs://b/in/a: .*not that of the store"):
        filesystem.stat("gs://b/in/a")
    with pytest.raises(WrongAnswerError, match="cannot be parsed"):
        list(filesystem.files_below("gs://b/in"))


@pytest.mark.parametrize("generation", ["x", "", "8"])
def test_bytes_of_google_with_an_odd_generation_are_no_answer(
    server: Server, generation: str
) -> None:
    server.answers("abc", **{**GIVEN, "X-Goog-Generation": generation})

    with pytest.raises(WrongAnswerError, match="not that of the store"):
        filesystem.read_bytes("gs://b/in/a", (3, "7"))


@pytest.mark.parametrize(
    "text",
    [
        listing(ENTRY.replace("3", "x")),
        listing(ENTRY.replace("<Size>3</Size>", "")),
        listing(ENTRY.replace("<ETag>7</ETag>", "")),
        listing(ENTRY.replace("<Key>in/a</Key>", "")),
        listing(ENTRY + "<LastModified>yesterday or so</LastModified>"),
        listing(ENTRY, "<IsTruncated>true</IsTruncated>"),
        listing(ENTRY, f"<IsTruncated>true</IsTruncated><KeyCount>x</KeyCount>{MORE}"),
    ],
)
def test_a_listing_of_s3_that_lacks_something_is_no_answer(server: Server, text: str) -> None:
    server.answers(text)

    with pytest.raises(WrongAnswerError, match=r"s3://b/in.*cannot be parsed"):
        list(filesystem.files_below("s3://b/in"))


@pytest.mark.parametrize(
    "wrong", [{"Last-Modified": "yesterday or so"}, {"x-amz-missing-meta": "many"}]
)
def test_an_object_of_s3_with_odd_headers_is_no_answer(
    server: Server, wrong: dict[str, str]
) -> None:
    server.answers("abc", **GIVEN, **wrong)

    with pytest.raises(WrongAnswerError, match=r"s3://b/in/a: .*cannot be parsed"):
        filesystem.stat("s3://b/in/a")
    with pytest.raises(WrongAnswerError, match=r"s3://b/in/a: .*cannot be parsed"):
        filesystem.read_bytes("s3://b/in/a", (3, "7"))
