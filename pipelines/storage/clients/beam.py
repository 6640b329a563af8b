"""Stores that Beam has file systems for, such as HDFS and Azure Blob Storage."""

import contextlib
import errno
import importlib
import io
import shutil
import sys
import uuid
from typing import IO, Any

from pipelines.storage.clients.interface import RequestFailure, StoredObject, replaced_error
from segmodel.errors import BeamsegError

# Beam's streams give no more than 16 MiB at once of some files, so that one read is not enough.
PIECE_BYTES = 8 << 20
# What Beam imports once files of a scheme are opened.
_MODULES = {"azfs": "azure.storage.blob", "hdfs": "hdfs"}


class BeamClient:
    """Files of Beam's file systems; versions are times of modification.

    They have neither pages of listings nor a way to write only if nothing is there: a file is
    looked for, and then written under another name and renamed.

    Args:
        scheme: Scheme of the locations.

    Raises:
        ImportError: If Beam lacks a package to reach them.
    """

    def __init__(self, scheme: str) -> None:
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

        importlib.import_module(_MODULES[scheme])
        self._systems: Any = FileSystems
        self._as_stored = CompressionTypes.UNCOMPRESSED

    def page(self, start: str, token: str | None) -> tuple[list[StoredObject], str | None]:
        found = sorted(self._systems.match([f"{start}**"])[0].metadata_list, key=lambda m: m.path)
        return [_stored(entry) for entry in found], None

    def stat(self, uri: str) -> StoredObject | None:
        if not self._systems.exists(uri):
            return None
        # Not `match`, which takes names with brackets for patterns.
        return _stored(self._systems.get_filesystem(uri).metadata(uri))

    def read(self, uri: str, start: int, length: int | None, version: str | None) -> bytes:
        found = self.stat(uri)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", uri)
        if version not in (None, found.version):
            raise replaced_error(uri)
        content, end = bytearray(), sys.maxsize if length is None else length
        with self._systems.open(uri, compression_type=self._as_stored) as stream:
            stream.seek(start)
            while piece := stream.read(min(end - len(content), PIECE_BYTES)):
                content += piece
        return bytes(content)

    def upload(self, path: str, uri: str) -> None:
        with open(path, "rb") as source:
            self._write(uri, source)

    def create(self, uri: str, content: bytes) -> bool:
        if self.stat(uri) is not None:
            return False
        self._write(uri, io.BytesIO(content))
        return True

    def remove(self, uri: str) -> None:
        if self.stat(uri) is not None:
            self._systems.delete([uri])

    def failure(self, error: Exception, uri: str) -> RequestFailure | None:
        from apache_beam.io.filesystem import BeamIOError

        if isinstance(error, FileNotFoundError | PermissionError | BeamsegError):
            return RequestFailure(error)
        if isinstance(error, BeamIOError | OSError):
            # What is behind it differs from store to store, and most of it is transient.
            return RequestFailure.unreachable(error, uri)
        return None

    def _write(self, uri: str, source: IO[bytes]) -> None:
        """Write under a hidden name, then rename: Beam publishes what a failed write leaves."""
        folder, _, name = uri.rpartition("/")
        hidden = f"{folder}/.{name}-{uuid.uuid4().hex}"
        with contextlib.suppress(Exception):
            # There is one already; what else is wrong shows when the file is written.
            self._systems.mkdirs(folder)
        try:
            with self._systems.create(hidden, compression_type=self._as_stored) as stream:
                shutil.copyfileobj(source, stream, PIECE_BYTES)
            self._systems.rename([hidden], [uri])
        except BaseException:
            with contextlib.suppress(Exception):
                self._systems.delete([hidden])
            raise


def _stored(entry: Any) -> StoredObject:
    """A file as Beam describes it."""
    return StoredObject(entry.path, entry.size_in_bytes, f"{entry.last_updated_in_seconds:.6f}")
