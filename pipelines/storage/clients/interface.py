"""What a store is: objects by name, which appear whole or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


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


class Store(Protocol):
    """Objects by name.

    All methods raise FileNotFoundError and PermissionError with the location as `filename`, and
    TransientError for what may pass.
    """

    def below(self, folder: str, prefix: str = "") -> Iterator[StoredObject]:
        """All objects below a folder, also in folders in it, in order of their names.

        Args:
            folder: The folder; it may have none, and need not exist.
            prefix: What the rest of their names begins with.
        """

    def stat(self, uri: str) -> StoredObject | None:
        """The object of this name, or None if there is none."""

    def read(self, uri: str, start: int, length: int | None, version: str | None) -> bytes:
        """Part of an object; less than `length` bytes at its end only.

        Args:
            uri: The object.
            start: First byte.
            length: Most bytes; None for all that follow.
            version: That the object must still have, or None for any.
        """

    def publish(self, path: str, uri: str) -> None:
        """Give the content of a local temporary file its final name, in place of what is there."""

    def create(self, uri: str, content: bytes, draft: str) -> bool:
        """Write an object unless there is one of that name; whether this call wrote it.

        Args:
            uri: The object.
            content: All of it.
            draft: Path of a local temporary file, which the caller removes.
        """

    def remove(self, uri: str) -> None:
        """Remove an object, if it is there."""

    def remove_below(self, folder: str) -> None:
        """Remove all objects below a folder."""


@dataclass(frozen=True)
class Fault:
    """What a client's exception means.

    Args:
        error: To be raised in its place.
        may_pass: Whether the same request may succeed a little later.
    """

    error: Exception
    may_pass: bool = False


class Client(Protocol):
    """A store over a network, one request at a time and without patience; see `RetryingStore`."""

    def page(self, start: str, token: str | None) -> tuple[list[StoredObject], str | None]:
        """One page of a listing, and how to ask for the next; None where there is none.

        Args:
            start: What the locations of all objects of the listing begin with.
            token: Of the page before, None for the first.
        """

    def stat(self, uri: str) -> StoredObject | None:
        """See `Store`."""

    def read(self, uri: str, start: int, length: int | None, version: str | None) -> bytes:
        """See `Store`."""

    def upload(self, path: str, uri: str) -> None:
        """Upload a local file; with patience of its own, as large ones go part by part."""

    def create(self, uri: str, content: bytes) -> bool:
        """Write an object unless there is one of that name; whether this call wrote it."""

    def remove(self, uri: str) -> None:
        """Remove an object, if it is there."""

    def fault(self, error: Exception, uri: str) -> Fault | None:
        """What an exception of these methods means; None if it is a fault of ours."""
