"""Files of stores on this machine, for libraries that read paths."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from pipelines.storage import filesystem, locations
from segmodel.errors import ConfigurationError, ContractError
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.folder import fingerprint, read_contract


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


def _download(uri: str, path: str) -> None:
    with filesystem.open_stream(uri) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target, filesystem.BUFFER_BYTES)


@contextmanager
def with_sidecars(uri: str) -> Iterator[str]:
    """The path of a file on this machine for the time of the block.

    With a copy come the files beside it that differ in what follows the first dot of their name,
    as a Shapefile has some.

    Raises:
        FileNotFoundError: If there is no such file in the store.
    """
    if not locations.is_remote(uri):
        yield uri
        return
    folder, _, name = uri.rpartition("/")
    with tempfile.TemporaryDirectory(dir=filesystem.machine_folder()) as copies:
        for below in filesystem.names_below(folder, name.partition(".")[0] + "."):
            if "/" not in below:
                _download(f"{folder}/{below}", os.path.join(copies, below))
        path = os.path.join(copies, name)
        if not os.path.exists(path):
            raise FileNotFoundError(2, "no such object", uri)
        yield path


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
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        for below, entry in files.items():
            path = Path(draft, "copy", below)
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(entry.uri, str(path))
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
