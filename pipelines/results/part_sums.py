"""What the commit records of parts of the plan add up to: sums that any worker makes.

A sum of sums is one, in whole numbers and fractions, so that neither order nor grouping matters.
Units are in it as places in the plan, so that it is small whatever they hold.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from pipelines.formats.work import Work
from pipelines.results.contact_sheet import UnitSample
from pipelines.results.failure_table import has_failure_rows
from pipelines.results.part_tables import FAILURES, MAPS, OVERLAPS, PartTable, TablePart
from pipelines.results.value_range import WORST_IMAGES, RangeCheck
from pipelines.run import plan
from pipelines.run.areas import Tally, TallySum
from pipelines.run.commits import Commit
from pipelines.run.plan import SCENE, CountUnit, Unit, UnitReference
from pipelines.run.polygons import ZONES, stored
from pipelines.scenes.results import counts_of, zone_sums
from pipelines.storage.threads import in_order

# The greatest share of pixels outside the range of the model in an image of a unit, and the unit.
WorstOfUnit = tuple[float | Fraction, UnitReference]


@dataclass(frozen=True)
class PartSum:
    """What the commit records of some parts of the plan add up to.

    Args:
        units: Number of units by the name of their kind.
        missing: Number of those without a commit record.
        tally: Sum of the tallies that count, exact.
        smaller_batches: Number of units for whose batches memory did not suffice.
        sample: Units that the contact sheet shows.
        range_failures: Number of images that fail by values outside the range of the model.
        worst: Units with the images that are furthest outside that range, those first.
        zones: Sums of the zones that have any, exact; under None what is in no zone.
        with_rows: Parts that have rows of a table, see `part_tables`.
    """

    units: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    tally: Tally = field(default_factory=lambda: TallySum().exact())
    smaller_batches: int = 0
    sample: UnitSample = field(default_factory=UnitSample)
    range_failures: int = 0
    worst: tuple[WorstOfUnit, ...] = ()
    zones: Mapping[str | None, Tally] = field(default_factory=dict)
    with_rows: frozenset[TablePart] = frozenset()

    @property
    def unfinished(self) -> int:
        """Number of units that are missing, each once.

        A block that is missing shows in its scene, which is missing too, and that in its count.
        """
        return next((n for kind in plan.KINDS if (n := self.missing[kind.kind])), 0)


def sum_part(part: str, work: Work) -> PartSum:
    """What the commit records of the units of a part of the plan add up to.

    Args:
        part: Name of the part.
        work: Work that all units of the run share.
    """
    adder, kind = _Adder(work), plan.kind_of(part)

    def record(entry: tuple[UnitReference, Unit]) -> tuple[UnitReference, Unit, Commit | None]:
        return *entry, work.log.read(entry[1])

    for reference, unit, commit in in_order(record, plan.read_part(work.run.plan, part)):
        adder.units += 1
        adder.has_scenes |= unit.format == SCENE
        if commit is None:
            adder.missing += 1
        else:
            adder.add(reference, unit, commit)
    return PartSum(
        units=Counter({kind.kind: adder.units}),
        missing=Counter({kind.kind: adder.missing}),
        tally=adder.tally.exact(),
        smaller_batches=adder.smaller_batches,
        sample=UnitSample.merged(adder.samples),
        range_failures=adder.range_failures,
        worst=_worst(adder.worst),
        zones=_zones(part, work) if kind is CountUnit else {},
        with_rows=frozenset((table.name, part) for table in _tables(adder, kind, work)),
    )


def _tables(adder: "_Adder", kind: type[Unit], work: Work) -> Iterator[PartTable]:
    """Tables of which a part has rows."""
    if adder.has_failures:
        yield FAILURES
    if adder.has_scenes and kind is not CountUnit:
        yield MAPS
    if kind is CountUnit and work.counts_once:
        yield OVERLAPS


def _zones(part: str, work: Work) -> dict[str | None, Tally]:
    """Sums of zones over the counts of a part."""
    if work.counting is None or work.counting.zones is None:
        return {}
    names = stored(work.run, ZONES, work.counting.zones).names
    units = plan.units_of_part(work.run.plan, part, CountUnit)
    return zone_sums(counts_of(units, work.log), names)


class _Adder:
    """Adds up the records of a part, one by one."""

    def __init__(self, work: Work) -> None:
        self._counts_once = work.counts_once
        self._classes = [str(i) for i in work.contract.classes.ids]
        self._ranges = RangeCheck(work.run.root, work.contract, work.max_out_of_range)
        self.units = self.missing = self.smaller_batches = self.range_failures = 0
        self.tally = TallySum()
        self.samples: list[UnitSample] = []
        self.worst: list[WorstOfUnit] = []
        self.has_failures = self.has_scenes = False

    def add(self, reference: UnitReference, unit: Unit, commit: Commit) -> None:
        """Add the record of a finished unit."""
        tally = commit.tally
        self.smaller_batches += bool(commit.smaller_batches)
        if unit.is_in_totals(self._counts_once):
            self.tally.add(tally)
        beyond = sum(1 for _ in self._ranges.failures_of(unit, commit))
        self.range_failures += beyond
        self.has_failures |= beyond > 0 or has_failure_rows(commit)
        if unit.is_block or isinstance(unit, CountUnit):
            return
        if tally.images:
            has_classes = any(tally.pixels.get(key) for key in self._classes)
            self.samples.append(UnitSample.of(unit.id, reference, has_classes))
        if tally.worst_share:
            self.worst.append((tally.worst_share, reference))


def sum_plan(work: Work) -> PartSum:
    """What all commit records of the plan add up to, in this process."""
    folder = work.run.plan
    names = (part for kind in plan.KINDS for part in plan.part_names(folder, kind))
    return add_parts(sum_part(part, work) for part in names)


def add_parts(sums: Iterable[PartSum]) -> PartSum:
    """The sum of sums; of none, that of an empty plan."""
    every = list(sums)
    tally = TallySum()
    for one in every:
        tally.add(one.tally)
    return PartSum(
        units=sum((one.units for one in every), Counter()),
        missing=sum((one.missing for one in every), Counter()),
        tally=tally.exact(),
        smaller_batches=sum(one.smaller_batches for one in every),
        sample=UnitSample.merged(one.sample for one in every),
        range_failures=sum(one.range_failures for one in every),
        worst=_worst(entry for one in every for entry in one.worst),
        zones=_add_zones(one.zones for one in every),
        with_rows=frozenset().union(*(one.with_rows for one in every)),
    )


def _add_zones(sums: Iterable[Mapping[str | None, Tally]]) -> dict[str | None, Tally]:
    total: dict[str | None, TallySum] = {}
    for one in sums:
        for zone, tally in one.items():
            total.setdefault(zone, TallySum()).add(tally)
    return {zone: tally.exact() for zone, tally in total.items()}


def _worst(found: Iterable[WorstOfUnit]) -> tuple[WorstOfUnit, ...]:
    """The greatest shares; of equal ones, those that come first in the plan."""
    ranked = sorted(found, key=lambda entry: (-entry[0], entry[1].part, entry[1].offset))
    return tuple(ranked[:WORST_IMAGES])
