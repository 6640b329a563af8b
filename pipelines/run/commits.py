"""Commit records: the small files, written last, that say a work unit is finished."""

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from pipelines.run.areas import Tally
from pipelines.run.plan import CountUnit, Unit
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.tiling.windows import Window

# Of a tally: what records of 0.1.0 do not have, and those of today only where there is any.
_OPTIONAL = ("compared_pixels", "out_of_range", "worst_share")


@dataclass(frozen=True)
class Output:
    """One file that a unit wrote; the path is relative to the run directory."""

    path: str
    size: int
    sha256: str

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

    >>> number({"0": "3/2", "1": 7})
    {'0': Fraction(3, 2), '1': 7}
    """
    if isinstance(value, dict):
        return {key: number(entry) for key, entry in value.items()}
    return Fraction(value) if isinstance(value, str) else value


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
    """

    unit: str
    digest: str
    outputs: tuple[Output, ...]
    tally: Tally
    lost: tuple[tuple[int, int, int, int], ...] = ()
    smaller_batches: dict[str, int] = field(default_factory=dict)

    def outputs_in(self, folder: str) -> list[str]:
        """Paths of the outputs in a folder of the run directory."""
        return [entry.path for entry in self.outputs if entry.path.startswith(f"{folder}/")]

    def to_bytes(self) -> bytes:
        """As in the file."""
        fields = asdict(self)
        if not self.smaller_batches:
            del fields["smaller_batches"]
        for name in _OPTIONAL:
            if not fields["tally"][name]:
                del fields["tally"][name]
        return (json.dumps(fields, indent=1, default=_text) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Commit":
        """From the file.

        Raises:
            ValueError: If it is no commit record.
        """
        try:
            fields = json.loads(content)
            outputs = tuple(Output(**output) for output in fields["outputs"])
            tally = Tally(**{key: number(value) for key, value in fields["tally"].items()})
            lost = tuple(tuple(window) for window in fields["lost"])
            smaller = {str(key): int(n) for key, n in fields.get("smaller_batches", {}).items()}
            return cls(fields["unit"], fields["digest"], outputs, tally, lost, smaller)
        except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise ValueError(f"not a commit record: {error}") from error


class CommitLog:
    """The commit records of a run.

    Args:
        run: Run directory; outputs are named by their path in it.
        options: Digest of the options that shape labels and statistics.
        folder: Where the records are in the run directory.
        counting: Digest of what shapes counts of finished scenes as well.
    """

    def __init__(self, run: str, options: str, folder: str = "commits", counting: str = "") -> None:
        self.run, self.options, self.folder, self.counting = run, options, folder, counting

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
        return filesystem.exists(self.path(unit))

    def read(self, unit: Unit) -> Commit | None:
        """The record of a unit, or None if it is not finished.

        Raises:
            ValueError: If the record is damaged.
        """
        try:
            return Commit.from_bytes(filesystem.read_bytes(self.path(unit)))
        except FileNotFoundError:
            return None

    def read_only(self, unit_id: str) -> Commit | None:
        """The record of a unit of which nothing but the id is known, or None.

        There is one at most, once those of other inputs and options have been removed.
        """
        name = re.compile(rf"{re.escape(unit_id)}-[0-9a-f]{{16}}\.json")
        for found in filesystem.names_below(f"{self.run}/{self.folder}", f"{unit_id}-"):
            if name.fullmatch(found):
                content = filesystem.read_bytes(f"{self.run}/{self.folder}/{found}")
                return Commit.from_bytes(content)
        return None

    def read_all(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Commit | None]]:
        """Units, each with its record or None, in order; records are read in threads.

        Raises:
            ValueError: If a record is damaged.
        """
        return in_order(lambda unit: (unit, self.read(unit)), units)

    def write(
        self,
        unit: Unit,
        outputs: Iterable[Output],
        tally: Tally,
        scratch: str,
        lost: Iterable[Window] = (),
        smaller_batches: Mapping[tuple[int, int], int] = MappingProxyType({}),
    ) -> Commit:
        """Record that a unit is finished; of two attempts the first one stays."""
        windows = tuple((part.row, part.column, part.height, part.width) for part in lost)
        smaller = {f"{h}x{w}": size for (h, w), size in sorted(smaller_batches.items())}
        commit = Commit(unit.id, self.digest(unit), tuple(outputs), tally, windows, smaller)
        filesystem.create(self.path(unit), commit.to_bytes(), scratch)
        return commit

    def is_valid(self, unit: Unit, retry_failures: bool) -> bool:
        """Whether a finished unit stays finished: its record is sound and its outputs are there.

        Args:
            unit: Finished unit.
            retry_failures: Whether a unit in which an image failed is done again.
        """
        try:
            commit = self.read(unit)
        except ValueError:
            return False
        if commit is None or not self.is_intact(commit):
            return False
        return not (retry_failures and commit.tally.failed_images)

    def invalidate(self, unit: Unit) -> None:
        """Have a unit done again."""
        filesystem.remove(self.path(unit))

    def names(self) -> Iterator[str]:
        """File names of all records that are there, in order."""
        return filesystem.names_below(f"{self.run}/{self.folder}")

    def discard(self, name: str, planned: Container[str] = ()) -> None:
        """Remove a superseded or damaged record, after its outputs if it names them.

        Args:
            name: File name of the record.
            planned: Paths of outputs that stay until a unit of the plan writes them anew.
        """
        path = f"{self.run}/{self.folder}/{name}"
        try:
            outputs = Commit.from_bytes(filesystem.read_bytes(path)).outputs
        except FileNotFoundError:
            return
        except ValueError:
            outputs = ()
        for output in outputs:
            if output.path not in planned:
                filesystem.remove(f"{self.run}/{output.path}")
        filesystem.remove(path)

    def is_intact(self, commit: Commit) -> bool:
        """Whether all outputs are there with the size that the record says."""
        return all(
            filesystem.size_of(f"{self.run}/{output.path}") == output.size
            for output in commit.outputs
        )
