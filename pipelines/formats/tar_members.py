"""Members of a tar archive one after the other; what is broken or hostile is an error in words."""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from segmodel.errors import InputError

_EXTRA_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
# The library looks through such a header in a time that grows with the square of its length.
MAX_EXTRA_BYTES = 1 << 16
MAX_MEMBER_BYTES = 1 << 40
# What passes on as it is: the end mark, and faults of the file around the archive.
_END_MARK = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_PASSED_ON = (_END_MARK, InputError, OSError, EOFError, zlib.error, MemoryError)
# Archives are filled up to a multiple of the blocking factor; GNU tar's default is 20 blocks.
MAX_PADDING_BYTES = 1 << 20
# A block behind the header of a sparse file has this byte set if one more follows.
_BLOCK_BYTES, _SPARSE_GOES_ON = 512, 504


class _CheckedMember(tarfile.TarInfo):
    """A header that is an error where it is corrupt or missing; the library takes that for the end.

    Raises:
        InputError: What is wrong.
    """

    @classmethod
    def fromtarfile(cls, archive):
        try:
            return super().fromtarfile(archive)
        except _PASSED_ON:
            raise
        except Exception as error:
            # Of hostile headers, the library raises whatever it stumbles over.
            raise InputError(f"a header is corrupt ({error})") from error

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        if not buf:
            raise InputError("the archive ends without its end mark")
        member = super().frombuf(buf, encoding, errors)
        _check_size(member, MAX_EXTRA_BYTES if member.type in _EXTRA_HEADERS else MAX_MEMBER_BYTES)
        return member

    # Maps of sparse files, of any length, are neither needed nor read: no image is such a file.
    # In place of each the library's own parser is left out, one for each way of writing them.

    def _proc_sparse(self, tarfile):
        extended = self._sparse_structs[1]  # type: ignore[attr-defined]
        while extended:
            block = tarfile.fileobj.read(_BLOCK_BYTES)
            if len(block) < _BLOCK_BYTES:
                raise InputError("the archive ends in the middle of a member")
            extended = block[_SPARSE_GOES_ON]
        self.sparse = b""
        self.offset_data = tarfile.fileobj.tell()
        tarfile.offset = self.offset_data + self._block(self.size)  # type: ignore[attr-defined]
        return self

    def _proc_gnusparse_00(self, member, *arguments):
        member.sparse = b""

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def _check_size(member: tarfile.TarInfo, most: int) -> None:
    if not 0 <= member.size <= most:
        raise InputError(f"a header is corrupt (it states {member.size} bytes)")


def read_members(
    stream: IO[bytes], is_wanted: Callable[[str], bool], max_bytes: int
) -> Iterator[tuple[str, bytes | InputError | None]]:
    """Names of the members of an archive that are no folders, and the content of those wanted.

    Args:
        stream: The archive.
        is_wanted: Says by the name whether the content is wanted.
        max_bytes: Size above which a member is an error instead of its content.

    Raises:
        InputError: Where the rest of the archive is lost.
    """
    place = 0
    try:
        archive = tarfile.open(  # noqa: SIM115  # closing it would do nothing: it is read only
            fileobj=stream,
            mode="r:",
            tarinfo=_CheckedMember,
            encoding="utf-8",
            errors="surrogateescape",
        )
        while member := archive.next():
            # The library keeps a list of all members; a shard may have millions.
            archive.members.clear()  # type: ignore[attr-defined]
            place = member.offset
            # Again, as an extended header may have changed it: below 0, it would lead back.
            _check_size(member, MAX_MEMBER_BYTES)
            if not member.isdir():
                wanted = is_wanted(member.name)
                yield member.name, _content(stream, member, max_bytes) if wanted else None
            _skip_to(stream, archive.offset)
            place = archive.offset
        if stream.read(MAX_PADDING_BYTES).strip(b"\0"):
            raise InputError("there is more behind the end mark of the archive")
    except (InputError, tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{error}; the rest of the shard from byte {place} on is lost") from error


def _content(stream: IO[bytes], member: tarfile.TarInfo, max_bytes: int) -> bytes | InputError:
    """The content of a member.

    Raises:
        InputError: If the archive ends before it does.
    """
    if not member.isreg() or member.issparse():
        return InputError("is a link or a sparse file in the archive, not a plain file")
    if member.size > max_bytes:
        return InputError(f"{member.size} bytes are more than any image within --max_pixels has")
    stream.seek(member.offset_data)
    content = stream.read(member.size)
    if len(content) < member.size:
        raise InputError("the archive ends in the middle of a member")
    return content


def _skip_to(stream: IO[bytes], offset: int) -> None:
    """Go to the next header, over bytes that must be there."""
    if stream.tell() != offset:
        stream.seek(offset - 1)
        if not stream.read(1):
            raise InputError("the archive ends in the middle of a member")
