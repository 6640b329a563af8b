"""What a finished run has: its summary, its digest and the label maps of its scenes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from pipelines.formats.work import Work
from pipelines.geodesy.ground import GroundGrid
from pipelines.rasters.header import read_header
from pipelines.rasters.reader import ground_grid
from pipelines.run import plan
from pipelines.run.commits import Commit, CommitLog, Output
from pipelines.run.plan import SCENE, AssemblyUnit, CountUnit, InputFile, Unit, WorkUnit
from pipelines.run.unit_tables import AREAS
from pipelines.scenes.files import scene_paths
from pipelines.scenes.label_list import MapRow
from pipelines.scenes.overlaps import in_input_order, microseconds_taken, precedence
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


class SceneMaps(NamedTuple):
    """A scene with a label map, and what its commit record says of the maps.

    Attributes:
        file: The scene.
        labels: Its label map.
        confidence: Its confidence, or None.
        areas: Its table of rows; None in a record that names none.
        lost: Windows that could not be read.
    """

    file: InputFile
    labels: Output
    confidence: Output | None
    areas: Output | None
    lost: tuple[Window, ...]


def scene_maps(work: Work) -> list[SceneMaps]:
    """Maps of all finished scenes of a run; those that take precedence come first."""
    found: dict[InputFile, SceneMaps | None] = {}

    def recorded(unit: Unit) -> tuple[Unit, Commit | None]:
        return unit, None if unit.is_block else work.log.read(unit)

    for kind in (WorkUnit, AssemblyUnit):
        scenes = (u for u in plan.read_units(work.run.plan, kind) if u.format == SCENE)
        for unit, commit in in_order(recorded, scenes):
            file = unit.files[0]
            found[file] = found.get(file) or (None if commit is None else _maps_of(file, commit))
    labelled = [maps for file in in_input_order(found) if (maps := found[file]) is not None]
    files = [maps.file for maps in labelled]
    overlap = None if work.counting is None else work.counting.overlap
    try:
        ranks = precedence(files, overlap, work.headers)
    except ConfigurationError:
        ranks = precedence(files, None, work.headers)
    return [labelled[index] for index in sorted(range(len(files)), key=ranks.__getitem__)]


def map_rows(part: str, work: Work) -> Iterator[MapRow]:
    """Scenes of a part of the plan with their label maps, for `MapCatalogue`."""
    has_dates = work.counting is not None and work.counting.overlap == "newest"

    def row_of(unit: Unit) -> MapRow:
        file = unit.files[0]
        # That of a block is the place of its scene.
        commit = None if unit.is_block else work.log.read(unit)
        maps = None if commit is None else _maps_of(file, commit)
        if maps is None:
            return file.key, file.gone, file.behind, None, None
        taken = microseconds_taken(file, work.headers) if has_dates else None
        path = maps.labels.path
        # By its own header: the scene may be out of reach by now.
        grid = read_header(work.run.path(path)).grid
        wkt = grid.crs.to_wkt() if grid.crs else ""
        place = list(grid.transform)[:6]
        found = (path, grid.height, grid.width, place, wkt)
        return file.key, file.gone, file.behind, taken, found

    units = (u for _, u in plan.read_part(work.run.plan, part) if u.format == SCENE)
    firsts = (next(rows) for _, rows in groupby(units, lambda u: (u.files[0].key, u.is_block)))
    return in_order(row_of, firsts)


def _maps_of(file: InputFile, commit: Commit) -> SceneMaps | None:
    """The maps that a record names; None without a label map."""
    written = {output.path: output for output in commit.outputs}
    paths = scene_paths(file)
    labels = written.get(paths.labels)
    if labels is None:
        return None
    lost = tuple(Window(*part) for part in commit.lost)
    areas = next(map(written.__getitem__, commit.outputs_in(AREAS)), None)
    return SceneMaps(file, labels, written.get(paths.confidence), areas, lost)


def shared_ground(work: Work) -> dict[str, tuple[InputFile, ...]]:
    """By key of a scene all scenes that show the same ground, it among them, in precedence.

    Scenes that share none are left out; so are all in a run that counts ground in each scene.
    """
    counts = plan.read_units(work.run.plan, CountUnit) if work.counts_once else ()
    return {unit.file.key: unit.files for unit in counts if len(unit.files) > 1}


@lru_cache(256)
def label_ground(uri: str) -> GroundGrid:
    """Where the pixels of a label map are on the ground; opened once in a process."""
    return ground_grid(read_header(uri).grid)


def label_uri(file: InputFile, work: Work) -> str:
    """Where the label map of a scene is."""
    return work.run.path(scene_paths(file).labels)


@contextmanager
def named_label_map(file: InputFile) -> Iterator[None]:
    """Name the label map of a scene in errors of reading it that name none, with the remedy."""
    try:
        yield
    except InputError as error:
        if error.name.startswith("labels/"):
            raise
        raise InputError(
            f"{error.text}: run `beamseg verify` with --invalidate, then the same `beamseg "
            f"segment` again",
            code=error.code,
            name=scene_paths(file).labels,
        ) from error


def run_digest_of(
    document: dict[str, Any],
    log: CommitLog,
    on_commit: Callable[[Commit], object] = lambda commit: None,
) -> str:
    """SHA-256 over what makes the map of a run, so that another map has another one.

    That are the options on which labels depend, the rule by which ground counts once, and the label
    maps, each by its path. Zones and tables may change.

    Args:
        document: The `run.json` of the run.
        log: Commit records of the run.
        on_commit: Called with each record, so that they need not be read again.

    Raises:
        DamagedError: If a commit record is damaged.
    """
    labels = document.get("digests", {}).get("labels")
    overlap = (document.get("counting") or {}).get("overlap")
    found = hashlib.sha256(json.dumps([labels, overlap]).encode())
    for commit in in_order(lambda name: _commit(name, log), sorted(log.names())):
        if commit is not None:
            for file in commit.outputs:
                if file.path.startswith("labels/"):
                    found.update(f"{json.dumps((file.path, file.sha256))}\n".encode())
            on_commit(commit)
    return found.hexdigest()


def _commit(name: str, log: CommitLog) -> Commit | None:
    try:
        return log.load(name)
    except ValueError as error:
        raise DamagedError(
            f"{log.folder}/{name} is damaged: run the same `beamseg segment` again"
        ) from error
