"""The draw of a sample: pixels of each stratum, with probabilities in proportion to their ground.

A random number picks a block on the cumulative ground area of the stratum over blocks, which commit
records hold; a second one picks a pixel on the cumulative ground area of the block, row by row. So
only blocks that are hit are read, each once in a round. Pixels outside of the zone of the stratum,
and those that count in another scene, are passed over, which leaves the draw uniform on the rest.
Where nearly all would be passed over, as of a zone that touches a corner of a scene, the ground of
the stratum is measured first in each block that may have some, and numbers pick from that alone.

Points are drawn with replacement: what is drawn is ground, and two points in one pixel are two
points. So the estimators hold exactly, also for strata of a few pixels. Random numbers follow from
the seed and the stratum alone: neither other strata nor the number of threads changes them.
"""

import hashlib
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from pipelines.accuracy.map_blocks import MapBlock, zones_of
from pipelines.accuracy.strata import ANY, Population, StratumKey
from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.picking import pixels_at, row_areas
from pipelines.rasters.cog import read_block
from pipelines.run import plan
from pipelines.run.plan import CountUnit, InputFile
from pipelines.scenes.counts import counts_elsewhere, elsewhere_in
from pipelines.scenes.files import scene_paths
from pipelines.scenes.finished import label_ground, label_uri, named_label_map
from pipelines.scenes.results import OUTSIDE
from pipelines.storage.threads import in_order
from segmodel.errors import DamagedError
from segmodel.tiling.windows import Window

# Blocks that are in memory at once.
DRAWING_THREADS = min(4, os.cpu_count() or 1)
# Rows of a block of which areas are in memory, and side of what zones are drawn on at once.
STRIP_ROWS = 256
# Numbers that a stratum may be expected to need, in all or for each point; of more its own ground
# is measured. And numbers, as a multiple of those to be expected, after which label maps and counts
# contradict each other.
MAX_NUMBERS, NUMBERS_PER_POINT, HOPELESS = 1 << 14, 64, 20


@dataclass(frozen=True)
class DrawnPixel:
    """A pixel that was drawn.

    Args:
        file: Scene.
        row: Row in the scene.
        column: Column in the scene.
        class_id: Class in the label map.
    """

    file: InputFile
    row: int
    column: int
    class_id: int


@dataclass(frozen=True)
class _Hits:
    """Numbers of a stratum that pick a block.

    Args:
        order: `(hits,)` int64 places of the numbers in the order in which they were drawn.
        shares: `(hits,)` float64 in [0, 1) that pick a pixel of the block.
    """

    order: np.ndarray
    shares: np.ndarray


@dataclass
class _Drawing:
    """What has been drawn of a stratum so far.

    Args:
        key: The stratum.
        wanted: Number of points.
        random: Source of its random numbers.
        acceptance: Share of the ground that numbers pick from that is in the stratum.
        found: Pixels in the order in which they were drawn.
        numbers: How many numbers were taken.
    """

    key: StratumKey
    wanted: int
    random: np.random.Generator
    acceptance: float = 1.0
    found: list[DrawnPixel] = field(default_factory=list)
    numbers: int = 0

    @property
    def is_hard(self) -> bool:
        """Whether so many numbers would be passed over that its own ground is measured first."""
        return self._tries > max(MAX_NUMBERS, NUMBERS_PER_POINT * self.wanted)

    @property
    def _tries(self) -> int:
        """How many numbers are likely to give all missing points."""
        missing = self.wanted - len(self.found)
        return math.ceil(1.1 * missing / self.acceptance) + 5 if self.acceptance < 1 else missing

    def next_numbers(self) -> np.ndarray:
        """`(tries, 2)` numbers in [0, 1): as many as are likely to give all missing points.

        Raises:
            DamagedError: If so many have given none that there can be no such pixels.
        """
        if self.numbers * self.acceptance > HOPELESS * (self.wanted + 10):
            raise _contradiction(self.key)
        tries = self._tries
        self.numbers += tries
        return self.random.random((tries, 2))


def _contradiction(key: StratumKey) -> DamagedError:
    return DamagedError(
        f"label maps do not have the ground that was counted by class and zone ({key}): run "
        f"`beamseg verify`"
    )


def random_of(seed: int, *words: str) -> np.random.Generator:
    """A source of random numbers that follows from a seed and from words alone."""
    digest = hashlib.sha256("\0".join((str(seed), *words)).encode("utf-8", "surrogatepass"))
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest.digest(), "big")))


def draw(
    population: Population,
    sizes: Mapping[StratumKey, int],
    seed: int,
    before: Mapping[StratumKey, int],
) -> dict[StratumKey, list[DrawnPixel]]:
    """Draw pixels of each stratum, independently, in proportion to their ground area.

    Args:
        population: What is drawn from.
        sizes: Number of pixels by stratum.
        seed: Seed of the random numbers.
        before: Number of points by stratum that were drawn before, and are not drawn again.

    Raises:
        DamagedError: If a label map is not what commit records say.
    """
    drawings = [
        _Drawing(key, size, random_of(seed, *key.words(), str(before.get(key, 0))))
        for key, size in sizes.items()
    ]
    for drawing in drawings:
        if population.work.counts_once or drawing.key.zone:
            of_stratum = population.areas_m2[drawing.key]
            drawing.acceptance = of_stratum / population.picked_m2[drawing.key]
    hard = {drawing.key: drawing for drawing in drawings if drawing.is_hard}
    locator = _Locator.of(population, frozenset(hard))
    own_m2 = locator.own_areas()
    for key, drawing in hard.items():
        if not own_m2[key]:
            raise _contradiction(key)
        drawing.acceptance = 1.0
    while missing := [drawing for drawing in drawings if len(drawing.found) < drawing.wanted]:
        numbers = {drawing.key: drawing.next_numbers() for drawing in missing}
        blocks = _hit_blocks(population, numbers, own_m2)
        found: dict[StratumKey, list[tuple[int, DrawnPixel]]] = {key: [] for key in numbers}
        for pixels in in_order(locator.pixels, blocks, DRAWING_THREADS):
            for key, order, pixel in pixels:
                found[key].append((order, pixel))
        for drawing in missing:
            ordered = sorted(found[drawing.key], key=lambda entry: entry[0])
            rest = drawing.wanted - len(drawing.found)
            drawing.found += [pixel for _, pixel in ordered[:rest]]
    return {drawing.key: drawing.found for drawing in drawings}


def _hit_blocks(
    population: Population,
    numbers: Mapping[StratumKey, np.ndarray],
    own_m2: Mapping[StratumKey, Mapping[int, float]],
) -> Iterator[tuple[MapBlock, dict[StratumKey, _Hits]]]:
    """Blocks that numbers pick, in order of the plan.

    Args:
        population: What is drawn from.
        numbers: Numbers by stratum.
        own_m2: As `_Locator.own_areas`.
    """
    totals = dict(population.picked_m2)
    totals.update((key, math.fsum(areas.values())) for key, areas in own_m2.items())
    orders = {key: np.argsort(pairs[:, 0], kind="stable") for key, pairs in numbers.items()}
    places = {key: numbers[key][order, 0] * totals[key] for key, order in orders.items()}
    done = dict.fromkeys(numbers, 0.0)
    for place, block in enumerate(population.blocks()):
        hits = {}
        for key, part in population.parts(block):
            if key in done:
                area = own_m2[key].get(place, 0.0) if key in own_m2 else float(part.area_m2)
                low, done[key] = done[key], done[key] + area
                first, last = np.searchsorted(places[key], (low, done[key])).tolist()
                order = orders[key][first:last]
                if order.size:
                    hits[key] = _Hits(order, numbers[key][order, 1])
        if hits:
            yield block, hits


@dataclass(frozen=True)
class _Locator:
    """Finds the pixels that numbers pick in blocks.

    Args:
        population: What is drawn from.
        counts: Counts of scenes that share ground with others, by the key of the scene.
        hard: Strata whose numbers pick from their own ground alone.
    """

    population: Population
    counts: Mapping[str, CountUnit]
    hard: Collection[StratumKey]

    @classmethod
    def of(cls, population: Population, hard: Collection[StratumKey]) -> "_Locator":
        """For a population; keeps what scenes overlap."""
        units = plan.read_units(population.work.run.plan, CountUnit)
        shared = (unit for unit in units if population.work.counts_once and len(unit.files) > 1)
        return cls(population, {unit.file.key: unit for unit in shared}, hard)

    def own_areas(self) -> dict[StratumKey, dict[int, float]]:
        """Ground area of each hard stratum in the blocks that have some, by number of the block.

        Raises:
            DamagedError: If a label map is not what the commit record says.
        """
        found: dict[StratumKey, dict[int, float]] = {key: {} for key in self.hard}
        blocks = enumerate(self.population.blocks()) if found else ()
        for number, areas in in_order(self._own_areas_in, blocks, DRAWING_THREADS):
            for key, area in areas.items():
                found[key][number] = area
        return found

    def _own_areas_in(self, numbered: tuple[int, MapBlock]) -> tuple[int, dict[StratumKey, float]]:
        number, block = numbered
        of_block = [key for key, _ in self.population.parts(block) if key in self.hard]
        if any(key.zone not in ("", OUTSIDE) for key in of_block):
            near = self._zones_near(block)
            of_block = [key for key in of_block if key.zone in near]
        if not of_block:
            return number, {}
        ends = self._opened(block).ends(of_block)
        return number, {key: float(end[-1]) for key, end in ends.items() if end[-1] > 0}

    def pixels(
        self, hit: tuple[MapBlock, Mapping[StratumKey, _Hits]]
    ) -> list[tuple[StratumKey, int, DrawnPixel]]:
        """Pixels in their strata that numbers pick in a block, each with the place of its number.

        Raises:
            DamagedError: If the label map is not what the commit record says.
        """
        block, hits = hit
        opened, found = self._opened(block), []
        ends = opened.ends(hits)
        for key, of_key in hits.items():
            rows, columns = opened.pixels_at(key, ends[key], of_key.shares)
            chosen = np.ones(len(rows), bool)
            if key not in self.hard:
                chosen = self._are_in_stratum(key, block, opened.ground, rows, columns)
            for place in np.flatnonzero(chosen).tolist():
                row, column = int(rows[place]), int(columns[place])
                at = block.window.row + row, block.window.column + column
                pixel = DrawnPixel(block.file, *at, int(opened.labels[row, column]))
                found.append((key, int(of_key.order[place]), pixel))
        return found

    def _opened(self, block: MapBlock) -> "_OpenBlock":
        work = self.population.work
        uri, nodata = label_uri(block.file, work), work.contract.classes.nodata
        near: np.ndarray | None = None
        with named_label_map(block.file):
            ground = label_ground(uri)
            if self.population.buffer is None:
                labels = read_block(uri, block.window)
            else:
                labels, near = self.population.buffer.read(uri, block.window, nodata)
        return _OpenBlock(self, block, ground, labels, near)

    def _are_in_stratum(
        self,
        key: StratumKey,
        block: MapBlock,
        ground: GroundGrid,
        rows: np.ndarray,
        columns: np.ndarray,
    ) -> np.ndarray:
        """`(pixels,)` bool: whether pixels of a block lie in the zone of a stratum, and count."""
        rows, columns = rows + block.window.row, columns + block.window.column
        chosen = np.ones(len(rows), bool)
        if key.zone:
            chosen = self._zones_at(ground, rows, columns) == key.zone
        unit = self.counts.get(block.file.key)
        if unit is not None and chosen.any():
            some = rows[chosen], columns[chosen]
            chosen[chosen] = ~counts_elsewhere(unit, self.population.work, *some)
        return chosen

    def own(self, key: StratumKey, mask: np.ndarray, block: MapBlock, part: Window) -> np.ndarray:
        """Pixels of a mask that lie in the zone of a stratum, and count; in a part of a scene."""
        if key.zone:
            ground = label_ground(label_uri(block.file, self.population.work))
            drawn, names = zones_of(self.population.work, ground)
            zone = -1 if key.zone == OUTSIDE else names.index(key.zone)
            mask = mask & ((-1 if drawn is None else drawn.indices(part, 0)) == zone)
        unit = self.counts.get(block.file.key)
        if unit is not None and mask.any():
            mask = mask & ~elsewhere_in(unit, self.population.work, part)
        return mask

    def _zones_near(self, block: MapBlock) -> set[str]:
        """Names of zones that may have pixels of a block."""
        work = self.population.work
        drawn, names = zones_of(work, label_ground(label_uri(block.file, work)))
        return {OUTSIDE, *(names[n] for n in (drawn.near(block.window) if drawn else ()))}

    def _zones_at(self, ground: GroundGrid, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """`(pixels,)` names of the zones that pixels of a scene lie in."""
        drawn, names = zones_of(self.population.work, ground)
        index = np.full(len(rows), -1)
        tiles = np.stack([rows // STRIP_ROWS, columns // STRIP_ROWS])
        for row, column in np.unique(tiles, axis=1).T.tolist():
            if drawn is None:
                break
            tile = Window(row * STRIP_ROWS, column * STRIP_ROWS, STRIP_ROWS, STRIP_ROWS)
            tile = tile.intersection(Window(0, 0, ground.height, ground.width))
            here = (tiles[0] == row) & (tiles[1] == column)
            at = drawn.indices(tile, 0)
            index[here] = at[rows[here] - tile.row, columns[here] - tile.column]
        return np.asarray(np.array([*names, OUTSIDE], object)[index])


@dataclass(frozen=True)
class _OpenBlock:
    """A block whose labels are in memory.

    Args:
        locator: Knows what of it is in hard strata.
        block: The block.
        ground: Ground of the scene.
        labels: `(height, width)`.
        near: Which pixels are in the buffer, `(height, width)` bool; None without one.
    """

    locator: _Locator
    block: MapBlock
    ground: GroundGrid
    labels: np.ndarray
    near: np.ndarray | None

    def ends(self, keys: Iterable[StratumKey]) -> dict[StratumKey, np.ndarray]:
        """Cumulative ground area of strata by row, `(height,)`: of all that numbers pick from.

        Raises:
            DamagedError: If there are other pixels than were recorded.
        """
        height = len(self.labels)
        areas = {key: np.zeros(height) for key in keys}
        pixels = dict.fromkeys(areas, 0)
        for top in range(0, height, STRIP_ROWS):
            rows = min(STRIP_ROWS, height - top)
            areas_m2 = self._areas_m2(top, rows)
            for key in areas:
                mask = self._mask(key, top, rows)
                pixels[key] += int(np.count_nonzero(mask))
                mask = self._own(key, mask, top)
                areas[key][top : top + rows] = row_areas(mask, areas_m2)
        parts = dict(self.locator.population.parts(self.block))
        if any(number != parts[key].pixels for key, number in pixels.items()):
            raise DamagedError(
                f"{scene_paths(self.block.file).labels} is not what its commit record says: run "
                f"`beamseg verify` with --invalidate, then the same `beamseg segment` again"
            )
        return {key: np.cumsum(of_rows) for key, of_rows in areas.items()}

    def pixels_at(
        self, key: StratumKey, ends: np.ndarray, shares: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Row and column in the block of pixels of a stratum at shares of its ground area."""

        @lru_cache(1)
        def strip(top: int) -> np.ndarray:
            return self._own(key, self._mask(key, top, STRIP_ROWS), top)

        def mask_of(row: int) -> np.ndarray:
            return np.asarray(strip(row - row % STRIP_ROWS)[row % STRIP_ROWS])

        return pixels_at(mask_of, ends, self._areas_m2, shares)

    def _areas_m2(self, top: int, rows: int) -> np.ndarray:
        """Ground area of the pixels of some rows."""
        window = self.block.window
        return self.ground.pixel_areas_m2(window.row + top, window.column, rows, window.width)

    def _mask(self, key: StratumKey, top: int, rows: int) -> np.ndarray:
        """Pixels of some rows that a stratum is picked from, wherever they lie and count."""
        labels = self.labels[top : top + rows]
        near = None if self.near is None else self.near[top : top + rows]
        if key.around != ANY:
            assert near is not None
            return near
        nodata = self.locator.population.work.contract.classes.nodata
        mask = labels != nodata if key.class_id == ANY else labels == key.class_id
        return np.asarray(mask if near is None else mask & ~near)

    def _own(self, key: StratumKey, mask: np.ndarray, top: int) -> np.ndarray:
        """Those of a mask from a row on that are in a stratum, if it is a hard one; else all."""
        if key not in self.locator.hard or not mask.any():
            return mask
        window = self.block.window
        part = Window(window.row + top, window.column, len(mask), window.width)
        return self.locator.own(key, mask, self.block, part)
