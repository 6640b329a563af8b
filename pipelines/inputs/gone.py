"""Inputs of an earlier attempt that a new listing does not find any more."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType

from pipelines.inputs.catalogue import NameSet
from pipelines.run import plan
from pipelines.run.commits import CommitLog
from pipelines.run.plan import CountUnit, InputFile, U, Unit
from pipelines.storage import locations
from segmodel.errors import ConfigurationError, counted
from segmodel.escaping import on_one_line

STOP, KEEP, PRUNE = "stop", "keep", "prune"
EXAMPLES = 3


def find_gone(planned: Callable[[], Iterable[InputFile]], found: Iterable[InputFile]) -> NameSet:
    """Keys of planned files that are not found, or that have lost all their bytes.

    Args:
        planned: Returns the files of the plan on disk; one may come several times.
        found: Files of the new listing.
    """
    gone, empty = NameSet(file.key for file in planned()), NameSet()

    def with_bytes() -> Iterator[str]:
        for file in found:
            if _is_empty(file):
                empty.update([file.key])
            else:
                yield file.key

    gone.difference_update(with_bytes())
    if empty:
        gone.difference_update(f.key for f in planned() if not f.size and f.key in empty)
    return gone


def _is_empty(file: InputFile) -> bool:
    """Whether a file has no bytes; a web server does not always say how many there are."""
    return not file.size and not locations.is_read_by_gdal(file.uri)


def files_of(units: Iterable[Unit]) -> Iterator[InputFile]:
    """Input files of units, in order."""
    return (file for unit in units for file in unit.files)


def some_of(gone: NameSet, reasons: Mapping[str, str] = MappingProxyType({})) -> str:
    """Number and a few examples of what is gone, for a message; empty where nothing is.

    Args:
        gone: Keys of what is gone.
        reasons: Why, for those that are there.

    >>> some_of(NameSet(["in/a.tif", "in/b.tif"]), {"in/b.tif": "a corrupt TIFF"})
    '2 inputs (in/a.tif, in/b.tif: a corrupt TIFF)'
    """
    if not gone:
        return ""
    named = (f"{name}: {reasons[name]}" if name in reasons else name for name in gone)
    examples = [on_one_line(text) for text in islice(named, EXAMPLES)]
    more = ", ..." if len(gone) > len(examples) else ""
    return f"{counted(len(gone), 'input')} ({', '.join(examples)}{more})"


@dataclass
class EarlierPlan:
    """The plan that an earlier attempt left, of which lines may be damaged.

    Args:
        folder: Folder of the plan.
    """

    folder: str
    _damaged: set[str] = field(default_factory=set)

    def units(self, *kinds: type[U]) -> Iterator[U]:
        """Units of some kinds, without those whose lines are damaged."""
        for kind in kinds:
            yield from plan.read_units(self.folder, kind, self._damaged.add)

    def check_known(
        self, log: CommitLog, planned: Callable[[], Iterable[Unit]], others: str
    ) -> None:
        """Refuse to continue where a damaged line is of a finished unit that is planned otherwise.

        It is not known then whether inputs of the unit are gone.

        Args:
            log: Commit records of the earlier attempt.
            planned: Returns the units of the new plan.
            others: What to do where finished results may be removed.

        Raises:
            ConfigurationError: If there is such a unit; names some, and the remedies.
        """
        known = NameSet(unit.id for unit in self.units(*plan.KINDS))
        if not self._damaged:
            return
        known.update(unit.id for unit in planned() if isinstance(unit, CountUnit))
        same = NameSet(log.name(unit) for unit in planned())
        lost = NameSet(
            name
            for name in log.names()
            if name not in same and name.rpartition("-")[0] not in known
        )
        if lost:
            parts, records = (
                ", ".join(islice(names, EXAMPLES)) for names in (sorted(self._damaged), lost)
            )
            raise ConfigurationError(
                f"{self.folder} is damaged (in {parts}), and it is not known which inputs "
                f"{len(lost)} finished units had that are planned otherwise now ({records}). "
                f"Nothing was changed. Put the inputs back as they were; {others}"
            )


def check_gone(gone: str, output: str, option: str, others: str) -> None:
    """Refuse to continue where inputs are gone.

    Args:
        gone: Number and examples of what is gone, as `some_of` gives them.
        output: Folder of the earlier results.
        option: Option that names inputs.
        others: What to do where it is meant.

    Raises:
        ConfigurationError: If anything is gone; names some of it, and the remedies.
    """
    if gone:
        raise ConfigurationError(
            f"{output} was begun with inputs that are not found, empty or unusable now: "
            f"{gone}. Nothing was changed. Mount the disk, or correct {option} or --output; "
            f"{others}"
        )
