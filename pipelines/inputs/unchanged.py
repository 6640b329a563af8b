"""Whether input files of this machine are the same before and after they are read.

Stores answer for one version of an object. A path may lead to another file at any time, and back to
the first.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pipelines.run.plan import InputFile
from pipelines.storage import locations
from pipelines.storage.clients.interface import replaced_error
from pipelines.storage.clients.local import status_of

# Beside a raster, GDAL reads these.
_BESIDE = ("", ".msk", ".aux.xml")

State = tuple[int, int, int, int, int]


@contextmanager
def unchanged(files: Iterable[InputFile]) -> Iterator[None]:
    """Have the block read files as they were listed, and stay so until its end.

    Compared are size and time of modification, with those of the plan too, and inode, device and
    time of change: what is put back with its time has another of these.

    Args:
        files: Files that the block reads; those that are not there, it reports.

    Raises:
        TransientError: If a file is another one than was planned, or at the end another one than at
            the beginning.
        OSError: If a file cannot be asked for.
    """
    single = (file for file in files if locations.is_one_file(file.uri))
    here = [file for file in single if not locations.is_remote(file.uri)]
    before = {path: _state(path) for file in here for path in _with_beside(file.uri)}
    for file in here:
        state = before[file.uri]
        if state is not None and (state[0], str(state[1])) != file.stat:
            raise replaced_error(file.key)
    yield
    for file in here:
        if any(_state(path) != before[path] for path in _with_beside(file.uri)):
            raise replaced_error(file.key)


def _with_beside(uri: str) -> list[str]:
    return [uri + suffix for suffix in _BESIDE]


def _state(path: str) -> State | None:
    """Size, time of modification, inode, device and time of change; None where there is no file."""
    try:
        found = status_of(path)
    except PermissionError:
        return None
    if found is None:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev, found.st_ctime_ns
