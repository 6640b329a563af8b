"""Rows of tables that workers make part by part of the plan, so that the end of a run merges them.

They follow from the plan and its commit records. So they are made anew where another run into the
same directory has ended meanwhile, and removed them.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.formats.work import Work
from pipelines.results.failure_table import failures_of
from pipelines.results.value_range import RangeCheck
from pipelines.run import plan
from pipelines.run.directory import ROWS
from pipelines.run.plan import CountUnit
from pipelines.scenes.finished import map_rows
from pipelines.scenes.label_list import MapCatalogue
from pipelines.scenes.results import counts_of, overlap_rows
from pipelines.storage import filesystem

# Names of a table and of a part of the plan that has rows of it.
TablePart = tuple[str, str]


@dataclass(frozen=True)
class PartTable:
    """A table whose rows follow from parts of the plan.

    Args:
        name: Name of the table.
        rows_of: Rows of a part, as JSON has them, given its name and what all units share.
    """

    name: str
    rows_of: Callable[[str, Work], Iterator[Any]]

    def store(self, part: str, work: Work) -> None:
        """Write the rows of a part, for whoever merges them."""

        def write() -> None:
            path = work.run.path(self._path(part))
            with (
                filesystem.write_atomic(path, work.run.scratch) as draft,
                open(draft.path, "w", encoding="ascii") as stream,
            ):
                stream.writelines(f"{json.dumps(row)}\n" for row in self.rows_of(part, work))

        filesystem.retry_if_cleared(write)

    def read(self, part: str, work: Work) -> Iterator[Any]:
        """The rows of a part, in order."""
        try:
            stream = filesystem.open_stream(work.run.path(self._path(part)))
        except FileNotFoundError:
            yield from self.rows_of(part, work)
            return
        with stream:
            yield from map(json.loads, stream)

    def merged(self, parts: Iterable[TablePart], work: Work) -> Iterator[Any]:
        """The rows of all parts that have some, in order of the plan."""
        own = (part for name, part in parts if name == self.name)
        for part in sorted(own, key=plan.rank_of):
            yield from self.read(part, work)

    def _path(self, part: str) -> str:
        return f"{ROWS}/{self.name}/{part}"


def _failures(part: str, work: Work) -> Iterator[dict[str, Any]]:
    """Failed images of a part."""
    ranges = RangeCheck(work.run.root, work.contract, work.max_out_of_range)
    units = (unit for _, unit in plan.read_part(work.run.plan, part))
    for unit, commit in work.log.read_all(units):
        if commit is not None:
            yield from map(asdict, failures_of(commit, work.log))
            yield from map(asdict, ranges.failures_of(unit, commit))


def _overlaps(part: str, work: Work) -> Iterator[list[object]]:
    """What of the scenes of a part counts in other ones."""
    return overlap_rows(counts_of(plan.units_of_part(work.run.plan, part, CountUnit), work.log))


def label_maps(parts: Iterable[TablePart], work: Work) -> MapCatalogue:
    """Label maps of all finished scenes, of the parts that have scenes."""
    newest_first = work.counting is not None and work.counting.overlap == "newest"
    return MapCatalogue(MAPS.merged(parts, work), newest_first)


FAILURES = PartTable("failures", _failures)
MAPS = PartTable("maps", map_rows)
OVERLAPS = PartTable("overlaps", _overlaps)
_BY_NAME = {table.name: table for table in (FAILURES, MAPS, OVERLAPS)}


def store_rows(parts: Iterable[TablePart], work: Work) -> None:
    """Write the rows of some parts."""
    for name, part in parts:
        _BY_NAME[name].store(part, work)
