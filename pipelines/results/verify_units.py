"""Whether a finished unit left what its commit record says: size and SHA-256 of every file."""

import hashlib
from dataclasses import dataclass, replace

from pyarrow import ArrowException

from pipelines.run.commits import Commit, CommitLog, Output
from pipelines.run.failures import reason_of
from pipelines.run.plan import Unit
from pipelines.storage import filesystem

# What JSON of other content raises on its way to a unit, a record or a sum.
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError)

AGAIN = "run the same `beamseg segment` again"
INVALIDATE = "run `beamseg verify` with --invalidate, then the same `beamseg segment` again"
UNREADABLE = "make it readable or remove it, then verify again"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Args:
        path: Path within the run directory.
        wrong: What is wrong with that file.
        remedy: Advice to the user.
    """

    path: str
    wrong: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path} {self.wrong}: {self.remedy}"


@dataclass(frozen=True)
class CheckedUnit:
    """Result of checking one unit.

    Args:
        unit: Unit that was checked.
        commit: Commit record of the unit, or None if it has none that is valid.
        unfinished: Whether the unit has no commit record at all.
        outputs: Outputs that should be there.
        names: Keys of the paths of the record and of these outputs, see `path_key`.
        findings: Everything that is wrong with the unit.
    """

    unit: Unit
    commit: Commit | None
    unfinished: bool
    outputs: tuple[Output, ...]
    names: tuple[int, ...]
    findings: tuple[Finding, ...]

    @property
    def must_be_invalidated(self) -> bool:
        """Whether the unit must be done again although it has a commit record."""
        return any(finding.remedy == INVALIDATE for finding in self.findings)

    def invalidated(self, remedy: str) -> "CheckedUnit":
        """The same with another remedy for all that is wrong."""
        return replace(self, findings=tuple(replace(f, remedy=remedy) for f in self.findings))


def check_unit(unit: Unit, log: CommitLog, is_assembled: bool) -> CheckedUnit:
    """Check the record of a unit and the files that it names.

    Args:
        unit: Unit to check.
        log: Commit records of the run.
        is_assembled: Whether the unit is a block of a finished scene. Its label map and its rows
            are then part of those of the scene, and only its rows of failures are left.
    """
    path = f"{log.folder}/{log.name(unit)}"
    commit, wrong = None, None
    try:
        commit = log.load_of(unit)
    except ValueError:
        wrong = Finding(path, f"is no commit record of {unit.id}", INVALIDATE)
    except OSError as error:
        wrong = Finding(path, f"cannot be read ({reason_of(error)})", UNREADABLE)
    unfinished = commit is None and wrong is None
    if unfinished:
        what = {"part": "unit", "scenes": "scene", "counts": "count"}[unit.kind]
        wrong = Finding(path, f"is not there, the {what} is not finished", AGAIN)
    outputs = () if commit is None else commit.outputs
    if is_assembled:
        outputs = tuple(o for o in outputs if o.path.startswith("failures/"))
    findings = [wrong, *(check_output(output, log.run) for output in outputs)]
    if commit is not None and not (is_assembled or any(findings)):
        findings.append(_contradiction(unit, commit, log))
    return CheckedUnit(
        unit=unit,
        commit=commit,
        unfinished=unfinished,
        outputs=outputs,
        names=(path_key(path), *(path_key(output.path) for output in outputs)),
        findings=tuple(finding for finding in findings if finding is not None),
    )


def _contradiction(unit: Unit, commit: Commit, log: CommitLog) -> Finding | None:
    """A file of a unit that has other numbers than its record, or None."""
    try:
        path = log.contradiction(unit, commit)
    except (*MALFORMED, OSError, ArrowException):
        path = log.folder
    if path is None:
        return None
    if path == log.folder:
        return Finding(f"{path}/{log.name(unit)}", "has numbers that do not agree", INVALIDATE)
    return Finding(path, "has rows that do not add up to what is recorded", INVALIDATE)


def check_output(output: Output, run: str) -> Finding | None:
    """What is wrong with a file that a unit wrote, or None.

    Args:
        output: What the commit record says of the file.
        run: Run directory.

    >>> check_output(Output("labels/a.png", 3, "0a"), "no-run").wrong
    'is not there'
    """
    path, uri = output.path, f"{run}/{output.path}"
    try:
        size = filesystem.size_of(uri)
        if size is None:
            return Finding(path, "is not there", INVALIDATE)
        if size != output.size:
            return Finding(path, f"has {size} bytes, {output.size} are recorded", INVALIDATE)
        if filesystem.sha256(uri) != output.sha256:
            return Finding(path, "has the recorded size, but not the recorded SHA-256", INVALIDATE)
    except (OSError, ValueError) as error:
        return Finding(path, f"cannot be read ({reason_of(error)})", UNREADABLE)
    return None


def path_key(path: str) -> int:
    """8 bytes of a digest, as a number, in place of a path; also of an id.

    >>> path_key("labels/a.png")
    10724407220164734525
    """
    encoded = path.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big")
