"""WebDataset shards: tar archives whose consecutive members of equal key are one sample.

Convention: https://github.com/webdataset/webdataset#the-webdataset-format; the key of a member is
its path up to the first dot of its base name, what follows is its extension.
"""

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from pipelines.formats.interface import Reading
from pipelines.formats.samples import Entry, Maps, Sample, Unreadable, created, opened, printable
from pipelines.formats.shards import Shards
from pipelines.plan import InputFile
from segmodel.errors import InputError
from segmodel.images import IMAGE_SUFFIXES

_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_IMAGES = frozenset(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
_EXTRA_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
MAX_EXTRA_BYTES = 1 << 20
# Archives are filled up to a multiple of the blocking factor; GNU tar's default is 20 blocks.
MAX_PADDING_BYTES = 1 << 20
MAX_KEY_BYTES = 200


class Tars(Shards):
    """Samples with one image each; the extension is that of an image, or the one the user names."""

    name = "tar"
    examples = "WebDataset shards (.tar .tar.gz .tgz)"
    label_field = "labels.png"

    def claims(self, file: InputFile) -> bool:
        """Whether the name is that of a tar archive."""
        return file.name.lower().endswith(_SUFFIXES)

    def samples(self, file: InputFile, reading: Reading) -> Iterator[Sample | Unreadable]:
        """Samples by the keys of consecutive members."""
        with opened(file) as stream:
            yield from read_samples(stream, reading)

    @contextmanager
    def writer(self, path: str, zipped: bool, maps: Maps) -> Iterator["_TarWriter"]:
        """A new archive."""
        with (
            created(path, zipped) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            yield _TarWriter(archive)


def read_samples(stream: IO[bytes], reading: Reading) -> Iterator[Sample | Unreadable]:
    """Samples of an archive in order; where it is broken, an `Unreadable` ends it."""
    number = -1
    sample = _Members(0)
    try:
        for member, content in _members(stream, reading):
            key, _, extension = _split(member.name)
            if sample.belongs(key, extension):
                sample.add(member, extension, content)
                continue
            if sample.key is not None:
                yield sample.finished(reading)
            number += 1
            sample = _Members(number, key)
            sample.add(member, extension, content)
    except InputError as error:
        if sample.key is not None:
            yield sample.finished(reading)
        yield Unreadable(number + 1, "", str(error))
        return
    if sample.key is not None:
        yield sample.finished(reading)


class _CheckedMember(tarfile.TarInfo):
    """A header that is an error where it is corrupt or missing; the library takes that for the end.

    Raises:
        InputError: What is wrong.
    """

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        if not buf:
            raise InputError("the archive ends without its end mark")
        try:
            member = super().frombuf(buf, encoding, errors)
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            if not buf.strip(b"\0") and len(buf) == tarfile.BLOCKSIZE:
                raise  # The end mark.
            raise InputError(f"a header is corrupt ({error})") from None
        extended = member.type in _EXTRA_HEADERS
        if member.size < 0 or (extended and member.size > MAX_EXTRA_BYTES):
            raise InputError(f"a header is corrupt (it states {member.size} bytes)")
        return member


def _members(
    stream: IO[bytes], reading: Reading
) -> Iterator[tuple[tarfile.TarInfo, bytes | InputError | None]]:
    """Files of an archive; the content of those that are images, else None.

    Raises:
        InputError: Where the rest of the archive is lost.
    """
    end = 0
    try:
        archive = tarfile.open(  # noqa: SIM115  # closing it would do nothing: it is read only
            fileobj=stream, mode="r:", tarinfo=_CheckedMember, errors="surrogateescape"
        )
        while member := archive.next():
            # The library keeps a list of all members; a shard may have millions.
            archive.members.clear()  # type: ignore[attr-defined]
            if not member.isdir():
                yield member, _content(archive, member, reading)
            end = member.offset_data + member.size
        padding = stream.read(MAX_PADDING_BYTES)
        if padding.strip(b"\0"):
            raise InputError("there is more behind the end mark of the archive")
    except (InputError, tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{error}; the rest of the shard from byte {end} on is lost") from error


def _content(
    archive: tarfile.TarFile, member: tarfile.TarInfo, reading: Reading
) -> bytes | InputError | None:
    """The content of a member that is wanted."""
    extension = _split(member.name)[2]
    if not _is_wanted(extension, reading):
        return None
    if not member.isreg() or member.issparse():
        return InputError("is a link or a sparse file in the archive, not a plain file")
    if member.size > reading.max_encoded_bytes:
        return InputError(f"{member.size} bytes are more than any image within --max_pixels has")
    stream = archive.extractfile(member)
    assert stream is not None
    return stream.read()


def _split(name: str) -> tuple[str, str, str]:
    """Key, dot and extension in small letters.

    >>> _split("cats/v1.0/001.RGB.png")
    ('cats/v1.0/001', '.', 'rgb.png')
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return folder + slash + stem, dot, extension.lower()


def _is_wanted(extension: str, reading: Reading) -> bool:
    if reading.image_field is not None:
        return extension == reading.image_field.lower().lstrip(".")
    return extension in _IMAGES


class _Members:
    """What one sample has so far."""

    def __init__(self, number: int, key: str | None = None) -> None:
        self.number, self.key = number, key
        self.extensions: list[str] = []
        self.images: list[tuple[str, bytes | InputError]] = []

    def belongs(self, key: str, extension: str) -> bool:
        """Whether a member of this key and extension is part of the sample."""
        return key == self.key and extension not in self.extensions

    def add(
        self, member: tarfile.TarInfo, extension: str, content: bytes | InputError | None
    ) -> None:
        self.extensions.append(extension)
        if content is not None:
            self.images.append((member.name, content))

    def finished(self, reading: Reading) -> Sample | Unreadable:
        """The sample, if it has exactly one image."""
        assert self.key is not None
        found = ", ".join(self.extensions[:10])
        if len(self.images) != 1:
            wanted = reading.image_field or "jpg, jpeg, png, webp or tif"
            reason = f"the sample has {len(self.images)} members with extension {wanted} ({found})"
            return Unreadable(self.number, self.key, f"{reason}: choose one with --image_field")
        name, content = self.images[0]
        if isinstance(content, InputError):
            return Unreadable(self.number, name, str(content))
        return Sample(self.number, name, content)


class _TarWriter:
    """An archive that is being written: image, maps and a JSON file for each entry."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def add(self, entry: Entry) -> None:
        key = safe_key(entry.name, entry.number)
        shown = printable(entry.name)
        about = {
            "record": entry.number,
            "filename": shown,
            "height": entry.height,
            "width": entry.width,
        }
        if entry.image is not None:
            self._write(f"{key}.{entry.image[1]}", entry.image[0])
        for extension, content in (
            ("labels.png", entry.labels),
            ("confidence.png", entry.confidence),
        ):
            if content is not None:
                self._write(f"{key}.{extension}", content)
        self._write(f"{key}.json", json.dumps(about).encode())

    def _write(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self._archive.addfile(member, io.BytesIO(content))
        self._archive.members.clear()  # type: ignore[attr-defined]


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
    parts = key.split("/")
    harmless = all(part and part.strip(". ") and "\\" not in part for part in parts)
    if harmless and key.isprintable() and len(key.encode()) <= MAX_KEY_BYTES and ":" not in key:
        return key
    return f"sample-{number:08d}"
