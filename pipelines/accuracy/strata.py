"""Strata of a finished map: what points are drawn from, and how much ground each part of it has.

Areas are those of commit records and counts, so that nothing is read of a label map for them; but
for a buffer, which a pass of its own counts.
Scenes with a place on the ground are the population: pixels with a class, on ground that counts in
the totals of the run.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

from pipelines.accuracy.buffers import Buffer, BufferWork, with_near
from pipelines.accuracy.map_blocks import MapBlock, is_placed, placed_blocks
from pipelines.accuracy.sample_options import CLASS, ZONE
from pipelines.formats.work import Work
from pipelines.run.areas import Tally
from pipelines.run.commits import number
from pipelines.run.plan import WorkUnit
from pipelines.run.polygons import ZONES, stored
from pipelines.scenes.finished import label_uri
from pipelines.scenes.results import OUTSIDE, finished_counts
from segmodel.errors import ConfigurationError

# In place of a class.
ANY = -1


@dataclass(frozen=True, order=True)
class StratumKey:
    """Which pixels are in a stratum.

    Args:
        class_id: Class that all of them have, or `ANY`.
        zone: Zone that all of them lie in, `OUTSIDE` for none, or empty for any.
        around: Class that they are near, in a buffer; else `ANY`.
    """

    class_id: int
    zone: str
    around: int = ANY

    def name(self, classes: Mapping[int, str]) -> str:
        """Name of the stratum, by the names of classes.

        >>> StratumKey(1, "North").name({1: "forest"}), StratumKey(1, "").name({1: "forest"})
        ('forest in North', 'forest')
        """
        what = "" if self.class_id == ANY else classes[self.class_id]
        if self.around != ANY:
            what = f"around {classes[self.around]}"
        return " in ".join(filter(None, (what, self.zone)))

    def words(self) -> tuple[str, ...]:
        """Words that no other stratum has, by which random numbers are drawn."""
        buffer = () if self.around == ANY else (f"around {self.around}",)
        return (str(self.class_id), self.zone, *buffer)


class Part(NamedTuple):
    """What of a stratum is in a block, or in a tally: pixels, and their ground area in m²."""

    pixels: int
    area_m2: Fraction


@dataclass(frozen=True)
class Population:
    """The pixels of a run that points may be drawn from, cut into strata.

    Args:
        work: What all units of the run have in common.
        strata_by: What strata are, one of `STRATA_BY`.
        near: Counted buffer around a class, which is a stratum of its own, or None.
        areas_m2: Ground area of each stratum that has any, in order. Ground that scenes show
            several times counts once where it does so in the run.
        picked_m2: Ground area that pixels of each stratum are picked from, see `parts`; added up in
            order of the blocks.
        of_scenes: Strata that have pixels in a scene, by its key; empty where strata have no zone.
        unplaced: Number of labelled images without a place on the ground, which are left out.
    """

    work: Work
    strata_by: str
    near: BufferWork | None = None
    areas_m2: dict[StratumKey, float] = field(default_factory=dict)
    picked_m2: dict[StratumKey, float] = field(default_factory=dict)
    of_scenes: dict[str, set[StratumKey]] = field(default_factory=dict)
    unplaced: int = 0

    @classmethod
    def of(cls, work: Work, strata_by: str, near: BufferWork | None = None) -> "Population":
        """Cut what a run labelled into strata.

        Raises:
            ConfigurationError: If no scene has a place, or strata are by zone, and the run has no
                zones or some that overlap.
            TransientError: If the buffer is not counted.
        """
        if strata_by != CLASS:
            check_zones(work, strata_by)
        found, net = cls(work, strata_by, near), _Sums()
        is_counted = strata_by != CLASS or work.counts_once
        for scene, zone, tally in _counted_tallies(work, strata_by) if is_counted else ():
            for key, part in _parts(work, strata_by, tally, zone):
                net.add(key, part)
                if strata_by != CLASS:
                    buffer = () if near is None else (found.around(zone),)
                    found.of_scenes.setdefault(scene, set()).update((key, *buffer))
        unplaced = _Unplaced()
        for block in found.blocks(unplaced.add):
            for key, part in found.parts(block):
                found.picked_m2[key] = found.picked_m2.get(key, 0.0) + float(part.area_m2)
            for key, part in () if is_counted else _parts(work, CLASS, block.tally, ""):
                net.add(key, part)
            for zone, tally in block.near.counted.items():
                for key, part in _parts(work, CLASS, tally, zone):
                    net.add(key, Part(-part.pixels, -part.area_m2))
                    net.add(found.around(zone), part)
        strata = sorted((key for key in net.pixels if net.pixels[key]), key=_rank)
        found.areas_m2.update((key, float(net.areas_m2[key])) for key in strata)
        if not found.areas_m2:
            raise ConfigurationError(
                f"{work.run.root} has no labelled scene with a place on the ground, which points "
                f"are drawn from: sample a run over scenes with coordinates"
            )
        check_stratum_names(found.areas_m2, names_of_classes(work))
        return replace(found, unplaced=unplaced.images)

    def blocks(
        self, on_other: Callable[[WorkUnit, Tally], object] = lambda unit, tally: None
    ) -> Iterator[MapBlock]:
        """Blocks that points are drawn from, in order, each with what is in the buffer; streamed.

        Args:
            on_other: As `placed_blocks` takes it.
        """
        blocks = placed_blocks(self.work, on_other)
        return blocks if self.near is None else with_near(blocks, self.near)

    @property
    def buffer(self) -> Buffer | None:
        """Buffer around a class, or None."""
        return None if self.near is None else self.near.buffer

    def around(self, zone: str) -> StratumKey:
        """Stratum of the buffer in a zone, or of all of it."""
        assert self.buffer is not None
        return StratumKey(ANY, zone, self.buffer.class_id)

    def parts(self, block: MapBlock) -> Iterator[tuple[StratumKey, Part]]:
        """Strata that may have pixels in a block, each with the pixels that they are picked from.

        These are all of its classes in the block, in whatever zone they lie and whether or not they
        count elsewhere; in the buffer or not as the stratum is.
        """
        of_classes = dict(_parts(self.work, self.strata_by, block.tally, ""))
        inside = dict(_parts(self.work, CLASS, block.near.picked, ""))
        near = Part(0, Fraction(0))
        for key, part in inside.items():
            rest = of_classes[key]
            of_classes[key] = Part(rest.pixels - part.pixels, rest.area_m2 - part.area_m2)
            near = Part(near.pixels + part.pixels, near.area_m2 + part.area_m2)
        keys: Iterable[StratumKey] = sorted(self.of_scenes.get(block.file.key, ()), key=_rank)
        if self.strata_by == CLASS:
            keys = [*of_classes, *([self.around("")] if inside else [])]
        for key in keys:
            own = of_classes.get(StratumKey(key.class_id, ""), Part(0, Fraction(0)))
            part = own if key.around == ANY else near
            if part.pixels:
                yield key, part


def _rank(key: StratumKey) -> tuple[int, StratumKey]:
    """Strata are sorted by class and zone, and a buffer comes last."""
    return key.around, key


class _Sums:
    """Sums of parts by stratum."""

    def __init__(self) -> None:
        self.pixels = defaultdict[StratumKey, int](int)
        self.areas_m2 = defaultdict[StratumKey, Fraction](Fraction)

    def add(self, key: StratumKey, part: Part) -> None:
        """Add a part."""
        self.pixels[key] += part.pixels
        self.areas_m2[key] += part.area_m2


class _Unplaced:
    """Number of labelled images without a place on the ground; a scene of many blocks is one."""

    def __init__(self) -> None:
        self.images = 0
        self._last = ""

    def add(self, unit: WorkUnit, tally: Tally) -> None:
        """Add what a unit labelled; blocks of a scene follow each other."""
        is_next = unit.scene is not None and unit.scene == self._last
        self.images += 0 if is_next else tally.images
        self._last = unit.scene or ""


def names_of_classes(work: Work) -> dict[int, str]:
    """Names of the classes of a run by their ids."""
    return {entry.id: entry.name for entry in work.contract.classes.classes}


def check_stratum_names(strata: Iterable[StratumKey], classes: Mapping[int, str]) -> None:
    """Refuse strata of one name.

    Args:
        strata: The strata.
        classes: Names of classes by their ids.

    Raises:
        ConfigurationError: Names the first that there is twice.

    >>> check_stratum_names([StratumKey(0, "b in c"), StratumKey(1, "c")], {0: "a", 1: "a in b"})
    Traceback (most recent call last):
    segmodel.errors.ConfigurationError: two strata would be called 'a in b in c': give ...
    """
    for name, count in Counter(key.name(classes) for key in strata).items():
        if count > 1:
            raise ConfigurationError(
                f"two strata would be called {name!r}: give the zone another name, or sample by "
                f"--strata class without --buffer_px"
            )


def check_zones(work: Work, strata_by: str) -> None:
    """Refuse strata by zone of a run whose zones allow none.

    Raises:
        ConfigurationError: If it has no zones, or some that overlap.
    """
    counting = work.counting
    if counting is None or counting.zones is None:
        raise ConfigurationError(
            f"--strata {strata_by} needs zones, and the run has none: run the same `beamseg "
            f"segment` with --zones, which labels nothing again"
        )
    if any(stored(work.run, ZONES, counting.zones).layers()):
        raise ConfigurationError(
            f"--strata {strata_by} needs zones that do not overlap, as each pixel is in one "
            f"stratum: give `beamseg segment` other --zones, or sample by class"
        )


def _counted_tallies(work: Work, strata_by: str) -> Iterator[tuple[str, str, Tally]]:
    """Tallies of counts that add up to the population: key of the scene, zone or nothing, tally."""
    for unit, commit, document in finished_counts(work.run, work.log):
        if not is_placed(label_uri(unit.file, work), commit.tally, work):
            continue
        if strata_by == CLASS:
            yield unit.file.key, "", commit.tally
            continue
        for row in document["zones"]:
            zone = OUTSIDE if row["zone"] is None else row["zone"]
            areas = number(row["area_m2"])
            yield unit.file.key, zone, Tally(pixels=row["pixels"], area_m2=areas)


def _parts(
    work: Work, strata_by: str, tally: Tally, zone: str
) -> Iterator[tuple[StratumKey, Part]]:
    """Strata of a tally, without those that have no ground."""
    areas = {i: Fraction(tally.area_m2.get(str(i), 0)) for i in work.contract.classes.ids}
    pixels = {i: tally.pixels.get(str(i), 0) for i in areas}
    if strata_by == ZONE:
        areas = {ANY: sum(areas.values(), Fraction(0))}
        pixels = {ANY: sum(pixels.values())}
    for class_id, area in areas.items():
        if area:
            yield StratumKey(class_id, zone), Part(pixels[class_id], area)
