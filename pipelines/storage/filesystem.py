"""Files here and in stores: read, and written so that a name appears whole or not at all.

What writes needs a scratch folder on this machine: for a run on this machine one in its run
directory, so that a finished file is only renamed; for one in a store, one for temporary files, and
a finished file is uploaded under its final name.
"""

import hashlib
import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipelines.storage import locations
from pipelines.storage.clients import RangeStream, StoredObject, store_of
from pipelines.storage.clients.local import link_to_folder, open_local
from segmodel.devices.disks import room, temporary_folder, writing
from segmodel.errors import ConfigurationError, TransientError

# What is read of an object at once: many images, or a second of a slow line.
BUFFER_BYTES = 8 << 20
# Runs that may end, and clear the scratch folder, while a file is written.
CLEARED = 3

T = TypeVar("T")


@dataclass(frozen=True)
class Written:
    """What a file holds that was written: bytes, and SHA-256 as 64 hex digits."""

    size: int
    sha256: str


class ClearedError(TransientError):
    """The folder for temporary files was cleared by another run."""


@dataclass
class Draft:
    """A file that is being written, under a temporary name.

    Attributes:
        path: Path of this machine to write to.
        written: What the file holds, once it has its final name.
    """

    path: str
    written: Written | None = None


def read_bytes(uri: str, known: tuple[int, str] | None = None) -> bytes:
    """The whole content of a file.

    Args:
        uri: Path of this machine, or address in a store.
        known: Size in bytes and version by a listing, which an object in a store must still have,
            or None for any.

    Raises:
        TransientError: If the object has another size or version by now.
    """
    return store_of(uri).read(uri, 0, None, known)


def read_range(uri: str, start: int, length: int, known: tuple[int, str] | None = None) -> bytes:
    """`length` bytes of a file from byte `start` on; fewer at its end only; see `read_bytes`."""
    return store_of(uri).read(uri, start, length, known)


def open_stream(
    uri: str, known: tuple[int, str] | None = None, ahead: int = BUFFER_BYTES
) -> io.BufferedReader:
    """A file as a stream.

    Args:
        uri: Path of this machine, or address in a store.
        known: Size in bytes and version by a listing, which spares a request to a store.
        ahead: Bytes that a store is asked for at once.

    Raises:
        FileNotFoundError: If there is no such file.
        TransientError: While the stream is read, if an object was replaced since.
    """
    if not locations.is_remote(uri):
        return open_local(uri)
    if known is None:
        found = stat(uri)
        if found is None:
            raise FileNotFoundError(2, "no such object", uri)
        known = found.stat
    return io.BufferedReader(RangeStream(store_of(uri), uri, *known), ahead)


def exists(uri: str) -> bool:
    """Whether there is such a file."""
    return size_of(uri) is not None


def begins_with(uri: str, marks: tuple[bytes, ...], known: tuple[int, str]) -> bool:
    """Whether a file begins with one of some byte strings; `known` as in `read_bytes`."""
    return read_range(uri, 0, max(map(len, marks)), known).startswith(marks)


def size_of(uri: str) -> int | None:
    """Bytes of a file, or None if there is none."""
    found = stat(uri)
    return None if found is None else found.size


def stat(uri: str) -> StoredObject | None:
    """Size and version of a file, or None if there is none."""
    return store_of(uri).stat(uri)


def files_below(folder: str, prefix: str = "") -> Iterator[StoredObject]:
    """All files below a folder, hidden ones too, by path; none where there is no such folder.

    Args:
        folder: Path of this machine, or address in a store.
        prefix: Start of the rest of their paths.
    """
    return store_of(folder).below(folder, prefix)


def names_below(folder: str, prefix: str = "") -> Iterator[str]:
    """Paths of `files_below`, from the folder on, with forward slashes."""
    return (found.uri[len(folder) + 1 :] for found in files_below(folder, prefix))


def unsorted_names(folder: str) -> Iterator[str]:
    """Names of the files of a folder without folders, in no order, and in bounded memory."""
    if locations.is_remote(folder):
        yield from names_below(folder)
        return
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)


def scratch_of(root: str) -> str:
    """The scratch folder of a run directory: in it, or on this machine if it is in a store."""
    if not locations.is_remote(root):
        return f"{root}/tmp"
    name = hashlib.sha256(root.encode()).hexdigest()[:16]
    return os.path.join(machine_folder(), f"run-{name}")


def machine_folder() -> str:
    """The folder for temporary files of this user on this machine; nobody else may write to it.

    Raises:
        ConfigurationError: If there is one that belongs to somebody else.
        DiskError: If it cannot be made.
    """
    path = os.path.join(temporary_folder(), f"beamseg-{os.getuid()}")
    _make(path, 0o700)
    if os.stat(path).st_uid != os.getuid():
        raise ConfigurationError(
            f"{os.path.basename(path)} in the folder for temporary files belongs to somebody else: "
            f"set TMPDIR to a folder of your own"
        )
    return path


def _make(folder: str, mode: int = 0o777) -> None:
    """Make a folder; what it is in is there, unless its disk is gone."""
    with writing(folder), suppress(FileExistsError):
        os.mkdir(folder, mode)


@contextmanager
def temporary(scratch: str) -> Iterator[str]:
    """A path in the scratch folder for the time of the block.

    Raises:
        ClearedError: If another run has cleared the scratch folder meanwhile.
        DiskError: If there is no room, or the disk is gone.
    """
    _make(scratch)
    path = os.path.join(scratch, uuid.uuid4().hex)
    try:
        with room(scratch):
            yield path
    except FileNotFoundError as error:
        if error.filename != path:
            raise
        # What cleared it leaves the run directory.
        _make(scratch)
        raise ClearedError(
            "another run into the same directory ended and cleared the folder for temporary "
            "files while this run was writing there: run the same command again"
        ) from error
    finally:
        with suppress(OSError):
            os.unlink(path)


@contextmanager
def write_atomic(uri: str, scratch: str) -> Iterator[Draft]:
    """A draft to write to; its file gets the final name when the block ends well.

    Args:
        uri: Final name; replaced if it is there.
        scratch: Folder for temporary files.

    Raises:
        ClearedError: If another run has cleared the scratch folder meanwhile.
        DiskError: If there is no room, or the disk is gone.
    """
    with temporary(scratch) as path:
        draft = Draft(path)
        yield draft
        draft.written = publish(path, uri)


def publish(path: str, uri: str) -> Written:
    """Give a temporary file its final name; says what it holds.

    Raises:
        ConfigurationError: If it may not be written there.
        DiskError: If there is no room, or the disk is gone.
    """
    written = Written(os.path.getsize(path), sha256(path))
    with _named(uri):
        store_of(uri).publish(path, uri)
    return written


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Have errors of writing say what is wrong with the disk, or that the store refuses it."""
    if not locations.is_remote(uri):
        with writing(uri):
            yield
        return
    try:
        yield
    except PermissionError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", name=uri) from error


def retry_if_cleared(action: Callable[[], T]) -> T:
    """What an action returns that writes files; done again if the scratch folder was cleared."""
    for _ in range(CLEARED - 1):
        with suppress(ClearedError):
            return action()
    return action()


def write_bytes(uri: str, content: bytes, scratch: str) -> Written:
    """Write a file that appears whole or not at all; says what it holds."""

    def write() -> Written:
        with temporary(scratch) as path:
            Path(path).write_bytes(content)
            return publish(path, uri)

    return retry_if_cleared(write)


def create(uri: str, content: bytes, scratch: str) -> bool:
    """Write a file unless there is one of that name; whether this call wrote it."""

    def write() -> bool:
        with temporary(scratch) as path, _named(uri):
            return store_of(uri).create(uri, content, path)

    return retry_if_cleared(write)


def remove(uri: str) -> None:
    """Remove a file, if it is there."""
    with _named(uri):
        store_of(uri).remove(uri)


def check_below(path: str) -> None:
    """Refuse a path that may lead out of the folder that it is relative to.

    Raises:
        ValueError: If it is absolute, or goes up, or no file can have that name.
    """
    parts = path.split("/")
    if "\0" in path or not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError(f"not a path below a folder: {path!r}")


def remove_below_root(root: str, path: str) -> None:
    """Remove a file below a folder, if it is there; nothing that links lead to elsewhere.

    Args:
        root: Folder on this machine, or in a store.
        path: Path relative to it, of which nothing is known.

    Raises:
        ValueError: If it leads out of a folder on this machine.
    """
    uri = f"{root}/{path}"
    if not locations.is_remote(root):
        check_below(path)
        folder, top = os.path.realpath(os.path.dirname(uri)), os.path.realpath(root)
        if os.path.commonpath((folder, top)) != top:
            return
    remove(uri)


def refuse_links(root: str, names: Iterable[str]) -> None:
    """Refuse folders that are written to where links lead out of them, or to no file.

    Args:
        root: Folder on this machine, or in a store; a link to it is none of its own.
        names: Folders in it that are written to; they need not exist.

    Raises:
        ConfigurationError: Names the link.
    """
    for name in () if locations.is_remote(root) else names:
        link = link_to_folder(f"{root}/{name}")
        if link is not None:
            raise ConfigurationError(
                "is a link in a folder that is written to, and what it leads to would be changed "
                "too: put the folder itself in its place, or name another --output (which may be "
                "a link)",
                name=link,
            )


def remove_below(folder: str) -> None:
    """Remove a folder with all in it, if it is there."""
    with _named(folder):
        store_of(folder).remove_below(folder)


def sha256(uri: str) -> str:
    """SHA-256 of a file's content as 64 hex digits."""
    with open_stream(uri) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
