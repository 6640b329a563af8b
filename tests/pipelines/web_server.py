"""A web server for tests, as a program: files of a folder, with byte ranges."""

from __future__ import annotations

import http.server
import re
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

REFUSALS = {"no-head": 405, "forbidden-head": 403}
WITHOUT_RANGES = ("no-ranges", "no-length", "cut")


class Server(http.server.SimpleHTTPRequestHandler):
    """Files with byte ranges; of `/status/503/...` it gives the status.

    While the folder has a file `down`, nothing of it is given. What is in folders of these names is
    given so:

    no-ranges: all of a file, whatever is asked for.
    no-length: the same, without its length.
    no-head: as usual, but HEAD is refused with 405.
    forbidden-head: the same with 403.
    no-head-length: as usual, but HEAD does not say the length.
    cut: the first half of a file, whatever is asked for.
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
        how = path.parent.name
        if body:
            with Path(self.directory, ".gets").open("a") as log:
                log.write(f"{how} {self.headers.get('Range')}\n")
        if how in REFUSALS and not body:
            self.send_error(REFUSALS[how])
            return
        content = path.read_bytes()
        wanted_range = "" if how in WITHOUT_RANGES else self.headers.get("Range") or ""
        found = re.match(r"bytes=(\d+)-(\d*)", wanted_range)
        self.send_response(206 if found else 200)
        if found:
            first, last = int(found[1]), min(int(found[2] or len(content) - 1), len(content) - 1)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
        if how != "no-length" and (body or how != "no-head-length"):
            self.send_header("Content-Length", str(len(content)))
        if how == "cut":
            content = content[: len(content) // 2]
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        if body:
            with suppress(OSError):  # Who wants no more hangs up.
                self.wfile.write(content)


if __name__ == "__main__":
    handler = partial(Server, directory=sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    print(server.server_port, flush=True)
    server.serve_forever()
