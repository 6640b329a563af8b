"""What a store is: objects by name, which appear whole or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pipelines.storage.clients.failures import RequestFailure


@dataclass(frozen=True)
class StoredObject:
    """A file or object as a listing shows it.

    Args:
        uri: How to open it.
        size: Bytes.
        version: Changes when the content does: the time of modification in nanoseconds of a file,
            generation or entity tag of an object.
    """

    uri: str
    size: int
    version: str


class _Objects(Protocol):
    """What stores and their clients have in common."""

    def stat(self, uri: str) -> StoredObject | None:
        """The object of this name, or None if there is none."""

    def read(self, uri: str, start: int, length: int | None, version: str | None) -> bytes:
        """Part of an object; less than `length` bytes at its end only.

        Args:
            uri: Location of the object.
            start: First byte.
            length: Most bytes, at least 1; None for all that follow.
            version: Version that the object must still have, or None for any.
        """

    def remove(self, uri: str) -> None:
        """Remove an object, if it is there."""


class Store(_Objects, Protocol):
    """Objects by name.

    All methods raise FileNotFoundError and PermissionError with the location as `filename`, and
    TransientError for what may be better later.
    """

    def below(self, folder: str, prefix: str = "") -> Iterator[StoredObject]:
        """All objects below a folder, also in folders in it, in order of their names.

        Args:
            folder: Location of the folder; it may have no objects, and need not exist.
            prefix: Start of the rest of their names.
        """

    def publish(self, path: str, uri: str) -> None:
        """Give the content of a local temporary file its final name, in place of what is there."""

    def create(self, uri: str, content: bytes, draft: str) -> bool:
        """Write an object unless there is one of that name; whether this call wrote it.

        Args:
            uri: Location of the object.
            content: All bytes of the object.
            draft: Path of a local temporary file, which the caller removes.
        """

    def remove_below(self, folder: str) -> None:
        """Remove all objects below a folder."""


class Client(_Objects, Protocol):
    """A store over a network, which makes each request once; see `RetryingStore`."""

    def page(self, start: str, token: str | None) -> tuple[list[StoredObject], str | None]:
        """One page of a listing, and how to ask for the next; None where there is none.

        Args:
            start: What the locations of all objects of the listing begin with.
            token: Token that the page before gave, None for the first page.
        """

    def upload(self, path: str, uri: str) -> None:
        """Upload a local file, with retries of its own, as large files go part by part."""

    def create(self, uri: str, content: bytes) -> bool:
        """Write an object unless there is one of that name; whether this call wrote it."""

    def failure(self, error: Exception, uri: str) -> RequestFailure | None:
        """What an exception of these methods means; None if it says nothing about the store."""
