"""Changes of a folder, as values that a table holds."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[Path], object]


def all_of(*changes: Change) -> Change:
    """One change after the other."""

    def make(folder: Path) -> None:
        for change in changes:
            change(folder)

    return make


def put(path: str, content: str | bytes = b"") -> Change:
    """A file in place of what is there."""

    def make(folder: Path) -> None:
        gone(path)(folder)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def gone(path: str) -> Change:
    """Neither file nor folder."""

    def make(folder: Path) -> None:
        found = folder / path
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        else:
            found.unlink(missing_ok=True)

    return make


def empty(path: str) -> Change:
    """An empty folder in place of what is there."""
    return all_of(gone(path), lambda folder: (folder / path).mkdir(parents=True))


def only(path: str, content: str | bytes) -> Change:
    """A file as the only one of its folder."""
    return all_of(empty(str(Path(path).parent)), put(path, content))


def link(path: str, target: str) -> Change:
    """A symbolic link in place of what is there."""
    return all_of(gone(path), lambda folder: (folder / path).symlink_to(target))


def pipe(path: str) -> Change:
    """A named pipe that nobody writes to, in place of what is there."""
    return all_of(gone(path), lambda folder: os.mkfifo(folder / path))


def listener(path: str) -> Change:
    """A socket in place of what is there."""

    def make(folder: Path) -> None:
        gone(path)(folder)
        # The name of a socket has at most 107 bytes.
        at = os.open(folder, os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(f"/proc/self/fd/{at}/{path}")
        finally:
            os.close(at)

    return make


def closed(path: str, mode: int = 0) -> Change:
    """Rights of a file or folder."""
    return lambda folder: (folder / path).chmod(mode)


def copied(path: str, to: str) -> Change:
    """A copy of a file or folder."""

    def make(folder: Path) -> None:
        if (folder / path).is_dir():
            shutil.copytree(folder / path, folder / to)
        else:
            (folder / to).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / path, folder / to)

    return make


def cut(path: str, share: float) -> Change:
    """The first part of a file."""

    def make(folder: Path) -> None:
        content = (folder / path).read_bytes()
        (folder / path).write_bytes(content[: int(len(content) * share)])

    return make


def spoiled(path: str, place: float, count: int = 64) -> Change:
    """Bytes of a file are 255 from a place on, as a share of its length."""

    def make(folder: Path) -> None:
        content = bytearray((folder / path).read_bytes())
        start = int(len(content) * place)
        end = min(start + count, len(content))
        content[start:end] = b"\xff" * (end - start)
        (folder / path).write_bytes(content)

    return make


def swapped(path: str, old: str, new: str) -> Change:
    """A text in place of another one, which is there."""

    def make(folder: Path) -> None:
        content = (folder / path).read_text()
        assert old in content, f"{path} has no {old}"
        (folder / path).write_text(content.replace(old, new))

    return make


def entries(path: str, **changed: Any) -> Change:
    """Other values of a JSON object; None removes one."""

    def make(folder: Path) -> None:
        document = json.loads((folder / path).read_bytes()) | changed
        kept = {key: value for key, value in document.items() if value is not None}
        (folder / path).write_text(json.dumps(kept))

    return make
