"""A threaded HTTP/1.1 reverse proxy of the standard library.

A request's body is taken whole before anything is passed on (in memory up to 4 MiB, then on
disk): what a client that died had sent of it reaches no store, as with the real ones. Answers are
passed on block by block. The `Host` of the client is kept, so links that a server makes of it,
such as the session of a resumable upload, lead back through the proxy.

Proxies that GDAL talks to run in a process of their own: rasterio holds the interpreter's lock
during some of GDAL's requests, so a proxy in a thread of the same process would never answer.
"""

from __future__ import annotations

import http.client
import io
import socket
import socketserver
import tempfile
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import IO, Any, cast
from urllib.parse import urlsplit

from tests.services.exchange import Answer, ConnectionDropped, Request, answer

BLOCK_BYTES, MEMORY_BYTES, TIMEOUT_SECONDS = 1 << 16, 4 << 20, 60.0
HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
    *("transfer-encoding", "upgrade", "expect", "content-length", "date", "server"),
}


class Proxy:
    """Passes requests on to one server; subclasses change `answer`.

    Args:
        upstream: Address of that server, `http://127.0.0.1:PORT`.
        port: To listen on; 0 for a free one.
    """

    def __init__(self, upstream: str, port: int = 0) -> None:
        self.upstream = upstream
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, request: Request) -> Answer:
        """What the client gets; runs in a thread of its connection.

        Raises:
            ConnectionDropped: To close the connection without an answer.
        """
        return self.forward(request)

    def forward(self, request: Request) -> Answer:
        """Have the upstream server answer."""
        where = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(
            cast(str, where.hostname), where.port, timeout=TIMEOUT_SECONDS
        )
        try:
            connection.putrequest(
                request.method, request.target, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers.items():
                connection.putheader(name, value)
            if request.size or request.method in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(request.size))
            connection.putheader("Connection", "close")
            connection.endheaders()
            for block in iter(lambda: request.body.read(BLOCK_BYTES), b""):
                connection.send(block)
            request.body.seek(0)
            got = connection.getresponse()
        except (OSError, http.client.HTTPException) as fault:
            connection.close()
            # 501 is final for clients: a server that fell over must not look like a passing fault.
            return answer(501, f"the server behind the proxy failed: {fault!r}".encode())
        headers = [(k, v) for k, v in got.getheaders() if k.lower() not in HOP_BY_HOP]
        length = got.getheader("Content-Length")
        return Answer(got.status, headers, got, None if length is None else int(length))

    def ask(self, method: str, target: str, headers: dict[str, str] | None = None) -> Answer:
        """A request of the proxy's own to the upstream server."""
        message = Message()
        for name, value in {"Host": urlsplit(self.upstream).netloc, **(headers or {})}.items():
            message[name] = value
        return self.forward(Request(method, target, message))

    def serve(self) -> None:
        """Answer until the process ends."""
        self._server.serve_forever()

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.close_connections()
        self._thread.join(10)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: Proxy

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # The client closed it already.

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests; they need no traceback."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_SECONDS
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()  # Or the client waits a second for it.
        return going_on

    def _exchange(self) -> None:
        with tempfile.SpooledTemporaryFile(MEMORY_BYTES) as body:
            try:
                size = self._read_body(cast("IO[bytes]", body))
            except (ConnectionError, ValueError):
                self.close_connection = True
                return
            body.seek(0)
            headers = Message()
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP - {"date"}:
                    headers[name] = value
            request = Request(self.command, self.path, headers, cast("IO[bytes]", body), size)
            try:
                self._write(cast(_Server, self.server).proxy.answer(request))
            except ConnectionDropped:
                self._drop()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _exchange  # noqa: N815

    def _read_body(self, body: IO[bytes]) -> int:
        """Copy the body; its bytes without the chunks' frames."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self._copy(int(self.headers.get("Content-Length") or 0), body)
        size = 0
        while count := int(self.rfile.readline(1024).split(b";")[0], 16):
            size += self._copy(count, body)
            self.rfile.readline(1024)
        while self.rfile.readline(65536) not in (b"\r\n", b"\n", b""):
            pass  # Trailers.
        return size

    def _copy(self, count: int, body: IO[bytes]) -> int:
        left = count
        while left:
            block = self.rfile.read(min(left, BLOCK_BYTES))
            if not block:
                raise ConnectionResetError("the client left in the middle of its body")
            body.write(block)
            left -= len(block)
        return count

    def _write(self, got: Answer) -> None:
        self.send_response(got.status)
        for name, value in got.headers:
            self.send_header(name, value)
        bodiless = self.command == "HEAD" or got.status in (204, 304)
        chunked = got.size is None and not bodiless
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif got.status != 204 and got.size is not None:
            self.send_header("Content-Length", str(got.size))
        self.end_headers()
        with got.body:
            if not bodiless:
                self._write_body(got, chunked)
        self.wfile.flush()

    def _write_body(self, got: Answer, chunked: bool) -> None:
        sent = 0
        for block in iter(lambda: got.body.read(BLOCK_BYTES), b""):
            if got.cut_after is not None and sent + len(block) > got.cut_after:
                self.wfile.write(block[: got.cut_after - sent])
                self._drop()
                return
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
            sent += len(block)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        elif sent != got.size:
            self.close_connection = True  # The upstream server broke off: so do we.

    def _drop(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def content(got: Answer) -> bytes:
    """The whole body of an answer of a small size."""
    with got.body:
        return got.body.read()


def replaced(got: Answer, body: bytes) -> Answer:
    """The same answer with another body."""
    return Answer(got.status, got.headers, io.BytesIO(body), len(body))
