"""An object of a store as a stream that is read by ranges."""

import io
from typing import Any

from pipelines.storage.clients.failures import transient_error
from pipelines.storage.clients.interface import Store


class RangeStream(io.RawIOBase):
    """The bytes of one version of an object, from anywhere in it.

    Args:
        store: Store that holds the object.
        uri: Location of the object.
        size: Bytes of the object.
        version: Version of the object; another one is refused in mid-stream.
    """

    def __init__(self, store: Store, uri: str, size: int, version: str) -> None:
        self._store, self._uri, self._size, self._version = store, uri, size, version
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative place in {self._uri}")
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        length = min(len(view), self._size - self._place)
        if length <= 0:
            return 0
        content = self._store.read(self._uri, self._place, length, self._version)
        if len(content) != length:
            raise transient_error(self._uri, f"{len(content)} of {length} bytes were answered")
        view[:length] = content
        self._place += length
        return length
