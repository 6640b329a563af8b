"""Shards of label maps that we wrote, read by other means than our own."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tests.pipelines.corpus import read_shard


@dataclass(frozen=True)
class Entry:
    """A label map in a shard, and what stands beside it."""

    record: int
    name: str
    height: int
    width: int
    labels: np.ndarray


def read_entries(path: Path) -> list[Entry]:
    """Label maps of a shard in order."""
    if ".tfrecord" in path.name:
        return [_entry_of_record(features) for features in read_shard(path)]
    if path.suffix == ".parquet":
        fields = ("record", "filename", "height", "width")
        return [
            Entry(*(row[field] for field in fields), _decoded(row["labels"]))
            for row in pq.ParquetFile(path).read().to_pylist()
        ]
    return _entries_of_tar(path)


def _entry_of_record(features: dict[str, list]) -> Entry:
    (name,) = features.get("image/filename", [b""])
    record, height, width = (
        features[f"image/{field}"][0] for field in ("record", "height", "width")
    )
    labels = _decoded(features["image/segmentation/class/encoded"][0])
    return Entry(record, name.decode("utf-8", "backslashreplace"), height, width, labels)


def _entries_of_tar(path: Path) -> list[Entry]:
    """Each label map has its numbers behind it."""
    entries, labels = [], b""
    with tarfile.open(path) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            content = stream.read()
            if member.name.endswith(".labels.png"):
                labels = content
            else:
                about = json.loads(content)
                fields = (about[field] for field in ("record", "filename", "height", "width"))
                entries.append(Entry(*fields, _decoded(labels)))
    return entries


def _decoded(labels: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(labels)) as image:
        return np.asarray(image)
