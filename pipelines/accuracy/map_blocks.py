"""What a finished run has mapped on the ground, block by block."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

from pipelines.formats.work import Work
from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygon_masks import ScenePolygons
from pipelines.rasters.cog import TILE_PX
from pipelines.rasters.header import read_header
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import SCENE, InputFile, WorkUnit
from pipelines.run.polygons import ZONES, stored
from pipelines.scenes.finished import label_uri
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import DamagedError, InputError
from segmodel.tiling.windows import Window

# Pixels for which a scene is opened once; other threads do others of the same scene meanwhile.
PIXELS_AT_ONCE = 64


class NearTallies(NamedTuple):
    """What of a block is in a buffer, by class.

    Attributes:
        picked: All of it.
        counted: What counts in its scene, by zone; empty where strata have none.
    """

    picked: Tally = Tally()
    counted: Mapping[str, Tally] = MappingProxyType({})


@dataclass(frozen=True)
class MapBlock:
    """A part of a finished label map that one unit of the run labelled.

    Args:
        file: Scene.
        window: Rows and columns of the scene.
        tally: Pixels and ground area by class, as the commit record of the unit has them.
        near: What of it is in the buffer, if there is one.
    """

    file: InputFile
    window: Window
    tally: Tally
    near: NearTallies = NearTallies()


def placed_blocks(
    work: Work, on_other: Callable[[WorkUnit, Tally], object] = lambda unit, tally: None
) -> Iterator[MapBlock]:
    """All blocks of scenes with a place on the ground, in order of the plan; streamed.

    Args:
        work: What all units of the run had in common.
        on_other: Called with each unit that is none, and its tally.

    Raises:
        DamagedError: If a unit has no commit record.
    """
    # Blocks of a scene follow each other: its label map is looked at once.
    has_place = lru_cache(1)(lambda file: _has_place(label_uri(file, work), work))
    units = plan.read_units(work.run.plan, WorkUnit)
    for unit, commit in in_order(lambda unit: (unit, work.log.read(unit)), units):
        if commit is None:
            raise DamagedError(f"{unit.id} is not finished: run the same `beamseg segment` again")
        file, tally = unit.files[0], commit.tally
        is_block = unit.format == SCENE and bool(tally.area_m2)
        if not is_block or unit.window is None or not has_place(file):
            on_other(unit, tally)
        else:
            yield MapBlock(file, unit.window, tally)


def is_placed(label_map: str, tally: Tally, work: Work) -> bool:
    """Whether a scene has ground area, and has it by its place and not by `--pixel_size`."""
    return bool(tally.area_m2) and _has_place(label_map, work)


def _has_place(label_map: str, work: Work) -> bool:
    """Whether the area of a scene is that of its place."""
    if work.pixel_size_m is None:
        return True
    return filesystem.exists(label_map) and read_header(label_map).is_placed


class Placed(Protocol):
    """Something at a pixel of a scene."""

    @property
    def row(self) -> int:
        """Row of the pixel."""

    @property
    def column(self) -> int:
        """Column of it."""


P = TypeVar("P", bound=Placed)


def by_scene(pixels: Iterable[tuple[InputFile, P]]) -> Iterator[tuple[InputFile, list[P]]]:
    """What is at pixels of scenes, a few at a time, of one scene and near each other.

    So a scene is opened once for many pixels, and what is decoded for one is at hand for the next.

    Args:
        pixels: Scenes, each with what is at one of its pixels.
    """

    def place(pixel: tuple[InputFile, P]) -> tuple[str, int, int, int, int]:
        file, at = pixel
        return file.key, at.row // TILE_PX, at.column // TILE_PX, at.row, at.column

    for _, group in groupby(sorted(pixels, key=place), lambda pixel: pixel[0].key):
        while some := list(islice(group, PIXELS_AT_ONCE)):
            yield some[0][0], [at for _, at in some]


def zones_of(work: Work, ground: GroundGrid) -> tuple[ScenePolygons | None, tuple[str, ...]]:
    """Zones of a run on the pixels of a scene, None where they are out of reach; and their names.

    Args:
        work: What all units of a run with zones had in common.
        ground: Pixels of the scene.
    """
    assert work.counting is not None
    assert work.counting.zones is not None
    names = stored(work.run, ZONES, work.counting.zones).names
    return _zones_on(work.run, work.counting.zones, ground), names


@lru_cache(16)
def _zones_on(run: RunDirectory, digest: str, ground: GroundGrid) -> ScenePolygons | None:
    """Zones on the pixels of a scene; None where no way leads there from their CRS."""
    try:
        return ScenePolygons.of(stored(run, ZONES, digest), ground)
    except InputError:
        return None
