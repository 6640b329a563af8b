"""Failures: one row per image that could not be labelled."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Self

from pipelines.run.commits import Output
from pipelines.run.directory import RunDirectory
from pipelines.storage import filesystem
from segmodel.errors import BeamsegError, FailureCode, is_transient
from segmodel.escaping import without_credentials


@dataclass(frozen=True)
class Failure:
    """One image that failed.

    Args:
        uri: The input file, as folder and name.
        key: Name of the image within a shard, block within a scene, or None.
        stage: `open`, `read`, `record` (of a shard), `name` (that no file can have), `mask` (of an
            image that is packed or evaluated), `range` (of values, judged at the end of a run) or
            `layer` (of a finished label map).
        reason: What was wrong, for a person, without the name of the file.
        transient: Whether a later attempt may succeed.
        code: What was wrong, for a program: a `FailureCode`.
    """

    uri: str
    key: str | None
    stage: str
    reason: str
    transient: bool = False
    code: str = FailureCode.OTHER.value

    @classmethod
    def of(cls, uri: str, key: str | None, stage: str, error: BaseException) -> Self:
        """The failure of an image by the error that it met, with the code that the error has."""
        return cls(uri, key, stage, reason_of(error), code=code_of(error).value)

    @property
    def name(self) -> str:
        """File and image, as a line on the screen names them."""
        return self.uri if self.key is None else f"{self.uri} {self.key}"

    def to_json(self) -> str:
        """One line of a failures file."""
        return json.dumps(asdict(self), ensure_ascii=False)


def reraise_transient(error: Exception) -> None:
    """Raise a transient error, or an internal one, which says nothing about the image."""
    if is_transient(error) or not isinstance(error, BeamsegError | OSError):
        raise error


def reason_of(error: BaseException) -> str:
    """What was wrong, without the name of the input, paths of this machine and credentials."""
    if isinstance(error, BeamsegError) and error.text:
        return without_credentials(error.text)
    if isinstance(error, OSError) and error.strerror:
        return without_credentials(error.strerror)
    return without_credentials(str(error)) or type(error).__name__


def code_of(error: BaseException) -> FailureCode:
    """The code of a failure by this error.

    >>> code_of(FileNotFoundError(2, "gone")).value
    'not_found'
    """
    if isinstance(error, BeamsegError):
        return error.code
    if isinstance(error, FileNotFoundError):
        return FailureCode.NOT_FOUND
    if isinstance(error, PermissionError):
        return FailureCode.NO_PERMISSION
    return FailureCode.CANNOT_READ if isinstance(error, OSError) else FailureCode.OTHER


class UnitFailures:
    """Failures of a unit, written as they come, so that a shard of any length takes no memory.

    Args:
        run: The run directory.
        path: Path of the temporary file that they are written to.
        stream: That file, open.
    """

    def __init__(self, run: RunDirectory, path: str, stream: IO[str]) -> None:
        self._run, self._path, self._stream = run, path, stream

    def add(self, failure: Failure) -> None:
        """Add a row."""
        self._stream.write(failure.to_json() + "\n")

    def publish(self, unit_id: str) -> list[Output]:
        """Give the file its name, in place of earlier failures of the unit.

        Args:
            unit_id: Id of the unit.

        Returns:
            The file, below the run directory; none without failures.
        """
        name = f"failures/{unit_id}.jsonl"
        self._stream.close()
        if not os.path.getsize(self._path):
            filesystem.remove(self._run.path(name))
            return []
        return [Output.of(name, filesystem.publish(self._path, self._run.path(name)))]


@contextmanager
def unit_failures(run: RunDirectory) -> Iterator[UnitFailures]:
    """A new table of failures, for the time of the block."""
    with (
        filesystem.temporary(run.scratch) as path,
        open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream,
    ):
        yield UnitFailures(run, path, stream)


def write_unit_failures(
    run: RunDirectory, unit_id: str, failures: Iterable[Failure]
) -> list[Output]:
    """Write all failures of a unit, in place of earlier ones; see `UnitFailures.publish`."""
    with unit_failures(run) as table:
        for failure in failures:
            table.add(failure)
        return table.publish(unit_id)
