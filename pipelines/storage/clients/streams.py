"""An object of a store as a stream that is read by ranges."""

import io

from pipelines.storage.clients.interface import Store
from pipelines.storage.clients.retry import passing


class RangeStream(io.RawIOBase):
    """The bytes of one version of an object, from anywhere in it.

    Args:
        store: Where it is.
        uri: The object.
        size: Its bytes.
        version: Its version; another one is refused in mid-stream.
    """

    def __init__(self, store: Store, uri: str, size: int, version: str) -> None:
        self._store, self._uri, self._size, self._version = store, uri, size, version
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative place in {self._uri}")
        self._place = base + offset
        return self._place

    def readinto(self, buffer) -> int:
        view = memoryview(buffer)
        length = min(len(view), self._size - self._place)
        if length <= 0:
            return 0
        content = self._store.read(self._uri, self._place, length, self._version)
        if len(content) != length:
            raise passing(self._uri, f"{len(content)} of {length} bytes were answered")
        view[:length] = content
        self._place += length
        return length
