"""A bucket of a million photos that are listed, in pages, and never held.

Object `n` is `photos/FFFF/NNNNNNNNN.jpg`, a thousand to a folder; its size, ETag and generation
are functions of `n`. It answers ListObjectsV2 of S3 and the objects list of Google's JSON API for a
bucket of any name, and HEAD and GET of objects in both. `/_pages` gives the number of pages that
were asked for since it was last asked.
"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import threading
import urllib.request
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from xml.sax.saxutils import escape

from tests.services.exchange import (
    Answer,
    Request,
    amazon_error,
    answer,
    json_answer,
    object_of,
)
from tests.services.processes import server_process
from tests.services.proxy import Proxy

PAGE, FOLDER = 1000, 1000
MOMENT = "2026-01-01T00:00:00.000Z"
NAME = re.compile(r"photos/(\d{4})/(\d{9})\.jpg")
JSON = [("Content-Type", "application/json; charset=UTF-8")]
XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


def name(number: int) -> str:
    """Name of an object; names are in the order of their numbers up to ten million.

    >>> name(1_234_567)
    'photos/1234/001234567.jpg'
    """
    return f"photos/{number // FOLDER:04d}/{number:09d}.jpg"


def size(number: int) -> int:
    """Bytes of an object."""
    return len(_photo()) + 4 + number % 1000


def etag(number: int) -> str:
    return f"{number:032x}"


def generation(number: int) -> int:
    return 1_700_000_000_000_000 + number


def photo(number: int) -> bytes:
    """A JPEG of 8x8 pixels, with a comment that brings it to its size."""
    plain, comment = _photo(), number % 1000
    return plain[:2] + b"\xff\xfe" + (comment + 2).to_bytes(2, "big") + bytes(comment) + plain[2:]


@cache
def _photo() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (90, 120, 60)).save(stream, "JPEG")
    return stream.getvalue()


def number_of(text: str, objects: int) -> int | None:
    """Number of the object of this name; None if there is none.

    >>> number_of("photos/0000/000000005.jpg", 10), number_of("photos/0001/000000005.jpg", 10)
    (5, None)
    """
    match = NAME.fullmatch(text)
    number = int(match[2]) if match else objects
    return number if number < objects and name(number) == text else None


def numbers(objects: int, prefix: str, after: str = "", first: str = "") -> range:
    """Numbers of the objects whose names have a prefix, come after one and not before another.

    >>> numbers(3000, "photos/0001/")
    range(1000, 2000)
    >>> numbers(3000, "photos/0001/", after="photos/0001/000001997.jpg")
    range(1998, 2000)
    """
    everything = range(objects)
    start = bisect_left(everything, max(prefix, first), key=name)
    stop = bisect_right(everything, prefix, key=lambda number: name(number)[: len(prefix)])
    return range(max(start, bisect_right(everything, after, key=name) if after else 0), stop)


def page_of(found: range, prefix: str, delimiter: str, count: int) -> tuple[list, list[str], int]:
    """Numbers and common prefixes of one page, and the number at which the next one starts.

    >>> page_of(range(0, 3000), "photos/", "/", 2)
    ([], ['photos/0000/', 'photos/0001/'], 2000)
    >>> page_of(range(998, 3000), "", "", 2)
    ([998, 999], [], 1000)
    """
    if not delimiter:
        page = found[:count]
        return list(page), [], page.stop
    alone: list[int] = []
    folders: list[str] = []
    at = found.start
    while at < found.stop and len(alone) + len(folders) < count:
        head, cut, _ = name(at)[len(prefix) :].partition(delimiter)
        if cut:
            folder = prefix + head + cut
            folders.append(folder)
            at = _past(found, folder)
        else:
            alone.append(at)
            at += 1
    return alone, folders, at


def _past(found: range, prefix: str) -> int:
    return found.start + bisect_right(found, prefix, key=lambda n: name(n)[: len(prefix)])


def amazon_page(objects: int, bucket: str, query: dict[str, str]) -> bytes:
    """One answer to ListObjectsV2."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    count = max(1, min(PAGE, int(query.get("max-keys") or PAGE)))
    found = numbers(objects, prefix, query.get("start-after", ""))
    if "continuation-token" in query:
        found = range(int(query["continuation-token"]), max(found.stop, 0))
    alone, folders, following = page_of(found, prefix, delimiter, count)
    base = size(0)
    contents = "".join(
        [
            f"<Contents><Key>photos/{n // FOLDER:04d}/{n:09d}.jpg</Key><LastModified>{MOMENT}"
            f"</LastModified><ETag>&quot;{n:032x}&quot;</ETag><Size>{base + n % 1000}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for n in alone
        ]
    )
    contents += "".join(
        f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in folders
    )
    more = following < found.stop
    token = f"<NextContinuationToken>{following}</NextContinuationToken>" if more else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{XMLNS}">'
        f"<Name>{escape(bucket)}</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>{count}</MaxKeys>"
        f"<KeyCount>{len(alone) + len(folders)}</KeyCount>"
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{token}{contents}"
        "</ListBucketResult>"
    ).encode()


# Every field of an object as JSON, so that a page costs one formatting of a string per object.
GOOGLE_FIELDS = {
    "kind": '"kind": "storage#object"',
    "id": '"id": "photos/{folder:04d}/{number:09d}.jpg/{generation}"',
    "name": '"name": "photos/{folder:04d}/{number:09d}.jpg"',
    "generation": '"generation": "{generation}"',
    "metageneration": '"metageneration": "1"',
    "contentType": '"contentType": "image/jpeg"',
    "size": '"size": "{size}"',
    "etag": '"etag": "{number:032x}"',
    "timeCreated": f'"timeCreated": "{MOMENT}"',
    "updated": f'"updated": "{MOMENT}"',
}


def google_objects(numbers: Iterable[int], fields: Iterable[str] = GOOGLE_FIELDS) -> str:
    """Objects as JSON, with commas between.

    >>> google_objects([1, 2], ["name"])
    '{"name": "photos/0000/000000001.jpg"}, {"name": "photos/0000/000000002.jpg"}'
    """
    parts = [GOOGLE_FIELDS[field] for field in fields if field in GOOGLE_FIELDS]
    form, base, first = ("{{" + ", ".join(parts) + "}}").format, size(0), generation(0)
    return ", ".join(
        [
            form(folder=n // FOLDER, number=n, size=base + n % 1000, generation=first + n)
            for n in numbers
        ]
    )


def google_page(objects: int, query: dict[str, str]) -> bytes:
    """One answer to objects.list; of `fields`, those of the items are heeded."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    count = max(1, min(PAGE, int(query.get("maxResults") or PAGE)))
    found = numbers(objects, prefix, first=query.get("startOffset", ""))
    if query.get("endOffset"):
        stop = bisect_left(range(objects), query["endOffset"], key=name)
        found = range(found.start, max(found.start, min(found.stop, stop)))
    if query.get("pageToken"):
        found = range(int(base64.urlsafe_b64decode(query["pageToken"])), found.stop)
    alone, folders, following = page_of(found, prefix, delimiter, count)
    wanted = re.search(r"items\(([^)]*)\)", query.get("fields", ""))
    items = google_objects(alone, wanted[1].split(",") if wanted else GOOGLE_FIELDS)
    page = f'{{"kind": "storage#objects", "prefixes": {json.dumps(folders)}, "items": [{items}]'
    if following < found.stop:
        token = base64.urlsafe_b64encode(str(following).encode()).decode()
        page += f', "nextPageToken": "{token}"'
    return (page + "}").encode()


class MillionServer(Proxy):
    """Answers by itself; nothing stands behind it."""

    def __init__(self, objects: int, port: int = 0) -> None:
        super().__init__("", port)
        self._objects = objects
        self._pages = 0
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Answer:
        if request.path == "/_pages":
            with self._lock:
                pages, self._pages = self._pages, 0
            return json_answer(200, pages)
        if request.method not in ("GET", "HEAD"):
            return amazon_error(405, "MethodNotAllowed", "this bucket is only read")
        google = re.fullmatch(r"/storage/v1/b/([^/]+)(/o)?", request.path)
        if google and not google[2]:
            return json_answer(200, {"kind": "storage#bucket", "name": google[1]})
        if google:
            self._count()
            return answer(200, google_page(self._objects, request.query), JSON)
        about = object_of(request)
        if about is not None:
            return self._object(request, about[1])
        if request.method == "HEAD":
            return answer(200)
        self._count()
        bucket = request.path.strip("/")
        page = amazon_page(self._objects, bucket, request.query)
        return answer(200, page, [("Content-Type", "application/xml")])

    def _count(self) -> None:
        with self._lock:
            self._pages += 1

    def _object(self, request: Request, text: str) -> Answer:
        number = number_of(text, self._objects)
        if number is None:
            return amazon_error(404, "NoSuchKey", text)
        if request.path.startswith("/storage/v1") and request.query.get("alt") != "media":
            return answer(200, google_objects([number]).encode(), JSON)
        whole = photo(number)
        headers = [
            ("Content-Type", "image/jpeg"),
            ("ETag", f'"{etag(number)}"'),
            ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("Accept-Ranges", "bytes"),
            ("x-goog-generation", str(generation(number))),
        ]
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if asked is None or asked.groups() == ("", ""):
            return answer(200, whole, headers)
        first = int(asked[1]) if asked[1] else max(0, len(whole) - int(asked[2]))
        stop = min(len(whole), int(asked[2]) + 1) if asked[1] and asked[2] else len(whole)
        if first >= len(whole):
            return answer(416, b"", [("Content-Range", f"bytes */{len(whole)}")])
        headers.append(("Content-Range", f"bytes {first}-{stop - 1}/{len(whole)}"))
        return answer(206, whole[first:stop], headers)


class Million:
    """The server as tests see it; `url` is its address, for either kind of store."""

    def __init__(self, url: str) -> None:
        self.url = url

    def pages(self) -> int:
        """Pages that were asked for since the last call."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/_pages", timeout=30) as got:
            return json.load(got)


@contextmanager
def million_server(objects: int = 1_000_000) -> Iterator[Million]:
    """Start it, in a process of its own so that its memory is not the tested one's."""
    with server_process(__name__, lambda port: [str(objects), str(port)]) as port:
        yield Million(f"http://127.0.0.1:{port}")


if __name__ == "__main__":
    MillionServer(int(sys.argv[1]), int(sys.argv[2])).serve()
