"""Small shards of every kind that is read, each with its images and where they stand in it."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.formats import example
from pipelines.formats.tfrecord import frame
from tests.image_kinds import KINDS
from tests.known_images import Known

# Of each family of kinds, what is small and told apart at a glance.
MIXTURES = (
    ("png-rgb-8", "jpeg", "webp-alpha", "tiff-lzw", "png-palette-8-transparent", "jpeg-grey"),
    ("jpeg-turned", "png-grey-16", "tiff-grey-16", "webp", "png-rgba-8-interlaced", "tiff"),
)


@dataclass(frozen=True)
class KnownShard:
    """A shard.

    Args:
        suffix: Of its name.
        encoded: The file.
        images: In order.
        names: Of the images, as the shard has them.
        spans: First byte and first byte behind of what an image depends on, one for each image;
            empty where all depend on all, as in gzip data.
    """

    suffix: str
    encoded: bytes
    images: tuple[Known, ...]
    names: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] = ()


Names = Sequence[str]
ShardKind = Callable[[Sequence[Known], Names], KnownShard]


def mixture(seed: int) -> tuple[list[Known], list[str]]:
    """Six images of as many kinds, and their names."""
    kinds = MIXTURES[seed % len(MIXTURES)]
    images = [KINDS[kind](seed + number) for number, kind in enumerate(kinds)]
    return images, [
        f"{number:02d}/{kind}{k.suffix}"
        for number, (kind, k) in enumerate(zip(kinds, images, strict=True))
    ]


def tfrecord(images: Sequence[Known], names: Names) -> KnownShard:
    """One record an image."""
    content, spans = b"", []
    for image, name in zip(images, names, strict=True):
        values: dict[str, bytes | int] = {"image/encoded": image.encoded, "image/height": 3}
        record = frame(example.serialize_example(values | {"image/filename": name.encode()}))
        spans.append((len(content), len(content) + len(record)))
        content += record
    return KnownShard(".tfrecord", content, tuple(images), tuple(names), tuple(spans))


def tar(images: Sequence[Known], names: Names, layout: int = tarfile.PAX_FORMAT) -> KnownShard:
    """A sample an image, with text and numbers beside it; its last member is not the image."""
    buffer, spans = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as archive:
        for image, name in zip(images, names, strict=True):
            first = archive.offset
            stem = name.rpartition(".")[0]
            members = ((name, image.encoded), (f"{stem}.cls", b"7"), (f"{stem}.json", b"{}" * 300))
            for member, content in members:
                entry = tarfile.TarInfo(member)
                entry.size, entry.mtime = len(content), 1_700_000_000
                archive.addfile(entry, io.BytesIO(content))
            spans.append((first, archive.offset))
    return KnownShard(".tar", buffer.getvalue(), tuple(images), tuple(names), tuple(spans))


def parquet(images: Sequence[Known], names: Names, binary: bool = False, **options) -> KnownShard:
    """Two rows a group: a struct as dataset hubs have it, or a binary column and one of names."""
    kind: Any
    if binary:
        content = [image.encoded for image in images]
        table = pa.table({"filename": list(names), "image": pa.array(content, pa.binary())})
    else:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        rows = [
            {"bytes": image.encoded, "path": name}
            for image, name in zip(images, names, strict=True)
        ]
        table = pa.table({"label": list(range(len(rows))), "image": pa.array(rows, kind)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=2, **options)
    described = pq.ParquetFile(io.BytesIO(buffer.getvalue())).metadata
    spans = []
    for group in (described.row_group(n) for n in range(described.num_row_groups)):
        columns = [group.column(n) for n in range(group.num_columns)]
        first = min(c.dictionary_page_offset or c.data_page_offset for c in columns)
        size = sum(c.total_compressed_size for c in columns)
        spans += [(first, first + size)] * group.num_rows
    return KnownShard(".parquet", buffer.getvalue(), tuple(images), tuple(names), tuple(spans))


def zipped(shard: KnownShard, suffix: str) -> KnownShard:
    """The same as gzip data."""
    packed = gzip.compress(shard.encoded, 6, mtime=0)
    return KnownShard(suffix, packed, shard.images, shard.names)


def with_long_names(names: Names) -> list[str]:
    """Names that need headers of their own in an archive."""
    return [f"{'long' * 30}/é/{name}" for name in names]


SHARD_KINDS: dict[str, ShardKind] = {
    "tfrecord": tfrecord,
    "tfrecord-zipped": lambda images, names: zipped(tfrecord(images, names), ".tfrecord.gz"),
    "tar": tar,
    "tar-old": partial(tar, layout=tarfile.USTAR_FORMAT),
    "tar-gnu": lambda images, names: tar(images, with_long_names(names), tarfile.GNU_FORMAT),
    "tar-extended": lambda images, names: tar(images, with_long_names(names)),
    "tar-zipped": lambda images, names: zipped(tar(images, names), ".tar.gz"),
    "tar-tgz": lambda images, names: zipped(tar(images, names), ".tgz"),
    "parquet": partial(parquet, write_page_checksum=True),
    "parquet-snappy": partial(parquet, compression="snappy"),
    "parquet-plain": partial(parquet, binary=True, compression="none", use_dictionary=False),
    "parquet-new-pages": partial(
        parquet, binary=True, compression="zstd", data_page_version="2.0", write_page_index=True
    ),
}


def shard(kind: str, seed: int) -> KnownShard:
    """A shard of a kind with six images of as many kinds."""
    return SHARD_KINDS[kind](*mixture(seed))
