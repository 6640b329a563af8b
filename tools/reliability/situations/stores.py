"""Stores and web servers that are not there, refuse, or answer something else; and such servers."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tools.reliability.situations.changes import put
from tools.reliability.situations.table import GIVEN, INCOMPLETE, OVER, SCENES, Situation, nothing

# Waits between attempts are none.
AT_ONCE = """
from pipelines.storage.clients import amazon, google, retry
retry.FIRST_SECONDS = 0
amazon.SECONDS, google.SECONDS = 2, 2.0
google._ONCE["timeout"] = 2.0
"""
GOOGLE = {"GOOGLE_CLOUD_PROJECT": "tests", "NO_PROXY": "*", "no_proxy": "*"}
AMAZON = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "NO_PROXY": "*",
    "no_proxy": "*",
}
NO_KEYS = {name: text for name, text in AMAZON.items() if "KEY" not in name}
FROM_GS = f"segment --input=gs://bucket/photos {GIVEN}"
FROM_S3 = f"segment --input=s3://bucket/photos {GIVEN}"
TO_GS = "segment --input=photos --model=model --output=gs://bucket/run"
TO_S3 = "segment --input=photos --model=model --output=s3://bucket/run"


def google(server: str) -> dict[str, str]:
    """Where the client of Google finds its store."""
    return GOOGLE | {"STORAGE_EMULATOR_HOST": f"${server}"}


def amazon(server: str) -> dict[str, str]:
    """Where the client of Amazon finds its store."""
    return AMAZON | {"AWS_ENDPOINT_URL_S3": f"${server}"}


def web(server: str, more: str = "") -> str:
    """A scene on a server."""
    return f"segment --input=${server}/a.tif {GIVEN} {more}"


def _google_key(fault: str, path: str = "key.json", content: str | None = None) -> Situation:
    """A file of credentials of Google that is of no use, written if it has a content."""
    return Situation(
        f"a key of Google {fault}",
        FROM_GS,
        "GOOGLE_APPLICATION_CREDENTIALS",
        "run `gcloud auth application-default login`, or set",
        hook=AT_ONCE,
        make=nothing if content is None else put(path, content),
        variables={"GOOGLE_APPLICATION_CREDENTIALS": path},
    )


PAGE = b"<!DOCTYPE html><html><body><h1>Sign in to this network</h1></body></html>"


@dataclass(frozen=True)
class Answer:
    """What a server says to all."""

    status: int = 200
    body: bytes = b""
    kind: str = "text/plain"
    to: str = ""


ANSWERS = {
    "forbidden": Answer(403),
    "unauthorized": Answer(401),
    "missing": Answer(404),
    "failing": Answer(500),
    "busy": Answer(503),
    "page": Answer(200, PAGE, "text/html"),
    "nonsense": Answer(200, b"\x00\x01 nothing of use", "application/json"),
    "circle": Answer(302, to="/again.tif"),
    "astray": Answer(302, to="http://no-such-host.invalid/a.tif"),
}


def handler_of(answer: Answer) -> type[http.server.BaseHTTPRequestHandler]:
    """A handler that gives it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def give(self) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            if answer.to:
                self.send_header("Location", answer.to)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def log_message(self, *words: object) -> None:
            """Nothing."""

    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.give)
    return Handler


@contextmanager
def addresses() -> Iterator[dict[str, str]]:
    """Addresses of servers by their answer; `refused` is one where none listens."""
    with ExitStack() as stack:
        found = {}
        for name, answer in ANSWERS.items():
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(answer))
            stack.enter_context(server)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            found[name] = f"http://127.0.0.1:{server.server_port}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            found["refused"] = f"http://127.0.0.1:{free.getsockname()[1]}"
            yield found


SITUATIONS = (
    # Addresses.
    Situation(
        "a bucket without a name",
        f"segment --input=gs:// {GIVEN}",
        "gs://",
        "write a bucket and a name below it, without ..",
    ),
    Situation(
        "a name in a store that leads upwards",
        f"segment --input=gs://bucket/../a {GIVEN}",
        "gs://bucket/../a",
        "write a bucket and a name below it, without ..",
    ),
    Situation(
        "an address with a password",
        f"segment --input=https://me:secret@host/a.tif {GIVEN}",
        "--input",
        "write it without user and signature, and give credentials as",
    ),
    Situation(
        "an address with a signature",
        f"segment --input=https://host/a.tif?X-Amz-Signature=abc {GIVEN}",
        "--input",
        "write it without user and signature, and give credentials as",
    ),
    Situation(
        "a model at an address with a password",
        "segment --input=photos --model=s3://me:secret@bucket/m --output=run",
        "--model",
        "write it without user and signature, and give credentials as",
    ),
    Situation(
        "a store that is not known",
        f"segment --input=oss://bucket/a {GIVEN}",
        "oss://",
        "copy 'oss://bucket/a' to a local folder or to a store (gs://,",
    ),
    Situation(
        "a store whose package is not installed",
        f"segment --input=azfs://account/bucket/a {GIVEN}",
        "azfs://",
        "pip install 'apache-beam[azure]'",
    ),
    Situation(
        "a pattern on the web",
        f"segment '--input=https://host.invalid/*.tif' {GIVEN}",
        "https://host.invalid",
        "check the address, or try later",
        INCOMPLETE,
    ),
    Situation(
        "a folder on the web",
        f"segment --input=$missing/scenes/ {GIVEN}",
        "/scenes/",
        "name a file; a web server lists no folder",
    ),
    # Credentials.
    Situation(
        "a store of Amazon without credentials",
        FROM_S3,
        "s3://",
        "run `aws configure`, or set AWS_ACCESS_KEY_ID and",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=NO_KEYS | {"AWS_ENDPOINT_URL_S3": "$missing"},
    ),
    Situation(
        "a profile of Amazon that is not known",
        FROM_S3,
        "AWS_PROFILE",
        "check AWS_PROFILE, AWS_CONFIG_FILE and AWS_ENDPOINT_URL_S3",
        hook=AT_ONCE,
        variables=NO_KEYS | {"AWS_PROFILE": "nobody"},
    ),
    Situation(
        "a configuration of Amazon that is damaged",
        FROM_S3,
        "AWS_CONFIG_FILE",
        "check AWS_PROFILE, AWS_CONFIG_FILE and AWS_ENDPOINT_URL_S3",
        hook=AT_ONCE,
        make=put("aws.ini", "[default\nx"),
        variables=NO_KEYS | {"AWS_CONFIG_FILE": "aws.ini"},
    ),
    Situation(
        "an endpoint of Amazon that is no address",
        FROM_S3,
        "AWS_ENDPOINT_URL",
        "check AWS_PROFILE, AWS_CONFIG_FILE and AWS_ENDPOINT_URL_S3",
        hook=AT_ONCE,
        variables=AMAZON | {"AWS_ENDPOINT_URL_S3": "nowhere"},
    ),
    _google_key("that is not there", "nowhere.json"),
    _google_key("that is no JSON", content="hello"),
    _google_key("of another kind", content='{"type": "mine"}'),
    _google_key("without its fields", content='{"type": "service_account"}'),
    _google_key("that is a folder", "photos"),
    Situation(
        "an emulator of Google that is no address",
        FROM_GS,
        "STORAGE_EMULATOR_HOST",
        "correct STORAGE_EMULATOR_HOST",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=GOOGLE | {"STORAGE_EMULATOR_HOST": "http://"},
    ),
    # Answers of stores.
    Situation(
        "a bucket of Google that is not there",
        FROM_GS,
        "gs://bucket",
        "check the path",
        hook=AT_ONCE,
        variables=google("missing"),
    ),
    Situation(
        "a bucket of Google that refuses",
        FROM_GS,
        "gs://bucket",
        "check the role of the account",
        hook=AT_ONCE,
        variables=google("forbidden"),
    ),
    Situation(
        "a bucket of Google that wants to know who asks",
        FROM_GS,
        "gs://bucket",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=google("unauthorized"),
    ),
    Situation(
        "a store of Google that fails",
        FROM_GS,
        "gs://bucket",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=google("failing"),
    ),
    Situation(
        "a store of Google that is busy",
        FROM_GS,
        "gs://bucket",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=google("busy"),
    ),
    Situation(
        "a store of Google where nobody listens",
        FROM_GS,
        "gs://bucket",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=google("refused"),
    ),
    Situation(
        "a store of Google behind a page to sign in",
        FROM_GS,
        "gs://",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=google("page"),
    ),
    Situation(
        "a store of Google that answers nonsense",
        FROM_GS,
        "gs://bucket",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=google("nonsense"),
    ),
    Situation(
        "a bucket of Amazon that is not there",
        FROM_S3,
        "s3://bucket",
        "check the path",
        hook=AT_ONCE,
        variables=amazon("missing"),
    ),
    Situation(
        "a bucket of Amazon that refuses",
        FROM_S3,
        "s3://bucket",
        "check the policy of the account",
        hook=AT_ONCE,
        variables=amazon("forbidden"),
    ),
    Situation(
        "a store of Amazon that fails",
        FROM_S3,
        "s3://bucket",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=amazon("failing"),
    ),
    Situation(
        "a store of Amazon where nobody listens",
        FROM_S3,
        "s3://bucket",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=amazon("refused"),
    ),
    Situation(
        "a store of Amazon behind a page to sign in",
        FROM_S3,
        "s3",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=amazon("page"),
    ),
    Situation(
        "a store of Amazon that answers nonsense",
        FROM_S3,
        "s3",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=amazon("nonsense"),
    ),
    Situation(
        "a run directory in a bucket that is not there",
        TO_GS,
        "gs://bucket",
        "check the path",
        hook=AT_ONCE,
        variables=google("missing"),
    ),
    Situation(
        "a run directory in a bucket that refuses",
        TO_S3,
        "s3://bucket",
        "check the policy of the account",
        hook=AT_ONCE,
        variables=amazon("forbidden"),
    ),
    Situation(
        "a run directory in a store where nobody listens",
        TO_S3,
        "s3://bucket",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=amazon("refused"),
    ),
    Situation(
        "a model in a bucket that refuses",
        "segment --input=photos --model=gs://bucket/model --output=run",
        "gs://bucket/model",
        "check the role of the account",
        hook=AT_ONCE,
        variables=google("forbidden"),
    ),
    Situation(
        "a model in a bucket that is not there",
        "inspect s3://bucket/model",
        "s3://bucket/model",
        "nothing is there",
        hook=AT_ONCE,
        variables=amazon("missing"),
    ),
    Situation(
        "zones in a bucket that refuses",
        f"{SCENES} --zones=gs://bucket/a.geojson",
        "gs://",
        "check the role of the account",
        hook=AT_ONCE,
        variables=google("forbidden"),
    ),
    Situation(
        "verify of a run in a bucket that is not there",
        "verify gs://bucket/run",
        "gs://bucket/run",
        "name the folder that `beamseg segment` was given as --output",
        hook=AT_ONCE,
        variables=google("missing"),
    ),
    Situation(
        "verify of a run in a store where nobody listens",
        "verify s3://bucket/run",
        "s3://bucket/run",
        "run the same command again a little later",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=amazon("refused"),
    ),
    Situation(
        "a bucket name that no store takes",
        f"segment --input=s3://Bu_cket!/a {GIVEN}",
        "s3://Bu_cket!",
        "check the address and the settings of the client",
        INCOMPLETE,
        hook=AT_ONCE,
        variables=amazon("missing"),
    ),
    # Answers of web servers.
    Situation(
        "a scene on a host that is not there",
        f"segment --input=https://no-such-host.invalid/a.tif {GIVEN}",
        "no-such-host.invalid",
        "check the address, or try later",
        INCOMPLETE,
    ),
    Situation("a scene that the web does not have", web("missing"), "a.tif", "check the address"),
    Situation("a scene that the web refuses", web("forbidden"), "a.tif", "check the address"),
    Situation("a scene that wants a password", web("unauthorized"), "a.tif", "check the address"),
    Situation(
        "a scene on a server that fails",
        web("failing"),
        "a.tif",
        "the server answers 500: try later",
        INCOMPLETE,
    ),
    Situation(
        "a scene where nobody listens",
        web("refused"),
        "a.tif",
        "check the address, or try later",
        INCOMPLETE,
    ),
    Situation(
        "a scene that is a page to sign in",
        web("page"),
        "a.tif",
        "not recognized as being in a supported file format.",
    ),
    Situation("a scene that leads in a circle", web("circle"), "a.tif", "check the address"),
    Situation(
        "a scene that leads to a host that is not there",
        web("astray"),
        "a.tif",
        "check the address, or try later",
        INCOMPLETE,
    ),
    Situation(
        "an address that is none",
        f"segment --input=https:///a.tif {GIVEN}",
        "https:///a.tif",
        "check the address",
    ),
    Situation(
        "an image on the web without its size",
        f"segment --input=$page/a.png {GIVEN}",
        "--copy_web",
        "copy the file (0.0 MiB) with --copy_web SIZE, or download it",
    ),
    Situation(
        "a copied image that is a page to sign in",
        f"segment --input=$page/a.png {GIVEN} --copy_web=1M",
        "a.png",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
    ),
    Situation(
        "a copied image that the web does not have",
        f"segment --input=$missing/a.png {GIVEN} --copy_web=1M",
        "a.png",
        "check the address",
    ),
    Situation(
        "a copied image that is above the limit",
        f"segment --input=$page/a.png {GIVEN} --copy_web=5",
        "a.png",
        "raise it, or download the file",
    ),
    Situation(
        "a copied image that leads in a circle",
        f"segment --input=$circle/a.png {GIVEN} --copy_web=1M",
        "a.png",
        "check the address",
    ),
    Situation(
        "zones on the web", f"{SCENES} --zones=$page/a.geojson", "a.geojson", "copy 'http://"
    ),
)
