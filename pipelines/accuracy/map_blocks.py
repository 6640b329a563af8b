"""What a finished run has mapped on the ground, block by block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from pipelines.formats.work import Work
from pipelines.geodesy.ground import GroundGrid
from pipelines.rasters.header import read_header
from pipelines.rasters.reader import ground_grid
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.plan import SCENE, InputFile, WorkUnit
from pipelines.scenes.files import scene_paths
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import ConfigurationError, DamagedError, InputError
from segmodel.tiling.windows import Window


def complete_summary(work: Work) -> dict[str, Any]:
    """The summary of a run that has come to its end.

    Raises:
        ConfigurationError: If it has not; names the run.
    """
    try:
        summary = work.run.read_json("summary.json", work.is_sealed) or {}
    except ValueError:
        summary = {}
    if not summary.get("complete"):
        raise ConfigurationError(
            f"{work.run.root} is not complete: run the same `beamseg segment` again"
        )
    return summary


class NearTallies(NamedTuple):
    """What of a block is in a buffer, by class: all of it, and what counts in its scene."""

    picked: Tally = Tally()
    counted: Tally = Tally()


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


@lru_cache(256)
def label_ground(uri: str) -> GroundGrid:
    """Where the pixels of a label map are on the ground; opened once in a process."""
    return ground_grid(read_header(uri).grid)


def label_uri(file: InputFile, work: Work) -> str:
    """Where the label map of a scene is."""
    return work.run.path(scene_paths(file).labels)


@contextmanager
def named_label_map(file: InputFile) -> Iterator[None]:
    """Name the label map of a scene in errors of reading it, with the remedy."""
    try:
        yield
    except InputError as error:
        raise InputError(
            f"{error.text}: run `beamseg verify` with --invalidate, then the same `beamseg "
            f"segment` again",
            code=error.code,
            name=scene_paths(file).labels,
        ) from error
