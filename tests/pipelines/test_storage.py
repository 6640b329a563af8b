"""Files are listed without surprises and appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from pipelines import storage
from segmodel.errors import ConfigurationError, TransientError


def names(pattern: Path | str) -> list[str]:
    return [file.name for file in storage.find_files(str(pattern))]


def make(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def test_write_whole_gives_the_final_name_to_a_finished_file(tmp_path):
    target, scratch = tmp_path / "deep" / "er" / "a.bin", tmp_path / "tmp"
    with storage.write_whole(str(target), str(scratch)) as temporary:
        Path(temporary).write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(scratch.iterdir()) == []


def test_write_whole_leaves_nothing_behind_after_an_exception(tmp_path):
    target, scratch = tmp_path / "a.bin", tmp_path / "tmp"

    def write_half():
        with storage.write_whole(str(target), str(scratch)) as temporary:
            Path(temporary).write_bytes(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        write_half()
    assert not target.exists()
    assert list(scratch.iterdir()) == []


def test_write_whole_keeps_the_earlier_content_after_an_exception(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"earlier")

    def write_half():
        with storage.write_whole(str(target), str(tmp_path / "tmp")) as temporary:
            Path(temporary).write_bytes(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        write_half()
    assert target.read_bytes() == b"earlier"


def test_write_whole_without_a_written_file_is_an_error_and_no_empty_file(tmp_path):
    target = tmp_path / "a.bin"
    with (
        pytest.raises(TransientError),
        storage.write_whole(str(target), str(tmp_path / "tmp")),
    ):
        pass
    assert not target.exists()


def test_write_bytes_replaces_what_is_there(tmp_path):
    target = tmp_path / "a.bin"
    for content in (b"first, long", b"second", b""):
        storage.write_bytes(str(target), content, str(tmp_path / "tmp"))
        assert target.read_bytes() == content


def test_names_of_the_greatest_length_can_be_written(tmp_path):
    target = tmp_path / ("é" * 120 + ".png")
    storage.write_bytes(str(target), b"x", str(tmp_path / "tmp"))
    assert target.read_bytes() == b"x"


def test_names_of_four_byte_characters_can_be_written(tmp_path):
    target = tmp_path / ("🌍" * 62 + ".png")
    storage.write_bytes(str(target), b"x", str(tmp_path / "tmp"))
    assert target.read_bytes() == b"x"


def test_create_is_exclusive_and_leaves_the_first_content(tmp_path):
    target, scratch = str(tmp_path / "commits" / "a.json"), str(tmp_path / "tmp")
    assert storage.create(target, b"first", scratch) is True
    assert storage.create(target, b"second", scratch) is False
    assert Path(target).read_bytes() == b"first"
    assert list(Path(scratch).iterdir()) == []


def test_of_many_threads_that_create_a_file_exactly_one_wins(tmp_path):
    target, scratch = str(tmp_path / "a.json"), str(tmp_path / "tmp")
    barrier, wins = threading.Barrier(8), {}

    def attempt(number: int) -> None:
        barrier.wait()
        wins[number] = storage.create(target, str(number).encode(), scratch)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number, won in wins.items() if won]
    assert len(winners) == 1
    assert Path(target).read_bytes() == str(winners[0]).encode()


def test_a_folder_gives_all_files_below_it_in_order_of_name(tmp_path):
    make(tmp_path, "b.txt", "a/z.txt", "a/b/c.txt")
    assert names(tmp_path) == ["a/b/c.txt", "a/z.txt", "b.txt"]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    make(tmp_path, "seen.jpg", ".hidden.jpg", ".cache/x.jpg", "sub/.DS_Store", "sub/y.jpg")
    assert names(tmp_path) == ["seen.jpg", "sub/y.jpg"]
    assert names(tmp_path / "**" / "*.jpg") == ["seen.jpg", "sub/y.jpg"]


def test_globs_match_one_level_and_two_stars_match_any(tmp_path):
    make(tmp_path, "a.jpg", "sub/b.jpg", "sub/deep/c.jpg", "sub/d.png")
    assert names(tmp_path / "*.jpg") == ["a.jpg"]
    assert names(tmp_path / "**" / "*.jpg") == ["a.jpg", "sub/b.jpg", "sub/deep/c.jpg"]
    assert names(tmp_path / "*" / "[bd].*") == ["sub/b.jpg", "sub/d.png"]


def test_a_file_is_found_by_its_own_name_whatever_its_characters(tmp_path):
    make(tmp_path, "a[1]*.jpg")
    (file,) = storage.find_files(str(tmp_path / "a[1]*.jpg"))
    assert (file.name, file.size) == ("a[1]*.jpg", 9)
    assert file.version == str(os.stat(file.uri).st_mtime_ns)


def test_a_folder_with_brackets_in_its_name_gives_its_files(tmp_path):
    make(tmp_path / "may [2024]", "a.jpg")
    assert names(tmp_path / "may [2024]") == ["a.jpg"]


def test_what_vanishes_while_it_is_listed_is_left_out(tmp_path):
    make(tmp_path, "a.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path) == ["a.jpg"]


def test_a_pattern_without_files_gives_none(tmp_path):
    assert names(tmp_path) == []
    assert names(tmp_path / "missing" / "*.jpg") == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.jpg", "photos"),
        ("./photos/*.jpg", "photos"),
        ("/data/photos/**/*.jpg", "/data/photos"),
        ("*.jpg", "."),
        ("a.jpg", "."),
        ("a*/b/c.jpg", "."),
        ("a/b?/c/d.jpg", "a"),
    ],
)
def test_the_root_of_a_pattern_is_the_folder_below_which_it_varies(pattern, expected):
    assert storage.root_of(pattern) == expected


def test_the_root_of_a_folder_is_the_folder_itself(tmp_path):
    assert storage.root_of(f"{tmp_path}/") == str(tmp_path)


@pytest.mark.parametrize("uri", ["gs://bucket/a", "s3://bucket/*.tif", "hdfs://host/x"])
def test_object_stores_are_refused_with_the_scheme_and_a_remedy(uri):
    scheme = uri.split(":")[0]
    with pytest.raises(ConfigurationError, match=f"^{scheme}://.*copy .* to a local folder"):
        storage.check_local(uri)


@pytest.mark.parametrize("uri", ["data/a", "/data/a", "a:b", "C:/x"])
def test_local_paths_are_passed_through(uri):
    assert storage.check_local(uri) == uri


def test_remove_takes_files_and_folders_and_does_not_mind_what_is_not_there(tmp_path):
    make(tmp_path, "a.txt", "folder/sub/b.txt")
    for name in ("a.txt", "folder", "missing"):
        storage.remove(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_remove_of_a_link_leaves_what_it_points_to(tmp_path):
    make(tmp_path / "precious", "a.txt")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    storage.remove(str(tmp_path / "link"))
    assert not (tmp_path / "link").exists()
    assert (tmp_path / "precious" / "a.txt").read_text() == "a.txt"


def test_sha256_is_that_of_the_content(tmp_path):
    make(tmp_path, "a.txt")
    assert storage.sha256(str(tmp_path / "a.txt")) == hashlib.sha256(b"a.txt").hexdigest()
