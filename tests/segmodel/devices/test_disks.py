"""What an error of writing means: one text with the place and the remedy, and a class."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest

from segmodel.devices.disks import Spool, free_bytes_of, room, temporary_folder, writing
from segmodel.errors import (
    ConfigurationError,
    DiskError,
    TransientError,
    is_transient,
    is_worth_waiting,
)


def error_of(block, place: str, error: Exception) -> Exception:
    with pytest.raises(type(error) if block is None else Exception) as caught, block(place):
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "no space is left on the disk: make room there"),
        (errno.EDQUOT, "the quota of the disk is used up: make room there"),
        (errno.EROFS, "the file system is read-only: mount it for writing, or use another folder"),
    ],
)
@pytest.mark.parametrize("block", [writing, room])
def test_a_disk_without_room_is_named_with_the_remedy(tmp_path, block, number, reason):
    raised = error_of(block, str(tmp_path), OSError(number, os.strerror(number)))
    assert type(raised) is DiskError
    assert str(raised) == f"{tmp_path}: {reason}, then run the same command again"


def test_a_disk_without_inodes_needs_fewer_files(tmp_path, monkeypatch):
    status = os.statvfs(tmp_path)
    full = os.statvfs_result([*status[:7], 9, *status[8:]])
    monkeypatch.setattr("os.statvfs", lambda path: full)
    raised = error_of(writing, str(tmp_path), OSError(errno.ENOSPC, "No space left on device"))
    assert raised.text.startswith("no inodes are left on the disk: remove files there")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, ": ask for the right to it, or name another place"),
        (errno.EPERM, ": ask for the right to it, or name another place"),
        (errno.ENOTDIR, ": a part of the path is no folder: check it"),
        (errno.ENAMETOOLONG, ": give it a shorter name"),
        (errno.EINVAL, ""),
    ],
)
def test_what_may_not_be_written_is_for_the_command_line_to_change(number, remedy):
    raised = error_of(writing, "runs/may", OSError(number, "refused", "runs/may"))
    assert type(raised) is ConfigurationError
    assert str(raised) == f"runs/may: cannot be written: refused{remedy}"


def test_a_folder_that_is_gone_is_named_and_a_file_elsewhere_is_not_taken_for_it():
    gone = error_of(writing, "/run", FileNotFoundError(errno.ENOENT, "gone", "/run/tmp/x"))
    assert (type(gone), gone.name) == (DiskError, "/run/tmp")
    other = FileNotFoundError(errno.ENOENT, "gone", "/input")
    assert error_of(writing, "/run", other) is other


def test_errors_of_files_that_are_read_stay_as_they_are():
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    assert error_of(room, "/run", error) is error
    assert type(error_of(writing, "/run", error)) is DiskError


def test_libraries_that_have_the_reason_in_their_text_are_understood():
    error = RuntimeError("Unable to write: error message = 'No space left on device'")
    assert type(error_of(room, "/", error)) is DiskError
    own = TransientError("No space left on device")
    assert error_of(room, "/", own) is own


def test_nobody_waits_for_a_disk():
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        error = OSError(number, "of a disk")
        assert (is_transient(error), is_worth_waiting(error)) == (True, False)
    assert is_worth_waiting(OSError(errno.EIO, "of a network"))


def test_a_folder_for_temporary_files_that_is_gone_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    with pytest.raises(DiskError, match=f"{tmp_path}/gone: TMPDIR names no folder"):
        temporary_folder()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert temporary_folder() == str(tmp_path)


def test_without_any_folder_for_temporary_files_the_remedy_is_told(monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    with pytest.raises(DiskError, match="set TMPDIR to a folder with room"):
        temporary_folder()


def test_a_spool_gives_back_what_was_added(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    spool = Spool()
    first, second = spool.add(b"a\nb"), spool.add(b"c\n")
    assert (second(), first(), list(spool.lines())) == (b"c\n", b"a\nb", [b"a\n", b"bc\n"])
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_room_is_that_of_the_disk_of_a_folder_that_is_not_there_yet(tmp_path):
    status = os.statvfs(tmp_path)
    free = free_bytes_of(str(tmp_path / "a" / "b"))
    assert 0 < free <= status.f_blocks * status.f_frsize
