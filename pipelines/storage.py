"""Files: listed, read, and written so that a name appears whole or not at all."""

import errno
import glob
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from segmodel.errors import ConfigurationError, TransientError

_WILDCARDS = "*?["
# Runs that may end, and clear the scratch folder, while a file is written.
CLEARED = 3

T = TypeVar("T")


@dataclass(frozen=True)
class FoundFile:
    """A file as a listing shows it.

    Args:
        uri: How to open it.
        name: Path below the root of its pattern, with forward slashes.
        size: Bytes.
        version: Changes when the content does; the time of modification in nanoseconds.
    """

    uri: str
    name: str
    size: int
    version: str


def check_local(uri: str) -> str:
    """The same location, if this version can reach it.

    Raises:
        ConfigurationError: If it is in an object store.
    """
    if "://" in uri:
        scheme = uri.split("://")[0]
        raise ConfigurationError(
            f"{scheme}:// locations cannot be read or written yet: copy {uri!r} to a local folder"
        )
    return uri


def root_of(pattern: str) -> str:
    """The folder below which a pattern varies.

    >>> root_of("data/photos/**/*.jpg")
    'data/photos'
    >>> root_of("data/photos/a.jpg")
    'data/photos'
    """
    if os.path.isdir(pattern):
        return os.path.normpath(pattern)
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if any(mark in part for mark in _WILDCARDS):
            break
        fixed.append(part)
    return str(Path(*fixed)) if fixed else "."


def find_files(pattern: str) -> Iterator[FoundFile]:
    """Files of a pattern in order of name: a file, a folder with all below it, or a glob.

    Hidden files are left out, and so is what vanishes while it is listed.

    Raises:
        ConfigurationError: If a pattern leads out of its root.
    """
    root = root_of(pattern)
    if os.path.isfile(pattern):
        paths = [pattern]
    else:
        folder = os.path.isdir(pattern)
        wild = os.path.join(glob.escape(pattern), "**") if folder else pattern
        paths = sorted(glob.glob(wild, recursive=True))
    for path in paths:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        if os.path.isfile(path):
            name = Path(os.path.relpath(path, root)).as_posix()
            if name.startswith("../"):
                raise ConfigurationError(f"--input {pattern}: write the path without ..")
            yield FoundFile(path, name, status.st_size, str(status.st_mtime_ns))


def read_bytes(uri: str) -> bytes:
    """The whole content of a file."""
    return Path(uri).read_bytes()


def exists(uri: str) -> bool:
    """Whether there is such a file or folder."""
    return os.path.exists(uri)


def begins_with(uri: str, marks: tuple[bytes, ...]) -> bool:
    """Whether a file begins with one of some byte strings."""
    with open(uri, "rb") as stream:
        return stream.read(max(map(len, marks))).startswith(marks)


def size_of(uri: str) -> int | None:
    """Bytes of a file, or None if there is none."""
    try:
        return os.stat(uri).st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def temporary(scratch: str) -> Iterator[str]:
    """A path in the scratch folder for the time of the block.

    Raises:
        TransientError: If another run has cleared the scratch folder meanwhile.
    """
    os.makedirs(scratch, exist_ok=True)
    path = os.path.join(scratch, uuid.uuid4().hex)
    try:
        yield path
    except FileNotFoundError as error:
        if error.filename != path:
            raise
        raise TransientError(
            f"{scratch} was cleared while it was written to, as a run does that ends while another "
            f"one into the same directory goes on: run the same command again"
        ) from error
    finally:
        Path(path).unlink(missing_ok=True)


@contextmanager
def write_whole(uri: str, scratch: str) -> Iterator[str]:
    """A temporary path to write to; its file gets the final name when the block ends well.

    Args:
        uri: Final name; replaced if it is there.
        scratch: Folder for temporary files, on the same file system.

    Raises:
        TransientError: If another run has cleared the scratch folder meanwhile.
    """
    with temporary(scratch) as path:
        yield path
        publish(path, uri)


def publish(path: str, uri: str) -> None:
    """Give a temporary file its final name, once its content is on disk."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
    os.makedirs(os.path.dirname(uri), exist_ok=True)
    os.replace(path, uri)


def persistently(action: Callable[[], T]) -> T:
    """What an action returns that writes files; done again if the scratch folder was cleared."""
    for _ in range(CLEARED - 1):
        with suppress(TransientError):
            return action()
    return action()


def write_bytes(uri: str, content: bytes, scratch: str) -> None:
    """Write a file that appears whole or not at all."""

    def write() -> None:
        with write_whole(uri, scratch) as path:
            Path(path).write_bytes(content)

    persistently(write)


def create(uri: str, content: bytes, scratch: str) -> bool:
    """Write a file unless there is one of that name; whether this call wrote it."""

    def write() -> bool:
        with temporary(scratch) as path:
            with open(path, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.makedirs(os.path.dirname(uri), exist_ok=True)
            try:
                os.link(path, uri)
            except FileExistsError:
                return False
            return True

    return persistently(write)


def remove(uri: str) -> None:
    """Remove a file or a folder with all in it, if it is there."""
    if os.path.isdir(uri) and not os.path.islink(uri):
        shutil.rmtree(uri, onerror=_ignore_vanished)
    else:
        Path(uri).unlink(missing_ok=True)


def _ignore_vanished(function: object, path: str, caught: tuple) -> None:
    """Another run may remove the same files, or write new ones; what else is wrong is raised."""
    if caught[1].errno not in (errno.ENOENT, errno.ENOTEMPTY):
        raise caught[1]


def sha256(uri: str) -> str:
    """SHA-256 of a file's content as 64 hex digits."""
    with open(uri, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
