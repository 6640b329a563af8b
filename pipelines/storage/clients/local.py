"""Files of this machine; a name appears when a finished temporary file is given it."""

import errno
import os
import shutil
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from pipelines.storage.clients.interface import StoredObject

# What file systems answer that have no hard links, such as exFAT, or take no more of a file.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EXDEV}


def open_local(path: str) -> BufferedReader:
    """A file to be read; links that lead in a circle lead nowhere.

    Raises:
        FileNotFoundError: If there is none.
    """
    try:
        return open(path, "rb")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(errno.ENOENT, "links lead in a circle", path) from error
        raise


def status_of(path: str) -> os.stat_result | None:
    """What the system tells of a file; None where none is, as none can have such a name either."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            return None
        raise
    except ValueError:
        # A byte of zero.
        return None


def link_to_folder(path: str) -> str | None:
    """The first link to something that is no file, of a path and all that is below it, or None."""
    if os.path.islink(path):
        return None if os.path.isfile(path) else path
    try:
        entries = os.scandir(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with entries:
        chosen = (entry for entry in entries if entry.is_symlink() or entry.is_dir())
        return next(filter(None, (link_to_folder(entry.path) for entry in chosen)), None)


class LocalStore:
    """Files of this machine."""

    def below(self, folder: str, prefix: str = "") -> Iterator[StoredObject]:
        """All files below a folder, links among them; nothing where there is no such folder."""
        try:
            entries = os.scandir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            chosen = (entry for entry in entries if entry.name.startswith(prefix))
            found = sorted(chosen, key=lambda entry: entry.name)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from self.below(entry.path)
            elif status := self.stat(entry.path):
                yield status

    def stat(self, uri: str) -> StoredObject | None:
        status = status_of(uri)
        return status and StoredObject(uri, status.st_size, str(status.st_mtime_ns))

    def read(
        self, uri: str, start: int, length: int | None, known: tuple[int, str] | None
    ) -> bytes:
        with open_local(uri) as stream:
            stream.seek(start)
            return stream.read(length)

    def publish(self, path: str, uri: str) -> None:
        """Rename, once the content is on disk; both are on one file system."""
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
        os.makedirs(os.path.dirname(uri), exist_ok=True)
        os.replace(path, uri)

    def create(self, uri: str, content: bytes, draft: str) -> bool:
        """Link, which fails if there is such a name; write in place where there are no links."""
        _write_through(draft, "wb", content)
        os.makedirs(os.path.dirname(uri), exist_ok=True)
        try:
            os.link(draft, uri)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _create_in_place(uri, content)
        return True

    def remove(self, uri: str) -> None:
        Path(uri).unlink(missing_ok=True)

    def remove_below(self, folder: str) -> None:
        """Remove the folder with all in it."""
        if os.path.isdir(folder) and not os.path.islink(folder):
            shutil.rmtree(folder, onerror=_ignore_vanished)


def _create_in_place(uri: str, content: bytes) -> bool:
    """Write a file unless there is one of that name; a process that is killed leaves a part of it.

    A part is left by nothing else.
    """
    try:
        _write_through(uri, "xb", content)
    except FileExistsError:
        return False
    except OSError:
        Path(uri).unlink(missing_ok=True)
        raise
    return True


def _write_through(path: str, mode: str, content: bytes) -> None:
    """Write a file, and return once it is on disk."""
    with open(path, mode) as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _ignore_vanished(function: object, path: str, caught: Any) -> None:
    """Another run may remove the same files, or write new ones; what else is wrong is raised."""
    if caught[1].errno not in (errno.ENOENT, errno.ENOTEMPTY):
        raise caught[1]
