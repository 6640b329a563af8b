"""What does the latency of a store cost? Ratios to the same scene on disk, measured by turns.

    python benchmarks/stores.py --side 4096 --rate 1.2 --latencies 0,20,50,100

The scene is noise, which does not pack: 3 bytes a pixel. The model labels as many megapixels a
second as `--rate` says, and sleeps meanwhile, as if it had a processor of its own. The store is a
server of this machine that speaks S3, waits before each answer, and is asked by boto3.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import comparison
import numpy as np
from comparison import medians, use_model
from scenes import finish, write_scene

from pipelines.segment.launch import check_run, prepare_run
from pipelines.segment.options import SegmentOptions

NAME = "scene.tif"


class SleepingModel:
    """Labels by comparing one band with a number, at a rate in pixels a second."""

    classes, fill = comparison.CONTRACT.classes, comparison.CONTRACT.fill

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def labels(self, images: np.ndarray) -> np.ndarray:
        time.sleep(images[..., 0].size / self._rate)
        return (images[..., 0] > 127).astype(np.uint8)


class SlowStore(BaseHTTPRequestHandler):
    """Buckets that all hold one file; the name of each is the latency in milliseconds."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, path: Path, *arguments: object) -> None:
        self._path = path
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self._wait_and_answer()

    def do_GET(self) -> None:
        self._wait_and_answer()

    def _wait_and_answer(self) -> None:
        asked = urlsplit(self.path)
        bucket, _, key = unquote(asked.path).strip("/").partition("/")
        time.sleep(int(bucket.removeprefix("ms-")) / 1000)
        if key:
            self._answer_object(key)
        else:
            self._answer_list(parse_qs(asked.query)["prefix"][0])

    def _answer_list(self, prefix: str) -> None:
        entry = (
            f"<Contents><Key>{NAME}</Key><Size>{self._path.stat().st_size}</Size>"
            f'<ETag>"1"</ETag></Contents>'
        )
        text = entry if NAME.startswith(prefix) else ""
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{text}</ListBucketResult>"
        self._answer(200, body.encode())

    def _answer_object(self, key: str) -> None:
        if key != NAME:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        begin, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")
        with self._path.open("rb") as stream:
            stream.seek(int(begin))
            self._answer(206 if end else 200, stream.read(int(end) + 1 - int(begin) if end else -1))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


def serve(path: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SlowStore, Path(path)))
    print(server.server_port, flush=True)
    server.serve_forever()


def labelled(scene: str, model: SleepingModel, folder: Path, run: Path) -> float:
    """Seconds that the units of a scene take, from planning to the label map."""
    options = SegmentOptions((scene,), str(folder / "model"), str(run), window=1536)
    started = time.perf_counter()
    launch = prepare_run(check_run(options))
    use_model(launch.work, model)
    finish(launch.work)
    return time.perf_counter() - started


def measure(parsed: argparse.Namespace, folder: Path) -> None:
    random = np.random.default_rng(0)
    scene = write_scene(
        folder / NAME,
        parsed.side,
        "tiles",
        lambda row, rows: random.integers(0, 256, (rows, parsed.side, 3), dtype=np.uint8),
    )
    comparison.write_model(folder / "model", comparison.CONTRACT)
    model, runs = SleepingModel(parsed.rate * 1e6), iter(range(10**6))
    places = {"local": str(scene)}
    places |= {f"{ms} ms": f"s3://ms-{ms}/{NAME}" for ms in parsed.latencies.split(",")}

    def side(place: str) -> float:
        return labelled(place, model, folder, folder / f"run-{next(runs)}")

    found = medians({name: partial(side, place) for name, place in places.items()}, parsed.repeats)
    for name, seconds in found.items():
        ratio = seconds / found["local"]
        rate = parsed.side**2 / 1e6 / seconds
        print(f"{name}: {seconds:.2f} s, {rate:.2f} Mpx/s, ratio to local {ratio:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096, help="of the scene, in pixels")
    parser.add_argument("--rate", type=float, default=1.2, help="of the model, in Mpx/s")
    parser.add_argument("--latencies", default="0,20,50,100", help="of a request, in ms")
    parser.add_argument("--repeats", type=int, default=3, help="of which medians are told")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.serve:
        serve(parsed.serve)
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--serve", str(Path(folder) / NAME)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = f"http://127.0.0.1:{int(server.stdout.readline())}"
            secrets = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
            os.environ |= {"AWS_ENDPOINT_URL_S3": address, "AWS_DEFAULT_REGION": "none", **secrets}
            try:
                measure(parsed, Path(folder))
            finally:
                server.kill()


if __name__ == "__main__":
    main()
