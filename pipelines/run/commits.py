"""Commit records: the small files, written last, that say a work unit is finished.

A record is believed if it is whole, by its seal, and that of the unit, and names only files that
the unit may write. What is not believed counts as absent: its unit is done again. Runs of 0.1.0
have no seals; `CommitLog.is_valid` compares their records with the rows in the tables of units.
"""

import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from pipelines.run.area_tables import agree, sums_of_rows
from pipelines.run.areas import Tally
from pipelines.run.directory import MAPS, OUTPUTS
from pipelines.run.plan import SCENE, CountUnit, Unit
from pipelines.run.seals import sealed, unsealed
from pipelines.run.soft_areas import soft_rows_agree
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import DamagedError
from segmodel.tiling.windows import Window

# Of a tally: what records of 0.1.0 do not have, and those of today only where there is any.
_OPTIONAL = ("compared_pixels", "out_of_range", "worst_share", "sums")
# Of a tally: what is counted; the rest is measured.
_COUNTS = (
    *("images", "failed_images", "pixels", "ground_pixels", "seam_pixels", "seam_differences"),
    *("compared_pixels", "out_of_range"),
)


@dataclass(frozen=True)
class Output:
    """One file that a unit wrote; the path is relative to the run directory."""

    path: str
    size: int
    sha256: str

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Output":
        """From a record.

        Raises:
            ValueError, TypeError: If the path leads out of the folder, or it is no output.
        """
        output = cls(**fields)
        filesystem.check_below(output.path)
        _count(output.size)
        if not _SHA256.fullmatch(output.sha256):
            raise ValueError(f"no SHA-256: {output.sha256!r}")
        return output

    @classmethod
    def of(cls, path: str, written: filesystem.Written | None) -> "Output":
        """A file that was written."""
        assert written is not None, f"{path} was not published"
        return cls(path, written.size, written.sha256)


def _text(value: object) -> str:
    """A fraction as text; JSON has no exact numbers."""
    if isinstance(value, Fraction):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not what a record holds")


def number(value: Any) -> Any:
    """A number that was text, also in a dictionary of numbers.

    Raises:
        ValueError: If it is none, or not finite, or below 0.

    >>> number({"0": "3/2", "1": 7})
    {'0': Fraction(3, 2), '1': 7}
    """
    if isinstance(value, dict):
        return {key: number(entry) for key, entry in value.items()}
    if isinstance(value, str) and _FRACTION.fullmatch(value):
        return Fraction(value)
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"no number of pixels, or area: {value!r}")
    return value


def _count(value: Any) -> None:
    """Raise ValueError if a number is not whole, or below 0; also in a dictionary of numbers."""
    for entry in value.values() if isinstance(value, dict) else (value,):
        if type(entry) is not int or entry < 0:
            raise ValueError(f"no number of pixels: {entry!r}")


def _inputs(found: Any) -> tuple[str | None, ...]:
    """The checksums of a record.

    Raises:
        ValueError, TypeError: If they are none.
    """
    if not isinstance(found, list) or not found:
        raise ValueError(f"no list of inputs: {found!r}")
    for entry in found:
        if entry is not None and not _CRC32C.fullmatch(entry):
            raise ValueError(f"no CRC-32C: {entry!r}")
    return tuple(found)


_FRACTION = re.compile(r"[0-9]+(/[1-9][0-9]*)?")
_CRC32C = re.compile(r"[0-9a-f]{8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _tally(fields: dict[str, Any]) -> Tally:
    """The tally of a record.

    Raises:
        ValueError, TypeError: If it is none, or a number is missing, not finite or below 0.
    """
    tally = Tally(**{key: number(value) for key, value in fields.items()})
    for name in ("area_m2", "confidence_sum", "pixels", "ground_pixels", "out_of_range"):
        if not isinstance(getattr(tally, name), dict):
            raise ValueError(f"{name} is no object")
    if not isinstance(tally.sums, dict) or not all(
        isinstance(e, dict) for e in tally.sums.values()
    ):
        raise ValueError("sums are no objects by name")
    for name in _COUNTS:
        _count(getattr(tally, name))
    return tally


@dataclass(frozen=True)
class Commit:
    """What a finished unit did.

    Args:
        unit: Id of the unit.
        digest: Digest of its input and options.
        outputs: Files that it wrote.
        tally: Pixels and areas of its images.
        lost: Row, column, height and width of what could not be read of a scene.
        smaller_batches: Windows in a batch where memory did not hold as many as the run has, by
            their height and width, such as `{"256x256": 8}`: near ties, labels may differ.
        inputs: CRC-32C of what was read of each file of the unit, in their order, as 8 hex digits;
            None where nothing could be read. Empty where nothing is known.
        is_sealed: Whether the record is to have a seal, or has one.
    """

    unit: str
    digest: str
    outputs: tuple[Output, ...]
    tally: Tally
    lost: tuple[tuple[int, int, int, int], ...] = ()
    smaller_batches: dict[str, int] = field(default_factory=dict)
    inputs: tuple[str | None, ...] = ()
    is_sealed: bool = field(default=True, compare=False)

    def outputs_in(self, folder: str) -> list[str]:
        """Paths of the outputs in a folder of the run directory."""
        return [entry.path for entry in self.outputs if entry.path.startswith(f"{folder}/")]

    def digests_of(self, path: str) -> list[str]:
        """SHA-256 of the outputs at a path: one, or none."""
        return [entry.sha256 for entry in self.outputs if entry.path == path]

    def to_bytes(self) -> bytes:
        """As in the file."""
        fields = asdict(self)
        del fields["is_sealed"]
        for name in ("smaller_batches", "inputs"):
            if not fields[name]:
                del fields[name]
        for name in _OPTIONAL:
            if not fields["tally"][name]:
                del fields["tally"][name]
        text = json.dumps(fields, indent=1, default=_text)
        return sealed(text) if self.is_sealed else f"{text}\n".encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Commit":
        """From the file.

        Raises:
            ValueError: If it is no commit record.
        """
        try:
            fields, is_sealed = unsealed(content)
            outputs = tuple(map(Output.from_json, fields.pop("outputs")))
            tally = _tally(fields.pop("tally"))
            lost = tuple(tuple(window) for window in fields.pop("lost"))
            smaller = {str(key): int(n) for key, n in fields.pop("smaller_batches", {}).items()}
            inputs = _inputs(fields.pop("inputs")) if "inputs" in fields else ()
            unit, digest = fields.pop("unit"), fields.pop("digest")
            if fields:
                raise ValueError(f"unknown: {', '.join(fields)}")
            return cls(unit, digest, outputs, tally, lost, smaller, inputs, is_sealed)
        except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise ValueError(f"not a commit record: {error}") from error


def _is_in_run(unit_id: str, path: str) -> bool:
    """Whether a unit of `segment` may write a file; label maps are called as their inputs."""
    folder, _, name = path.partition("/")
    return folder in OUTPUTS and (folder in MAPS or name.startswith(unit_id))


@dataclass(frozen=True)
class CommitLog:
    """The commit records of a run.

    Args:
        run: Run directory; outputs are named by their path in it.
        options: Digest of the options that shape labels and statistics.
        folder: Where the records are in the run directory.
        counting: Digest of what shapes counts of finished scenes as well.
        is_sealed: Whether the run began with seals, so that a record without one is damaged.
        nodata: Value of nodata in label maps, by which records without a seal are compared with
            tables of rows; None where there are no such tables.
        may_write: Whether a unit, by its id, may write a file, by its path.
    """

    run: str
    options: str
    folder: str = "commits"
    counting: str = ""
    is_sealed: bool = True
    nodata: int | None = None
    may_write: Callable[[str, str], bool] = _is_in_run

    def name(self, unit: Unit) -> str:
        """File name of the record of a unit; it changes with the input and the options."""
        return f"{unit.id}-{self.digest(unit)}.json"

    def digest(self, unit: Unit) -> str:
        """16 hex digits for all that the outputs of a unit follow from."""
        return unit.digest(self.options + (self.counting if isinstance(unit, CountUnit) else ""))

    def path(self, unit: Unit) -> str:
        """Where the record of a unit is."""
        return f"{self.run}/{self.folder}/{self.name(unit)}"

    def is_done(self, unit: Unit) -> bool:
        """Whether the unit is finished with this input and these options."""
        return self.read(unit) is not None

    def read(self, unit: Unit) -> Commit | None:
        """The record of a unit, or None if it is not finished; a damaged record is none."""
        try:
            return self.load_of(unit)
        except ValueError:
            return None

    def load_of(self, unit: Unit) -> Commit | None:
        """The record of a unit, or None if it is not finished.

        Raises:
            ValueError: As `load`, and if it is not of as many inputs.
        """
        commit = self.load(self.name(unit))
        if commit is not None and len(commit.inputs) not in (0, len(unit.files)):
            raise ValueError("the record is that of other inputs")
        return commit

    def load(self, name: str) -> Commit | None:
        """The record of a file name, or None if there is no such file.

        Raises:
            ValueError: If the record is damaged, or not the one that belongs there.
        """
        try:
            commit = Commit.from_bytes(filesystem.read_bytes(f"{self.run}/{self.folder}/{name}"))
        except FileNotFoundError:
            return None
        if self.is_sealed and not commit.is_sealed:
            raise ValueError("the record has no seal")
        if f"{commit.unit}-{commit.digest}.json" != name:
            raise ValueError("the record is that of another unit")
        for output in commit.outputs:
            if not self.may_write(commit.unit, output.path):
                raise ValueError(f"not what a unit writes: {output.path!r}")
        return commit

    def read_only(self, unit_id: str) -> Commit | None:
        """The record of a unit of which nothing but the id is known, or None.

        There is one at most, once those of other inputs and options have been removed.
        """
        name = re.compile(rf"{re.escape(unit_id)}-[0-9a-f]{{16}}\.json")
        for found in filesystem.names_below(f"{self.run}/{self.folder}", f"{unit_id}-"):
            if name.fullmatch(found):
                with suppress(ValueError):
                    return self.load(found)
        return None

    def read_all(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Commit | None]]:
        """Units, each with its record or None, in order; records are read in threads."""
        return in_order(lambda unit: (unit, self.read(unit)), units)

    def write(
        self,
        unit: Unit,
        outputs: Iterable[Output],
        tally: Tally,
        lost: Iterable[Window] = (),
        smaller_batches: Mapping[tuple[int, int], int] = MappingProxyType({}),
        inputs: Iterable[str | None] = (),
    ) -> Commit:
        """Record that a unit is finished; of two attempts the first one stays, unless damaged.

        In a run that began without seals, records have none: they are as its release writes them.
        """
        windows = tuple((part.row, part.column, part.height, part.width) for part in lost)
        smaller = {f"{h}x{w}": size for (h, w), size in sorted(smaller_batches.items())}
        known = tuple(inputs) if self.is_sealed else ()
        rest = windows, smaller, known, self.is_sealed
        commit = Commit(unit.id, self.digest(unit), tuple(outputs), tally, *rest)
        content = commit.to_bytes()
        # Of the folder that has plan and records, which for shards that are written is another one.
        scratch = filesystem.scratch_of(f"{self.run}/{self.folder}".rpartition("/")[0])
        if not filesystem.create(self.path(unit), content, scratch) and not self.is_done(unit):
            filesystem.write_bytes(self.path(unit), content, scratch)
        return commit

    def is_valid(self, unit: Unit, retry_failures: bool) -> bool:
        """Whether a finished unit stays finished: its record is sound and its outputs are there.

        Args:
            unit: Finished unit.
            retry_failures: Whether a unit in which an image failed is done again.
        """
        commit = self.read(unit)
        if commit is None or not self.is_sound(unit, commit):
            return False
        return not (retry_failures and commit.tally.failed_images)

    def is_sound(self, unit: Unit, commit: Commit) -> bool:
        """Whether all that a record says is there, and says the same."""
        if not self.is_intact(commit):
            return False
        return commit.is_sealed or not self.contradiction(unit, commit)

    def invalidate(self, unit: Unit) -> None:
        """Have a unit done again."""
        filesystem.remove_below_root(self.run, f"{self.folder}/{self.name(unit)}")

    def reconcile(
        self, units: Iterable[Unit], retry_failures: bool, planned: Container[str] = ()
    ) -> None:
        """Remove records that earlier attempts left and that are not those of sound units.

        Args:
            units: Units of the plan; asked for only if there is a record.
            retry_failures: Whether a unit in which an image failed is done again.
            planned: Paths of outputs that stay until a unit of the plan writes them anew.
        """
        found = set(self.names())
        known = {self.name(unit): unit for unit in units} if found else {}
        for name in found - known.keys():
            self.discard(name, planned)
        # What was discarded may have been named by another record too.
        for name in found & known.keys():
            if not self.is_valid(known[name], retry_failures):
                self.invalidate(known[name])

    def names(self) -> Iterator[str]:
        """File names of all records that are there, in no order."""
        return filesystem.unsorted_names(f"{self.run}/{self.folder}")

    def discard(self, name: str, planned: Container[str] = ()) -> None:
        """Remove a superseded or damaged record, after its outputs if it can be believed.

        Args:
            name: File name of the record.
            planned: Paths of outputs that stay until a unit of the plan writes them anew.
        """
        with suppress(ValueError):
            commit = self.load(name)
            for output in () if commit is None else commit.outputs:
                if output.path not in planned:
                    filesystem.remove_below_root(self.run, output.path)
        filesystem.remove_below_root(self.run, f"{self.folder}/{name}")

    def is_intact(self, commit: Commit) -> bool:
        """Whether all outputs are there with the size that the record says.

        Those that the end of a run reads must have the recorded bytes as well.
        """
        return all(self._is_there(output, commit) for output in commit.outputs)

    def _is_there(self, output: Output, commit: Commit) -> bool:
        is_read = output.path.endswith((".jsonl", ".json"))
        if is_read or (commit.tally.worst_share and output.path.endswith(".parquet")):
            try:
                return bool(next(self.lines(output), b""))
            except (FileNotFoundError, DamagedError):
                return False
        return filesystem.size_of(f"{self.run}/{output.path}") == output.size

    def content(self, output: Output) -> bytes:
        """Bytes of an output that fits in memory.

        Raises:
            FileNotFoundError: If it is not there.
            DamagedError: If the bytes are not the recorded ones.
        """
        content = filesystem.read_bytes(f"{self.run}/{output.path}")
        if hashlib.sha256(content).hexdigest() != output.sha256:
            raise _damaged(output)
        return content

    def lines(self, output: Output) -> Iterator[bytes]:
        """Lines of an output of any length, which is read as a whole before the first of them.

        Raises:
            FileNotFoundError: If it is not there.
            DamagedError: If the bytes are not the recorded ones.
        """
        path = f"{self.run}/{output.path}"
        if filesystem.sha256(path) != output.sha256:
            raise _damaged(output)
        with filesystem.open_stream(path) as stream:
            yield from stream

    def contradiction(self, unit: Unit, commit: Commit) -> str | None:
        """What of a unit says other numbers than its record, or None.

        Args:
            unit: Unit whose outputs are as recorded.
            commit: Record of the unit.

        Returns:
            Path of a file with other numbers, or the folder of the records if numbers in the
            record contradict each other.
        """
        tally = commit.tally
        for output in commit.outputs:
            # Label maps may be in Parquet shards.
            if output.path.startswith("areas/") and self.nodata is not None:
                rows = sums_of_rows(io.BytesIO(self.content(output)), self.nodata)
                if not agree(tally, rows):
                    return output.path
            has_soft = output.path.startswith("soft/")
            if has_soft and not soft_rows_agree(tally, io.BytesIO(self.content(output))):
                return output.path
            has_failures = output.path.endswith(".jsonl") and unit.format != SCENE
            if has_failures and sum(1 for _ in self.lines(output)) != tally.failed_images:
                return output.path
        if isinstance(unit, CountUnit) and tally.area_m2 and tally.pixels != tally.ground_pixels:
            return self.folder
        return None


def _damaged(output: Output) -> DamagedError:
    return DamagedError(
        f"{output.path} is not what its commit record says: run the same command again"
    )
