"""Files that GDAL writes through us, because it does not tell what it could not write.

What libtiff still holds when a file is closed is written then, and of an error it prints a line: a
file on a full disk lacks tiles, and nobody knows.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rasterio.abc import FileContainer


class WrittenFiles(FileContainer):
    """Files of this machine, and the first error that writing to them has met.

    For GDAL, everything succeeds: an exception that goes through it is printed, and ends nothing.
    """

    def __init__(self) -> None:
        self.error: OSError | None = None

    @contextmanager
    def all_written(self) -> Iterator[None]:
        """A block in which GDAL writes; its first error is raised in place of what follows.

        Raises:
            OSError: If anything was not written.
        """
        try:
            yield
        except Exception as error:
            if self.error is None:
                raise
            raise self.error from error
        self.check()

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise self.error

    def open(self, path: str, mode: str = "rb", **options: Any) -> "_WrittenFile":
        """A file without a buffer; errors of reading it are for GDAL."""
        return _WrittenFile(path, mode, self)

    def isfile(self, path: str) -> bool:
        """Whether there is such a file."""
        return os.path.isfile(path)

    def isdir(self, path: str) -> bool:
        """Whether there is such a folder."""
        return os.path.isdir(path)

    def ls(self, path: str) -> list[str]:
        """Names in a folder."""
        return os.listdir(path)

    def mtime(self, path: str) -> int:
        """Time of modification in seconds."""
        return int(os.path.getmtime(path))

    def size(self, path: str) -> int:
        """Bytes of a file."""
        return os.path.getsize(path)

    def rm(self, path: str) -> None:
        """Remove a file."""
        os.remove(path)


class _WrittenFile(io.FileIO):
    def __init__(self, path: str, mode: str, files: WrittenFiles) -> None:
        self._files = files
        try:
            super().__init__(path, mode)
        except OSError as error:
            if mode != "rb":
                self._keep(error)
            raise

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        try:
            while rest and self._files.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._keep(error)
        return memoryview(content).nbytes

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            self._keep(error)

    def _keep(self, error: OSError) -> None:
        self._files.error = self._files.error or error
