"""The stratum around a class, where the map is most likely to have missed it.

Errors of omission of a rare class hide in all that the map gives to other classes. Most of them lie
near what it has found, so that points in a buffer find more of them than points anywhere. What a
buffer has is in no commit record of the run: a pass reads all label maps once.

A unit of the pass is a block of the run. Its commit record holds all that it found, so that a pass
that was interrupted goes on, and more points of a sample need no other pass.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import segmodel
from pipelines.accuracy.map_blocks import MapBlock, NearTallies, placed_blocks, zones_of
from pipelines.formats.work import Work
from pipelines.geodesy.row_areas import RowAreas
from pipelines.rasters.cog import read_block
from pipelines.run import plan
from pipelines.run.areas import Tally, measure
from pipelines.run.attempts import UnitReport, report_of
from pipelines.run.commits import CommitLog
from pipelines.run.directory import MARK, METADATA_DIR, SAMPLE, SEALED, RunDirectory
from pipelines.run.plan import SCENE, CountUnit, Prepared, Unit, WorkUnit, unit_id
from pipelines.scenes.counts import elsewhere_in
from pipelines.scenes.finished import label_ground, label_uri, named_label_map, shared_ground
from pipelines.scenes.results import OUTSIDE
from pipelines.storage.digests import digest
from segmodel.errors import TransientError
from segmodel.tiling.windows import Window

# Sums in a commit record: what points are picked from by class, and what counts by class and zone.
PICKED_PIXELS, PICKED_M2 = "picked_pixels", "picked_m2"
ZONE_PIXELS, ZONE_M2 = "zone_pixels", "zone_m2"


@dataclass(frozen=True)
class Buffer:
    """The ground around a class: pixels of other classes near it.

    Args:
        class_id: The class.
        distance_px: How many rows and columns from its pixels the buffer reaches, in one scene.
    """

    class_id: int
    distance_px: int

    def read(self, uri: str, window: Window, nodata: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels of a window, and which of its pixels are in the buffer.

        Args:
            uri: Label map.
            window: Part of it.
            nodata: Value of pixels without a class.

        Returns:
            `(height, width)` labels, and bool.
        """
        ground, halo = label_ground(uri), self.distance_px
        corner = window.row - halo, window.column - halo
        grown = Window(*corner, window.height + 2 * halo, window.width + 2 * halo)
        grown = grown.intersection(Window(0, 0, ground.height, ground.width))
        labels = read_block(uri, grown)
        inner = window.relative_to(grown).slices
        near = spread(labels == self.class_id, halo)[inner]
        labels = labels[inner]
        return labels, near & (labels != self.class_id) & (labels != nodata)


@dataclass(frozen=True)
class BufferWork:
    """What all units of a pass have in common; travels to the workers.

    Args:
        folder: Folder of the pass.
        labelled: Work of the run.
        buffer: The buffer.
        options: Digest of the map, the buffer and the zones.
        by_zone: Whether each zone of the run has a buffer of its own.
    """

    folder: str
    labelled: Work
    buffer: Buffer
    options: str
    by_zone: bool = False

    @property
    def run(self) -> RunDirectory:
        """Plan and records of the pass."""
        return RunDirectory(self.folder, SAMPLE)

    @property
    def log(self) -> CommitLog:
        """The commit records."""
        return CommitLog(self.folder, self.options)


def prepare_pass(
    labelled: Work, sample: str, buffer: Buffer, run_digest: str, *, by_zone: bool
) -> Prepared[BufferWork]:
    """Write `run.json` and the plan; records of another map, buffer or zones are removed.

    Args:
        labelled: Work of the run.
        sample: Folder of the sample, in which the pass has one of its own.
        buffer: The buffer.
        run_digest: Digest of the map.
        by_zone: Whether each zone of the run has a buffer of its own.
    """
    shape: dict[str, Any] = {"run": run_digest, "buffer": [buffer.class_id, buffer.distance_px]}
    if by_zone and labelled.counting is not None:
        shape["zones"] = labelled.counting.zones
    work = BufferWork(f"{sample}/{METADATA_DIR}", labelled, buffer, digest(shape), by_zone)
    run = work.run
    earlier = run.earlier(overwrite=True)
    if earlier is not None and earlier.get("shape") != shape:
        run.clear()
    run.begin()
    versions = {"beamseg": segmodel.__version__}
    run.write_run(MARK | {"format": SAMPLE, "shape": shape, "versions": versions, SEALED: True})
    parts = plan.write_plan(_units(labelled), run.plan, run.scratch)
    pixels = 0
    for unit, commit in work.log.read_all(plan.read_units(run.plan, WorkUnit)):
        pixels += _window_of(unit).pixels if commit is None else 0
    return Prepared(work, tuple(parts), plan.count_units(run.plan, parts), pixels)


def _units(labelled: Work) -> Iterator[WorkUnit]:
    """A unit for each block: its scene and, behind it, all scenes that show the same ground."""
    shared = shared_ground(labelled)
    for block in placed_blocks(labelled):
        corner = f"r{block.window.row}c{block.window.column}"
        files = (block.file, *shared.get(block.file.key, ()))
        yield WorkUnit(unit_id("near", block.file, corner), SCENE, files, block.window)


def _window_of(unit: Unit) -> Window:
    assert isinstance(unit, WorkUnit)
    assert unit.window is not None
    return unit.window


def run_pass(prepared: Prepared[BufferWork], words: Sequence[str]) -> None:
    """Run the graph to its end; commit records say what it found.

    Args:
        prepared: The pass, with its plan.
        words: Options of Beam.

    Raises:
        ConfigurationError: If Beam refuses an option, or the graph would not be waited for.
        InputError: If a label map cannot be read.
    """
    from pipelines.runners.execute import waiting_options
    from pipelines.runners.units import DoPlan, DoUnit, run_units

    beam_options = waiting_options(words, "sample")
    graph = "CountBuffer" >> DoPlan(DoUnit(count_block, prepared.work, "units", "counted_pixels"))
    run_units(prepared, graph, beam_options, "sample")


def count_block(
    unit: WorkUnit, work: BufferWork, on_pixels: Callable[[int], None] = lambda pixels: None
) -> UnitReport:
    """Count what of a block is in the buffer, unless it is done.

    Args:
        unit: Block of the run.
        work: What all units have in common.
        on_pixels: Called with the number of pixels of the block.

    Returns:
        Counts of what was done.

    Raises:
        InputError: If the label map cannot be read, or a scene that shows the same ground is out of
            reach.
    """
    if work.log.is_done(unit):
        return UnitReport(done=1, skipped=1)

    def attempt() -> UnitReport:
        near, pixels = _count(unit, work), _window_of(unit).pixels
        sums = {PICKED_PIXELS: near.picked.pixels, PICKED_M2: near.picked.area_m2}
        if work.by_zone:
            for name, field in ((ZONE_PIXELS, "pixels"), (ZONE_M2, "area_m2")):
                sums[name] = {
                    f"{class_id}:{zone}": number
                    for zone, tally in near.counted.items()
                    for class_id, number in getattr(tally, field).items()
                }
        work.log.write(unit, (), replace(Tally.sum(near.counted.values()), sums=sums))
        on_pixels(pixels)
        return UnitReport(done=1, computed_pixels=pixels)

    return report_of(unit, work.log, attempt)


def _count(unit: WorkUnit, work: BufferWork) -> NearTallies:
    (file, *sharing), window = unit.files, _window_of(unit)
    uri, classes = label_uri(file, work.labelled), work.labelled.contract.classes
    with named_label_map(file):
        labels, near = work.buffer.read(uri, window, classes.nodata)
        ground = label_ground(uri)

    def areas(top: int, rows: int) -> np.ndarray | RowAreas:
        return ground.summable_areas_m2(window.row + top, window.column, rows, window.width)

    empty = labels.dtype.type(classes.nodata)

    def tally_of(mask: np.ndarray) -> Tally:
        return measure(np.where(mask, labels, empty), classes, areas)

    picked = tally_of(near)
    if sharing and near.any():
        place = [other.key for other in sharing].index(file.key)
        shared = CountUnit(unit.id, SCENE, tuple(sharing), place)
        near &= ~elsewhere_in(shared, work.labelled, window)
    if not work.by_zone:
        return NearTallies(picked, {"": tally_of(near)})
    drawn, names = zones_of(work.labelled, ground)
    index = np.full(near.shape, -1) if drawn is None else drawn.indices(window, 0)
    counted = {
        OUTSIDE if zone < 0 else names[zone]: tally_of(near & (index == zone))
        for zone in np.unique(index[near]).tolist()
    }
    return NearTallies(picked, counted)


def with_near(blocks: Iterable[MapBlock], work: BufferWork) -> Iterator[MapBlock]:
    """All blocks of the run, in order, with what of each is in the buffer; streamed.

    Raises:
        TransientError: If a block is not counted.
    """
    found = work.log.read_all(plan.read_units(work.run.plan, WorkUnit))
    for block, (unit, commit) in zip(blocks, found, strict=True):
        if commit is None:
            raise TransientError(
                f"{unit.id} could not be counted: run the same command again to do the rest"
            )
        sums = commit.tally.sums
        picked = Tally(pixels=_whole(sums[PICKED_PIXELS]), area_m2=sums[PICKED_M2])
        yield replace(block, near=NearTallies(picked, _counted(commit.tally, work)))


def _counted(tally: Tally, work: BufferWork) -> dict[str, Tally]:
    """What of a block counts in the buffer, by zone."""
    if not work.by_zone:
        return {"": tally}
    pixels, areas = defaultdict[str, dict[str, int]](dict), tally.sums[ZONE_M2]
    for key, number in _whole(tally.sums[ZONE_PIXELS]).items():
        class_id, _, zone = key.partition(":")
        pixels[zone][class_id] = number
    return {
        zone: Tally(pixels=found, area_m2={i: areas[f"{i}:{zone}"] for i in found})
        for zone, found in pixels.items()
    }


def _whole(numbers: Mapping[str, Any]) -> dict[str, int]:
    return {key: int(number) for key, number in numbers.items()}


def spread(mask: np.ndarray, distance: int) -> np.ndarray:
    """Where a mask is True within so many rows and columns.

    Args:
        mask: `(height, width)` bool.
        distance: Rows and columns, at least 0.

    Returns:
        `(height, width)` bool.

    >>> spread(np.array([[True, False, False, False]]), 2).tolist()
    [[True, True, True, False]]
    """
    return _spread_rows(_spread_rows(mask, distance).T, distance).T


def _spread_rows(mask: np.ndarray, distance: int) -> np.ndarray:
    found, reach = mask.copy(), 0
    while reach < distance:
        # A greater step would leave gaps at the rim, where what it starts from is cut off.
        step = min(reach + 1, distance - reach)
        before = found.copy()
        found[step:] |= before[:-step]
        found[:-step] |= before[step:]
        reach += step
    return found
