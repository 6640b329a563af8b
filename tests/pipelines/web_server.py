"""A web server for tests, as a program: files of a folder, with byte ranges."""

from __future__ import annotations

import http.server
import re
import sys
from functools import partial
from pathlib import Path


class Server(http.server.SimpleHTTPRequestHandler):
    """Files with byte ranges; of `/status/503/...` it gives the status.

    While the folder has a file `down`, nothing of it is given.
    """

    def log_message(self, *words) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self.give(body=False)

    def do_GET(self) -> None:
        self.give(body=True)

    def give(self, body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if wanted := re.match(r"/status/(\d+)/", self.path):
            self.send_error(int(wanted[1]))
            return
        if Path(self.directory, "down").exists():
            self.send_error(503)
            return
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        found = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        self.send_response(206 if found else 200)
        if found:
            first, last = int(found[1]), min(int(found[2] or len(content) - 1), len(content) - 1)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        if body:
            self.wfile.write(content)


if __name__ == "__main__":
    handler = partial(Server, directory=sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    print(server.server_port, flush=True)
    server.serve_forever()
