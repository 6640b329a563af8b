"""Strata of a finished map: what points are drawn from, and how much ground each part of it has.

All areas are those of commit records and counts, so that nothing is read of a label map for them.
Scenes with a place on the ground are the population: pixels with a class, on ground that counts in
the totals of the run.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from pipelines.accuracy.sample_options import CLASS, ZONE
from pipelines.formats.work import Work
from pipelines.rasters.header import read_header
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.commits import number
from pipelines.run.plan import SCENE, InputFile, WorkUnit
from pipelines.run.polygons import ZONES, stored
from pipelines.scenes.files import scene_paths
from pipelines.scenes.results import OUTSIDE, finished_counts
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import ConfigurationError, DamagedError
from segmodel.tiling.windows import Window

# In place of a class.
ANY = -1


@dataclass(frozen=True)
class MapBlock:
    """A part of a finished label map that one unit of the run labelled.

    Args:
        file: Scene.
        window: Rows and columns of the scene.
        tally: Pixels and ground area by class, as the commit record of the unit has them.
    """

    file: InputFile
    window: Window
    tally: Tally


@dataclass(frozen=True, order=True)
class StratumKey:
    """Which pixels are in a stratum.

    Args:
        class_id: Class that all of them have, or `ANY`.
        zone: Zone that all of them lie in, `OUTSIDE` for none, or empty for any.
    """

    class_id: int
    zone: str

    def name(self, classes: Mapping[int, str]) -> str:
        """Name of the stratum, by the names of classes.

        >>> StratumKey(1, "North").name({1: "forest"}), StratumKey(1, "").name({1: "forest"})
        ('forest in North', 'forest')
        """
        parts = ([] if self.class_id == ANY else [classes[self.class_id]]) + [self.zone]
        return " in ".join(filter(None, parts))


@dataclass(frozen=True)
class Population:
    """The pixels of a run that points may be drawn from, cut into strata.

    Args:
        work: What all units of the run have in common.
        strata_by: What strata are, one of `STRATA_BY`.
        areas_m2: Ground area of each stratum that has any, in order. Ground that scenes show
            several times counts once where it does so in the run.
        picked_m2: Ground area that pixels of each stratum are picked from, see `weights_m2`; added
            up in order of the blocks.
        of_scenes: Strata that have pixels in a scene, by its key; empty where strata have no zone.
        unplaced: Number of labelled images without a place on the ground, which are left out.
    """

    work: Work
    strata_by: str
    areas_m2: dict[StratumKey, float]
    picked_m2: dict[StratumKey, float]
    of_scenes: dict[str, set[StratumKey]]
    unplaced: int = 0

    @classmethod
    def of(cls, work: Work, strata_by: str) -> "Population":
        """Cut what a run labelled into strata.

        Raises:
            ConfigurationError: If no scene has a place, or strata are by zone, and the run has no
                zones or some that overlap.
        """
        if strata_by != CLASS:
            _check_zones(work, strata_by)
        sums: dict[StratumKey, Fraction] = {}
        of_scenes: dict[str, set[StratumKey]] = {}
        is_counted = strata_by != CLASS or _counts_once(work)
        for scene, zone, tally in _counted_tallies(work, strata_by) if is_counted else ():
            for key, area in _parts(work, strata_by, tally, zone):
                sums[key] = sums.get(key, Fraction(0)) + Fraction(area)
                if strata_by != CLASS:
                    of_scenes.setdefault(scene, set()).add(key)
        unplaced = _Unplaced()
        picked: dict[StratumKey, float] = {}
        found = cls(work, strata_by, {}, picked, of_scenes)
        for block in placed_blocks(work, unplaced.add):
            for key, area in found.weights_m2(block):
                picked[key] = picked.get(key, 0.0) + float(area)
                if not is_counted:
                    sums[key] = sums.get(key, Fraction(0)) + Fraction(area)
        if not sums:
            raise ConfigurationError(
                f"{work.run.root} has no labelled scene with a place on the ground, which points "
                f"are drawn from: sample a run over scenes with coordinates"
            )
        areas = {key: float(sums[key]) for key in sorted(sums)}
        return replace(found, areas_m2=areas, unplaced=unplaced.images)

    @property
    def counts_once(self) -> bool:
        """Whether ground that several scenes show counts in one of them only."""
        return _counts_once(self.work)

    def weights_m2(self, block: MapBlock) -> Iterator[tuple[StratumKey, float | Fraction]]:
        """Strata that may have pixels in a block, each with the ground that they are drawn from.

        That is all ground of its classes in the block, in whatever zone it lies and whether or not
        it counts elsewhere.
        """
        if self.strata_by == CLASS:
            yield from _parts(self.work, CLASS, block.tally, "")
            return
        areas = {
            key.class_id: area for key, area in _parts(self.work, self.strata_by, block.tally, "")
        }
        for key in sorted(self.of_scenes.get(block.file.key, ())):
            if key.class_id in areas:
                yield key, areas[key.class_id]


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


def _check_zones(work: Work, strata_by: str) -> None:
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


def _counts_once(work: Work) -> bool:
    return work.counting is not None and work.counting.overlap is not None


def placed_blocks(
    work: Work, on_other: Callable[[WorkUnit, Tally], object] = lambda unit, tally: None
) -> Iterator[MapBlock]:
    """All blocks of scenes with a place on the ground, in order of the plan; streamed.

    Args:
        work: Of the run.
        on_other: Called with each unit that is none, and its tally.

    Raises:
        DamagedError: If a unit has no commit record.
    """
    units = plan.read_units(work.run.plan, WorkUnit)
    for unit, commit in in_order(lambda unit: (unit, work.log.read(unit)), units):
        if commit is None:
            raise DamagedError(f"{unit.id} is not finished: run the same `beamseg segment` again")
        file, tally = unit.files[0], commit.tally
        if unit.format != SCENE or unit.window is None or not _is_placed(file, tally, work):
            on_other(unit, tally)
        else:
            yield MapBlock(file, unit.window, tally)


def _is_placed(file: InputFile, tally: Tally, work: Work) -> bool:
    """Whether a scene has ground area, and has it by its place and not by `--pixel_size`."""
    if not tally.area_m2 or work.pixel_size_m is None:
        return bool(tally.area_m2)
    labels = work.run.path(scene_paths(file).labels)
    return filesystem.exists(labels) and read_header(labels).is_placed


def _counted_tallies(work: Work, strata_by: str) -> Iterator[tuple[str, str, Tally]]:
    """Tallies of counts that add up to the population: key of the scene, zone or nothing, tally."""
    for unit, commit, document in finished_counts(work.run, work.log):
        if not _is_placed(unit.file, commit.tally, work):
            continue
        if strata_by == CLASS:
            yield unit.file.key, "", commit.tally
            continue
        for row in document["zones"]:
            zone = OUTSIDE if row["zone"] is None else row["zone"]
            yield unit.file.key, zone, Tally(area_m2=number(row["area_m2"]))


def _parts(
    work: Work, strata_by: str, tally: Tally, zone: str
) -> Iterator[tuple[StratumKey, float | Fraction]]:
    """Strata of a tally with their ground area in m², without those that have none."""
    areas: dict[int, float | Fraction]
    areas = {i: tally.area_m2.get(str(i), 0) for i in work.contract.classes.ids}
    if strata_by == ZONE:
        areas = {ANY: sum((Fraction(area) for area in areas.values()), Fraction(0))}
    for class_id, area in areas.items():
        if area:
            yield StratumKey(class_id, zone), area
