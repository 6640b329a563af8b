"""The emulator of Amazon S3, behind a gateway that makes its conditional writes atomic.

moto 5.2.5 answers `If-None-Match: *` as the real store does (412 if the object is there, in
PutObject and CompleteMultipartUpload), but looks and writes in two steps. Ranges (from the start,
from the end, 416 past it), pages of ListObjectsV2 and odd names are right. It believes every
signature, yet refuses requests without one (403).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.services.exchange import Answer, Request, path_object
from tests.services.processes import server_process
from tests.services.proxy import Proxy


class S3Gateway(Proxy):
    """Writes of one name wait for each other: `If-None-Match: *` is checked and done as one."""

    def __init__(self, upstream: str, port: int = 0) -> None:
        super().__init__(upstream, port)
        self._locks = [threading.Lock() for _ in range(64)]

    def answer(self, request: Request) -> Answer:
        about = path_object(request)
        query = request.query
        puts = request.method == "PUT" and "partNumber" not in query
        completes = request.method == "POST" and "uploadId" in query
        if about is None or not (puts or completes):
            return self.forward(request)
        with self._locks[hash(about) % len(self._locks)]:
            return self.forward(request)


@contextmanager
def s3_emulator() -> Iterator[str]:
    """moto's server alone; gives its address."""
    with server_process("moto.server", lambda port: ["-H", "127.0.0.1", "-p", str(port)]) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def s3_server() -> Iterator[str]:
    """moto's server and the gateway before it; gives the gateway's address."""
    with (
        s3_emulator() as behind,
        server_process(__name__, lambda port: [behind, str(port)]) as port,
    ):
        yield f"http://127.0.0.1:{port}"


def s3_environment(url: str) -> dict[str, str]:
    """What clients need to talk to it: boto3, Beam, and GDAL under `/vsis3/`."""
    return {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_S3_ENDPOINT": urlsplit(url).netloc,
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "NO_PROXY": urlsplit(url).hostname or "",
        "no_proxy": urlsplit(url).hostname or "",
    }


if __name__ == "__main__":
    S3Gateway(sys.argv[1], int(sys.argv[2])).serve()
