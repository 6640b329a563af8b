"""A store in memory whose requests can be made to fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines.storage.clients.interface import (
    RequestFailure,
    StoredObject,
    replaced_error,
    transient_error,
)
from segmodel.errors import TransientError


class DownError(Exception):
    """The store does not answer."""


class MemoryClient:
    """Objects by location.

    Attributes:
        objects: Content of each.
        version: Of all of them.
        asked: Method and location of every request.
        fails: Whether a request of a method about a location fails.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.version = "v1"
        self.asked: list[tuple[str, str]] = []
        self.fails: Callable[[str, str], bool] = lambda method, uri: False

    def put_all(self, folder: Path, root: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.objects[f"{root}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()

    def _ask(self, method: str, uri: str) -> None:
        self.asked.append((method, uri))
        if self.fails(method, uri):
            raise DownError

    def page(self, start, token):
        self._ask("page", start)
        names = [name for name in sorted(self.objects) if name.startswith(start)]
        return [StoredObject(name, len(self.objects[name]), self.version) for name in names], None

    def stat(self, uri):
        self._ask("stat", uri)
        content = self.objects.get(uri)
        return None if content is None else StoredObject(uri, len(content), self.version)

    def read(self, uri, start, length, version):
        self._ask("read", uri)
        if uri not in self.objects:
            raise FileNotFoundError(2, "no such object", uri)
        if version not in (None, self.version):
            raise replaced_error(uri)
        return self.objects[uri][start:][:length]

    def upload(self, path, uri):
        self._ask("upload", uri)
        self.objects[uri] = Path(path).read_bytes()

    def create(self, uri, content):
        self._ask("create", uri)
        return self.objects.setdefault(uri, content) is content

    def remove(self, uri):
        self._ask("remove", uri)
        self.objects.pop(uri, None)

    def failure(self, error, uri):
        if isinstance(error, DownError):
            return RequestFailure(transient_error(uri, "the store is down"), transient=True)
        return RequestFailure(error) if isinstance(error, OSError | TransientError) else None
