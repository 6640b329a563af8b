"""WebDataset shards: tar archives whose consecutive members of equal key are one sample.

Convention: https://github.com/webdataset/webdataset#the-webdataset-format; the key of a member is
its path up to the first dot of its base name, what follows is its extension. Hidden members, whose
base name begins with a dot, have no key and are left out.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

from pipelines.formats import shards
from pipelines.formats.tar_members import Reopen, read_members
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
    confidence_field = "confidence.png"

    def samples(self, file: InputFile, reading: ReadOptions) -> shards.Samples:
        """Samples by the keys of consecutive members."""
        yield from _read_samples(partial(shards.open_shard, file, _begins_with_member), reading)

    @contextmanager
    def writer(self, path: str, zipped: bool, maps: shards.Maps) -> Iterator["_TarWriter"]:
        """A new archive."""
        with (
            shards.create_shard(path, zipped) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            yield _TarWriter(archive)


def _begins_with_member(head: bytes) -> bool:
    """Whether the first bytes of a file are the header of a member."""
    try:
        return tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape") is not None
    except tarfile.HeaderError:
        return False


def _read_samples(reopen: Reopen, reading: ReadOptions) -> shards.Samples:
    """Samples of an archive in order; where it is broken, an `UnreadableSample` ends it."""
    number = 0
    sample: _Members | None = None
    try:
        wanted = partial(_is_wanted, reading=reading)
        for name, content in read_members(reopen, wanted, reading.max_encoded_bytes):
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
        maps |= {f"probability-{i}.png": content for i, content in entry.probabilities}
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
