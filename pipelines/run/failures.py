"""Failures: one row per image that could not be labelled, and which errors are transient."""

import errno
import json
from dataclasses import asdict, dataclass

from segmodel.errors import BeamsegError, TransientError

_PERMANENT = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_PERMANENT_ERRNO = {errno.ENAMETOOLONG, errno.EROFS, errno.EILSEQ}


@dataclass(frozen=True)
class Failure:
    """One image that failed.

    Args:
        uri: The input file, as folder and name.
        key: Name of the image within a shard, block within a scene, or None.
        stage: `open`, `read`, `record` (of a shard), `name` (that no file can have) or `mask` (of
            an image that is packed).
        reason: What was wrong, for a person.
        transient: Whether a later attempt may succeed.
    """

    uri: str
    key: str | None
    stage: str
    reason: str
    transient: bool = False

    def to_json(self) -> str:
        """One line of a failures file."""
        return json.dumps(asdict(self), ensure_ascii=False)


def is_transient(error: BaseException) -> bool:
    """Whether an error comes from the store, the network or memory, so that a retry may help.

    >>> is_transient(ConnectionResetError()), is_transient(FileNotFoundError(2, "gone"))
    (True, False)
    """
    if isinstance(error, TransientError | MemoryError):
        return True
    if isinstance(error, _PERMANENT):
        return False
    return isinstance(error, OSError) and error.errno not in _PERMANENT_ERRNO


def reraise_transient(error: Exception) -> None:
    """Raise a transient error, or an internal one, which says nothing about the image."""
    if is_transient(error) or not isinstance(error, BeamsegError | OSError):
        raise error


def reason_of(error: BaseException) -> str:
    """What was wrong, without paths of this machine."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def on_one_line(text: str) -> str:
    r"""Text with what is not printable written out: names of files are anybody's.

    >>> on_one_line("a\nb")
    'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
