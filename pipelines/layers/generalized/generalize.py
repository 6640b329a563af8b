"""Stages that write label maps generalized to a minimum mapping unit.

The first finds in each block of a scene of several what the block cannot settle alone; the second
settles it, and writes the label map of the scene. Its records say what moved.
"""

import hashlib
import io
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pipelines.layers.generalized.mapping_unit import MappingUnit
from pipelines.layers.generalized.unsettled import (
    BlockComponents,
    SceneSeams,
    Settled,
    Sides,
    Unsettled,
)
from pipelines.layers.label_files import provenance_of, write_label_layer
from pipelines.layers.maps import LabelMap, LabelMaps, map_ground, map_of
from pipelines.layers.polygons.measures import WholeAreas
from pipelines.layers.stages import Stage, StageResult, StageWork, shape_digest
from pipelines.rasters.cog import Blocks, read_block
from pipelines.run.areas import Sums, Tally
from pipelines.run.commits import Output
from pipelines.run.plan import WorkUnit
from pipelines.scenes.files import label_name
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import DamagedError, GroundError, InputError, TransientError
from segmodel.tiling.windows import Window

PIECES, GENERALIZED = "minimum_area/pieces", "minimum_area/scene"
# Folder of the generalized label maps.
MAPS = "generalized"
# A block, its areas and its components take 500 MB if no two neighbours are equal.
SIDE_PX = 2048
# Sums in a record: pixels and ground area by old and new class, and of what is below the unit and
# keeps its class.
MOVED_PIXELS, MOVED_M2, UNCHANGED = "moved_pixels", "moved_m2", "unchanged"


def generalize_stages(unit_m2: float, maps: LabelMaps, side: int = SIDE_PX) -> list[Stage]:
    """The stages that write the generalized label maps of a run.

    Args:
        unit_m2: The minimum mapping unit in m².
        maps: Label maps of the run.
        side: Most rows and columns of a block; nothing but memory depends on it.
    """

    def pieces() -> Iterator[WorkUnit]:
        for found in maps:
            if _is_cut(found, side):
                yield from (found.unit("pieces", window) for window in found.blocks(side))

    def scenes() -> Iterator[WorkUnit]:
        return map(generalized_unit, maps)

    last = _last_stage(unit_m2, side, scenes)
    first = Stage(PIECES, {**last.shape, "side": side}, pieces, FindPieces(unit_m2))
    return [first, last] if any(_is_cut(found, side) for found in maps) else [last]


def _last_stage(unit_m2: float, side: int, units: Callable[[], Iterable[WorkUnit]]) -> Stage:
    action = GeneralizeScene(unit_m2, side)
    return Stage(GENERALIZED, {"minimum_area": unit_m2}, units, action, is_by_scene=True)


def generalized_unit(found: LabelMap) -> WorkUnit:
    """The unit that writes the generalized label map of a scene."""
    return found.unit("generalized", found.grid.window)


def generalized_path(found: LabelMap) -> str:
    """Where the generalized label map of a scene is, in `layers/`."""
    return f"{MAPS}/{label_name(found.key)}"


def generalized_map(found: LabelMap, unit_m2: float, work: StageWork) -> LabelMap:
    """The generalized label map of a scene, for stages of other layers.

    Args:
        found: The label map.
        unit_m2: The minimum mapping unit in m².
        work: Work of the stage that reads it.

    Raises:
        InputError: If it could not be made.
        TransientError: If it is not made yet.
    """
    shape = shape_digest(_last_stage(unit_m2, SIDE_PX, tuple), work.labelled)
    made = replace(work, name=GENERALIZED, shapes={GENERALIZED: shape})
    commit = made.log.read(generalized_unit(found))
    if commit is None:
        raise TransientError(
            f"{generalized_path(found)} is not made yet: run the same command again"
        )
    if commit.tally.failed_images:
        raise InputError("it could not be generalized to --minimum_area")
    output = commit.outputs[0]
    file = replace(found.file, uri=made.path(output.path), size=output.size, version=output.sha256)
    return replace(found, file=file)


def _is_cut(found: LabelMap, side: int) -> bool:
    return max(found.grid.height, found.grid.width) > side


@dataclass(frozen=True)
class FindPieces:
    """Finds what a block of a scene cannot settle alone, and writes it to a file.

    Args:
        unit_m2: The minimum mapping unit in m².
    """

    unit_m2: float

    def __call__(self, unit: WorkUnit, work: StageWork) -> StageResult:
        """Do a block; of a scene without ground area nothing, as the unit of the scene tells it."""
        assert unit.window is not None
        found = map_of(unit, work.labelled.contract.classes)
        ground = map_ground(found, work.labelled)
        if ground is None:
            return StageResult((), Tally(), unit.window.pixels)
        of_map = MappingUnit(WholeAreas.of(ground), self.unit_m2)
        pieces = _components(found, unit.window, of_map).unsettled()
        path = work.own_path(f"{unit.id}.npz")
        with work.written(path) as draft, open(draft.path, "wb") as stream:
            np.savez_compressed(stream, **pieces._asdict())
        return StageResult([Output.of(path, draft.written)], Tally(), unit.window.pixels)


@dataclass(frozen=True)
class GeneralizeScene:
    """Writes the generalized label map of a scene.

    Args:
        unit_m2: The minimum mapping unit in m².
        side: Most rows and columns of a block.
    """

    unit_m2: float
    side: int

    def __call__(self, unit: WorkUnit, work: StageWork) -> StageResult:
        """Do a scene.

        Raises:
            GroundError: If the scene has no ground area.
            InputError: If a block of it failed.
            TransientError: If a block of it is not there yet.
        """
        found = map_of(unit, work.labelled.contract.classes)
        ground = map_ground(found, work.labelled)
        if ground is None:
            raise GroundError(
                "its pixels have no ground area to compare with --minimum_area: give the scene a "
                "coordinate reference system, or label it with --pixel_size"
            )
        of_map = MappingUnit(WholeAreas.of(ground), self.unit_m2)
        pieces, stay = _settled(found, self.side, of_map, work)
        moved = _Moved(stay)

        def blocks() -> Blocks:
            for window, settled in pieces:
                block = _components(found, window, of_map)
                outcome = block.settle(settled)
                moved.add(block, outcome)
                yield window, outcome.labels[block.found.ids]

        tags = {"BEAMSEG_MINIMUM_AREA_M2": repr(self.unit_m2)} | provenance_of(found.uri)
        path = generalized_path(found)
        ground_of = partial(moved.ground, of_map.areas)
        outputs = write_label_layer(work, path, found.grid, blocks(), tags, ground_of)
        tally = Tally(sums=moved.sums(of_map.areas))
        return StageResult(outputs, tally, found.grid.window.pixels)


def _components(found: LabelMap, window: Window, unit: MappingUnit) -> BlockComponents:
    """The components of a block of a label map."""
    sides = Sides(
        window.row > 0,
        window.column > 0,
        window.row + window.height < found.grid.height,
        window.column + window.width < found.grid.width,
    )
    labels = read_block(found.uri, window)
    return BlockComponents(labels, window, sides, unit, found.classes.nodata)


def _settled(
    found: LabelMap, side: int, unit: MappingUnit, work: StageWork
) -> tuple[list[tuple[Window, Settled]], int]:
    """Blocks of a scene, and what became of what they could not settle alone.

    Returns:
        Windows, each with it, and the number of these components that stay below the unit.
    """
    windows = list(found.blocks(side))
    if not _is_cut(found, side):
        nothing = Settled(np.zeros(0, bool), np.zeros(0, found.classes.label_dtype))
        return [(window, nothing) for window in windows], 0
    seams, columns = SceneSeams(unit), -(-found.grid.width // side)
    units = (found.unit("pieces", window) for window in windows)
    row: list[Unsettled] = []
    for pieces in in_order(partial(_read_pieces, work=work), units):
        row.append(pieces)
        if len(row) == columns:
            seams.add_row(row)
            row = []
    settled, stay = seams.settle()
    return list(zip(windows, settled, strict=True)), stay


def _read_pieces(unit: WorkUnit, work: StageWork) -> Unsettled:
    """What a block of a scene could not settle alone.

    Raises:
        InputError: If the block failed.
        TransientError: If it is not done, or its file is damaged.
    """
    log = work.stage(PIECES).log
    commit = log.read(unit)
    if commit is None:
        raise TransientError(f"{unit.id} could not be finished: run the same command again")
    if commit.tally.failed_images:
        raise InputError(f"the block at {unit.window} could not be read")
    (output,) = commit.outputs
    content = filesystem.read_bytes(work.path(output.path))
    if hashlib.sha256(content).hexdigest() != output.sha256:
        log.invalidate(unit)
        raise DamagedError(f"{output.path} is damaged: run the same command again")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return Unsettled(**arrays)


class _Moved:
    """What moves from class to class in a scene: pixels, and areas as `WholeAreas` has them."""

    def __init__(self, stay: int) -> None:
        self._moved: dict[str, list[int]] = {}
        self._totals: dict[int, list[int]] = {}
        self._stay, self._unchanged = stay, np.zeros(3, np.int64)

    def add(self, block: BlockComponents, outcome: Settled) -> None:
        """Add what became of the components of a block."""
        old, new = block.found.labels, outcome.labels
        measures = np.column_stack([block.found.pixels, block.sizes])
        for label in np.unique(new).tolist():
            total = self._totals.setdefault(label, [0, 0, 0])
            total[:] = map(operator.add, total, measures[new == label].sum(axis=0).tolist())
        changed = old != new
        rows = (of[changed].tolist() for of in (old, new, measures))
        for before, after, row in zip(*rows, strict=True):
            total = self._moved.setdefault(f"{before}:{after}", [0, 0, 0])
            total[:] = map(operator.add, total, row)
        stays = block.has_class & ~outcome.large & ~changed
        self._stay += int(np.count_nonzero(stays & ~block.is_open))
        self._unchanged += measures[stays].sum(axis=0)

    def ground(self, areas: WholeAreas) -> Tally:
        """Pixels and ground area of the classes of the generalized map, and of its nodata."""
        pixels = {str(label): total[0] for label, total in self._totals.items()}
        found = {str(label): areas.exact(total[1:]) for label, total in self._totals.items()}
        return Tally(ground_pixels=pixels, area_m2=found)

    def sums(self, areas: WholeAreas) -> Sums:
        """Exact sums for a commit record."""
        pixels, *area = self._unchanged.tolist()
        return {
            MOVED_PIXELS: {pair: total[0] for pair, total in self._moved.items()},
            MOVED_M2: {pair: areas.exact(total[1:]) for pair, total in self._moved.items()},
            UNCHANGED: {
                "components": self._stay,
                "pixels": pixels,
                "area_m2": areas.exact(area),
            },
        }
