"""Files of stores on this machine, for libraries that read paths."""

import atexit
import errno
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from pipelines.storage import filesystem, locations, web
from segmodel.devices.disks import room, temporary_folder, writing
from segmodel.errors import (
    ConfigurationError,
    ContractError,
    FailureCode,
    InputError,
    TransientError,
)
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.folder import fingerprint, read_contract

# What makes of a path an address, one in an archive, or another path, where libraries parse it.
_MARKS = re.compile(r"[!;?\\\t\n\r]")


@contextmanager
def local_copies(uris: Iterable[str], scratch: str) -> Iterator[list[str]]:
    """Paths of some files on this machine for the time of the block.

    Args:
        uris: Paths of this machine, or addresses in stores.
        scratch: Folder of this machine for copies.

    Yields:
        Paths in the order of `uris`: their own, or those of copies.
    """
    with ExitStack() as copies:
        paths = []
        for uri in uris:
            paths.append(uri)
            if locations.is_remote(uri):
                paths[-1] = copies.enter_context(filesystem.temporary(scratch))
                _download(uri, paths[-1])
        yield paths


def _download(uri: str, path: str, known: tuple[int, str] | None = None) -> None:
    with (
        filesystem.open_stream(uri, known) as source,
        room(os.path.dirname(path)),
        open(path, "wb") as target,
    ):
        shutil.copyfileobj(source, target, filesystem.BUFFER_BYTES)


@dataclass
class _Copy:
    path: str
    users: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    version: str = ""


class FileCopies:
    """Copies of single files on this machine, one of each, the last few of them.

    Args:
        kept: Number of copies that stay while nobody uses them, for those who come next.
    """

    def __init__(self, kept: int = 2) -> None:
        self._kept, self._lock = kept, threading.Lock()
        self._copies: dict[str, _Copy] = {}
        self._folder: str | None = None

    @contextmanager
    def path(self, uri: str, version: str = "") -> Iterator[str]:
        """Path of the copy of a file, for the time of the block; downloaded unless it is here.

        Args:
            uri: Address in a store, or location on the web, as `locations.copied` gives it.
            version: Version that the file must have, as a listing gives it; empty for any.

        Raises:
            InputError: If it is not there, the server refuses, or the file is larger than its
                location allows.
            TransientError: If it cannot be reached, arrives in part, or has another version now.
        """
        copy = self._taken(uri)
        try:
            with copy.lock:
                copy.version = copy.version or _fetched(uri, copy.path)
            if not version.startswith(copy.version) and version:
                is_web = locations.is_copied(uri)
                raise TransientError(
                    "it is not what it was when the run was planned: run the same command again",
                    name=web.plain_address(locations.parts_of_copied(uri)[1]) if is_web else uri,
                )
            yield copy.path
        finally:
            with self._lock:
                copy.users -= 1
                self._remove_unused()

    def _taken(self, uri: str) -> _Copy:
        with self._lock:
            if self._folder is None:
                self._folder = _new_folder(temporary_folder())
                atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
            copy = self._copies.pop(uri, None)
            if copy is None:
                folder = _new_folder(self._folder)
                copy = _Copy(os.path.join(folder, os.path.basename(uri)))
            # The last is the one that was asked for last.
            self._copies[uri] = copy
            copy.users += 1
            return copy

    def _remove_unused(self) -> None:
        idle = [uri for uri, copy in self._copies.items() if not copy.users]
        failed = [uri for uri in idle if not self._copies[uri].version]
        for uri in {*failed, *idle[: max(0, len(idle) - self._kept)]}:
            shutil.rmtree(os.path.dirname(self._copies.pop(uri).path), ignore_errors=True)


def _new_folder(above: str) -> str:
    with writing(above):
        return tempfile.mkdtemp(prefix="beamseg-files-", dir=above)


# All of this process.
COPIES = FileCopies()


def _fetched(uri: str, path: str) -> str:
    """Copy a file of a store or of the web; returns its version."""
    if locations.is_copied(uri):
        return web.download(uri, path)
    found = filesystem.stat(uri)
    if found is None:
        raise InputError("there is no such object", code=FailureCode.NOT_FOUND)
    _download(uri, path, found.stat)
    return found.version


@contextmanager
def with_sidecars(uri: str) -> Iterator[str]:
    """The path of a file on this machine for the time of the block, see `plain_path`.

    With a copy come the files beside it that differ in what follows the first dot of their name,
    as a Shapefile has some.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    with _local(uri) as local, plain_path(local) as path:
        # No name is that of the folder that this process is in.
        if not uri or not os.path.exists(path):
            raise FileNotFoundError(errno.ENOENT, "no such file", uri)
        yield path


@contextmanager
def plain_path(path: str) -> Iterator[str]:
    """A path that every library takes for one of this machine, for the time of the block.

    GDAL and pyogrio read `in!/a.gpkg`, `a;b.gpkg`, `//in/a.gpkg` and `GPKG:a.gpkg` as other places.
    The path is absolute, and leads through a link where the own one has such marks.

    Args:
        path: A file, which is there with those beside it that differ in what follows the first dot
            of their name; or a file to write, whose own name has no marks.

    Raises:
        ConfigurationError: If the folder for temporary files has marks, too, and is needed.
        FileNotFoundError: If there is no such folder.
    """
    folder, name = os.path.split(os.path.join(os.getcwd(), path))
    folder = f"/{folder.lstrip('/')}"
    if not _MARKS.search(f"{folder}/{name}"):
        yield os.path.join(folder, name)
        return
    with (
        room(filesystem.machine_folder()) as above,
        tempfile.TemporaryDirectory(dir=above) as links,
    ):
        if _MARKS.search(links):
            raise ConfigurationError(
                "TMPDIR names a folder with one of ! ; ? \\, a tab or an end of line in its path, "
                "which readers of vector files take for an address: set TMPDIR to another"
            )
        if not _MARKS.search(name):
            os.symlink(folder, os.path.join(links, "folder"))
            yield os.path.join(links, "folder", name)
            return
        for beside in os.listdir(folder):
            if beside.startswith(name.partition(".")[0] + "."):
                link = os.path.join(links, _MARKS.sub("_", beside))
                os.symlink(os.path.join(folder, beside), link)
        yield os.path.join(links, _MARKS.sub("_", name))


@contextmanager
def named_for_gdal(path: str, kind: str) -> Iterator[str]:
    """A `plain_path` that ends as GDAL wants it, of a file that gets another one in the end.

    Args:
        path: File of this machine that the block is to write; its own name has no marks.
        kind: What the name has to end with, without a point.
    """
    own = Path(f"{path}.{kind}")
    try:
        with plain_path(str(own)) as file:
            yield file
        own.replace(path)
    finally:
        own.unlink(missing_ok=True)


@contextmanager
def _local(uri: str) -> Iterator[str]:
    """A file of this machine, or a copy with the files beside it for the time of the block."""
    if not locations.is_remote(uri):
        yield uri
        return
    folder, _, name = uri.rpartition("/")
    with (
        room(filesystem.machine_folder()) as above,
        tempfile.TemporaryDirectory(dir=above) as copies,
    ):
        for found in filesystem.files_below(folder, name.partition(".")[0] + "."):
            below = found.uri[len(folder) + 1 :]
            if "/" not in below:
                _download(found.uri, os.path.join(copies, below), found.stat)
        yield os.path.join(copies, name)


def local_folder(uri: str) -> str:
    """A folder on this machine with the files of one in a store; itself if it is here.

    The copy is kept among the temporary files, so that processes of a machine share it; another
    version of any of the files is another copy.

    Raises:
        FileNotFoundError: If there are no files below it.
        ConfigurationError: If the name of one leads out of it.
    """
    if not locations.is_remote(uri):
        return uri
    found = list(filesystem.files_below(uri))
    if not found:
        raise FileNotFoundError(2, "no such folder in the store", uri)
    name = hashlib.sha256(repr(found).encode()).hexdigest()[:32]
    folder = Path(filesystem.machine_folder(), "folders", name)
    files = {below: entry for entry in found if (below := _path_below(uri, entry.uri))}
    if folder.is_dir():
        if all(filesystem.size_of(str(folder / path)) == e.size for path, e in files.items()):
            return str(folder)
        # What cleans folders for temporary files has taken some of it.
        filesystem.remove_below(str(folder))
    with room(str(folder.parent.parent)):
        folder.parent.mkdir(exist_ok=True)
    with room(str(folder.parent)) as above, tempfile.TemporaryDirectory(dir=above) as draft:
        for below, entry in files.items():
            path = Path(draft, "copy", below)
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(entry.uri, str(path), entry.stat)
        with suppress(OSError):
            # Another process of this machine was first.
            os.rename(os.path.join(draft, "copy"), folder)
    return str(folder)


def _path_below(folder: str, uri: str) -> PurePosixPath | None:
    """Path of an object within a folder; None for what a console made to show a folder.

    Raises:
        ConfigurationError: If it leads out of it.

    >>> _path_below("gs://b/m", "gs://b/m/variables/v"), _path_below("gs://b/m", "gs://b/m/made/")
    (PurePosixPath('variables/v'), None)
    """
    below = PurePosixPath(uri[len(folder) + 1 :])
    if ".." in below.parts:
        raise ConfigurationError(f"{uri} leads out of its folder: remove it")
    return None if uri.endswith("/") else below


@dataclass(frozen=True)
class OpenedModel:
    """A SavedModel whose files are on this machine: listed once, and copied if it was in a store.

    Args:
        uri: Folder that the user named.
        folder: The same files on this machine.
    """

    uri: str
    folder: str

    @cached_property
    def contract(self) -> Contract:
        """The model contract.

        Raises:
            ContractError: If the folder is no SavedModel, or has no contract that can be read.
        """
        try:
            return read_contract(self.folder)
        except ContractError as error:
            raise ContractError(str(error).replace(self.folder, self.uri)) from error

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the files that shape labels, as hex digits."""
        return fingerprint(self.folder)


def open_model(uri: str) -> OpenedModel:
    """The model in a folder here or in a store.

    Raises:
        ConfigurationError: If there is nothing in the store.
    """
    try:
        return OpenedModel(uri, local_folder(locations.checked(uri)))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{uri} is not a SavedModel: nothing is there") from error
