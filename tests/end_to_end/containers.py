"""Shards of every container as others write them, and what is in ours, read without our code."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipelines.formats import example
from pipelines.formats.tfrecord import read_records
from tests.end_to_end.conftest import write_shard

# Encoded images by name.
Images = Mapping[str, bytes]


def write_tar(path: Path, images: Images) -> None:
    """An archive with an image and a text a sample; gzip if the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, encoded in images.items():
            for member, content in ((name, encoded), (f"{Path(name).stem}.cls", b"7")):
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def write_parquet(path: Path, images: Images) -> None:
    """A struct of bytes and path, as dataset hubs have it, in groups of four rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": encoded, "path": name} for name, encoded in images.items()]
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), path, row_group_size=4)


def write_files(folder: Path, images: Images) -> None:
    """An image a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, encoded in images.items():
        (folder / name).write_bytes(encoded)


WRITERS: dict[str, Callable[[Path, Images], None]] = {
    "tfrecord": write_shard,
    "tar": write_tar,
    "tar.gz": write_tar,
    "parquet": write_parquet,
}


def write_shards(folder: Path, suffix: str, images: Images, count: int) -> list[Path]:
    """Deal images to so many shards, one after another."""
    names = list(images)
    paths = [folder / f"part-{n:05d}-of-{count:05d}.{suffix}" for n in range(count)]
    for number, path in enumerate(paths):
        WRITERS[suffix](path, {name: images[name] for name in names[number::count]})
    return paths


def label_maps(folder: Path) -> dict[str, np.ndarray]:
    """Label maps of all shards and files below a folder, by the name of the image."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.rglob("*")):
        for name, encoded in _encoded_maps(path) if path.is_file() else ():
            assert name not in found, f"two label maps of {name}"
            found[name] = np.asarray(Image.open(io.BytesIO(encoded)))
    return found


def _encoded_maps(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".png":
        yield path.name.removesuffix(".png"), path.read_bytes()
    elif path.suffix == ".parquet":
        table = pq.read_table(path)
        for row in table.to_pylist():
            yield row["filename"], row["labels"]
    elif ".tar" in path.name:
        with tarfile.open(path) as archive:
            content = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore
        for member, encoded in content.items():
            if member.endswith(".labels.png"):
                about = json.loads(content[member.replace(".labels.png", ".json")])
                yield about["filename"], encoded
    else:
        with path.open("rb") as stream:
            for record in read_records(stream, 1 << 30):
                assert isinstance(record, bytes), record
                values = example.parse_example(record)
                name = values["image/filename"][0].decode()
                yield name, values["image/segmentation/class/encoded"][0]
