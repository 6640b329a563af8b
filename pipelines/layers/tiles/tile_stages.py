"""The layer of web tiles: units draw parts, tier by tier, and one unit puts them together."""

import csv
import io
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from pipelines.formats.work import Work
from pipelines.layers.maps import LabelMaps, grid_of
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import (
    Layer,
    LayerEnd,
    Stage,
    StageResult,
    StageWork,
    layer_failure,
)
from pipelines.layers.tiles.archive import ArchiveHead, StoredRange, write_archive, zoom_ranges
from pipelines.layers.tiles.coverage import Coverage, coverage_of
from pipelines.layers.tiles.map_page import low_zooms, map_page
from pipelines.layers.tiles.mercator import TILE_PX
from pipelines.layers.tiles.nearest import SampledMap, add_nearest
from pipelines.layers.tiles.pyramid import Tier, thinned
from pipelines.layers.tiles.scene_places import ScenePlaces
from pipelines.layers.tiles.tile_images import tile_image
from pipelines.layers.tiles.tile_parts import TilePart, index_file, write_images
from pipelines.run import plan
from pipelines.run.areas import Tally
from pipelines.run.commits import Output
from pipelines.run.failures import Failure
from pipelines.run.plan import SCENE, InputFile, WorkUnit
from pipelines.scenes.finished import named_label_map
from segmodel.errors import InputError, counted
from segmodel.labels.classes import format_color
from segmodel.tiling.windows import Window

ARCHIVE, PAGE = "labels.pmtiles", "map.html"
# Name of the layer, and of its exact sums in commit records.
_TILES = "tiles"
_ARCHIVE_STAGE = f"{_TILES}/archive"
_log = logging.getLogger("beamseg")


@dataclass(frozen=True)
class TileSettings:
    """What options say of web tiles.

    Args:
        form: Format of the tiles, `png` or `webp`.
        max_zoom: Deepest zoom, or None for the first whose pixels are not coarser than those of the
            label maps.
    """

    form: str
    max_zoom: int | None


def _settings(options: LayersOptions) -> TileSettings | None:
    """What options say of web tiles; None where they do not ask for them."""
    return None if options.tiles is None else TileSettings(options.tiles, options.max_zoom)


def tile_stages(settings: TileSettings, maps: LabelMaps) -> list[Stage]:
    """A stage for each tier of zooms, the deepest first, and one for the archive.

    Args:
        settings: What options say.
        maps: Label maps of the run.

    Raises:
        ConfigurationError: If no label map has a place between 85.05° S and N.
    """
    coverage = coverage_of(maps, settings.max_zoom)
    if coverage.left_out:
        _log.warning(
            "--tiles: %s without a place between 85.05° S and N in no tile, such as %s",
            counted(len(coverage.left_out), "label map"),
            coverage.left_out[0],
        )
    deepest = coverage.tiers[0].deepest
    shape: dict[str, Any] = {"form": settings.form, "zoom": deepest}
    stages = []
    for below, tier in zip((None, *coverage.tiers), coverage.tiers, strict=False):
        units = partial(_units, tier, coverage)
        draw = DrawTiles(tier, below, settings.form)
        stages.append(Stage(_stage_name(tier), shape, units, draw))
        # Units of what follows read parts, and these show all label maps.
        shape = shape | {"map": maps.digest}
    metadata = {"name": "labels", "type": "overlay", "classes": class_entries(maps.work)}
    head = ArchiveHead(settings.form, deepest, coverage.bounds, metadata)
    shape = shape | {"head": asdict(head)}
    archive = WriteArchive(coverage.tiers, head, coverage.scenes)
    return [*stages, Stage(_ARCHIVE_STAGE, shape, _archive_units, archive)]


def _stage_name(tier: Tier) -> str:
    return f"{_TILES}/{tier.number}"


def _units(tier: Tier, coverage: Coverage) -> Iterator[WorkUnit]:
    """Units of a tier in order of an archive: over label maps, or over parts of the tier before."""
    if tier.number == 0:
        for (column, row), files in coverage.files_by_tile():
            name = _unit_name(tier, column, row)
            yield WorkUnit(name, SCENE, files, tier.window(column, row))
        return
    below = coverage.tiers[tier.number - 1]
    for (column, row), places in coverage.children(tier):
        names = (_unit_name(below, *place) for place in places)
        parts = tuple(InputFile("", _TILES, name, 0, "") for name in names)
        yield WorkUnit(_unit_name(tier, column, row), SCENE, parts, tier.window(column, row))


def _unit_name(tier: Tier, column: int, row: int) -> str:
    return f"{_TILES}-{tier.base}-{column}-{row}"


def _archive_units() -> Iterator[WorkUnit]:
    yield WorkUnit(f"{_TILES}-archive", SCENE, (InputFile("", _TILES, ARCHIVE, 0, ""),))


def _part(stage: StageWork, name: str) -> TilePart:
    """Where a unit of a stage has left its tiles."""
    return TilePart(stage.path(stage.own_path("parts")), name)


@dataclass(frozen=True)
class DrawTiles:
    """Draws the tiles of a unit, and leaves thinned labels for the next tier.

    Args:
        tier: Tier of the unit.
        below: The tier before, whose parts are read; None where label maps are.
        form: Format of the tiles.
    """

    tier: Tier
    below: Tier | None
    form: str

    def __call__(self, unit: WorkUnit, work: StageWork) -> StageResult:
        """Draw the tiles of a unit; see `Stage`."""
        classes, window, side = work.labelled.contract.classes, unit.window, self.tier.side
        assert window is not None
        labels = np.full((side, side), classes.nodata, classes.label_dtype)
        failures: list[Failure] = []
        if self.below is None:
            failures = self._add_maps(labels, unit, window, classes.nodata)
        else:
            self._add_parts(labels, unit, window, work.stage(_stage_name(self.below)))
        images = (
            (tile.id, tile_image(self.tier.pixels(labels, window, tile), classes, self.form))
            for tile in self.tier.tiles(window)
        )
        part = TilePart(work.own_path("parts"), unit.id)
        with work.written(part.images) as drawn, open(drawn.path, "wb") as stream:
            index = write_images(stream, images)
        with work.written(part.index) as listed, open(listed.path, "wb") as stream:
            stream.write(index_file(index, thinned(labels, self.tier)))
        outputs = [Output.of(part.images, drawn.written), Output.of(part.index, listed.written)]
        tally = Tally(sums={_TILES: {"all": len(index)}})
        return StageResult(outputs, tally, window.pixels, failures)

    def _add_maps(
        self, labels: np.ndarray, unit: WorkUnit, window: Window, nodata: int
    ) -> list[Failure]:
        """Draw the label maps of a unit; returns what was wrong with those that are left out."""
        failures = []
        for file in unit.files:
            try:
                sampled = SampledMap(file.uri, grid_of(file), nodata)
                with named_label_map(file):
                    add_nearest(labels, window, self.tier.deepest, sampled)
            except (InputError, OSError) as error:
                failures.append(layer_failure(file, error))
        return failures

    def _add_parts(
        self, labels: np.ndarray, unit: WorkUnit, window: Window, below: StageWork
    ) -> None:
        """Draw what the parts of a unit have left of their labels."""
        for file in unit.files:
            column, row = map(int, file.name.split("-")[2:])
            top, left = row * TILE_PX - window.row, column * TILE_PX - window.column
            found = _part(below, file.name).read_thinned()
            labels[top : top + TILE_PX, left : left + TILE_PX] = found


@dataclass(frozen=True)
class WriteArchive:
    """Puts all parts together, and low zooms of them in a page.

    Args:
        tiers: The tiers that have drawn them.
        head: What the archive says of itself.
        scenes: Where scenes are.
    """

    tiers: tuple[Tier, ...]
    head: ArchiveHead
    scenes: ScenePlaces

    def __call__(self, unit: WorkUnit, work: StageWork) -> StageResult:
        """Write archive and page; see `Stage`."""
        works = [work.stage(_stage_name(tier)) for tier in self.tiers]
        commits = chain.from_iterable(stage.commits() for stage in works)
        sums = (commit.tally.sums.get(_TILES, {}) for _, commit in commits if commit is not None)
        most = sum(int(found.get("all", 0)) for found in sums)

        def ranges() -> Iterator[StoredRange]:
            return chain.from_iterable(found for _, found in self._ranges(work))

        with work.written(ARCHIVE) as draft, open(draft.path, "wb") as stream:
            counts = write_archive(stream, ranges, most, self.head)
        embedded = low_zooms(self._ranges(work))
        with work.written(PAGE) as page, open(page.path, "wb") as stream:
            stream.write(map_page(embedded, self.head, self.scenes))
        tally = Tally(sums={_TILES: counts._asdict() | {"page_zoom": embedded.max_zoom}})
        outputs = [Output.of(ARCHIVE, draft.written), Output.of(PAGE, page.written)]
        return StageResult(outputs, tally, 0)

    def _ranges(self, work: StageWork) -> Iterator[tuple[int, Iterator[StoredRange]]]:
        """Each zoom, with its tiles."""
        for tier in reversed(self.tiers):
            stage = work.stage(_stage_name(tier))
            for zoom in tier.zooms:
                units = plan.read_units(stage.run.plan, WorkUnit)
                yield zoom, zoom_ranges(zoom, (_part(stage, unit.id) for unit in units))


def class_entries(work: Work) -> list[dict[str, Any]]:
    """The classes of a run as viewers show them, with colours and the areas that it reports."""
    rows = csv.DictReader(io.StringIO(work.run.read("areas.csv").decode()))
    areas = {row["class_id"]: row["area_m2"] for row in rows}
    return [
        {
            "id": entry.id,
            "name": entry.name,
            "color": format_color(entry.color),
            "area_m2": float(area) if (area := areas.get(str(entry.id))) else None,
        }
        for entry in work.contract.classes.classes
    ]


def finish_tiles(work: StageWork) -> LayerEnd:
    """What there is to say of the archive.

    Args:
        work: Work of the last stage.
    """
    ((_, commit),) = work.commits()
    assert commit is not None
    return LayerEnd(commit.outputs, commit.tally.sums[_TILES])


TILES = Layer(_TILES, _settings, tile_stages, finish_tiles)
