"""The emulator of Google Cloud Storage, behind a gateway that mends it.

What gcp-storage-emulator 2026.7.19 does unlike the real store, tried or (*) read in its source:

| asked | the emulator | through the gateway |
| --- | --- | --- |
| `ifGenerationMatch` in uploads of all three kinds, in DELETE and compose | ignored | 412 |
| end of an upload whose client died | half an object is stored | nothing is stored |
| state of a resumable upload that is complete | 404 | 200 and the object |
| state of a resumable upload without a byte | `Range: bytes=0-0` | no `Range` |
| lists: `maxResults`, `pageToken`, `startOffset`, `endOffset` | ignored | heeded |
| lists: `fields` | ignored: all fields | the same |
| lists: `prefix`, `delimiter` | right | the same |
| `Range: bytes=-5` | 200 and all of it | 206 |
| `Range` that starts at or past the end | 206 of nothing | 416 |
| HEAD (GDAL, XML API) | 501 | 200 |
| `ETag`, `Last-Modified`, `x-goog-generation` of downloads | missing | sent |
| upload of nothing by `media` | connection closed | an empty object |
| upload with `Content-Encoding: gzip` | stored decompressed | the same |
| `contentEncoding: gzip` in metadata | served as stored, without the header | the same |
| DELETE | 200 | 204 |
| 404 of an object | no body | the JSON of an error |
| list of a bucket by the XML API (`GET /bucket/?prefix=`) | 501 | the same; GDAL goes on without |
| other conditions than `ifGenerationMatch`, conditions in batches (*) | ignored | the same |
| compose: `componentCount` | missing | the same |
| several connections | one at a time, and an idle one stops all | as many as there are |

Right as they are: names with spaces, `#`, `?`, `%`, umlauts and a slash at the end, any bytes in
multipart uploads, crc32c and md5 (a wrong one sent is 400), compose of contents.
"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tests.services.exchange import (
    Answer,
    Request,
    answer,
    gcs_object,
    google_error,
    json_answer,
    object_of,
    path_object,
)
from tests.services.processes import server_process
from tests.services.proxy import Proxy, content, replaced

PAGE = 1000
KEPT_SESSIONS = 1000


class GcsGateway(Proxy):
    """What the real store does and the emulator does not."""

    def __init__(self, upstream: str, port: int = 0) -> None:
        super().__init__(upstream, port)
        self._locks = [threading.Lock() for _ in range(64)]
        self._conditions: dict[str, int] = {}
        self._finished: dict[str, Answer] = {}

    def answer(self, request: Request) -> Answer:
        if request.method in ("POST", "PUT", "PATCH", "DELETE"):
            return self._write(request)
        if re.search(r"/b/[^/]+/o$", request.path):
            return self._list(request)
        about = object_of(request)
        if about is None:
            return self.forward(request)
        resource = self._resource(*about)
        if resource is None:
            return google_error(404, f"No such object: {'/'.join(about)}")
        if not _holds(request, int(resource["generation"])):
            return google_error(412, "conditionNotMet")
        if request.method == "HEAD":
            return Answer(200, _object_headers(resource), answer(200).body, int(resource["size"]))
        return self._read(request, resource)

    def _resource(self, bucket: str, name: str) -> dict[str, Any] | None:
        target = f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
        got = self.ask("GET", target)
        body = content(got)
        return json.loads(body) if got.status == 200 else None

    def _read(self, request: Request, resource: dict[str, Any]) -> Answer:
        is_media = request.query.get("alt") == "media" or path_object(request) == object_of(request)
        if not is_media:
            return self.forward(request)
        asked = re.fullmatch(r"\s*bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        size = int(resource["size"])
        if asked and asked.groups() != ("", ""):
            first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
            if first >= size or (not asked[1] and int(asked[2]) == 0):
                return answer(416, b"", [("Content-Range", f"bytes */{size}")])
            last = min(size - 1, int(asked[2])) if asked[1] and asked[2] else size - 1
            del request.headers["Range"]
            request.headers["Range"] = f"bytes={first}-{last}"
        got = self.forward(request)
        have = {name.lower() for name, _ in got.headers}
        got.headers += [pair for pair in _object_headers(resource) if pair[0].lower() not in have]
        return got

    def _write(self, request: Request) -> Answer:
        session = request.query.get("upload_id")
        if session is not None:
            return self._continue(request, session)
        about = object_of(request)
        if about is None:
            return self.forward(request)
        with self._locks[hash(about) % len(self._locks)]:
            if not self._permitted(request, about):
                return google_error(412, "conditionNotMet")
            if request.size == 0 and request.query.get("uploadType") == "media":
                request = _as_multipart(request, about[1])
            got = self.forward(request)
        location = got.header("Location")
        if location and "upload_id=" in location and "ifGenerationMatch" in request.query:
            started = Request("PUT", location, Message()).query["upload_id"]
            self._conditions[started] = int(request.query["ifGenerationMatch"])
        if request.method == "DELETE" and got.status == 200:
            got.status, got.size = 204, 0
        return got

    def _permitted(self, request: Request, about: tuple[str, str]) -> bool:
        if _condition(request) is None:
            return True
        resource = self._resource(*about)
        return _holds(request, 0 if resource is None else int(resource["generation"]))

    def _continue(self, request: Request, session: str) -> Answer:
        """A part of a resumable upload, or the question how far it is."""
        about = gcs_object(request) or ("", session)
        with self._locks[hash(about) % len(self._locks)]:
            if session in self._finished:
                kept = self._finished[session]
                return answer(kept.status, content_of(kept), kept.headers)
            wanted = self._conditions.get(session)
            if wanted is not None and about[1] != session:
                resource = self._resource(*about)
                if wanted != (0 if resource is None else int(resource["generation"])):
                    return google_error(412, "conditionNotMet")
            got = self.forward(request)
            if got.status == 308 and got.header("Range") == "bytes=0-0":
                # The emulator's word for nothing; parts are multiples of 256 KiB.
                got.headers = [pair for pair in got.headers if pair[0].lower() != "range"]
            if got.status != 200:
                return got
            got = replaced(got, content(got))
            self._finished[session] = got
            for old in list(self._finished)[:-KEPT_SESSIONS]:
                del self._finished[old]
            return answer(200, content_of(got), got.headers)

    def _list(self, request: Request) -> Answer:
        query = request.query
        keep = {k: v for k, v in query.items() if k in ("prefix", "delimiter", "matchGlob")}
        got = self.ask("GET", f"{request.path}?{urlencode(keep)}")
        body = content(got)
        if got.status != 200:
            return replaced(got, body)
        return json_answer(200, list_page(json.loads(body), query))


def content_of(kept: Answer) -> bytes:
    kept.body.seek(0)
    return kept.body.read()


def list_page(everything: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
    """One page of a list, in order of the names' UTF-8.

    >>> page = list_page({"items": [{"name": "b"}, {"name": "a"}], "prefixes": ["a/"]},
    ...                  {"maxResults": "2"})
    >>> [item["name"] for item in page["items"]], page["prefixes"]
    (['a'], ['a/'])
    >>> list_page({"items": [{"name": "b"}, {"name": "a"}]},
    ...           {"maxResults": "2", "pageToken": page["nextPageToken"]})["items"]
    [{'name': 'b'}]
    """
    entries = [(item["name"].encode(), item) for item in everything.get("items") or []]
    entries += [(prefix.encode(), None) for prefix in everything.get("prefixes") or []]
    entries.sort(key=lambda entry: entry[0])
    start, end = query.get("startOffset", "").encode(), query.get("endOffset", "").encode()
    after = base64.urlsafe_b64decode(query.get("pageToken", ""))
    entries = [
        entry
        for entry in entries
        if entry[0] >= start and (not end or entry[0] < end) and (not after or entry[0] > after)
    ]
    count = max(1, min(PAGE, int(query.get("maxResults") or PAGE)))
    page: dict[str, Any] = {"kind": "storage#objects"}
    items = [item for _, item in entries[:count] if item is not None]
    prefixes = [name.decode() for name, item in entries[:count] if item is None]
    if items:
        page["items"] = items
    if prefixes:
        page["prefixes"] = prefixes
    if len(entries) > count:
        page["nextPageToken"] = base64.urlsafe_b64encode(entries[count - 1][0]).decode()
    return page


def _condition(request: Request) -> int | None:
    asked = request.query.get("ifGenerationMatch")
    asked = asked or request.headers.get("x-goog-if-generation-match")
    return None if asked is None else int(asked)


def _holds(request: Request, generation: int) -> bool:
    wanted = _condition(request)
    return wanted is None or wanted == generation


def _as_multipart(request: Request, name: str) -> Request:
    """An upload of nothing by `media`, over which the emulator falls, as one by `multipart`."""
    metadata = json.dumps({"name": name})
    kind = request.headers.get("Content-Type", "application/octet-stream")
    parts = f"--x\r\nContent-Type: application/json\r\n\r\n{metadata}\r\n"
    parts += f"--x\r\nContent-Type: {kind}\r\n\r\n\r\n--x--"
    headers = Message()
    headers["Host"] = request.headers["Host"]
    headers["Content-Type"] = "multipart/related; boundary=x"
    target = request.target.replace("uploadType=media", "uploadType=multipart")
    body = parts.encode()
    return Request("POST", target, headers, io.BytesIO(body), len(body))


def _object_headers(resource: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("Content-Type", resource.get("contentType") or "application/octet-stream"),
        ("ETag", f'"{resource.get("etag") or resource["generation"]}"'),
        ("Accept-Ranges", "bytes"),
        ("x-goog-generation", str(resource["generation"])),
        ("x-goog-stored-content-length", str(resource["size"])),
        ("Last-Modified", _http_date(resource.get("updated", ""))),
    ]


def _http_date(moment: str) -> str:
    """HTTP form of an RFC 3339 time stamp.

    >>> _http_date("2026-11-28T03:04:05.678Z")
    'Sat, 28 Nov 2026 03:04:05 GMT'
    """
    import datetime
    from email.utils import format_datetime

    parsed = datetime.datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return format_datetime(parsed.astimezone(datetime.UTC), usegmt=True)


@contextmanager
def gcs_emulator() -> Iterator[str]:
    """The emulator alone, in memory; gives its address."""
    with server_process("tests.services.gcs_emulator", lambda port: [str(port)]) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def gcs_server() -> Iterator[str]:
    """The emulator and the gateway before it; gives the gateway's address."""
    with (
        gcs_emulator() as behind,
        server_process(__name__, lambda port: [behind, str(port)]) as port,
    ):
        yield f"http://127.0.0.1:{port}"


def gcs_environment(url: str) -> dict[str, str]:
    """What clients need to talk to it: google-cloud-storage, and GDAL under `/vsigs/`."""
    return {
        "STORAGE_EMULATOR_HOST": url,
        "GOOGLE_CLOUD_PROJECT": "tests",
        "CPL_GS_ENDPOINT": f"{url}/",
        "GS_NO_SIGN_REQUEST": "YES",
        "NO_PROXY": urlsplit(url).hostname or "",
        "no_proxy": urlsplit(url).hostname or "",
    }


if __name__ == "__main__":
    GcsGateway(sys.argv[1], int(sys.argv[2])).serve()
