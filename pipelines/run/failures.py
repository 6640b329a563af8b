"""Failures: one row per image that could not be labelled."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Self

from pipelines.run.commits import Output
from pipelines.run.directory import RunDirectory
from pipelines.storage import filesystem
from segmodel.errors import BeamsegError, FailureCode, is_transient


@dataclass(frozen=True)
class Failure:
    """One image that failed.

    Args:
        uri: The input file, as folder and name.
        key: Name of the image within a shard, block within a scene, or None.
        stage: `open`, `read`, `record` (of a shard), `name` (that no file can have), `mask` (of an
            image that is packed) or `range` (of values, judged at the end of a run).
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
    """What was wrong, without the name of the input and paths of this machine."""
    if isinstance(error, BeamsegError) and error.text:
        return error.text
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


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


def write_unit_failures(
    run: RunDirectory, unit_id: str, failures: Iterable[Failure]
) -> list[Output]:
    """Write the failures of a unit, in place of earlier ones.

    Args:
        run: The run directory.
        unit_id: Id of the unit.
        failures: All that failed in it.

    Returns:
        The file that was written, below the run directory; none without failures.
    """
    path = f"failures/{unit_id}.jsonl"
    lines = "".join(failure.to_json() + "\n" for failure in failures)
    if not lines:
        filesystem.remove(run.path(path))
        return []
    return [Output.of(path, run.write(path, lines.encode("utf-8", "backslashreplace")))]
