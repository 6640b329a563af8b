"""Which scenes show the same ground, and which of them comes first."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from pyproj.exceptions import ProjError
from shapely.errors import ShapelyError

from pipelines.formats.work import Counting
from pipelines.geodesy.footprints import counted_twice_m2, neighbours
from pipelines.geodesy.ground import GroundGrid
from pipelines.rasters.header import Headers
from pipelines.rasters.reader import ground_grid
from pipelines.run.plan import SCENE, CountUnit, InputFile, unit_id
from pipelines.scenes.blocks import is_possible
from segmodel.errors import BeamsegError, ConfigurationError

_log = logging.getLogger("beamseg")


@dataclass(frozen=True)
class Overlaps:
    """How far scenes show the same ground.

    Args:
        scenes: Number of scenes with a place on the ground.
        overlapping: Number of those that share ground with another one.
        footprint_m2: Sum of their footprints in m².
        repeated_m2: What the sum contains more than once, in m².
    """

    scenes: int
    overlapping: int
    footprint_m2: float
    repeated_m2: float


def overlaps_of(files: Sequence[InputFile], headers: Headers) -> Overlaps | None:
    """How far scenes show the same ground, by their outlines; None if that cannot be told."""
    grids = list(grounds_of(files, headers).values())
    try:
        near = _near(tuple(grids))
        return Overlaps(
            scenes=len(grids),
            overlapping=sum(1 for others in near if others),
            footprint_m2=float(sum(grid.footprint_m2() for grid in grids)),
            repeated_m2=counted_twice_m2(grids, near),
        )
    except (BeamsegError, ShapelyError, ProjError) as error:
        _log.warning("how much ground scenes share cannot be told: %s", error)
        return None


@lru_cache(1)
def _near(grids: tuple[GroundGrid, ...]) -> list[tuple[int, ...]]:
    """Neighbours of scenes, which a launch asks for more than once."""
    return neighbours(grids)


def plan_counts(
    files: Sequence[InputFile], counting: Counting, headers: Headers
) -> Iterator[CountUnit]:
    """A unit for each scene that counts its pixels, with the scenes that it overlaps.

    Raises:
        ConfigurationError: If the newest scenes come first and one does not say when it was taken.
    """
    ranks = precedence(files, counting.overlap, headers)
    near: dict[int, list[int]] = {}
    if counting.overlap is not None:
        grids = grounds_of(files, headers)
        places = list(grids)
        for index, others in zip(places, _near(tuple(grids.values())), strict=True):
            near[index] = [places[other] for other in others]
    for index, file in enumerate(files):
        group = sorted([index, *near.get(index, [])], key=ranks.__getitem__)
        members = tuple(files[member] for member in group)
        taken = _words(file, headers) if counting.overlap == "newest" else None
        yield CountUnit(unit_id("counts", file), SCENE, members, group.index(index), taken)


def in_input_order(files: Iterable[InputFile]) -> list[InputFile]:
    """Scenes in order of inputs, where those that are gone stand among the others as they did."""
    there: list[InputFile] = []
    gone: dict[str | None, list[InputFile]] = {}
    for file in files:
        (gone.setdefault(file.behind, []) if file.gone else there).append(file)
    merged = gone.pop(None, [])
    for file in there:
        merged += [file, *gone.pop(file.key, ())]
    return [*merged, *(file for rest in gone.values() for file in rest)]


def precedence(
    files: Sequence[InputFile], overlap: str | None, headers: Headers
) -> list[tuple[int, int]]:
    """For each scene what it is sorted by: the first comes first.

    Raises:
        ConfigurationError: If the newest come first and one does not say when it was taken.
    """
    if overlap != "newest":
        return [(0, index) for index in range(len(files))]
    dates = [_acquired(file, headers) for file in files]
    newest_first = sorted(set(dates), reverse=True)
    place = {date: number for number, date in enumerate(newest_first)}
    return [(place[date], index) for index, date in enumerate(dates)]


def microseconds_taken(file: InputFile, headers: Headers) -> int | None:
    """When a scene was taken, since the year 1; None if it does not say."""
    try:
        since = _acquired(file, headers) - datetime.min.replace(tzinfo=UTC)
    except ConfigurationError:
        return None
    return since // timedelta(microseconds=1)


def _acquired(file: InputFile, headers: Headers) -> datetime:
    """When a scene was taken; long ago if it cannot be opened."""
    header = headers.find(file)
    long_ago = datetime.min.replace(tzinfo=UTC)
    date = long_ago if header is None else parse_date(_words(file, headers) or "")
    if date is None and file.gone:
        raise ConfigurationError(
            f"--overlap newest: {file.key} is gone, and the plan of the run does not say when it "
            f"was taken: use --overlap first"
        )
    if date is None:
        raise ConfigurationError(
            f"--overlap newest: {file.key} does not say when it was taken, as YYYY-MM-DD or "
            f"YYYY:MM:DD and perhaps a time: give it the tag TIFFTAG_DATETIME (for example "
            f"gdal_edit.py -mo 'TIFFTAG_DATETIME=2026:11:25 10:00:00'), or use --overlap first"
        )
    return date


def _words(file: InputFile, headers: Headers) -> str | None:
    """When a scene was taken, in the words of its file; None if they are not known."""
    header = None if file.gone else headers.find(file)
    return file.acquired if header is None else header.acquired


def parse_date(text: str) -> datetime | None:
    """A time as ISO 8601 or TIFF spell it, or None; one without a zone is taken for UTC.

    >>> parse_date("2026:11:25 10:00:00") == parse_date("2026-11-25T12:00:00+02:00")
    True
    >>> parse_date("25.11.2026")
    """
    text = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", text.strip())
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def grounds_of(files: Sequence[InputFile], headers: Headers) -> dict[int, GroundGrid]:
    """Where scenes are on the ground, by their index; without those that do not say.

    Nor those that are too large to be labelled: what they state may be anything.
    """
    grounds = {}
    for index, file in enumerate(files):
        header = headers.find(file)
        if header is None or not is_possible(header.grid.height, header.grid.width):
            continue
        if header.is_placed:
            with suppress(BeamsegError):
                ground = ground_grid(header.grid)
                ground.pixel_size_m()
                grounds[index] = ground
    return grounds
