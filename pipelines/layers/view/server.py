"""The server of a page: on this machine only, and of nothing but the page and what it asks for."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

from pipelines.layers.tiles.map_page import page_asset
from pipelines.layers.tiles.tile_stages import ARCHIVE
from pipelines.layers.view.drawn_tiles import DrawnTile, DrawnTiles
from pipelines.layers.view.overlays import Overlays
from pipelines.layers.view.places import PlaceIndex
from pipelines.layers.view.previews import Previews
from pipelines.layers.view.run_page import SCRIPTS, ViewedRun, archive_tiles, run_page
from pipelines.layers.view.scene_rows import SceneRows
from pipelines.storage import filesystem, locations
from pipelines.storage.clients.interface import StoredObject
from segmodel.errors import BeamsegError, ConfigurationError, TransientError, explained

LOOPBACK = "127.0.0.1"
# Names by which a browser on this machine finds it; with others, a page elsewhere may ask for it.
_HOSTS = {LOOPBACK, "localhost"}
_ASSETS = ("leaflet.js", "leaflet.css", "map.css", "map.js", "scenes.css", *SCRIPTS)
_POLICY = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'"
_SAFETY = {
    "Content-Security-Policy": f"{_POLICY}; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Header of a tile that does not show all label maps; says why, percent-encoded.
LEFT_OUT = "X-Left-Out"
_HTML = "text/html; charset=utf-8"
_TYPES = {"js": "text/javascript", "css": "text/css"}
_TILE = re.compile(r"/tile/(\d{1,2})/(\d{1,9})/(\d{1,9})", re.ASCII)
# Bytes of the archive that are in memory for one answer.
PIECE = 8 << 20


class Answer(NamedTuple):
    """What a request gets.

    Attributes:
        status: HTTP status.
        headers: Headers, without its length.
        length: Bytes of the content.
        content: The content, piece by piece.
    """

    status: HTTPStatus
    headers: Mapping[str, str]
    length: int
    content: Iterable[bytes]


class Site:
    """Everything that there is to ask for.

    Args:
        run: The run.
    """

    def __init__(self, run: ViewedRun) -> None:
        classes = run.maps.work.contract.classes
        self._archive = run.archive
        self._known: StoredObject | None = None
        self._drawn = DrawnTiles(run.placed, classes)
        self._places = PlaceIndex(run.placed, classes, run.polygons_of)
        self._previews = Previews(run.maps)
        self._rows = SceneRows(run.name, run.maps)
        self._overlays = Overlays(run.maps, run.placed)
        self._files = {f"/{name}": (_type_of(name), page_asset(name)) for name in _ASSETS}
        tiles = self._drawn.described if run.archive is None else archive_tiles(run.archive)
        page = run_page(run, tiles, self._overlays, self._previews.bounds)
        self._files["/"] = (_HTML, page)

    def answer(self, target: str, host: str, ranges: str = "") -> Answer:
        """The answer to a request.

        Args:
            target: Path and query.
            host: Value of the header `Host`.
            ranges: Value of the header `Range`, or empty.
        """
        if host.rpartition(":")[0] not in _HOSTS and host not in _HOSTS:
            return _text(HTTPStatus.FORBIDDEN, f"ask for this page as http://{LOOPBACK}")
        address = urlsplit(target)
        if address.path in self._files:
            kind, content = self._files[address.path]
            return _whole(HTTPStatus.OK, kind, content)
        try:
            if address.path == f"/{ARCHIVE}" and self._archive is not None:
                return self._of_archive(self._archive, ranges)
            if place := _TILE.fullmatch(address.path):
                return _of_tile(self._drawn.tile(*map(int, place.groups())))
            if address.path == "/place":
                return self._of_place(address.query)
            if address.path == "/scenes":
                return self._of_scenes(address.query)
            if address.path == "/overlays":
                return self._of_overlays(address.query)
            if picture := re.fullmatch(r"/image/(\d{1,9})", address.path, re.ASCII):
                return _whole(HTTPStatus.OK, "image/png", self._previews.png(int(picture[1])))
        except IndexError:
            return _NOTHING
        except (BeamsegError, OSError) as error:
            reason = explained(error) if isinstance(error, OSError) else str(error)
            return _text(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        return _NOTHING

    def _of_place(self, query: str) -> Answer:
        """What is at a place of a query."""
        found = parse_qs(query)
        try:
            lon, lat = (float(found[name][0]) for name in ("lon", "lat"))
        except (KeyError, ValueError):
            lon = lat = math.nan
        if not (-180 <= lon <= 180 and -90 < lat < 90):
            return _text(HTTPStatus.BAD_REQUEST, "lon and lat must be degrees")
        lines = [
            {"text": line.text, "row": line.scene and self._rows.link(line.scene)}
            for line in self._places.lines(lon, lat)
        ]
        content = json.dumps({"lines": lines}).encode()
        return _whole(HTTPStatus.OK, "application/json", content)

    def _of_scenes(self, query: str) -> Answer:
        """The rows of scenes from one on that a query names, or from the first one on."""
        found = re.fullmatch(r"from=(\d{1,9})", query or "from=0", re.ASCII)
        if found is None:
            return _text(HTTPStatus.BAD_REQUEST, "from must be the number of a scene")
        return _whole(HTTPStatus.OK, _HTML, self._rows.page(int(found[1])))

    def _of_overlays(self, query: str) -> Answer:
        """What of an overlay is in the box of a query."""
        found = parse_qs(query)
        overlay = self._overlays.by_name.get("".join(found.get("name", ())))
        try:
            west, south, east, north = map(float, "".join(found.get("bbox", ())).split(","))
        except ValueError:
            west = south = east = north = math.nan
        if overlay is None or not (-180 <= west <= east <= 540 and -90 <= south <= north <= 90):
            return _text(HTTPStatus.BAD_REQUEST, "name must be that of an overlay, bbox degrees")
        content = json.dumps({"features": overlay.meeting((west, south, east, north))}).encode()
        return _whole(HTTPStatus.OK, "application/json", content)

    def _of_archive(self, archive: str, ranges: str) -> Answer:
        """The archive, or the range of it that is asked for.

        A store is asked what the archive is once, and again when it is not that any more.
        """
        known = self._known if locations.is_remote(archive) else None
        if known is not None:
            with suppress(FileNotFoundError, TransientError):
                return _part_of(known, ranges)
        self._known = known = filesystem.stat(archive)
        if known is None:
            return _text(HTTPStatus.NOT_FOUND, f"{ARCHIVE} is not there any more")
        return _part_of(known, ranges)


def _part_of(found: StoredObject, ranges: str) -> Answer:
    """A file, or the range of it that is asked for; the begin of it has been read.

    Raises:
        FileNotFoundError: If it is not there.
        TransientError: If it is in a store, and is another one by now.
    """
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": json.dumps(f"{found.size}-{found.version}".replace('"', "")),
    }
    span = _span(ranges, found.size)
    status = HTTPStatus.OK if span is None else HTTPStatus.PARTIAL_CONTENT
    start, end = (0, found.size) if span is None else span
    if span is not None and start >= end:
        headers["Content-Range"] = f"bytes */{found.size}"
        return Answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers, 0, ())
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
    pieces = _pieces(found, start, end)
    return Answer(status, headers, end - start, chain([next(pieces, b"")], pieces))


def _of_tile(tile: DrawnTile) -> Answer:
    """A tile, with what was wrong with label maps that it does not show."""
    answer = _whole(HTTPStatus.OK, "image/png", tile.content)
    if not tile.left_out:
        return answer
    first, *others = tile.left_out
    said = first + (f"; {len(others):,} more" if others else "")
    return answer._replace(headers={**answer.headers, LEFT_OUT: quote(said)})


def _span(ranges: str, size: int) -> tuple[int, int] | None:
    """First byte, and the one after the last, that a header asks for; None for all.

    Source: RFC 9110, section 14.2: what a server does not understand, it ignores.

    >>> _span("bytes=2-5", 10), _span("bytes=-3", 10), _span("bytes=8-99", 10), _span("", 10)
    ((2, 6), (7, 10), (8, 10), None)
    """
    found = re.fullmatch(r"bytes=(\d{0,20})-(\d{0,20})", ranges.strip(), re.ASCII)
    if found is None or found[0].endswith("=-"):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _pieces(found: StoredObject, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, PIECE):
        yield filesystem.read_range(found.uri, at, min(PIECE, end - at), found.stat)


def _type_of(name: str) -> str:
    return f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"


def _whole(status: HTTPStatus, kind: str, content: bytes) -> Answer:
    return Answer(status, {"Content-Type": kind}, len(content), (content,))


def _text(status: HTTPStatus, error: str) -> Answer:
    return _whole(status, "application/json", json.dumps({"error": error}).encode())


_NOTHING = _text(HTTPStatus.NOT_FOUND, "there is no such page")


class PageServer(ThreadingHTTPServer):
    """Serves a site on this machine.

    Args:
        site: What there is to ask for.
        port: Port, or 0 for a free one.

    Raises:
        ConfigurationError: If the port is not free.
    """

    daemon_threads = True

    def __init__(self, site: Site, port: int = 0) -> None:
        self.site = site
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"--port {port} cannot be used ({error.strerror}): name another one, or leave it "
                f"out"
            ) from error

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that leaves, or an archive that cannot be read, ends one connection only."""


class _Handler(BaseHTTPRequestHandler):
    """Writes the answers of the site; knows GET and HEAD alone."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "beamseg", ""
    # Seconds after which a connection that asks for nothing ends.
    timeout = 60

    def do_GET(self) -> None:
        """Answer with headers and content."""
        for piece in self._begin().content:
            self.wfile.write(piece)

    def do_HEAD(self) -> None:
        """Answer with headers."""
        self._begin()

    def _begin(self) -> Answer:
        host, ranges = (self.headers.get(name, "") for name in ("Host", "Range"))
        answer = self.server.site.answer(self.path, host, ranges)
        self.send_response(answer.status)
        length = {"Content-Length": str(answer.length), "Cache-Control": "no-cache"}
        for name, value in (dict(answer.headers) | _SAFETY | length).items():
            self.send_header(name, value)
        self.end_headers()
        return answer

    def log_message(self, form: str, *words: object) -> None:
        """Nothing: what a browser asks for tells a user nothing."""
