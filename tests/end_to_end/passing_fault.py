"""A web server whose scene cannot be read in the first attempt at a run, and can in the next."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.end_to_end.conftest import noise, write_scene
from tests.pipelines.web_server import Server


class Fault:
    """503 from the moment the plan is written until the attempt has ended as incomplete.

    Args:
        run: Run directory of the attempt.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.has_passed = False

    def is_there(self) -> bool:
        try:
            summary = json.loads((self.run / "summary.json").read_text())
            self.has_passed = self.has_passed or summary["exit_status"] == 4
        except FileNotFoundError:
            pass
        return not self.has_passed and (self.run / "plan" / "part-00000.jsonl").exists()


class FaultyServer(Server):
    """Files with byte ranges, if there is no fault."""

    def __init__(self, *arguments, fault: Fault, **options) -> None:
        self.fault = fault
        super().__init__(*arguments, **options)

    def give(self, body: bool) -> None:
        if self.fault.is_there():
            self.send_error(503)
        else:
            super().give(body)


@contextmanager
def scene_behind_a_passing_fault(folder: Path, run: Path) -> Iterator[str]:
    """The address of a scene of 300 x 400 pixels, written below `folder`."""
    write_scene(folder / "www" / "scene.tif", noise(7, 300, 400))
    handler = partial(FaultyServer, directory=str(folder / "www"), fault=Fault(run))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/scene.tif"
        server.shutdown()
        thread.join()
