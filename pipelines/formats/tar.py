"""WebDataset shards: tar archives whose consecutive members of equal key are one sample.

Convention: https://github.com/webdataset/webdataset#the-webdataset-format; the key of a member is
its path up to the first dot of its base name, what follows is its extension. Hidden members, whose
base name begins with a dot, have no key and are left out.
"""

import gzip
import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, Self, cast

from pipelines.formats import shards
from pipelines.formats.work import ReadOptions
from pipelines.run.plan import InputFile
from segmodel.errors import FailureCode, InputError
from segmodel.images.encoded import IMAGE_SUFFIXES

_IMAGES = frozenset(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
MAX_KEY_BYTES = 200


class TarFormat(shards.ShardFormat):
    """Samples with one image each; the extension is that of an image, or the one the user names."""

    name = "tar"
    pattern = re.compile(r"\.(tar|tar\.gz|tgz)\Z")
    examples = "WebDataset shards (.tar .tar.gz .tgz)"
    label_field = "labels.png"

    def samples(self, file: InputFile, reading: ReadOptions) -> shards.Samples:
        """Samples by the keys of consecutive members."""
        with shards.open_shard(file) as stream:
            yield from read_tar_samples(stream, reading)

    @contextmanager
    def writer(self, path: str, zipped: bool, maps: shards.Maps) -> Iterator["_TarWriter"]:
        """A new archive."""
        with (
            shards.create_shard(path, zipped) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            yield _TarWriter(archive)


def read_tar_samples(stream: IO[bytes], reading: ReadOptions) -> shards.Samples:
    """Samples of an archive in order; where it is broken, an `UnreadableSample` ends it."""
    number = 0
    sample: _Members | None = None
    try:
        wanted = partial(_is_wanted, reading=reading)
        for name, content in read_members(stream, wanted, reading.max_encoded_bytes):
            if _is_hidden(name):
                continue
            key, extension = _split(name)
            if sample is None or not sample.belongs(key, extension):
                if sample is not None:
                    yield sample.finished(reading)
                    number += 1
                sample = _Members(number, key)
            sample.add(name, extension, content)
    except InputError as error:
        if sample is not None and sample.images_found:
            yield sample.finished(reading)
            yield shards.UnreadableSample(number + 1, "", error.text, error.code)
        else:
            # The image of the sample at hand is in what is lost.
            key = "" if sample is None else sample.key
            yield shards.UnreadableSample(number, key, error.text, error.code)
        return
    if sample is not None:
        yield sample.finished(reading)


def _split(name: str) -> tuple[str, str]:
    """Key, and extension in small letters.

    >>> _split("cats/v1.0/001.RGB.png")
    ('cats/v1.0/001', 'rgb.png')
    """
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def _is_hidden(name: str) -> bool:
    """Whether the base name begins with a dot.

    >>> _is_hidden("cats/._a.jpg"), _is_hidden("./a.jpg")
    (True, False)
    """
    return name.rpartition("/")[2].startswith(".")


def _is_wanted(name: str, reading: ReadOptions) -> bool:
    extension = _split(name)[1]
    if reading.image_field is not None:
        return extension == reading.image_field.lower().lstrip(".")
    return extension in _IMAGES


class _Members:
    """What one sample has so far."""

    def __init__(self, number: int, key: str) -> None:
        self.number, self.key = number, key
        self.extensions: dict[str, None] = {}  # In order, and found at once.
        self.images_found = 0
        self._name, self._content = "", cast(bytes | InputError, b"")

    def belongs(self, key: str, extension: str) -> bool:
        """Whether a member of this key and extension is part of the sample."""
        return key == self.key and extension not in self.extensions

    def add(self, name: str, extension: str, content: bytes | InputError | None) -> None:
        self.extensions[extension] = None
        if content is None:
            return
        self.images_found += 1
        # Of a sample with several images none is taken, and none is kept.
        self._name, self._content = (name, content) if self.images_found == 1 else ("", b"")

    def finished(self, reading: ReadOptions) -> shards.ShardSample | shards.UnreadableSample:
        """The sample, if it has exactly one image."""
        if self.images_found != 1:
            wanted = reading.image_field or "jpg, jpeg, png, webp or tif"
            reason = (
                f"the sample has {self.images_found} members with extension {wanted} "
                f"({shards.join_names(self.extensions)}): choose one with --image_field"
            )
            several = self.images_found > 1
            code = FailureCode.SEVERAL_IMAGES if several else FailureCode.NO_IMAGE
            return shards.UnreadableSample(self.number, self.key, reason, code)
        if isinstance(self._content, InputError):
            lost = self._content
            return shards.UnreadableSample(self.number, self._name, lost.text, lost.code)
        return shards.ShardSample(self.number, self._name, self._content)


class _TarWriter:
    """An archive that is being written: image, maps and a JSON file for each entry."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        # Digests, as names may be long and an archive may hold millions.
        self._keys: set[bytes] = set()

    def add(self, entry: shards.ShardEntry) -> None:
        # Without an image, the entry belongs to a sample of another archive, and has its key.
        name = entry.name if entry.image is not None else _split(entry.name)[0]
        key = safe_key(name, entry.number)
        while (digest := _digest(key)) in self._keys:
            # Names may be the same, and would be one file once the archive is unpacked.
            key += f"-{entry.number:08d}"
        self._keys.add(digest)
        size = {"height": entry.height, "width": entry.width}
        about = {"record": entry.number, "filename": shards.printable_name(entry.name)} | size
        if entry.image is not None:
            self._write(f"{key}.{entry.image[1]}", entry.image[0])
        maps = {"labels.png": entry.labels, "confidence.png": entry.confidence}
        for extension, content in maps.items():
            if content is not None:
                self._write(f"{key}.{extension}", content)
        self._write(f"{key}.json", json.dumps(about).encode())

    def _write(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self._archive.addfile(member, io.BytesIO(content))
        self._archive.members.clear()  # type: ignore[attr-defined]


def _digest(key: str) -> bytes:
    """Eight bytes that tell keys apart by the file that they are once the archive is unpacked."""
    return hashlib.blake2b(key.removeprefix("./").encode(), digest_size=8).digest()


def safe_key(name: str, number: int) -> str:
    """A key under which an archive may hold an image, from its name if that is harmless.

    Names are anybody's: what would leave the folder an archive is unpacked in, or is no name of a
    file, is replaced by the number. The JSON member has the true name.

    >>> safe_key("cats/a.v2.jpg", 7), safe_key("../../x.jpg", 7), safe_key("", 7)
    ('cats/a_v2', 'sample-00000007', 'sample-00000007')
    """
    folder, slash, base = name.rpartition("/")
    stem = base.rpartition(".")[0] or base
    key = folder + slash + stem.replace(".", "_")
    parts = key.removeprefix("./").split("/")
    harmless = all(part and part.strip(". ") and "\\" not in part for part in parts)
    if harmless and key.isprintable() and len(key.encode()) <= MAX_KEY_BYTES and ":" not in key:
        return key
    return f"sample-{number:08d}"


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
        raise InputError(
            f"{error}; the rest of the shard from byte {place} on is lost",
            code=FailureCode.CORRUPT_SHARD,
        ) from error


def _content(stream: IO[bytes], member: tarfile.TarInfo, max_bytes: int) -> bytes | InputError:
    """The content of a member.

    Raises:
        InputError: If the archive ends before it does.
    """
    if not member.isreg() or member.issparse():
        return InputError(
            "is a link or a sparse file in the archive, not a plain file",
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
