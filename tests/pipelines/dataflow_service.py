"""A Dataflow of our own on the loopback device: takes jobs, tells their state, runs none."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from apache_beam.portability.api import beam_runner_api_pb2

from pipelines.segment.options import SegmentOptions

CLOUD = (
    *("--runner=DataflowRunner", "--project=project-1", "--region=europe-west4"),
    "--sdk_container_image=registry/worker:1",
)
DRY = (*CLOUD, "--temp_location=gs://bucket/tmp", "--dry_run=true")
L4 = "type:nvidia-l4;count:1;install-nvidia-driver"
HINT = "beam:resources:{}:v1"
JOB = "2026-01-02_03_04_05-6789"


def options(**changes) -> SegmentOptions:
    return SegmentOptions(**({"inputs": ("in",), "model": "m", "output": "run"} | changes))


def hints_of(proto: beam_runner_api_pb2.Pipeline) -> dict[str, dict[str, bytes]]:
    """Resource hints by name of transform, where it has any."""
    environments = proto.components.environments
    return {
        transform.unique_name: dict(environments[transform.environment_id].resource_hints)
        for transform in proto.components.transforms.values()
        if not transform.subtransforms
        and transform.environment_id
        and environments[transform.environment_id].resource_hints
    }


class Service:
    """What a test sees of it.

    Args:
        end: State in which a job is found whenever it is asked for.
        work: Stands for what workers do.
    """

    def __init__(self, end: str, work: Callable[[], None]) -> None:
        self.end, self.work = end, work
        self.jobs: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.endpoint = ""

    def answer(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        self.requests.append(f"{method} {path.partition('?')[0]}")
        if re.search(r"/jobs/[^/]+/messages$", path.partition("?")[0]):
            return {"jobMessages": []}
        if method == "POST":
            self.jobs.append(json.loads(body))
            self.work()
        state = "JOB_STATE_PENDING" if method == "POST" else self.end
        return {"id": JOB, "name": "job", "currentState": state}


@contextmanager
def dataflow_service(
    end: str = "JOB_STATE_DONE", work: Callable[[], None] = lambda: None
) -> Iterator[Service]:
    """A service whose jobs have ended in this state by the time that anybody asks."""
    service = Service(end, work)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            text = json.dumps(service.answer(self.command, self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.endpoint = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
