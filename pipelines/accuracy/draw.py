"""The draw of a sample: pixels of each stratum, with probabilities in proportion to their ground.

A random number picks a block on the cumulative ground area of the stratum over blocks, which commit
records hold; a second one picks a pixel on the cumulative ground area of the block, row by row. So
only blocks that are hit are read, each once in a round. Pixels outside of the zone of the stratum,
and those that count in another scene, are passed over, which leaves the draw uniform on the rest.

Points are drawn with replacement: what is drawn is ground, and two points in one pixel are two
points. So the estimators hold exactly, also for strata of a few pixels. Random numbers follow from
the seed and the stratum alone: neither other strata nor the number of threads changes them.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from pipelines.accuracy.map_blocks import MapBlock
from pipelines.accuracy.strata import ANY, Part, Population, StratumKey
from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygon_masks import ScenePolygons
from pipelines.rasters.cog import read_block
from pipelines.run import plan
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import CountUnit, InputFile
from pipelines.run.polygons import ZONES, stored
from pipelines.scenes.counts import counts_elsewhere
from pipelines.scenes.files import scene_paths
from pipelines.scenes.finished import label_ground, label_uri, named_label_map
from pipelines.scenes.results import OUTSIDE
from pipelines.storage.threads import in_order
from segmodel.errors import DamagedError, InputError
from segmodel.tiling.windows import Window

# Blocks that are in memory at once.
DRAWING_THREADS = min(4, os.cpu_count() or 1)
# Rows of a block of which areas are in memory, and side of what zones are drawn on at once.
STRIP_ROWS = 256
# Numbers of a stratum in a round; and tries, as a multiple of those to be expected, after which
# label maps and counts contradict each other.
MAX_NUMBERS, HOPELESS = 1 << 20, 20


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

    def next_numbers(self) -> np.ndarray:
        """`(tries, 2)` numbers in [0, 1): as many as are likely to give all missing points.

        Raises:
            DamagedError: If so many have given none that there can be no such pixels.
        """
        missing = self.wanted - len(self.found)
        if self.numbers * self.acceptance > HOPELESS * (self.wanted + 10):
            raise DamagedError(
                f"label maps do not have the ground that was counted by class and zone "
                f"({self.key}): run `beamseg verify`"
            )
        tries = missing
        if self.acceptance < 1:
            tries = min(MAX_NUMBERS, math.ceil(1.1 * missing / self.acceptance) + 5)
        self.numbers += tries
        return self.random.random((tries, 2))


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
    locator = _Locator.of(population)
    while missing := [drawing for drawing in drawings if len(drawing.found) < drawing.wanted]:
        _draw_round(population, missing, locator)
    return {drawing.key: drawing.found for drawing in drawings}


def _draw_round(
    population: Population,
    drawings: Sequence[_Drawing],
    locator: "_Locator",
) -> None:
    """Take numbers for all points that are missing, and add the pixels that they find."""
    numbers = {drawing.key: drawing.next_numbers() for drawing in drawings}
    blocks = _hit_blocks(population, numbers)
    found: dict[StratumKey, list[tuple[int, DrawnPixel]]] = {key: [] for key in numbers}
    for pixels in in_order(locator.pixels, blocks, DRAWING_THREADS):
        for key, order, pixel in pixels:
            found[key].append((order, pixel))
    for drawing in drawings:
        ordered = sorted(found[drawing.key], key=lambda entry: entry[0])
        missing = drawing.wanted - len(drawing.found)
        drawing.found += [pixel for _, pixel in ordered[:missing]]


def _hit_blocks(
    population: Population,
    numbers: Mapping[StratumKey, np.ndarray],
) -> Iterator[tuple[MapBlock, dict[StratumKey, _Hits]]]:
    """Blocks that numbers pick, in order of the plan."""
    orders = {key: np.argsort(pairs[:, 0], kind="stable") for key, pairs in numbers.items()}
    places = {
        key: numbers[key][order, 0] * population.picked_m2[key] for key, order in orders.items()
    }
    done = dict.fromkeys(numbers, 0.0)
    for block in population.blocks():
        hits = {}
        for key, part in population.parts(block):
            if key in done:
                low, done[key] = done[key], done[key] + float(part.area_m2)
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
    """

    population: Population
    counts: Mapping[str, CountUnit]

    @classmethod
    def of(cls, population: Population) -> "_Locator":
        """For a population; keeps what scenes overlap."""
        units = plan.read_units(population.work.run.plan, CountUnit)
        shared = (unit for unit in units if population.work.counts_once and len(unit.files) > 1)
        return cls(population, {unit.file.key: unit for unit in shared})

    def pixels(
        self, hit: tuple[MapBlock, Mapping[StratumKey, _Hits]]
    ) -> list[tuple[StratumKey, int, DrawnPixel]]:
        """Pixels in their strata that numbers pick in a block, each with the place of its number.

        Raises:
            DamagedError: If the label map is not what the commit record says.
        """
        block, hits = hit
        work, window = self.population.work, block.window
        uri, nodata = label_uri(block.file, work), work.contract.classes.nodata
        near: np.ndarray | None = None
        with named_label_map(block.file):
            ground = label_ground(uri)
            if self.population.buffer is None:
                labels = read_block(uri, window)
            else:
                labels, near = self.population.buffer.read(uri, window, nodata)
        parts, found = dict(self.population.parts(block)), []
        for key, of_key in hits.items():
            mask = _mask_of(key, labels, near, nodata)
            _check_pixels(mask, block, parts[key])
            rows, columns = pixels_at(mask, _areas_in(ground, window), of_key.shares)
            chosen = self._are_in_stratum(key, block, ground, rows, columns)
            for place in np.flatnonzero(chosen).tolist():
                row, column = int(rows[place]), int(columns[place])
                pixel = DrawnPixel(
                    block.file, window.row + row, window.column + column, int(labels[row, column])
                )
                found.append((key, int(of_key.order[place]), pixel))
        return found

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

    def _zones_at(self, ground: GroundGrid, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """`(pixels,)` names of the zones that pixels of a scene lie in."""
        counting = self.population.work.counting
        assert counting is not None
        assert counting.zones is not None
        names = stored(self.population.work.run, ZONES, counting.zones).names
        drawn = _zones_on(self.population.work.run, counting.zones, ground)
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


def _mask_of(
    key: StratumKey, labels: np.ndarray, near: np.ndarray | None, nodata: int
) -> np.ndarray:
    """Pixels of a block that a stratum is picked from."""
    if key.around != ANY:
        assert near is not None
        return near
    mask = labels != nodata if key.class_id == ANY else labels == key.class_id
    return np.asarray(mask if near is None else mask & ~near)


def _check_pixels(mask: np.ndarray, block: MapBlock, part: Part) -> None:
    """Refuse a label map that has other pixels than were recorded.

    Raises:
        DamagedError: Names it.
    """
    if np.count_nonzero(mask) != part.pixels:
        raise DamagedError(
            f"{scene_paths(block.file).labels} is not what its commit record says: run `beamseg "
            f"verify` with --invalidate, then the same `beamseg segment` again"
        )


def pixels_at(
    mask: np.ndarray, areas_m2: Callable[[int, int], np.ndarray], shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels at shares of the cumulative ground area of a mask, row by row.

    Args:
        mask: `(height, width)` bool with a pixel that is True and has ground.
        areas_m2: Ground area of the pixels of some rows, `(rows, 1)` or `(rows, width)`, given the
            first row and the number of rows.
        shares: `(pixels,)` float64 in [0, 1).

    Returns:
        Row and column of each, `(pixels,)` int64.

    >>> mask = np.array([[True, False], [True, True]])
    >>> pixels_at(mask, lambda top, rows: np.ones((rows, 1)), np.array([0.0, 0.34, 0.99]))
    (array([0, 1, 1]), array([0, 0, 1]))
    """
    sums = []
    for top in range(0, len(mask), STRIP_ROWS):
        strip = mask[top : top + STRIP_ROWS]
        areas = areas_m2(top, len(strip))
        if areas.shape[1] == 1:
            sums.append(strip.sum(axis=1) * areas[:, 0])
        else:
            sums.append(np.where(strip, areas, 0.0).sum(axis=1))
    ends = np.cumsum(np.concatenate(sums))
    order = np.argsort(shares, kind="stable")
    places = shares[order] * ends[-1]
    rows, columns = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    rows[order] = found = _first_above(ends, places)
    runs = np.unique(found, return_index=True, return_counts=True)
    for row, first, count in np.stack(runs, axis=1).tolist():
        candidates = np.flatnonzero(mask[row])
        areas = np.broadcast_to(areas_m2(row, 1), (1, mask.shape[1]))[0, candidates]
        here = slice(first, first + count)
        within_row = places[here] - (ends[row - 1] if row else 0.0)
        columns[order[here]] = candidates[_first_above(np.cumsum(areas), within_row)]
    return rows, columns


def _first_above(ends: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Index of the first of ascending ends that is above each place; the last that adds to the sum.

    Rounding may lead to the end itself.
    """
    last = np.searchsorted(ends, ends[-1])
    return np.asarray(np.minimum(np.searchsorted(ends, places, "right"), last))


def _areas_in(ground: GroundGrid, window: Window) -> Callable[[int, int], np.ndarray]:
    """Ground area of the pixels of some rows of a window."""
    return lambda top, rows: ground.pixel_areas_m2(
        window.row + top, window.column, rows, window.width
    )


@lru_cache(16)
def _zones_on(run: RunDirectory, digest: str, ground: GroundGrid) -> ScenePolygons | None:
    """Zones on the pixels of a scene; None where no way leads there from their CRS."""
    try:
        return ScenePolygons.of(stored(run, ZONES, digest), ground)
    except InputError:
        return None
