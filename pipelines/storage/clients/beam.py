"""Stores that Beam has file systems for, such as HDFS and Azure Blob Storage."""

import contextlib
import errno
import importlib
import uuid
from collections.abc import Iterator

from pipelines.storage import locations
from pipelines.storage.clients.interface import Fault, StoredObject
from pipelines.storage.clients.retry import passing, replaced
from segmodel.errors import BeamsegError, ConfigurationError

# Beam's streams give no more than 16 MiB at once of some files, so that one read is not enough.
PIECE_BYTES = 8 << 20
# What Beam needs for a scheme, and the extra that brings it.
_PACKAGES = {"azfs": ("azure.storage.blob", "azure"), "hdfs": ("hdfs", "hadoop")}


class BeamClient:
    """Files of Beam's file systems; versions are times of modification.

    They have neither pages of listings nor a way to write only if nothing is there: a file is
    looked for, and then written under another name and renamed.

    Args:
        scheme: Of the locations.

    Raises:
        ConfigurationError: If Beam lacks a package to reach them.
    """

    def __init__(self, scheme: str) -> None:
        module, extra = _PACKAGES[scheme]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigurationError(
                f"{scheme}:// locations need a package that is not installed: pip install "
                f"'apache-beam[{extra}]'"
            ) from error

    def page(self, start: str, token: str | None) -> tuple[list[StoredObject], str | None]:
        found = sorted(_systems().match([f"{start}**"])[0].metadata_list, key=lambda m: m.path)
        return [_stored(entry) for entry in found], None

    def stat(self, uri: str) -> StoredObject | None:
        if not locations.bucket_and_name(uri)[1]:
            return None
        systems = _systems()
        if not systems.exists(uri):
            return None
        # Not `match`, which takes names with brackets for patterns.
        return _stored(systems.get_filesystem(uri).metadata(uri))

    def read(self, uri: str, start: int, length: int | None, version: str | None) -> bytes:
        found = self.stat(uri)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", uri)
        if version not in (None, found.version):
            raise replaced(uri)
        pieces = []
        with _opened(uri) as stream:
            stream.seek(start)
            while length is None or length > 0:
                piece = stream.read(PIECE_BYTES if length is None else min(length, PIECE_BYTES))
                if not piece:
                    break
                pieces.append(piece)
                length = None if length is None else length - len(piece)
        return b"".join(pieces)

    def upload(self, path: str, uri: str) -> None:
        with open(path, "rb") as source:
            self._write(uri, iter(lambda: source.read(PIECE_BYTES), b""))

    def create(self, uri: str, content: bytes) -> bool:
        if self.stat(uri) is not None:
            return False
        self._write(uri, iter([content]))
        return True

    def remove(self, uri: str) -> None:
        if self.stat(uri) is not None:
            _systems().delete([uri])

    def fault(self, error: Exception, uri: str) -> Fault | None:
        from apache_beam.io.filesystem import BeamIOError

        if isinstance(error, FileNotFoundError | PermissionError | BeamsegError):
            return Fault(error)
        if isinstance(error, BeamIOError | OSError):
            # What is behind it differs from store to store, and most of it may pass.
            return Fault(passing(uri, f"the store is out of reach ({type(error).__name__})"), True)
        return None

    def _write(self, uri: str, pieces: Iterator[bytes]) -> None:
        """Write under a hidden name, then rename: Beam publishes what a failed write leaves."""
        systems = _systems()
        folder, _, name = uri.rpartition("/")
        hidden = f"{folder}/.{name}-{uuid.uuid4().hex}"
        with contextlib.suppress(Exception):
            # There is one already; what else is wrong shows when the file is written.
            systems.mkdirs(folder)
        try:
            with systems.create(hidden, "application/octet-stream", _uncompressed()) as stream:
                for piece in pieces:
                    stream.write(piece)
            systems.rename([hidden], [uri])
        except BaseException:
            with contextlib.suppress(Exception):
                systems.delete([hidden])
            raise


def _systems():
    """Beam's file systems, which are slow to import."""
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def _uncompressed() -> str:
    from apache_beam.io.filesystem import CompressionTypes

    return CompressionTypes.UNCOMPRESSED


def _opened(uri: str):
    return _systems().open(uri, compression_type=_uncompressed())


def _stored(entry) -> StoredObject:
    """A file as Beam describes it."""
    return StoredObject(entry.path, entry.size_in_bytes, f"{entry.last_updated_in_seconds:.6f}")
