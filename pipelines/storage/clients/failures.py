"""Why a request to a store failed, in the words of every store."""

import errno
from dataclasses import dataclass

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


def transient_error(uri: str, what: str) -> TransientError:
    """The error for a transient failure that is left after the last attempt.

    Args:
        uri: Location that the request was about.
        what: What was wrong.

    >>> str(transient_error("gs://bucket/a", "the store answers 503"))
    'gs://bucket/a: the store answers 503: run the same command again a little later'
    """
    return TransientError(f"{uri}: {what}: run the same command again a little later")


def replaced_error(uri: str) -> TransientError:
    """The error for an object that has another version than the one that was listed."""
    return TransientError(
        f"{uri} was replaced after it was listed: run the same command again, which lists it anew"
    )
