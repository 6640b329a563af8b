"""Rasters in stores as GDAL reads them: by ranges, through our clients, as a file system of GDAL's.

GDAL's own file systems for stores go on with zeros after some answers that were cut short, as
its threads do not tell of them, and they look for credentials by rules of their own. So GDAL asks
us for bytes: with the same credentials and retries as for everything else, and of one version of
the object. What a request failed with in the end is kept, and raised once GDAL is done.
"""

import io
import threading
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from rasterio.abc import FileContainer

from pipelines.storage import filesystem, locations
from pipelines.storage.clients import RangeStream, store_of
from pipelines.storage.clients.interface import replaced_error
from pipelines.storage.ranges import RANGE_BYTES, Extent, Ranges
from segmodel.rasters.directories import AUXILIARY, SIDECARS, check_auxiliary, check_directories

# A page of a listing.
MAX_OTHERS = 1000


class StoredRaster:
    """A raster in a store with the files beside it that may belong to it.

    They are called as it is up to the first dot, as masks and sidecars are, or go on with `_` from
    there, as metadata of satellites do; of the latter there may be only so many.

    Args:
        uri: Location of the raster.
        version: Version as it is planned, which begins with the one that the raster must still
            have; empty for any.
        content: Bytes of the raster, if it is not in the store itself, as its sources are.
    """

    def __init__(self, uri: str, version: str = "", content: bytes | None = None) -> None:
        self._uri, self._content = uri, content
        self._folder, _, self._name = uri.rpartition("/")
        self._stem, self._version = self._name.partition(".")[0], version
        self._siblings: dict[str, tuple[int, str]] | None = None
        self._lock = threading.Lock()
        self._fault: Exception | None = None
        self._ranges = Ranges()

    def expect(self, extents: Iterable[Extent]) -> None:
        """Have parts of the raster asked for together, as they are read next; see `Ranges`."""
        state = self._state(self._uri)
        if state is not None:
            self._ranges.expect((self._uri, state[1]), extents)

    def fault(self) -> Exception | None:
        """What the first request that failed since the last question failed with."""
        fault, self._fault = self._fault, None
        return fault

    def check(self, path: str) -> None:
        """Refuse the raster, or a file beside it, as `check_directories` does.

        Args:
            path: Location of the raster.

        Raises:
            InputError: Says what there is too much of, and in which file beside it.
        """
        beside = self._state(path + AUXILIARY)
        if beside is not None:
            check_auxiliary(beside[0])
        for suffix in ("", *SIDECARS):
            if self.isfile(path + suffix):
                with self.open(path + suffix) as stream:
                    check_directories(stream, suffix)

    def open(self, path: str, mode: str = "rb", **options: object) -> io.BufferedReader:
        """A stream of a file; see `rasterio.abc.FileContainer`."""
        path = locations.normalized(path)
        if self._content is not None and path == self._uri:
            return io.BufferedReader(io.BytesIO(self._content))
        state = self._state(path)
        if state is None:
            raise FileNotFoundError(2, "no such object", path)
        stream = _StreamForGDAL(self._note, self._ranges, store_of(path), path, *state)
        return io.BufferedReader(stream)

    def isfile(self, path: str) -> bool:
        """Whether there is such a file."""
        return self._state(path) is not None

    def isdir(self, path: str) -> bool:
        """Whether it is the folder of the raster."""
        return path.rstrip("/") == self._folder

    def ls(self, path: str) -> list[str]:
        """Files beside the raster that may belong to it."""
        return [f"{self._folder}/{name}" for name in self._beside()] if self.isdir(path) else []

    def mtime(self, path: str) -> int:
        """Nothing that anybody needs."""
        return 0

    def size(self, path: str) -> int:
        """Bytes of a file; none where there is no such file."""
        state = self._state(path)
        return 0 if state is None else state[0]

    def _state(self, path: str) -> tuple[int, str] | None:
        """Size and version of a file, or None."""
        path = locations.normalized(path)
        if self._content is not None and path == self._uri:
            return len(self._content), ""
        folder, _, name = path.rpartition("/")
        if folder == self._folder:
            beside = self._beside()
            if name in beside or name.startswith(f"{self._stem}."):
                return beside.get(name)
        try:
            found = filesystem.stat(path)
        except Exception as error:
            self._note(error)
            return None
        return None if found is None else found.stat

    def _beside(self) -> dict[str, tuple[int, str]]:
        """By name, what listings tell of the raster and the files beside it."""
        with self._lock:
            if self._siblings is None:
                try:
                    entries = list(filesystem.files_below(self._folder, f"{self._stem}."))
                    others = filesystem.files_below(self._folder, f"{self._stem}_")
                    entries += islice(others, MAX_OTHERS)
                except Exception as error:
                    self._note(error)
                    return {}
                start = len(self._folder) + 1
                self._siblings = {
                    entry.uri[start:]: entry.stat
                    for entry in entries
                    if "/" not in entry.uri[start:]
                }
                stat = self._siblings.get(self._name)
                if stat is not None and self._version and not self._version.startswith(stat[1]):
                    self._note(replaced_error(f"{self._folder}/{self._name}"))
            return self._siblings

    def _note(self, error: Exception) -> None:
        self._fault = self._fault or error


FileContainer.register(StoredRaster)


class _StreamForGDAL(RangeStream):
    """A stream that ends where a request fails, as GDAL's threads take no exceptions.

    Args:
        fail: Called with the exception.
        ranges: What has been read of the raster and the files beside it.
        arguments: Arguments of `RangeStream`.
    """

    def __init__(self, fail: Callable[[Exception], None], ranges: Ranges, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._fail, self._ranges = fail, ranges

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        if not view or self._place >= self._size:
            return 0
        try:
            found = self._ranges.read((self._uri, self._known[1]), self._place, self._ask)
        except Exception as error:
            self._fail(error)
            return 0
        count = min(len(found), len(view))
        view[:count] = found[:count]
        self._place += count
        return count

    def _ask(self, start: int) -> bytes:
        return self._store.read(self._uri, start, RANGE_BYTES, self._known)
