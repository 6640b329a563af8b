"""Which faults may pass, and what a row about a failure says."""

from __future__ import annotations

import errno
import json

import pytest
from rasterio.errors import RasterioIOError

from pipelines.run.failures import Failure, reason_of
from segmodel.errors import (
    BeamsegError,
    ConfigurationError,
    ContractError,
    InputError,
    TransientError,
    is_transient,
)


@pytest.mark.parametrize(
    "error",
    [
        TransientError("the store is busy"),
        MemoryError(),
        ConnectionResetError(),
        TimeoutError(),
        BrokenPipeError(),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError("no number"),
    ],
    ids=repr,
)
def test_faults_of_store_network_and_memory_may_pass(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        InputError("truncated"),
        ContractError("bands"),
        ConfigurationError("window"),
        BeamsegError("any"),
        FileNotFoundError(errno.ENOENT, "No such file"),
        PermissionError(errno.EACCES, "Permission denied"),
        IsADirectoryError(errno.EISDIR, "Is a directory"),
        OSError(errno.ENAMETOOLONG, "File name too long"),
        KeyError("programming"),
        TypeError("programming"),
        ValueError("programming"),
        RuntimeError("programming"),
    ],
    ids=repr,
)
def test_faults_of_the_input_and_of_ours_stay(error):
    assert not is_transient(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(2, "No such file or directory", "photos/a.jpg"), "No such file or"),
        (InputError("empty file"), "empty file"),
        (MemoryError(), "MemoryError"),
        (RasterioIOError("bad strip"), "bad strip"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_a_reason_says_what_was_wrong_without_paths_of_this_machine(error, expected):
    assert reason_of(error).startswith(expected)
    assert "/home/me" not in reason_of(error)


def test_a_row_is_one_line_of_json_whatever_the_names_hold():
    failure = Failure("data/é\n.jpg", 'a "b"', "open", "line 1\nline 2")
    text = failure.to_json()
    assert "\n" not in text
    assert json.loads(text) == {
        "uri": "data/é\n.jpg",
        "key": 'a "b"',
        "stage": "open",
        "reason": "line 1\nline 2",
        "transient": False,
        "code": "other",
    }
