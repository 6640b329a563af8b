"""Buckets as tests see them: what they put in and read out reaches the store past all faults."""

from __future__ import annotations

import itertools
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from tests.services.faults import Faults

NUMBERS = itertools.count()
# moto wants to see who asks, and believes it.
UNCHECKED = (
    "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
S3 = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True)
class Service:
    """A store that runs.

    Attributes:
        kind: `gs` or `s3`.
        url: Of the gateway before the emulator, without faults.
    """

    kind: str
    url: str

    def wipe(self) -> None:
        """Remove all buckets with all they hold."""
        if self.kind == "gs":
            _call("GET", f"{self.url}/wipe")
        else:
            _call("POST", f"{self.url}/moto-api/reset", b"")

    def create_bucket(self) -> str:
        """A new, empty bucket; its name."""
        name = f"tests-{os.getpid()}-{next(NUMBERS)}"
        if self.kind == "gs":
            body = json.dumps({"name": name}).encode()
            _call("POST", f"{self.url}/storage/v1/b?project=tests", body, "application/json")
        else:
            _call("PUT", f"{self.url}/{name}")
        return name


@dataclass(frozen=True)
class Bucket:
    """A bucket of one test.

    Attributes:
        service: Where it is.
        name: Without scheme.
        environment: With which clients reach it, through `faults` if it has any.
        faults: The proxy that the environment leads through; None without one.
    """

    service: Service
    name: str
    environment: dict[str, str] = field(repr=False)
    faults: Faults | None = None

    @property
    def uri(self) -> str:
        return f"{self.service.kind}://{self.name}"

    @property
    def gdal_path(self) -> str:
        return f"/vsi{self.service.kind}/{self.name}"

    def put(self, name: str, content: bytes) -> None:
        if self.service.kind == "gs":
            query = urlencode({"uploadType": "media", "name": name})
            _call("POST", f"{self.service.url}/upload/storage/v1/b/{self.name}/o?{query}", content)
        else:
            _call("PUT", f"{self.service.url}/{self.name}/{quote(name)}", content)

    def get(self, name: str) -> bytes:
        """Content of an object.

        Raises:
            KeyError: If there is none of this name.
        """
        target = f"{self.name}/{quote(name)}"
        if self.service.kind == "gs":
            target = f"storage/v1/b/{self.name}/o/{quote(name, safe='')}?alt=media"
        try:
            return _call("GET", f"{self.service.url}/{target}")
        except urllib.error.HTTPError as fault:
            if fault.code == 404:
                raise KeyError(name) from fault
            raise

    def remove(self, name: str) -> None:
        target = f"{self.name}/{quote(name)}"
        if self.service.kind == "gs":
            target = f"storage/v1/b/{self.name}/o/{quote(name, safe='')}"
        _call("DELETE", f"{self.service.url}/{target}")

    def names(self, prefix: str = "") -> list[str]:
        """Names under a prefix, in order."""
        return list(self.digests(prefix))

    def digests(self, prefix: str = "") -> dict[str, str]:
        """MD5 of objects by names under a prefix, in order, as the store writes them.

        Only of objects that were uploaded in one piece.
        """
        is_google, token = self.service.kind == "gs", ""
        found: dict[str, str] = {}
        for _ in range(10_000):
            page, token = self._google(prefix, token) if is_google else self._amazon(prefix, token)
            found |= page
            if not token:
                return found
        raise RuntimeError(f"the list of {self.uri} does not end")

    def _google(self, prefix: str, token: str) -> tuple[dict[str, str], str]:
        query = urlencode({"prefix": prefix, "pageToken": token})
        page = json.loads(_call("GET", f"{self.service.url}/storage/v1/b/{self.name}/o?{query}"))
        found = {item["name"]: item["md5Hash"] for item in page.get("items", [])}
        return found, page.get("nextPageToken", "")

    def _amazon(self, prefix: str, token: str) -> tuple[dict[str, str], str]:
        query = {"list-type": "2", "prefix": prefix}
        if token:
            query["continuation-token"] = token
        body = _call("GET", f"{self.service.url}/{self.name}?{urlencode(query)}")
        page = ElementTree.fromstring(body)
        found = {
            entry.findtext(f"{S3}Key") or "": entry.findtext(f"{S3}ETag") or ""
            for entry in page.iterfind(f"{S3}Contents")
        }
        return found, page.findtext(f"{S3}NextContinuationToken") or ""


def _call(method: str, url: str, body: bytes | None = None, kind: str = "") -> bytes:
    headers = {"Authorization": UNCHECKED}
    if body is not None:
        headers["Content-Type"] = kind or "application/octet-stream"
    request = urllib.request.Request(url, body, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as got:
        return got.read()
