"""Whether the inputs of finished units are what their label maps were made from.

What was read of each input has a checksum in the commit record. It is made again of the input as it
is now, whatever its time or version: a copy that was put back is the same input.
"""

from dataclasses import dataclass, replace

from pipelines.formats.work import Work
from pipelines.results.verify_units import Finding
from pipelines.run.failures import reason_of
from pipelines.run.plan import InputFile, WorkUnit
from pipelines.storage import filesystem, locations
from pipelines.worker.read_again import read_again
from segmodel.errors import BeamsegError

CHANGED = (
    "restore it; or run `beamseg verify` with --inputs --invalidate, then the same `beamseg "
    "segment` again"
)
MISSING = (
    "restore it; verify in the folder that `beamseg segment` was run in, if its path is relative"
)
UNREAD = "restore it or make it readable, then verify again"


@dataclass(frozen=True)
class CheckedInputs:
    """Result of reading the inputs of one unit again.

    Args:
        unit: Unit whose inputs were read.
        is_known: Whether its commit record has checksums of them, and they are not gone from the
            run; else nothing was read.
        findings: Everything that is wrong with the inputs.
    """

    unit: WorkUnit
    is_known: bool
    findings: tuple[Finding, ...] = ()

    @property
    def is_changed(self) -> bool:
        """Whether the unit has to be done again for its label maps to be those of its inputs."""
        return any(finding.remedy == CHANGED for finding in self.findings)

    def invalidated(self, remedy: str) -> "CheckedInputs":
        """The same with another remedy for inputs that have changed."""
        found = (replace(f, remedy=remedy) if f.remedy == CHANGED else f for f in self.findings)
        return replace(self, findings=tuple(found))


def check_inputs(unit: WorkUnit, work: Work) -> CheckedInputs | None:
    """Compare the inputs of a unit with its commit record; None if the unit is not finished."""
    try:
        commit = work.log.read(unit)
    except OSError:
        # Which is a finding of its own.
        return None
    if commit is None:
        return None
    if unit.gone or not commit.inputs:
        return CheckedInputs(unit, is_known=False)
    found, missing = _as_they_are(unit)
    checksums: dict[str, str | None] = {}
    faults: dict[str, str] = {}
    if found:
        try:
            now = replace(unit, files=tuple(found.values()))
            read, faults = read_again(now, work)
            checksums = dict(zip(found, read, strict=True))
        except (BeamsegError, OSError) as error:
            faults = dict.fromkeys(found, reason_of(error))
    faults |= missing
    pairs = zip(unit.files, commit.inputs, strict=True)
    findings = (
        _finding(file, found.get(file.key), checksums.get(file.key), recorded, faults)
        for file, recorded in pairs
        if recorded is not None
    )
    return CheckedInputs(unit, True, tuple(f for f in findings if f is not None))


def _as_they_are(unit: WorkUnit) -> tuple[dict[str, InputFile], dict[str, str]]:
    """Files of a unit by key as they are now; and what is wrong with those that are not found."""
    found, faults = {}, {}
    for file in unit.files:
        try:
            now = _as_it_is(file)
        except (BeamsegError, OSError) as error:
            faults[file.key] = reason_of(error)
            continue
        if now is not None:
            found[file.key] = now
    return found, faults


def _as_it_is(file: InputFile) -> InputFile | None:
    """A file with the size and version that it has now, or None if there is none.

    What only GDAL can find is read in any version.
    """
    if not locations.is_one_file(file.uri):
        return replace(file, version="")
    found = filesystem.stat(file.uri)
    if found is None:
        return None
    of_others = file.version.removeprefix(file.stat[1])
    return replace(file, size=found.size, version=f"{found.version}{of_others}")


def _finding(
    planned: InputFile,
    now: InputFile | None,
    checksum: str | None,
    recorded: str,
    faults: dict[str, str],
) -> Finding | None:
    """What is wrong with an input, or None."""
    name = f"input {planned.key}"
    if checksum == recorded:
        return None
    if checksum is None and planned.key in faults:
        return Finding(name, f"cannot be read ({faults[planned.key]})", UNREAD)
    if now is None:
        return Finding(name, "is not there", MISSING)
    if now.version and now.stat != planned.stat:
        return Finding(name, "was replaced by other content, of another time or version", CHANGED)
    return Finding(name, "has other content than was labelled", CHANGED)
