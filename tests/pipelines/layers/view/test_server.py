"""The server of a page: what it gives, and to whom."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path

import pytest

from pipelines.layers.view import server
from pipelines.layers.view.run_page import viewed_run
from pipelines.layers.view.server import Answer, PageServer, Site
from segmodel.errors import ConfigurationError

HOST = "127.0.0.1:8000"


@pytest.fixture(scope="module")
def site(looked) -> Site:
    return Site(viewed_run(str(looked.root)))


@pytest.fixture
def archive(looked) -> bytes:
    return (looked.root / "layers" / "labels.pmtiles").read_bytes()


@pytest.fixture
def served(site):
    with PageServer(site) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def content(answer: Answer) -> bytes:
    found = b"".join(answer.content)
    assert len(found) == answer.length
    return found


def ask(served: PageServer, method: str, target: str, **headers) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=20)
    connection.putrequest(method, target, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


@pytest.mark.parametrize(
    ("ranges", "start", "end"),
    [
        ("bytes=0-126", 0, 127),
        ("bytes=5-5", 5, 6),
        ("bytes=100-", 100, None),
        ("bytes=-7", -7, None),
        ("bytes=3-99999999999", 3, None),
    ],
)
def test_a_range_of_the_archive_is_that_range(site, archive, ranges, start, end, monkeypatch):
    monkeypatch.setattr(server, "PIECE", 50)
    answer = site.answer("/labels.pmtiles", HOST, ranges)
    expected = archive[start:end]
    assert content(answer) == expected
    first = len(archive) + start if start < 0 else start
    said = f"bytes {first}-{first + len(expected) - 1}/{len(archive)}"
    assert (answer.status, answer.headers["Content-Range"]) == (206, said)


@pytest.mark.parametrize("ranges", ["", "bytes=-", "bytes=5-2", "bytes=0-1,4-5", "rows=0-1"])
def test_what_is_no_range_gets_the_whole_archive(site, archive, ranges):
    answer = site.answer("/labels.pmtiles", HOST, ranges)
    assert (answer.status, content(answer)) == (200, archive)
    assert "Content-Range" not in answer.headers


def test_a_range_behind_the_end_is_refused(site, archive):
    answer = site.answer("/labels.pmtiles", HOST, f"bytes={len(archive)}-")
    assert (answer.status, content(answer)) == (416, b"")
    assert answer.headers["Content-Range"] == f"bytes */{len(archive)}"


@pytest.mark.parametrize(
    "target",
    [
        "/../run.json",
        "/%2e%2e/run.json",
        "/run.json",
        "//etc/passwd",
        "/layers/labels.pmtiles",
        "/labels.pmtiles/..",
        "/map.html.jinja",
        "/layers",
        "",
    ],
)
def test_no_other_path_is_found(site, target):
    answer = site.answer(target, HOST)
    assert (answer.status, json.loads(content(answer))) == (404, {"error": "there is no such page"})


@pytest.mark.parametrize("host", ["", "evil.example", "evil.example:8000", "127.0.0.1.evil", "::1"])
def test_a_page_that_names_this_machine_otherwise_gets_nothing(site, host):
    assert site.answer("/", host).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:1", HOST])
def test_a_browser_of_this_machine_gets_the_page(site, host):
    answer = site.answer("/", host)
    assert answer.status == 200
    assert content(answer).startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize(
    "query", ["", "lon=1", "lon=a&lat=1", "lon=nan&lat=1", "lon=181&lat=0", "lon=0&lat=90"]
)
def test_what_is_no_place_is_refused(site, query):
    answer = site.answer(f"/place?{query}", HOST)
    assert answer.status == 400


def test_an_overlay_within_a_box_is_told(site):
    answer = site.answer("/overlays?name=failed&bbox=-180,-90,180,90", HOST)
    assert (answer.status, len(json.loads(content(answer))["features"])) == (200, 2)
    answer = site.answer("/overlays?name=failed&bbox=-180,-90,-179,-80", HOST)
    assert json.loads(content(answer)) == {"features": []}


@pytest.mark.parametrize(
    "query",
    [
        *("", "name=failed", "name=other&bbox=0,0,1,1", "name=failed&bbox=0,0,1"),
        *("name=failed&bbox=1,0,0,1", "name=failed&bbox=0,nan,1,1", "name=failed&bbox=0,0,541,1"),
    ],
)
def test_what_is_no_overlay_or_no_box_is_refused(site, query):
    assert site.answer(f"/overlays?{query}", HOST).status == 400


def test_an_archive_that_is_gone_is_told(looked, tmp_path, site, monkeypatch):
    monkeypatch.setattr(site, "_archive", str(tmp_path / "gone"))
    assert site.answer("/labels.pmtiles", HOST).status == 404


def test_each_answer_forbids_other_hosts_and_guesses(served):
    for target, status in (("/", 200), ("/nothing", 404), ("/labels.pmtiles", 200)):
        answer = ask(served, "GET", target)
        assert answer.status == status
        assert answer.getheader("Content-Security-Policy").startswith("default-src 'self'; ")
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Server").strip() == "beamseg"
        assert len(answer.read()) == int(answer.getheader("Content-Length"))


def test_head_is_get_without_content(served, archive):
    answer = ask(served, "HEAD", "/labels.pmtiles", Range="bytes=0-9")
    assert (answer.status, answer.getheader("Content-Length"), answer.read()) == (206, "10", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_no_other_method_is_known(served, method):
    assert ask(served, method, "/").status == 501


def test_a_foreign_host_is_refused_over_http(served):
    assert ask(served, "GET", "/", Host="evil.example").status == 403


def test_a_port_that_is_taken_is_refused(served, site):
    with pytest.raises(ConfigurationError, match=f"--port {served.server_port} cannot be used"):
        PageServer(site, served.server_port)


def test_it_listens_on_loopback_only(served):
    assert served.server_address[0] == "127.0.0.1"


def test_files_of_the_run_are_not_written(looked, served):
    before = sorted(path.stat().st_mtime_ns for path in Path(looked.root).rglob("*"))
    ask(served, "GET", "/place?lon=12&lat=54").read()
    assert sorted(path.stat().st_mtime_ns for path in Path(looked.root).rglob("*")) == before
