"""Tar archives as others write them, and ours read with the library alone."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.formats.shards import Samples, ShardSample, UnreadableSample
from pipelines.formats.tar import TarFormat
from pipelines.formats.work import ReadOptions
from pipelines.results.totals import Tally
from pipelines.run.commits import CommitLog
from tests.pipelines.corpus import files_in, pixels, png, run_unit, units_in

Member = tuple[str | tarfile.TarInfo, bytes]

IMAGES = [pixels(20 + number, 30, number) for number in range(6)]
PNGS = [png(image) for image in IMAGES]
END_MARK = b"\0" * 1024


def archive(members: Iterable[Member], layout: int = tarfile.PAX_FORMAT, **options) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout, **options) as target:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = info.size if info.sparse else len(content)
            target.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A member that is no plain file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **fields) -> bytes:
    """A header of one block, with a right checksum and whatever size is asked for."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    if 0 <= size < 8**11:
        block[124:136] = f"{size:011o}\0".encode()
    else:
        block[124:136] = (0x80 if size > 0 else 0xFF).to_bytes(1, "big") + (
            size % 256**11
        ).to_bytes(11, "big")
    for place, content in fields.values():
        block[place : place + len(content)] = content
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 512)


def extended(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header with these records."""
    return header("extended", len(records), kind) + padded(records)


def pax(keyword: str, value: str) -> bytes:
    """A record of an extended header, which begins with its own length."""
    rest = f" {keyword}={value}\n".encode()
    length = len(rest) + 1
    while len(f"{length}".encode() + rest) != length:
        length = len(f"{length}".encode() + rest)
    return f"{length}".encode() + rest


def write_archive(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    zipped = path.name.lower().endswith((".gz", ".tgz"))
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


def read(path: Path, reading: ReadOptions | None = None) -> list[ShardSample | UnreadableSample]:
    (file,) = files_in(path)
    return list(TarFormat().read(file, reading or ReadOptions()))


def names_and_reasons(
    entries: Samples,
) -> list[tuple[int, str, str | None]]:
    """Number and name of each entry, and what is wrong with it or None."""
    return [
        (entry.number, entry.name, entry.reason if isinstance(entry, UnreadableSample) else None)
        for entry in entries
    ]


def label_archive(work, path: Path, model=None) -> tuple[Path, Tally]:
    """Label an archive; path of the label maps, and the counts."""
    (unit,) = units_in(work, path)
    run_unit(unit, work, model)
    tally = CommitLog(work.run.root, work.options).read(unit).tally
    return Path(work.run.root) / "labels" / path.parent.name / path.name, tally


def members_of(path: Path) -> list[tuple[str, bytes]]:
    """All members as the library reads them, which must all be harmless plain files."""
    with tarfile.open(path) as source:
        members = source.getmembers()
        for member in members:
            # Not in the first releases of Python 3.11.
            if hasattr(tarfile, "data_filter"):
                assert tarfile.data_filter(member, "/nowhere").name == member.name
        return [(member.name, source.extractfile(member).read()) for member in members]


def png_values(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))
