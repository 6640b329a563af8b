"""The ground of a finished scene counted by zone, and only once where scenes overlap.

A count is a unit of its own, after all label maps are there: neither other zones nor another rule
of precedence needs the model again.
"""

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from pyproj.exceptions import ProjError
from shapely.errors import ShapelyError

from pipelines.formats.work import Work
from pipelines.geodesy.polygon_masks import ScenePolygons
from pipelines.rasters.cog import read_bands
from pipelines.rasters.reader import ground_grid
from pipelines.rasters.zone_index import ZoneIndex, index_zones
from pipelines.run.areas import ELSEWHERE, FAILED, NODATA, OUTSIDE_AOI, Sums, Tally, TallySum
from pipelines.run.attempts import with_retries
from pipelines.run.commits import Commit, Output
from pipelines.run.failures import reason_of
from pipelines.run.plan import SCENE, CountUnit, InputFile, unit_id
from pipelines.run.polygons import ZONES, stored
from pipelines.run.soft_areas import ZONE_M2, ZONE_PIXELS, soft_sums
from pipelines.scenes.blocks import planned_blocks, scene_unit
from pipelines.scenes.files import counts_path, scene_paths
from pipelines.scenes.sampling import ABSENT, SceneView
from pipelines.scenes.sampling import FAILED as FAILED_STATE
from pipelines.scenes.sampling import OUTSIDE_AOI as OUTSIDE_STATE
from pipelines.scenes.task import area_of_interest
from pipelines.storage.copies import local_copies
from segmodel.engine.soft import SoftSums
from segmodel.errors import GroundError, InputError
from segmodel.tiling.raster import Counted
from segmodel.tiling.windows import Window

TILE_PX = 1024
# Side of tiles whose pixels are looked up at once.
NEAR_PX = 256
_log = logging.getLogger("beamseg")


class _Sums:
    """Pixels and ground area by zone, and by the scene in which ground counts instead."""

    def __init__(self) -> None:
        self.zones: dict[str | None, TallySum] = {}
        self.elsewhere: dict[str, TallySum] = {}
        self.total = TallySum()

    def to_json(self) -> dict[str, Any]:
        """As in the file of a count."""
        return {
            "zones": [_row("zone", name, total) for name, total in self.zones.items()],
            "elsewhere": [_row("counted_in", name, t) for name, t in self.elsewhere.items()],
        }


def _row(key: str, name: str | None, total: TallySum) -> dict[str, Any]:
    exact = total.exact()
    areas = {line: str(value) for line, value in exact.area_m2.items()}
    return {key: name, "pixels": exact.pixels, "area_m2": areas}


@dataclass(frozen=True)
class _Scene:
    """A finished scene among those that it overlaps."""

    file: InputFile
    commit: Commit
    view: SceneView | None

    @property
    def footprint_m2(self) -> float | Fraction:
        """Ground area from the outline."""
        if self.view is None:
            return self.commit.tally.footprint_m2
        return ground_grid(self.view.grid).footprint_m2()

    def at_hand(self, copies: contextlib.ExitStack, work: Work) -> "_Scene":
        """The scene with its label map on this machine while `copies` are."""
        if self.view is None or self.view.labels is None:
            return self
        (path,) = copies.enter_context(local_copies([self.view.labels], work.run.scratch))
        return replace(self, view=replace(self.view, labels=path))


def count_scene(unit: CountUnit, work: Work) -> bool:
    """Count a scene if it and all that it overlaps are finished; whether it is counted now."""
    log = work.log
    commit = log.read(unit)
    if commit is not None and not log.is_sound(unit, commit):
        log.invalidate(unit)
        commit = None
    if commit is None:
        try:
            with_retries(unit, log, lambda: _count(unit, work))
        except (InputError, GroundError, ShapelyError, ProjError) as error:
            # All label maps are there; the run says that it is not complete.
            _log.error("%s cannot be counted: %s", unit.id, reason_of(error))
    return log.is_done(unit)


def is_counted(unit: CountUnit, work: Work) -> bool:
    """Whether a scene is counted, and its count is as recorded."""
    commit = work.log.read(unit)
    return commit is not None and work.log.is_sound(unit, commit)


def _count(unit: CountUnit, work: Work) -> None:
    scenes = [_scene(file, work) for file in unit.files]
    found = [scene for scene in scenes if scene is not None]
    if len(found) < len(scenes):
        return
    sums, labelled = _Sums(), found[unit.place].commit.tally
    with contextlib.ExitStack() as copies:
        found = [scene.at_hand(copies, work) for scene in found]
        scene, soft = found[unit.place], None
        if scene.view is not None and _needs_levels(unit, labelled, work):
            path = work.run.path(scene_paths(unit.file).probabilities)
            (levels,) = copies.enter_context(local_copies([path], work.run.scratch))
            soft = _Levels(levels, SoftSums.zeros(len(work.contract.classes.ids)))
        if scene.view is None:
            # Without a place on the ground it is in no zone, and no other scene shows the same.
            for total in (sums.total, sums.zones.setdefault(None, TallySum())):
                total.add(labelled)
        else:
            _count_tiles(scene, found, work, sums, soft)
    tally = replace(
        sums.total.exact(),
        images=labelled.images,
        failed_images=labelled.failed_images,
        footprint_m2=scene.footprint_m2,
        seam_pixels=labelled.seam_pixels,
        seam_differences=labelled.seam_differences,
        compared_pixels=labelled.compared_pixels,
        out_of_range=labelled.out_of_range,
        worst_share=labelled.worst_share,
        sums=_soft_sums(labelled, work),
    )
    if soft is not None:
        tally = replace(tally, sums=soft_sums(soft.sums, tally, work.contract.classes))
    path = counts_path(unit)
    written = work.run.write(path, json.dumps(sums.to_json()).encode())
    work.log.write(unit, [Output.of(path, written)], tally)


def _soft_sums(labelled: Tally, work: Work) -> Sums:
    """Sums of a whole scene, without those by zones that are no more the same.

    Where some of its labels count elsewhere, they are more than its labels are, and tables tell.
    """
    zones = None if work.counting is None else work.counting.zones
    by_zone = () if zones == work.soft_zones else (ZONE_PIXELS, ZONE_M2)
    return {name: entries for name, entries in labelled.sums.items() if name not in by_zone}


def _needs_levels(unit: CountUnit, labelled: Tally, work: Work) -> bool:
    """Whether probabilities are summed again, from their maps."""
    has_zones = work.counting is not None and work.counting.zones is not None
    is_known = not has_zones or ZONE_PIXELS in _soft_sums(labelled, work)
    return work.soft_areas and work.probabilities and (len(unit.files) > 1 or not is_known)


@dataclass(frozen=True)
class _Levels:
    """Probabilities of a scene, summed where ground counts there.

    Args:
        path: Their map, on this machine.
        sums: Sums so far.
    """

    path: str
    sums: SoftSums

    def add(self, tile: Window, table: "_TableLines", zones: ZoneIndex | None) -> None:
        """Add the pixels of a tile that have a class for their line."""
        levels = read_bands(self.path, tile)
        label = np.where(table.line < levels.shape[2], table.line, -1)
        index, combinations = (None, (None,)) if zones is None else zones
        self.sums.add_pixels(levels, label, Counted(table.areas_m2, None, index, combinations))


def counts_elsewhere(
    unit: CountUnit, work: Work, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Whether pixels of a finished scene are ground that counts in another scene.

    Args:
        unit: Count of the scene.
        work: Work that all units of the run share.
        rows: `(pixels,)` rows of pixels of the scene.
        columns: `(pixels,)` columns of the same.

    Returns:
        `(pixels,)` bool.

    Raises:
        InputError: If a scene that shows the same ground is out of reach.
    """
    found = _all_scenes(unit, work)
    here = found[unit.place]
    elsewhere = np.zeros(len(rows), bool)
    if here.view is None:
        return elsewhere
    for number in _near_each_other(rows, columns):
        row, column = rows[number], columns[number]
        (top, bottom), (left, right) = ((int(at.min()), int(at.max()) + 1) for at in (row, column))
        tile = Window(top, left, bottom - top, right - left)
        states = here.view.states(here.view.labels_in(tile), tile)
        shadow = _shadow(here, found, states, tile)
        elsewhere[number] = shadow[row - top, column - left] >= 0
    return elsewhere


def _all_scenes(unit: CountUnit, work: Work) -> list[_Scene]:
    """A finished scene and those that it overlaps.

    Raises:
        InputError: If one is out of reach.
    """
    found: list[_Scene] = []
    for file in unit.files:
        scene = _scene(file, work)
        if scene is None:
            raise InputError("it is out of reach, and shows ground of others", name=file.key)
        found.append(scene)
    return found


def elsewhere_in(unit: CountUnit, work: Work, window: Window) -> np.ndarray:
    """Which pixels of a window of a finished scene are ground that counts in another scene.

    Args:
        unit: Count of the scene.
        work: Work that all units of the run share.
        window: Part of the scene.

    Returns:
        `(height, width)` bool.

    Raises:
        InputError: If a scene that shows the same ground is out of reach.
    """
    found = _all_scenes(unit, work)
    here = found[unit.place]
    elsewhere = np.zeros((window.height, window.width), bool)
    if here.view is None:
        return elsewhere
    for tile in window.subdivide(TILE_PX, TILE_PX):
        states = here.view.states(here.view.labels_in(tile), tile)
        elsewhere[tile.relative_to(window).slices] = _shadow(here, found, states, tile) >= 0
    return elsewhere


def _near_each_other(rows: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
    """Indices of pixels, those of a tile together."""
    tiles = np.stack([rows // NEAR_PX, columns // NEAR_PX])
    _, of_tile = np.unique(tiles, axis=1, return_inverse=True)
    order = np.argsort(of_tile, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(of_tile[order])) + 1) if len(order) else []


def _scene(file: InputFile, work: Work) -> _Scene | None:
    """A scene, or None if it is not finished."""
    try:
        header = work.headers.read(file)
    except InputError:
        header = None
    if file.gone:
        # Of its label map it has another header, and blocks follow from that.
        commit = work.log.read_only(unit_id(SCENE, file))
    else:
        unit = scene_unit(file, planned_blocks(header, work.layout, work.reading))
        commit = work.log.read(unit)
    if commit is None:
        return None
    if header is None or header.grid.crs is None or not commit.tally.area_m2:
        return _Scene(file, commit, None)
    labels = scene_paths(file).labels
    has_labels = labels in commit.outputs_in("labels")
    lost = tuple(Window(*part) for part in commit.lost)
    path = work.run.path(labels) if has_labels else None
    # What 0.1.0 labelled has what is outside among nodata, and stays so.
    aoi = area_of_interest(header, work) if OUTSIDE_AOI in commit.tally.pixels else None
    view = SceneView(header.grid, path, work.contract.classes.nodata, lost, aoi)
    return _Scene(file, commit, view)


def _count_tiles(
    scene: _Scene, scenes: Sequence[_Scene], work: Work, sums: _Sums, soft: _Levels | None
) -> None:
    """Count a scene tile by tile."""
    assert scene.view is not None
    ground = ground_grid(scene.view.grid)
    digest = None if work.counting is None else work.counting.zones
    polygons = None if digest is None else stored(work.run, ZONES, digest)
    zones = None
    if polygons is not None:
        # No way leads there from Earth to the Moon.
        with contextlib.suppress(InputError):
            zones = ScenePolygons.of(polygons, ground)
    classes = work.contract.classes
    # Index of the line of the table by label: classes in their order, then nodata.
    line_of = np.zeros(classes.nodata + 1, np.int64)
    line_of[[*classes.ids, classes.nodata]] = np.arange(len(classes.ids) + 1)
    lines = [*(str(i) for i in classes.ids), NODATA, OUTSIDE_AOI, FAILED, ELSEWHERE]
    for tile in Window(0, 0, ground.height, ground.width).subdivide(TILE_PX, TILE_PX):
        labels = scene.view.labels_in(tile)
        states = scene.view.states(labels, tile)
        line = np.zeros(states.shape, np.int64) if labels is None else line_of[labels]
        for name, state in ((FAILED, FAILED_STATE), (OUTSIDE_AOI, OUTSIDE_STATE)):
            line[states == state] = lines.index(name)
        shadow = _shadow(scene, scenes, states, tile)
        line[shadow >= 0] = lines.index(ELSEWHERE)
        areas = ground.pixel_areas_m2(tile.row, tile.column, tile.height, tile.width)
        table = _TableLines(line, np.broadcast_to(areas, line.shape), lines)
        for _, tally in table.by_group(np.zeros(line.shape, np.int64)):
            sums.total.add(tally)
        for other, tally in table.by_group(shadow):
            sums.elsewhere.setdefault(scenes[other].file.key, TallySum()).add(tally)
        if polygons is not None:
            layers = () if zones is None else (zones.indices(tile, n) for n in range(zones.layers))
            _add_zones(layers, polygons.names, table, sums)
        if soft is not None:
            soft.add(tile, table, None if polygons is None else index_zones(zones, tile))


def _shadow(
    scene: _Scene, scenes: Sequence[_Scene], states: np.ndarray, tile: Window
) -> np.ndarray:
    """Place of the scene in which a pixel counts instead of here, or -1, `(height, width)`.

    A label comes before nodata and nodata before what failed; among equals the order of scenes
    decides.
    """
    assert scene.view is not None
    best = states.copy()
    shadow = np.full(states.shape, -1, np.int64)
    here = scenes.index(scene)
    for place, other in enumerate(scenes):
        if other is scene or other.view is None:
            continue
        try:
            found = other.view.at_centres_of(tile, scene.view.grid)
        except InputError as error:
            name = scene_paths(other.file).labels
            raise InputError(error.text, code=error.code, name=name) from error
        if found is None:
            continue
        # Of those looked at so far, the ones before have an earlier place in the order.
        wins = (found != ABSENT) & (found < best)
        if place < here:
            wins |= (found != ABSENT) & (found == best) & (shadow < 0)
        best[wins] = found[wins]
        shadow[wins] = place
    return shadow


@dataclass(frozen=True)
class _TableLines:
    """The lines of the table that the pixels of a tile belong to.

    Args:
        line: `(height, width)` int64 index of the line of each pixel.
        areas_m2: `(height, width)` float64 ground area of each pixel in m².
        names: Names of the lines.
    """

    line: np.ndarray
    areas_m2: np.ndarray
    names: Sequence[str]

    def by_group(self, group: np.ndarray) -> Iterator[tuple[int, Tally]]:
        """Groups that have pixels, and pixels and area of each.

        Args:
            group: `(height, width)` number of the group of a pixel, or -1 for none.
        """
        if not (group >= 0).any():
            return
        size = len(self.names)
        # Those of no group come first, and are left out at the end.
        cell = ((group + 1) * size + self.line).ravel()
        counts = np.bincount(cell, minlength=size)
        counts = np.pad(counts, (0, -len(counts) % size)).reshape(-1, size)
        sums = np.bincount(cell, self.areas_m2.ravel(), counts.size).reshape(-1, size)
        for row in np.flatnonzero(counts.any(axis=1)).tolist():
            if row:
                there = np.flatnonzero(counts[row]).tolist()
                pixels = {self.names[line]: int(counts[row, line]) for line in there}
                areas = {self.names[line]: float(sums[row, line]) for line in there}
                yield row - 1, Tally(pixels=pixels, ground_pixels=pixels, area_m2=areas)


def _add_zones(
    layers: Iterable[np.ndarray], names: Sequence[str], table: _TableLines, sums: _Sums
) -> None:
    """Add the pixels of a tile to the zones in which their centres lie, or to none.

    Args:
        layers: `(height, width)` index of the zone of each pixel, or -1, by layer of zones.
        names: Names of the zones.
        table: Lines and areas of the pixels.
        sums: Sums to add to.
    """
    in_no_zone = np.ones(table.line.shape, bool)
    for index in layers:
        in_no_zone &= index < 0
        for zone, tally in table.by_group(index.astype(np.int64)):
            sums.zones.setdefault(names[zone], TallySum()).add(tally)
    rest = sums.zones.setdefault(None, TallySum())
    for _, tally in table.by_group(np.where(in_no_zone, 0, -1)):
        rest.add(tally)
