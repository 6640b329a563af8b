"""Compressed content, told by its first bytes: names are often wrong about it."""

import gzip
import io
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any, cast

from segmodel.errors import FailureCode, InputError

# A header of a tar archive is that long.
HEAD_BYTES = 512
_KINDS = {
    b"\x1f\x8b": "gzip",
    **dict.fromkeys((b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"), "zlib"),
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
}
_CHUNK_BYTES = 1 << 16


def uncompressed(
    raw: IO[bytes], named_gzip: bool, is_plain: Callable[[bytes], bool], zlib_too: bool
) -> AbstractContextManager[IO[bytes]]:
    """The content of a shard, inflated if it is compressed.

    The first bytes decide, and the name where they could be anything. A plain shard may begin as
    compressed data do, by chance.

    Args:
        raw: The file, at its beginning, which can be sought in.
        named_gzip: Whether its name is that of a gzip file.
        is_plain: Says by the first bytes whether a shard begins there.
        zlib_too: Whether zlib data without a gzip header are inflated; it is read in one go then.

    Raises:
        InputError: If it is compressed in a way that is not read; names the way.
    """
    head = raw.read(HEAD_BYTES)
    raw.seek(0)
    kind = next((name for mark, name in _KINDS.items() if head.startswith(mark)), None)
    is_certain = kind == "gzip" and named_gzip
    if (kind is None and not named_gzip) or (not is_certain and is_plain(head)):
        return nullcontext(raw)
    if kind in ("gzip", None):
        return cast(AbstractContextManager[IO[bytes]], gzip.GzipFile(fileobj=raw))
    if kind == "zlib" and zlib_too:
        return io.BufferedReader(_Inflated(raw), _CHUNK_BYTES)
    raise InputError(
        f"the shard is compressed with {kind}, which is not read: compress it with gzip, or not at "
        f"all",
        code=FailureCode.UNSUPPORTED,
    )


class _Inflated(io.RawIOBase):
    """Zlib data as what is in them, from front to back."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._inflate = raw, zlib.decompressobj()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer.

        Raises:
            EOFError: If the data end before their end mark.
            zlib.error: If they are corrupt, or something stands behind their end mark.
        """
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._raw.read(_CHUNK_BYTES)
            part = self._inflate.decompress(packed, len(buffer))
            if part:
                buffer[: len(part)] = part
                return len(part)
            if not packed:
                raise EOFError("the zlib data end without their end mark")
        if self._inflate.unused_data or self._raw.read(1):
            raise zlib.error("there is more behind the end mark of the zlib data")
        return 0
