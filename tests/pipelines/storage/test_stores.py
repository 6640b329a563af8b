"""The clients of stores against emulators, with and without faults."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipelines.inputs.listing import find_files, input_files
from pipelines.rasters.cog import read_block, write_block
from pipelines.run.directory import MARK, RunDirectory
from pipelines.storage import clients, filesystem
from pipelines.storage.clients import store_of
from pipelines.storage.copies import local_copies, local_folder, with_sidecars
from segmodel.errors import TransientError
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window
from tests.services.buckets import Bucket
from tests.services.faults import Plan

ODD_NAMES = ("a b.jpg", "a#b.jpg", "a?b.jpg", "100%.jpg", "a+b&c=d.jpg", "é/ü.jpg", "[1]*.jpg")


@pytest.fixture(autouse=True)
def fresh_clients() -> Iterator[None]:
    """Clients are kept by a process, and the environment of each test is another one."""
    clients._store.cache_clear()
    yield
    clients._store.cache_clear()


@pytest.fixture
def scratch(tmp_path: Path) -> str:
    return str(tmp_path / "scratch")


def write(bucket: Bucket, name: str, content: bytes, scratch: str) -> str:
    uri = f"{bucket.uri}/{name}"
    filesystem.write_bytes(uri, content, scratch)
    return uri


def test_what_is_written_is_read(bucket, scratch):
    content = os.urandom(100_000)
    uri = write(bucket, "deep/er/a.bin", content, scratch)
    assert bucket.get("deep/er/a.bin") == content
    assert filesystem.read_bytes(uri) == content
    assert filesystem.size_of(uri) == len(content)
    assert filesystem.sha256(uri) == hashlib.sha256(content).hexdigest()
    assert os.listdir(scratch) == []


def test_what_is_written_replaces_what_is_there_and_has_another_version(bucket, scratch):
    uri = write(bucket, "a", b"one", scratch)
    first = filesystem.stat(uri)
    write(bucket, "a", b"two, longer", scratch)
    second = filesystem.stat(uri)
    assert filesystem.read_bytes(uri) == b"two, longer"
    assert (first.size, second.size) == (3, 11)
    assert first.version != second.version


def test_an_upload_in_parts_arrives_whole(bucket, scratch):
    content = os.urandom(1 << 20) * 40
    uri = write(bucket, "large.bin", content, scratch)
    assert filesystem.size_of(uri) == len(content)
    assert filesystem.sha256(uri) == hashlib.sha256(content).hexdigest()


def test_an_empty_object_is_written_and_read(bucket, scratch):
    uri = write(bucket, "_SUCCESS", b"", scratch)
    assert filesystem.size_of(uri) == 0
    assert filesystem.read_bytes(uri) == b""
    with filesystem.open_stream(uri) as stream:
        assert stream.read() == b""


def test_a_failed_write_leaves_no_object(bucket, scratch):
    def write_half():
        with filesystem.write_atomic(f"{bucket.uri}/a", scratch) as draft:
            Path(draft.path).write_bytes(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        write_half()
    assert bucket.names() == []
    assert os.listdir(scratch) == []


def test_what_is_not_there_is_not_found(bucket):
    missing = f"{bucket.uri}/missing"
    assert filesystem.stat(missing) is None
    assert not filesystem.exists(missing)
    assert list(filesystem.files_below(missing)) == []
    filesystem.remove(missing)
    for read in (filesystem.read_bytes, filesystem.open_stream):
        with pytest.raises(FileNotFoundError) as raised:
            read(missing)
        assert raised.value.filename == missing


def test_a_bucket_that_is_not_there_is_not_found(bucket):
    with pytest.raises(FileNotFoundError):
        list(filesystem.files_below(f"{bucket.uri}-of-nobody/photos"))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_of_any_characters_are_the_same_everywhere(bucket, scratch, name):
    uri = write(bucket, f"odd/{name}", b"content", scratch)
    assert bucket.names() == [f"odd/{name}"]
    assert list(filesystem.names_below(f"{bucket.uri}/odd")) == [name]
    assert filesystem.read_bytes(uri) == b"content"
    assert [file.uri for file in find_files(uri)] == [uri]
    filesystem.remove(uri)
    assert bucket.names() == []


def test_a_record_is_created_once(bucket, scratch):
    uri = f"{bucket.uri}/commits/a.json"
    assert filesystem.create(uri, b"first", scratch)
    assert not filesystem.create(uri, b"second", scratch)
    assert bucket.get("commits/a.json") == b"first"


def test_of_many_threads_that_create_a_record_exactly_one_wins(bucket, scratch):
    uri = f"{bucket.uri}/commits/a.json"
    with ThreadPoolExecutor(8) as pool:
        contents = [str(number).encode() for number in range(8)]
        won = list(pool.map(lambda content: filesystem.create(uri, content, scratch), contents))
    assert won.count(True) == 1
    assert bucket.get("commits/a.json") == contents[won.index(True)]


def test_a_stream_is_read_by_ranges_from_anywhere(bucket, scratch):
    content = np.arange(5000, dtype=np.uint16).tobytes()
    uri = write(bucket, "a.bin", content, scratch)
    with filesystem.open_stream(uri, ahead=1000) as stream:
        assert stream.read(10) == content[:10]
        stream.seek(-5, os.SEEK_END)
        assert stream.read() == content[-5:]
        stream.seek(2999)
        assert stream.read(3000) == content[2999:5999]
        stream.seek(len(content) + 7)
        assert stream.read(1) == b""
    with filesystem.open_stream(uri, ahead=1000) as stream:
        assert b"".join(iter(lambda: stream.read(777), b"")) == content


def test_a_stream_does_not_mix_two_versions(bucket, scratch):
    uri = write(bucket, "a.bin", b"1" * 1000, scratch)
    with filesystem.open_stream(uri, ahead=100) as stream:
        stream.read(100)
        write(bucket, "a.bin", b"2" * 1000, scratch)
        with pytest.raises(TransientError, match="was replaced after it was listed"):
            stream.read(500)


def test_a_listing_has_all_pages_in_order(bucket, monkeypatch):
    for module in ("google", "amazon"):
        monkeypatch.setattr(f"pipelines.storage.clients.{module}.PAGE", 5)
    names = [f"x/{number:04d}" for number in range(23)]
    for name in names:
        bucket.put(name, b"")
    bucket.put("xy", b"")
    assert list(filesystem.names_below(f"{bucket.uri}/x")) == [name[2:] for name in names]


def test_patterns_find_what_they_find_on_disk(bucket, tmp_path):
    for name in ("a.jpg", "sub/b.jpg", "sub/deep/c.jpg", ".hidden/d.jpg", "sub/e.png"):
        bucket.put(f"photos/{name}", name.encode())
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    bucket.put("photos/made/", b"")
    bucket.put("photos-of-others/a.jpg", b"")
    for pattern in ("", "/*.jpg", "/**/*.jpg", "/sub/?.*", "/sub", "/a.jpg", "/missing"):
        here = [(f.name, f.size) for f in find_files(f"{tmp_path}/photos{pattern}")]
        there = [(f.name, f.size) for f in find_files(f"{bucket.uri}/photos{pattern}")]
        assert there == here, pattern


def test_what_runs_wrote_is_no_input(bucket, scratch):
    for name in ("photos/a.jpg", "photos/run/labels/b.png", "photos/z/run.json", "photos/z/c.jpg"):
        bucket.put(name, b"{}")
    RunDirectory(f"{bucket.uri}/photos/run").write_json("run.json", MARK)
    RunDirectory(f"{bucket.uri}/photos/own").write_json("other.json", {})
    found = [file.name for file in input_files(f"{bucket.uri}/photos", f"{bucket.uri}/photos/own")]
    assert found == ["a.jpg", "z/c.jpg", "z/run.json"]


def test_a_folder_is_removed_with_all_in_it(bucket):
    for name in ("run/labels/a", "run/labels/b/c", "run/labels-x", "run/run.json"):
        bucket.put(name, b"x")
    filesystem.remove_below(f"{bucket.uri}/run/labels")
    assert bucket.names() == ["run/labels-x", "run/run.json"]


def test_copies_of_files_are_gone_after_the_block(bucket, scratch):
    bucket.put("a.bin", b"abc")
    with local_copies([f"{bucket.uri}/a.bin"], scratch) as (path,):
        assert Path(path).read_bytes() == b"abc"
    assert not Path(path).exists()


def test_a_file_comes_with_those_that_belong_to_it(bucket):
    for name in ("v/zones.shp", "v/zones.dbf", "v/zones.shp.xml", "v/zones2.shp"):
        bucket.put(name, name.encode())
    with with_sidecars(f"{bucket.uri}/v/zones.shp") as path:
        there = sorted(os.listdir(os.path.dirname(path)))
        assert there == ["zones.dbf", "zones.shp", "zones.shp.xml"]
        assert Path(path).read_bytes() == b"v/zones.shp"
    with pytest.raises(FileNotFoundError), with_sidecars(f"{bucket.uri}/v/missing.shp"):
        pass


def test_a_folder_is_copied_once_and_anew_when_it_changed(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bucket.put("m/saved_model.pb", b"1")
    bucket.put("m/variables/v", b"2")
    first = local_folder(f"{bucket.uri}/m")
    assert Path(first, "saved_model.pb").read_bytes() == b"1"
    assert Path(first, "variables", "v").read_bytes() == b"2"
    assert local_folder(f"{bucket.uri}/m") == first
    Path(first, "variables", "v").unlink()
    assert local_folder(f"{bucket.uri}/m") == first
    assert Path(first, "variables", "v").read_bytes() == b"2"
    bucket.put("m/variables/v", b"changed")
    second = local_folder(f"{bucket.uri}/m")
    assert Path(second, "variables", "v").read_bytes() == b"changed"
    assert first != second


def test_windows_of_rasters_are_read_where_they_are(bucket, scratch, tmp_path):
    values = (np.arange(700 * 600) % 65521).astype(np.uint16).reshape(700, 600)
    write_raster(tmp_path / "a.tif", values)
    filesystem.publish(str(tmp_path / "a.tif"), f"{bucket.uri}/scenes/a b.tif")
    window = Window(513, 2, 100, 300)
    actual = read_block(f"{bucket.uri}/scenes/a b.tif", window)
    np.testing.assert_array_equal(actual, values[window.slices])


def write_raster(path: Path, values: np.ndarray) -> None:
    from rasterio.transform import from_origin

    grid = Grid(*values.shape, from_origin(0, 0, 1, 1), None)
    write_block(str(path), grid, Window(0, 0, *values.shape), values)


def test_a_store_refuses_access_with_the_location_and_no_patience(faulty_bucket, scratch):
    bucket = faulty_bucket
    bucket.put("a", b"1")
    bucket.faults.follow(Plan(share=0, permanent="/a", permanent_status=403))
    with pytest.raises(PermissionError, match="refuses access") as raised:
        filesystem.read_bytes(f"{bucket.uri}/a")
    assert raised.value.filename == f"{bucket.uri}/a"


def test_nothing_is_lost_or_doubled_while_every_fifth_request_fails(faulty_bucket, scratch):
    bucket = faulty_bucket
    contents = {f"f/{number:03d}": os.urandom(200 + number) for number in range(20)}
    for name, content in contents.items():
        write(bucket, name, content, scratch)
    created = [
        filesystem.create(f"{bucket.uri}/c/{number:03d}", b"record", scratch)
        for number in range(20)
    ]
    retry = [
        filesystem.create(f"{bucket.uri}/c/{number:03d}", b"other", scratch) for number in range(20)
    ]
    assert created == [True] * 20
    assert retry == [False] * 20
    assert list(filesystem.names_below(f"{bucket.uri}/f")) == [name[2:] for name in contents]
    for name, content in contents.items():
        assert filesystem.read_bytes(f"{bucket.uri}/{name}") == content
        with filesystem.open_stream(f"{bucket.uri}/{name}") as stream:
            assert stream.read() == content
    filesystem.remove_below(f"{bucket.uri}/f")
    assert bucket.names() == [f"c/{number:03d}" for number in range(20)]
    assert {bucket.get(name) for name in bucket.names()} == {b"record"}


def test_large_uploads_and_rasters_survive_faults(faulty_bucket, scratch, tmp_path):
    bucket = faulty_bucket
    content = os.urandom(1 << 20) * 40
    uri = write(bucket, "large.bin", content, scratch)
    assert filesystem.sha256(uri) == hashlib.sha256(content).hexdigest()
    values = np.random.default_rng(0).integers(0, 255, (1024, 1024), np.uint8)
    write_raster(tmp_path / "a.tif", values)
    filesystem.publish(str(tmp_path / "a.tif"), f"{bucket.uri}/a.tif")
    for row in range(0, 1024, 256):
        window = Window(row, 0, 256, 1024)
        np.testing.assert_array_equal(
            read_block(f"{bucket.uri}/a.tif", window), values[window.slices]
        )


def test_a_store_keeps_one_client_a_process_and_is_not_sent_to_workers(bucket):
    assert store_of(bucket.uri) is store_of(f"{bucket.uri}/other")
    run = pickle.loads(pickle.dumps(RunDirectory(f"{bucket.uri}/run")))
    assert run.root == f"{bucket.uri}/run"
