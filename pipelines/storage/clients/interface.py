"""What a store is: objects by name, which appear whole or not at all; and how its requests fail."""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from segmodel.errors import TransientError

# HTTP statuses after which the same request may succeed a little later.
TRANSIENT_STATUSES = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class RequestFailure:
    """What the exception of a client means.

    Args:
        error: Error to raise in place of the exception.
        transient: Whether the same request may succeed a little later.
    """

    error: Exception
    transient: bool = False

    @classmethod
    def unreachable(cls, error: Exception, uri: str) -> "RequestFailure":
        """The failure of a connection, which may be better a little later."""
        what = f"the store is out of reach ({type(error).__name__})"
        return cls(transient_error(uri, what), transient=True)

    @classmethod
    def answered(cls, uri: str, status: int, text: str, remedy: str) -> "RequestFailure":
        """What an answer of a store over HTTP means.

        Args:
            uri: Location that the request was about.
            status: HTTP status, 400 or more.
            text: Status and code as the store gave them, for the message.
            remedy: What to do where access is refused.
        """
        if status == 404:
            return cls(FileNotFoundError(errno.ENOENT, "no such object or bucket", uri))
        if status in (401, 403):
            what = f"the store refuses access ({text}): {remedy}"
            return cls(PermissionError(errno.EACCES, what, uri))
        if status == 412:
            return cls(replaced_error(uri))
        if status in TRANSIENT_STATUSES:
            return cls(transient_error(uri, f"the store answers {text}"), transient=True)
        return cls(OSError(errno.EINVAL, f"the store answers {text}", uri))


_LATER = "run the same command again a little later"


def transient_error(uri: str, what: str, remedy: str = _LATER) -> TransientError:
    """The error for a transient failure that is left after the last attempt.

    Args:
        uri: Location that the request was about.
        what: What was wrong.
        remedy: What helps.

    >>> str(transient_error("gs://bucket/a", "the store answers 503"))
    'gs://bucket/a: the store answers 503: run the same command again a little later'
    """
    return TransientError(f"{uri}: {what}: {remedy}")


class WrongAnswerError(TransientError):
    """A store, or what stands before it, answers otherwise than a store can have meant."""


def wrong_answer(uri: str, what: str) -> WrongAnswerError:
    """The error for such an answer.

    Args:
        uri: Location that the request was about.
        what: What is wrong with the answer.
    """
    return WrongAnswerError(
        str(transient_error(uri, f"the answer is not that of the store: {what}"))
    )


@contextmanager
def parsing(uri: str) -> Iterator[None]:
    """Refuse an answer that lacks what a store tells, or tells a number or a date as none.

    Args:
        uri: Location that the request is about.

    Raises:
        WrongAnswerError: If the block meets such an answer.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, OSError):
            # A request that was not made, or an answer that did not arrive.
            raise
        raise wrong_answer(uri, f"it cannot be parsed ({type(error).__name__})") from error


def replaced_error(uri: str) -> TransientError:
    """The error for an object that has another version than the one that was listed."""
    return TransientError(
        f"{uri} was replaced after it was listed: run the same command again, which lists it anew"
    )


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

    @property
    def stat(self) -> tuple[int, str]:
        """Size and version, as reading takes them."""
        return self.size, self.version


class _Objects(Protocol):
    """What stores and their clients have in common."""

    def stat(self, uri: str) -> StoredObject | None:
        """The object of this name, or None if there is none."""

    def remove(self, uri: str) -> None:
        """Remove an object, if it is there."""


class Store(_Objects, Protocol):
    """Objects by name.

    All methods raise FileNotFoundError and PermissionError with the location as `filename`, and
    TransientError for what may be better later.
    """

    def read(
        self, uri: str, start: int, length: int | None, known: tuple[int, str] | None
    ) -> bytes:
        """Part of an object; less than `length` bytes at its end only.

        Args:
            uri: Location of the object.
            start: First byte.
            length: Most bytes; None for all that follow.
            known: Size and version by a listing, which the object must still have, or None for any.
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

    def read(self, uri: str, start: int, length: int | None, version: str | None) -> bytes:
        """Part of an object; less than `length` bytes at its end only.

        Args:
            uri: Location of the object.
            start: First byte.
            length: Most bytes, at least 1; None for all that follow.
            version: Version that the object must still have, or None for any.

        Raises:
            WrongAnswerError: If the answer is of another version.
        """

    def upload(self, path: str, uri: str) -> None:
        """Upload a local file, with retries of its own, as large files go part by part."""

    def create(self, uri: str, content: bytes) -> bool:
        """Write an object unless there is one of that name; whether this call wrote it."""

    def failure(self, error: Exception, uri: str) -> RequestFailure | None:
        """What an exception of these methods means; None if it says nothing about the store."""


class RangeStream(io.RawIOBase):
    """The bytes of one version of an object, from anywhere in it.

    Args:
        store: Store that holds the object.
        uri: Location of the object.
        size: Bytes of the object.
        version: Version of the object; another one is refused in mid-stream.
    """

    def __init__(self, store: Store, uri: str, size: int, version: str) -> None:
        self._store, self._uri, self._size = store, uri, size
        self._known, self._place = (size, version), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative place in {self._uri}")
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        length = min(len(view), self._size - self._place)
        if length <= 0:
            return 0
        view[:length] = self._store.read(self._uri, self._place, length, self._known)
        self._place += length
        return length
