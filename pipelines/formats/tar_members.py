"""Members of tar archives: checked headers, contents, and what links lead to."""

import gzip
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import IO, Any, Self, TypeVar

from segmodel.devices.disks import Spool
from segmodel.errors import BeamsegError, FailureCode, InputError

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
# What passes on as it is: the end mark, and faults of the file around the archive or of its store.
_END_MARK = tarfile.EOFHeaderError  # type: ignore[attr-defined]
_PASSED_ON = (_END_MARK, BeamsegError, OSError, EOFError, zlib.error, MemoryError)
# Archives are filled up to a multiple of the blocking factor; GNU tar's default is 20 blocks.
MAX_PADDING_BYTES = 1 << 20
# Of links with longer names than that in all, those that come last lead nowhere.
MAX_LINK_CHARACTERS, _LINK_CHARACTERS, _MAX_CHAIN = 1 << 26, 100, 40
# Of names and the folders above them that links are looked up by, in all.
MAX_LOOKED_UP_CHARACTERS = 1 << 31
# A block behind the header of a sparse file has this byte set if one more follows.
_BLOCK_BYTES, _SPARSE_GOES_ON = 512, 504


class _CheckedMember(tarfile.TarInfo):
    """A header that is an error where it is corrupt or missing; the library takes that for the end.

    Raises:
        InputError: What is wrong.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except _PASSED_ON:
            raise
        except Exception as error:
            # Of hostile headers, the library raises whatever it stumbles over.
            raise InputError(f"a header is corrupt ({error})") from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if not buf:
            raise InputError("the archive ends without its end mark")
        member = super().frombuf(buf, encoding, errors)
        _check_size(member, MAX_EXTRA_BYTES if member.type in _EXTRA_HEADERS else MAX_MEMBER_BYTES)
        return member

    # Maps of sparse files, of any length, are neither needed nor read: no image is such a file.
    # In place of each the library's own parser is left out, one for each way of writing them.

    def _proc_sparse(self, tarfile: Any) -> Self:
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

    def _proc_gnusparse_00(self, member: Any, *arguments: Any) -> None:
        member.sparse = b""

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def _check_size(member: tarfile.TarInfo, most: int) -> None:
    if not 0 <= member.size <= most:
        raise InputError(f"a header is corrupt (it states {member.size} bytes)")


T = TypeVar("T")
# What opens an archive anew.
Reopen = Callable[[], AbstractContextManager[IO[bytes]]]


def read_members(
    reopen: Reopen, is_wanted: Callable[[str], bool], max_bytes: int
) -> Iterator[tuple[str, bytes | InputError | None]]:
    """Names of the members of an archive that are no folders, and the content of those wanted.

    A link has the content of the member that it leads to.

    Args:
        reopen: Opens the archive: once, and twice more if there are links among those wanted.
        is_wanted: Says by the name whether the content is wanted.
        max_bytes: Size above which a member is an error instead of its content.

    Raises:
        InputError: Where the rest of the archive is lost.
    """
    with _Links(reopen, max_bytes) as links, reopen() as stream:

        def content(member: tarfile.TarInfo) -> bytes | InputError | None:
            if member.isdir() or not is_wanted(member.name):
                return None
            is_link = member.islnk() or member.issym()
            return links.content(member) if is_link else _content(stream, member, max_bytes)

        for member, found in _members(stream, content):
            if not member.isdir():
                yield member.name, found


def _members(
    stream: IO[bytes], read: Callable[[tarfile.TarInfo], T]
) -> Iterator[tuple[tarfile.TarInfo, T]]:
    """Members of an archive, and what is read of each while the stream is at its content.

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
            yield member, read(member)
            _skip_to(stream, archive.offset)
            place = archive.offset
        if stream.read(MAX_PADDING_BYTES).strip(b"\0"):
            raise InputError("there is more behind the end mark of the archive")
    except (InputError, tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{error}; the rest of the shard from byte {place} on is lost",
            code=FailureCode.CORRUPT_SHARD,
        ) from error


class _Links:
    """What links of an archive lead to; as a context, its copy of it is gone at the end.

    An archive is read from front to back, and may be compressed, but links lead back and forth. So
    at the first link two more passes find where all links lead to, and copy that, and nothing else,
    to a temporary file.

    Args:
        reopen: Opens the archive.
        max_bytes: Size above which a member is an error instead of its content.
    """

    def __init__(self, reopen: Reopen, max_bytes: int) -> None:
        self._reopen, self._max_bytes = reopen, max_bytes
        self._copy: Spool | None = None
        self._left = MAX_LOOKED_UP_CHARACTERS
        self._next: dict[str, str] = {}
        self._contents: dict[str, Callable[[], bytes] | InputError] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._copy is not None:
            self._copy.close()

    def content(self, link: tarfile.TarInfo) -> bytes | InputError:
        """The content of the file that a link leads to, or why there is none."""
        if self._copy is None:
            self._copy = Spool()
            self._copy_targets(self._copy)
        found = self._contents.get(self._end_of(_target(link) or ""))
        if found is None:
            return InputError(
                "is a link to what is no file of the archive: pack the files themselves "
                "(tar --dereference --hard-dereference)",
                code=FailureCode.BROKEN_LINK,
            )
        return found if isinstance(found, InputError) else found()

    def _copy_targets(self, copy: Spool) -> None:
        left = MAX_LINK_CHARACTERS
        for member in self._pass(lambda stream, member: None):
            target = _target(member)
            if target is not None and left >= 0:
                left -= len(member.name) + len(target) + _LINK_CHARACTERS
                self._next[_normal(member.name)] = target
        wanted = {self._end_of(name) for name in self._next}

        def keep(stream: IO[bytes], member: tarfile.TarInfo) -> None:
            name = _normal(member.name)
            if name in wanted and not member.isdir() and _target(member) is None:
                content = _content(stream, member, self._max_bytes)
                self._contents[name] = (
                    content if isinstance(content, InputError) else copy.add(content)
                )

        for _ in self._pass(keep):
            pass

    def _pass(
        self, read: Callable[[IO[bytes], tarfile.TarInfo], None]
    ) -> Iterator[tarfile.TarInfo]:
        """Members of the archive up to where it is broken, which the reader of images reports."""
        with self._reopen() as stream, suppress(InputError):
            for member, _ in _members(stream, partial(read, stream)):
                yield member

    def _end_of(self, name: str) -> str:
        """What a chain of links ends with, links to folders included; of a circle, any of them.

        Nothing once too much has been looked up.
        """
        for _ in range(_MAX_CHAIN):
            ends = (*(place for place, letter in enumerate(name) if letter == "/"), len(name))
            self._left -= len(ends) * len(name)
            if self._left < 0:
                return ""
            link = next((end for end in ends if name[:end] in self._next), None)
            if link is None:
                break
            name = _normal(self._next[name[:link]] + name[link:])
        return name


def _target(member: tarfile.TarInfo) -> str | None:
    """Name of what a link leads to, empty where that is outside of the archive; None of others."""
    if member.islnk():
        name = _normal(member.linkname)
    elif member.issym():
        name = _normal(posixpath.join(posixpath.dirname(member.name), member.linkname))
    else:
        return None
    return "" if name == ".." or name.startswith(("/", "../")) else name


def _normal(name: str) -> str:
    """A name in the archive without what does not count in it.

    >>> _normal("./a//b/../c.jpg")
    'a/c.jpg'
    """
    return posixpath.normpath(name)


def _content(stream: IO[bytes], member: tarfile.TarInfo, max_bytes: int) -> bytes | InputError:
    """The content of a member.

    Raises:
        InputError: If the archive ends before it does.
    """
    if member.issparse():
        return InputError(
            "is a sparse file in the archive, which is not read: pack it without tar --sparse",
            code=FailureCode.UNSUPPORTED,
        )
    if not member.isreg():
        return InputError(
            "is a device, a pipe or the like in the archive: leave it out",
            code=FailureCode.UNSUPPORTED,
        )
    if member.size > max_bytes:
        return InputError(
            f"{member.size} bytes are more than any image within --max_pixels has",
            code=FailureCode.TOO_LARGE,
        )
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
