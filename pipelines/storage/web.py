"""Files of the web: what a server says of one, and its download where it gives no byte ranges."""

import hashlib
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, InvalidURL
from typing import IO, Any

from pipelines.storage import locations
from pipelines.storage.clients.retry import retry_transient
from segmodel.devices.disks import writing
from segmodel.errors import BeamsegError, FailureCode, InputError, TransientError

SECONDS = 60
# What GDAL asks for first; a file that is not larger it reads from any server.
PROBED_BYTES = 16384
_CHUNK_BYTES = 1 << 20
# Answers to HEAD after which GET may succeed. GDAL goes on after 405 only.
_NO_HEAD = (400, 403, 405, 501)
_GDAL_GOES_ON = 405
_BUSY = 429


@dataclass(frozen=True)
class WebFile:
    """A file as its server describes it.

    Args:
        size: Bytes, or None where the server does not say.
        fault: Why it is not read by ranges; empty if GDAL reads it so.
        headers: What the server says of the file.
        get_headers: What it says of it together with its content.
    """

    size: int | None
    fault: str
    headers: Message
    get_headers: Message


def ask_server(url: str) -> WebFile:
    """Ask a server about a file, and whether it gives byte ranges.

    Args:
        url: Address of the file.

    Raises:
        InputError: If the server refuses.
        TransientError: If it cannot be reached, or may answer later.
    """
    headers, refused = None, None
    with _errors(url):
        try:
            with _answer(url, "HEAD") as answer:
                headers = answer.headers
        except urllib.error.HTTPError as error:
            if error.code not in _NO_HEAD:
                raise
            refused = error.code
        try:
            with _answer(url, "GET", Range=f"bytes=0-{PROBED_BYTES - 1}") as answer:
                status, given = answer.status, answer.headers
        except urllib.error.HTTPError as error:
            # An empty file has no range.
            if error.code != 416:
                raise
            status, given = 206, error.headers
    size = None if headers is None else _length(headers)
    if size is None and status == 206:
        of = (given.get("Content-Range") or "").rpartition("/")[2]
        size = int(of) if of.isdigit() else None
    elif size is None:
        size = _length(given)
    fault = ""
    if refused not in (None, _GDAL_GOES_ON):
        fault = f"the server answers {refused} to HEAD requests, which GDAL needs"
    elif status != 206 and (refused is not None or not 0 < (size or 0) <= PROBED_BYTES):
        fault = "the server gives no byte ranges, by which scenes are read"
    return WebFile(size, fault, given if headers is None else headers, given)


def version_of(size: int, headers: Message) -> str:
    """What changes with a file: size, time of modification and entity tag, as a digest."""
    said = (size, headers.get("Last-Modified"), headers.get("ETag"))
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def _length(headers: Message) -> int | None:
    stated = headers.get("Content-Length") or ""
    return int(stated) if stated.isdigit() else None


def _answer(url: str, method: str, **headers: str) -> Any:
    request = urllib.request.Request(url, method=method, headers=headers)
    return urllib.request.urlopen(request, timeout=SECONDS)


@contextmanager
def _errors(url: str) -> Iterator[None]:
    """Raise what a failed request means.

    Raises:
        InputError: If the server refuses the request.
        TransientError: If it may answer later.
    """
    plain = plain_address(url)
    try:
        yield
    except BeamsegError:
        raise
    except urllib.error.HTTPError as error:
        if error.code == _BUSY or error.code >= 500:
            text = f"the server answers {error.code}: try later"
            raise TransientError(text, name=plain) from None
        code = FailureCode.NOT_FOUND if error.code in (404, 410) else FailureCode.NO_PERMISSION
        text = f"the server answers {error.code}: check the address"
        raise InputError(text, code=code, name=plain) from None
    except (OSError, HTTPException, ValueError) as error:
        # Of an address without a host, the reason is a text.
        if isinstance(error, InvalidURL) or isinstance(getattr(error, "reason", None), str):
            text = "it is no address of a file: check the address"
            raise InputError(text, code=FailureCode.NOT_FOUND, name=plain) from None
        kind = type(getattr(error, "reason", error)).__name__
        text = f"{plain} cannot be reached ({kind}): check the address, or try later"
        raise TransientError(text) from error


def plain_address(url: str) -> str:
    """An address without user, query and fragment, which may be secrets.

    >>> plain_address("https://me:secret@example.org/a.tif?key=1")
    'https://example.org/a.tif'
    """
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def download(uri: str, path: str) -> str:
    """Copy a file of the web.

    Args:
        uri: Location, as `locations.copied` gives it.
        path: Path of the copy.

    Returns:
        Version of the file, as `find_web` gives it.

    Raises:
        InputError: If the server refuses, or the file is larger than its location allows.
        TransientError: If it cannot be reached, or sent less than it said.
    """
    limit, url = locations.parts_of_copied(uri)

    def copy() -> str:
        with (
            writing(os.path.dirname(path)),
            open(path, "wb") as target,
            _errors(url),
            _answer(url, "GET") as answer,
        ):
            return version_of(_receive(answer, target, limit, url), answer.headers)

    return retry_transient(copy)


def _receive(answer: Any, target: IO[bytes], limit: int, url: str) -> int:
    """Write what a server sends to a file; returns the number of bytes."""
    stated, size = _length(answer.headers), 0
    while part := answer.read(_CHUNK_BYTES):
        size += len(part)
        if size > limit:
            raise too_large(size, limit, url)
        with writing(os.path.dirname(target.name)):
            target.write(part)
    if stated is not None and size < stated:
        raise TransientError(f"{plain_address(url)}: {size} of {stated} bytes arrived: try later")
    return size


def too_large(size: int, limit: int, url: str) -> InputError:
    """The error of a file that is larger than what is copied."""
    return InputError(
        f"it has {size:,} bytes or more, --copy_web allows {limit:,}: raise it, or download the "
        f"file",
        code=FailureCode.TOO_LARGE,
        name=plain_address(url),
    )
