"""Disks of this machine: folders for temporary files, and what an error of writing means."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from segmodel.errors import BeamsegError, ConfigurationError, DiskError, explained

# With fewer, it is inodes that lack.
MIN_FREE_FILES = 10
_FULL = "no space is left on the disk: make room there"
# What only somebody else can mend: what is wrong, and what to do.
_REASONS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "the quota of the disk is used up: make room there",
    errno.EFBIG: "a file is larger than the disk or the limit of the process (ulimit -f) allows: "
    "raise the limit, or use another disk",
    errno.EROFS: "the file system is read-only: mount it for writing, or use another folder",
}
# The same of errors that files which are read meet too.
_WRITING_REASONS = _REASONS | {
    errno.EIO: "the disk fails (input/output error): check it",
    errno.EMFILE: "too many files are open: raise the limit of the process (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine: raise its limit",
    **dict.fromkeys(
        (errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN),
        "the disk is gone: mount it again",
    ),
}
# What the command line has to say otherwise.
_REFUSED = {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
_REFUSED |= {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP}


@contextmanager
def writing(place: str) -> Iterator[None]:
    """Have errors of a block that does nothing but write say what is wrong, where, and the remedy.

    Args:
        place: Folder or file that is written.

    Raises:
        DiskError: If the disk is full, read-only or gone.
        ConfigurationError: If nothing of this name may be written there.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _REFUSED:
            raise ConfigurationError(
                f"cannot be written: {explained(OSError(error.errno, error.strerror))}", name=place
            ) from error
        if error.errno == errno.ENOENT and str(error.filename).startswith(place):
            raise DiskError(
                "the folder is gone: make it, or mount its disk, again; then run the same command "
                "again",
                name=os.path.dirname(error.filename),
            ) from error
        _raise_meaning(error, place, _WRITING_REASONS)
        raise


@contextmanager
def room(place: str) -> Iterator[str]:
    """As `writing`, for a block that reads other files too: of a disk without room alone.

    Args:
        place: Folder that is written.

    Yields:
        The same folder.

    Raises:
        DiskError: If the disk is full or read-only.
    """
    try:
        yield place
    except BeamsegError:
        raise
    except Exception as error:
        _raise_meaning(error, place, _REASONS)
        raise


def _raise_meaning(error: Exception, place: str, reasons: dict[int, str]) -> None:
    number = getattr(error, "errno", None)
    if number not in reasons:
        # Libraries in C have it in a text of their own.
        number = next((one for one in reasons if os.strerror(one) in str(error)), None)
    reason = None if number is None else reasons.get(number)
    if reason is None:
        return
    if reason == _FULL and not _takes_files(place):
        reason = "no inodes are left on the disk: remove files there"
    raise DiskError(f"{reason}, then run the same command again", name=place) from error


def _takes_files(place: str) -> bool:
    """Whether the disk takes more files, as far as it says so; some came free by the error."""
    status = _status(place)
    return status.f_favail >= MIN_FREE_FILES or status.f_files == 0


def _status(place: str) -> os.statvfs_result:
    """Of the disk of a file or folder, which need not exist yet."""
    while not os.path.exists(place):
        place = os.path.dirname(place) or "."
    return os.statvfs(place)


def temporary_folder() -> str:
    """The folder for temporary files: the one that TMPDIR names, else one that the system has.

    Raises:
        DiskError: If there is none.
    """
    named = os.environ.get("TMPDIR")
    if named:
        if not os.path.isdir(named):
            raise DiskError("TMPDIR names no folder: make it, or set TMPDIR to another", name=named)
        return named
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise DiskError(
            f"there is no folder for temporary files that can be written ({error.strerror}): make "
            f"room, or set TMPDIR to a folder with room"
        ) from error


class Spool:
    """Bytes in a temporary file without a name; any thread can read any of them.

    Raises:
        DiskError: If there is no room for them, or no folder; `add` too.
    """

    def __init__(self) -> None:
        self._folder, self._size = temporary_folder(), 0
        with writing(self._folder):
            # Without a buffer, what does not fit shows where it is added.
            self._stream = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115

    def add(self, content: bytes) -> Callable[[], bytes]:
        """Append; returns a function that reads the same bytes again."""
        place, self._size = self._size, self._size + len(content)
        rest = memoryview(content)
        with writing(self._folder):
            while rest:
                rest = rest[self._stream.write(rest) :]
        return partial(os.pread, self._stream.fileno(), len(content), place)

    def lines(self) -> Iterator[bytes]:
        """All bytes, line by line."""
        with open(os.dup(self._stream.fileno()), "rb") as stream:
            stream.seek(0)
            yield from stream

    def close(self) -> None:
        """Free the room."""
        self._stream.close()


def free_bytes_of(folder: str) -> int:
    """Bytes that this user may still write to the disk of a folder, which need not exist yet."""
    status = _status(folder)
    return status.f_bavail * status.f_frsize
