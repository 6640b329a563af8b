"""Files are listed without surprises and appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from pipelines.storage import filesystem
from segmodel.errors import ConfigurationError, DiskError, TransientError
from tests.pipelines.corpus import make_files as make


def test_write_atomic_gives_the_final_name_to_a_finished_file(tmp_path):
    target, scratch = tmp_path / "deep" / "er" / "a.bin", tmp_path / "tmp"
    with filesystem.write_atomic(str(target), str(scratch)) as draft:
        Path(draft.path).write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(scratch.iterdir()) == []


def test_write_atomic_leaves_nothing_behind_after_an_exception(tmp_path):
    target, scratch = tmp_path / "a.bin", tmp_path / "tmp"

    def write_half():
        with filesystem.write_atomic(str(target), str(scratch)) as draft:
            Path(draft.path).write_bytes(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        write_half()
    assert not target.exists()
    assert list(scratch.iterdir()) == []


def test_write_atomic_keeps_the_earlier_content_after_an_exception(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"earlier")

    def write_half():
        with filesystem.write_atomic(str(target), str(tmp_path / "tmp")) as draft:
            Path(draft.path).write_bytes(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        write_half()
    assert target.read_bytes() == b"earlier"


def test_write_atomic_without_a_written_file_is_an_error_and_no_empty_file(tmp_path):
    target = tmp_path / "a.bin"
    with (
        pytest.raises(TransientError),
        filesystem.write_atomic(str(target), str(tmp_path / "tmp")),
    ):
        pass
    assert not target.exists()


def test_write_bytes_replaces_what_is_there(tmp_path):
    target = tmp_path / "a.bin"
    for content in (b"first, long", b"second", b""):
        filesystem.write_bytes(str(target), content, str(tmp_path / "tmp"))
        assert target.read_bytes() == content


def test_names_of_the_greatest_length_can_be_written(tmp_path):
    target = tmp_path / ("é" * 120 + ".png")
    filesystem.write_bytes(str(target), b"x", str(tmp_path / "tmp"))
    assert target.read_bytes() == b"x"


def test_names_of_four_byte_characters_can_be_written(tmp_path):
    target = tmp_path / ("🌍" * 62 + ".png")
    filesystem.write_bytes(str(target), b"x", str(tmp_path / "tmp"))
    assert target.read_bytes() == b"x"


def test_create_is_exclusive_and_leaves_the_first_content(tmp_path):
    target, scratch = str(tmp_path / "commits" / "a.json"), str(tmp_path / "tmp")
    assert filesystem.create(target, b"first", scratch) is True
    assert filesystem.create(target, b"second", scratch) is False
    assert Path(target).read_bytes() == b"first"
    assert list(Path(scratch).iterdir()) == []


def test_of_many_threads_that_create_a_file_exactly_one_wins(tmp_path):
    target, scratch = str(tmp_path / "a.json"), str(tmp_path / "tmp")
    barrier, wins = threading.Barrier(8), {}

    def attempt(number: int) -> None:
        barrier.wait()
        wins[number] = filesystem.create(target, str(number).encode(), scratch)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number, won in wins.items() if won]
    assert len(winners) == 1
    assert Path(target).read_bytes() == str(winners[0]).encode()


def test_remove_takes_a_file_and_does_not_mind_one_that_is_not_there(tmp_path):
    make(tmp_path, "a.txt", "b.txt")
    for name in ("a.txt", "missing"):
        filesystem.remove(str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_remove_below_takes_a_folder_and_does_not_mind_one_that_is_not_there(tmp_path):
    make(tmp_path, "folder/sub/b.txt", "folders.txt")
    for name in ("folder", "missing"):
        filesystem.remove_below(str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir()] == ["folders.txt"]


def test_remove_below_leaves_what_a_link_points_to(tmp_path):
    make(tmp_path / "precious", "a.txt")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    filesystem.remove_below(str(tmp_path / "link"))
    assert (tmp_path / "precious" / "a.txt").read_text() == "a.txt"


def test_files_below_a_folder_are_in_order_of_their_names_and_begin_as_asked(tmp_path):
    make(tmp_path, "b/1.txt", "b/.hidden", "a.txt", "bc.txt")
    assert list(filesystem.names_below(str(tmp_path))) == [
        "a.txt",
        "b/.hidden",
        "b/1.txt",
        "bc.txt",
    ]
    assert list(filesystem.names_below(str(tmp_path), "b")) == ["b/.hidden", "b/1.txt", "bc.txt"]
    assert list(filesystem.names_below(str(tmp_path / "missing"))) == []


def test_a_draft_says_what_was_written(tmp_path):
    with filesystem.write_atomic(str(tmp_path / "a"), str(tmp_path / "tmp")) as draft:
        Path(draft.path).write_bytes(b"abc")
    assert draft.written == filesystem.Written(3, hashlib.sha256(b"abc").hexdigest())


def test_scratch_is_in_a_run_directory_here_and_on_this_machine_for_one_in_a_store():
    assert filesystem.scratch_of("runs/a") == "runs/a/tmp"
    one, other = (filesystem.scratch_of(f"gs://bucket/{name}") for name in "ab")
    assert os.path.dirname(one) == os.path.dirname(other) == filesystem.machine_folder()
    assert one != other
    assert os.stat(filesystem.machine_folder()).st_mode & 0o077 == 0


def test_sha256_is_that_of_the_content(tmp_path):
    make(tmp_path, "a.txt")
    assert filesystem.sha256(str(tmp_path / "a.txt")) == hashlib.sha256(b"a.txt").hexdigest()


def test_links_that_lead_in_a_circle_lead_nowhere(tmp_path):
    link = tmp_path / "a"
    link.symlink_to("a")
    assert filesystem.stat(str(link)) is None
    with pytest.raises(FileNotFoundError, match="circle"):
        filesystem.read_bytes(str(link))
    with pytest.raises(FileNotFoundError, match="circle"):
        filesystem.open_stream(str(link))


def refuse(monkeypatch, name: str, number: int) -> None:
    """Have a function of `os` fail."""

    def fail(*words: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"os.{name}", fail)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK])
def test_where_links_are_refused_a_file_is_created_in_place(tmp_path, monkeypatch, number):
    refuse(monkeypatch, "link", number)
    target, scratch = str(tmp_path / "commits" / "a.json"), str(tmp_path / "tmp")
    assert filesystem.create(target, b"first", scratch) is True
    assert filesystem.create(target, b"second", scratch) is False
    assert Path(target).read_bytes() == b"first"
    assert list(Path(scratch).iterdir()) == []


def test_a_file_in_place_that_does_not_fit_is_gone(tmp_path, monkeypatch):
    refuse(monkeypatch, "link", errno.EPERM)
    original, calls = os.fsync, []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(descriptor)

    monkeypatch.setattr("os.fsync", second_fails)
    target = tmp_path / "a.json"
    with pytest.raises(DiskError, match=f"{target}: no space is left on the disk"):
        filesystem.create(str(target), b"first", str(tmp_path / "tmp"))
    assert not target.exists()


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.ENOSPC, DiskError, "no space is left on the disk"),
        (errno.EDQUOT, DiskError, "the quota of the disk is used up"),
        (errno.EROFS, DiskError, "the file system is read-only"),
        (errno.EIO, DiskError, "the disk fails"),
        (errno.EACCES, ConfigurationError, "cannot be written: Permission denied"),
    ],
)
def test_a_disk_that_takes_no_file_is_named_once(tmp_path, monkeypatch, number, kind, reason):
    refuse(monkeypatch, "replace", number)
    target = tmp_path / "a.bin"
    with pytest.raises(kind, match=f"^{target}: {reason}"):
        filesystem.write_bytes(str(target), b"x", str(tmp_path / "tmp"))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_run_directory_that_is_gone_is_not_made_again(tmp_path):
    with pytest.raises(DiskError, match=f"^{tmp_path}/run: the folder is gone"):
        filesystem.write_bytes(f"{tmp_path}/run/a.bin", b"x", f"{tmp_path}/run/tmp")
    assert not (tmp_path / "run").exists()
