"""Stores that Beam has file systems for, with one of the test's own in place of theirs."""

from __future__ import annotations

import importlib
import io
import os
from pathlib import Path

import apache_beam.io.filesystem as beam_files
import numpy as np
import pytest
from rasterio.transform import from_origin

from pipelines.inputs.listing import find_files
from pipelines.rasters.cog import read_block, write_block
from pipelines.storage import clients, filesystem
from pipelines.storage.clients import beam as beam_store
from pipelines.storage.clients.beam import BeamClient
from pipelines.storage.clients.retry import RetryingStore
from segmodel.errors import ConfigurationError
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window

REAL_STORE = clients._store


class FolderSystem(beam_files.FileSystem):
    """`hdfs://host/...` as a folder of this machine."""

    root = Path()

    @classmethod
    def scheme(cls) -> str:
        return "hdfs"

    def _path(self, uri: str) -> Path:
        return self.root / uri.removeprefix("hdfs://")

    def join(self, basepath, *paths):
        return "/".join([basepath, *paths])

    def split(self, path):
        folder, _, name = path.rpartition("/")
        return folder, name

    def mkdirs(self, path):
        if self._path(path).exists():
            raise OSError("there is one")
        self._path(path).mkdir(parents=True)

    def has_dirs(self):
        return True

    def _list(self, dir_or_prefix):
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                uri = f"hdfs://{path.relative_to(self.root).as_posix()}"
                if uri.startswith(dir_or_prefix):
                    status = path.stat()
                    yield beam_files.FileMetadata(uri, status.st_size, status.st_mtime)

    def create(self, path, mime_type="application/octet-stream", compression_type="auto"):
        return open(self._path(path), "wb")

    def open(self, path, mime_type="application/octet-stream", compression_type="auto"):
        # As some of Beam's do: not all that was asked for.
        return Hesitant(self._path(path).read_bytes())

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            os.replace(self._path(source), self._path(target))

    def exists(self, path):
        return self._path(path).exists()

    def size(self, path):
        return self._path(path).stat().st_size

    def last_updated(self, path):
        return self._path(path).stat().st_mtime

    def checksum(self, path):
        return str(self.size(path))

    def metadata(self, path):
        return beam_files.FileMetadata(path, self.size(path), self.last_updated(path))

    def delete(self, paths):
        for path in paths:
            self._path(path).unlink()


class Hesitant(io.BytesIO):
    """Gives at most 1,000 bytes at once."""

    def read(self, size=-1):
        return super().read(min(size, 1000) if size >= 0 else 1000)


class Importing:
    """Stands for `importlib` where every package is installed."""

    def import_module(self, name: str) -> None:
        """Nothing."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    FolderSystem.root = tmp_path / "root"
    FolderSystem.root.mkdir()
    monkeypatch.setattr(beam_store, "importlib", Importing())
    monkeypatch.setattr(
        "apache_beam.io.filesystems.FileSystems.get_filesystem", lambda path: FolderSystem(None)
    )
    store = RetryingStore(BeamClient("hdfs"), sleep=lambda seconds: None)
    monkeypatch.setattr(clients, "_store", lambda scheme: store)
    return FolderSystem.root


@pytest.fixture
def scratch(tmp_path) -> str:
    return str(tmp_path / "scratch")


def test_what_is_written_is_read_listed_and_removed(folder, scratch):
    content = os.urandom(10_000)
    filesystem.write_bytes("hdfs://host/run/labels/a.bin", content, scratch)
    assert (folder / "host/run/labels/a.bin").read_bytes() == content
    assert os.listdir(folder / "host/run/labels") == ["a.bin"]
    assert filesystem.read_bytes("hdfs://host/run/labels/a.bin") == content
    assert filesystem.read_range("hdfs://host/run/labels/a.bin", 1500, 3000) == content[1500:4500]
    with filesystem.open_stream("hdfs://host/run/labels/a.bin") as stream:
        assert stream.read() == content
    assert list(filesystem.names_below("hdfs://host/run")) == ["labels/a.bin"]
    filesystem.remove("hdfs://host/run/labels/a.bin")
    assert list(filesystem.names_below("hdfs://host/run")) == []


def test_a_record_is_created_once(scratch):
    assert filesystem.create("hdfs://host/commits/a.json", b"first", scratch)
    assert not filesystem.create("hdfs://host/commits/a.json", b"second", scratch)
    assert filesystem.read_bytes("hdfs://host/commits/a.json") == b"first"


def test_a_write_that_fails_leaves_nothing(folder, scratch, monkeypatch):
    def broken(self, source_file_names, destination_file_names):
        raise beam_files.BeamIOError("no rename today")

    monkeypatch.setattr(FolderSystem, "rename", broken)
    with pytest.raises(Exception, match="out of reach"):
        filesystem.write_bytes("hdfs://host/a", b"content", scratch)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_what_is_not_there_is_not_found():
    assert filesystem.size_of("hdfs://host/missing") is None
    filesystem.remove("hdfs://host/missing")
    with pytest.raises(FileNotFoundError):
        filesystem.read_bytes("hdfs://host/missing")


def test_patterns_and_hidden_files(scratch):
    for name in ("a[1].jpg", "b/c.jpg", "b/.d.jpg", "e.png"):
        filesystem.write_bytes(f"hdfs://host/photos/{name}", b"x", scratch)
    found = [file.name for file in find_files("hdfs://host/photos/**/*.jpg")]
    assert found == ["a[1].jpg", "b/c.jpg"]
    assert filesystem.size_of("hdfs://host/photos/a[1].jpg") == 1


def test_rasters_are_read_by_windows(tmp_path, scratch):
    values = np.random.default_rng(0).integers(0, 255, (600, 700), np.uint8)
    grid = Grid(*values.shape, from_origin(0, 0, 1, 1), None)
    write_block(str(tmp_path / "a.tif"), grid, Window(0, 0, *values.shape), values)
    os.makedirs(scratch)
    filesystem.publish(str(tmp_path / "a.tif"), "hdfs://host/a.tif")
    window = Window(100, 200, 300, 400)
    np.testing.assert_array_equal(read_block("hdfs://host/a.tif", window), values[window.slices])


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(beam_store, "importlib", importlib)
    monkeypatch.setattr(clients, "_store", REAL_STORE)
    with pytest.raises(ConfigurationError, match=r"azfs://.*apache-beam\[azure\]"):
        clients.store_of("azfs://account/a")
