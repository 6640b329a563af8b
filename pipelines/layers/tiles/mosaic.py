"""Mosaics: all label maps of a reference system as one map, in files of equal size.

Of label maps that show the same ground, the first in precedence that has a class shows: so each
pixel shows where it counts in a run that counts ground once.
"""

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from pipelines.geodesy.ground import GroundGrid
from pipelines.layers.label_files import provenance_of, write_label_layer
from pipelines.layers.maps import LabelMaps, grid_of
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import (
    Layer,
    LayerEnd,
    Stage,
    StageResult,
    StageWork,
    clear_stage,
    layer_failure,
)
from pipelines.layers.tiles.mosaic_grid import MosaicGrid
from pipelines.layers.tiles.tile_index import write_tile_index
from pipelines.rasters.cog import TILE_PX, Blocks, read_block
from pipelines.rasters.reader import ground_grid
from pipelines.run.areas import Tally, TallySum, by_rows, measure
from pipelines.run.commits import Output
from pipelines.run.directory import METADATA_DIR
from pipelines.run.failures import Failure
from pipelines.run.plan import SCENE, InputFile, WorkUnit
from pipelines.scenes.finished import named_label_map
from pipelines.scenes.sampling import places_in
from pipelines.scenes.vrt import Piece, write_mosaic
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import ConfigurationError, GroundError, InputError
from segmodel.labels.classes import ClassTable
from segmodel.labels.qgis_styles import raster_style
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window

NAME = "mosaic"
# Side of what is put together at once: whole tiles of a file.
BLOCK_PX = 2 * TILE_PX
# With more files, GDAL would read minutes before it shows anything.
MAX_VRT_FILES = 10_000


@dataclass(frozen=True)
class MosaicSettings:
    """What the options say of mosaics.

    Args:
        cell: Side of a file in units of the reference system, or None for the usual one.
    """

    cell: float | None


def _settings(options: LayersOptions) -> MosaicSettings | None:
    return MosaicSettings(options.cell) if options.mosaic else None


def mosaic_stages(settings: MosaicSettings, maps: LabelMaps) -> list[Stage]:
    """A stage for each reference system, of a unit for each file of its mosaic.

    Raises:
        ConfigurationError: If no label map has a reference system, or files would be too large.
    """
    systems: dict[str, list[tuple[InputFile, Grid]]] = defaultdict(list)
    for found in maps:
        if name := found.system:
            systems[name].append((found.file, found.grid))
    if not systems:
        raise ConfigurationError(
            f"--mosaic: no label map of {maps.work.run.root} has a coordinate reference system: "
            f"run the same `beamseg segment` with --crs, or leave --mosaic out"
        )
    stages = []
    for name, members in sorted(systems.items()):
        grid = MosaicGrid.of([member for _, member in members], settings.cell)
        units = partial(_cell_units, grid, members)
        stages.append(Stage(f"{NAME}/{name}", asdict(grid), units, FillCell(grid, name)))
    return stages


def _cell_units(
    mosaic: MosaicGrid, members: Sequence[tuple[InputFile, Grid]]
) -> Iterator[WorkUnit]:
    """A unit for each cell, with the label maps in it in order of precedence."""
    files: dict[str, list[InputFile]] = defaultdict(list)
    windows: dict[str, Window] = {}
    for file, grid in members:
        for name, window in mosaic.cells(mosaic.window_around(grid)):
            files[name].append(file)
            windows[name] = _hull(windows.get(name, window), window)
    for name in sorted(files):
        yield WorkUnit(f"cell-{name}", SCENE, tuple(files[name]), windows[name])


def _hull(one: Window, other: Window) -> Window:
    """The least window that holds both."""
    row, column = min(one.row, other.row), min(one.column, other.column)
    bottom = max(one.row + one.height, other.row + other.height)
    right = max(one.column + one.width, other.column + other.width)
    return Window(row, column, bottom - row, right - column)


@dataclass(frozen=True)
class _Source:
    """A label map in a mosaic.

    Args:
        file: The label map.
        grid: Its size and place.
        mosaic: Grid of the mosaic.
        window: Pixels of the mosaic that it lies on.
        ground: Ground of its pixels.
    """

    file: InputFile
    grid: Grid
    mosaic: MosaicGrid
    window: Window
    ground: GroundGrid

    @classmethod
    def of(cls, file: InputFile, mosaic: MosaicGrid) -> "_Source":
        """Read the header of a label map."""
        grid = grid_of(file)
        return cls(file, grid, mosaic, mosaic.window_around(grid), ground_grid(grid))

    def at_centres(self, block: Window, nodata: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels and ground areas of the pixels that centres of a block lie in.

        Args:
            block: Pixels of the mosaic.
            nodata: Label where this label map has no pixel.

        Returns:
            `(height, width)` labels, and float64 areas in m² of the pixels of this label map.
        """
        labels = np.full((block.height, block.width), nodata)
        areas = np.zeros(labels.shape)
        is_north_up = self.grid.transform.e < 0 < self.grid.transform.a
        if is_north_up and self.mosaic.holds(self.grid):
            part = block.intersection(self.window)
            at = part.relative_to(block).slices
            labels[at], areas[at] = self._read(part.relative_to(self.window))
            return labels, areas
        columns, rows = places_in(block.relative_to(block), self.mosaic.part(block), self.grid)
        inside = (columns >= 0) & (columns < self.grid.width)
        inside &= (rows >= 0) & (rows < self.grid.height)
        if inside.any():
            across, down = columns[inside].astype(np.int64), rows[inside].astype(np.int64)
            top, left = int(down.min()), int(across.min())
            size = int(down.max()) - top + 1, int(across.max()) - left + 1
            found, ground = self._read(Window(top, left, *size))
            at_pixels = down - top, across - left
            labels[inside], areas[inside] = found[at_pixels], ground[at_pixels]
        return labels, areas

    def _read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Labels and ground areas of a window of this label map."""
        with named_label_map(self.file):
            labels = read_block(self.file.uri, window)
        ground = self.ground.pixel_areas_m2(*astuple(window))
        return labels, np.broadcast_to(ground, labels.shape)


@dataclass(frozen=True)
class FillCell:
    """Writes a file of a mosaic.

    Args:
        mosaic: Grid of the mosaic.
        system: Name of its reference system.
    """

    mosaic: MosaicGrid
    system: str

    def __call__(self, unit: WorkUnit, work: StageWork) -> StageResult:
        """Fill the cell of a unit from its label maps."""
        assert unit.window is not None
        cell = _Cell(self.mosaic, unit.window, work.labelled.contract.classes)
        cell.open(unit.files)
        path = cell_path(self.system, unit)
        grid = self.mosaic.part(unit.window)
        tags, tally = cell.provenance(), cell.total.rounded
        outputs = write_label_layer(work, path, grid, cell.blocks(), tags, tally)
        return StageResult(outputs, cell.total.exact(), unit.window.pixels, cell.failures)


def cell_path(system: str, unit: WorkUnit) -> str:
    """Where the file of a unit is, in `layers/`."""
    return f"{NAME}/{system}/{unit.id.removeprefix('cell-')}.tif"


class _Cell:
    """A file of a mosaic while it is filled; label maps that cannot be read are left out."""

    def __init__(self, mosaic: MosaicGrid, window: Window, classes: ClassTable) -> None:
        self._mosaic, self._window, self._classes = mosaic, window, classes
        self._sources: list[_Source] = []
        self.failures: list[Failure] = []
        self.total = TallySum()

    def open(self, files: Sequence[InputFile]) -> None:
        """Read the headers of label maps, which come in order of precedence."""

        def opened(file: InputFile) -> _Source | Failure:
            try:
                return _Source.of(file, self._mosaic)
            except (InputError, GroundError, OSError) as error:
                return layer_failure(file, error)

        for found in in_order(opened, files):
            if isinstance(found, Failure):
                self.failures.append(found)
            else:
                self._sources.append(found)

    def provenance(self) -> dict[str, str]:
        """What the first label map says of its making."""
        return provenance_of(self._sources[0].file.uri) if self._sources else {}

    def blocks(self) -> Blocks:
        """Labels by window of the file, whose pixels and areas are added to `total`."""
        for block in self._window.subdivide(BLOCK_PX, BLOCK_PX):
            labels, areas = self._filled(block)
            tally = measure(labels, self._classes, by_rows(areas))
            keys = [str(class_id) for class_id in self._classes.ids]
            pixels = {key: tally.pixels[key] for key in keys}
            area = {key: tally.area_m2[key] for key in keys}
            self.total.add(Tally(pixels=pixels, ground_pixels=pixels, area_m2=area))
            yield block.relative_to(self._window), labels

    def _filled(self, block: Window) -> tuple[np.ndarray, np.ndarray]:
        """Labels and ground areas of a block, as the label maps have them that show there."""
        nodata = self._classes.nodata
        labels = np.full((block.height, block.width), nodata, self._classes.label_dtype)
        areas = np.zeros(labels.shape)
        for source in [*self._sources]:
            empty = labels == nodata
            if not empty.any():
                break
            if not source.window.intersection(block).pixels:
                continue
            try:
                found, ground = source.at_centres(block, nodata)
            except (InputError, GroundError, OSError) as error:
                self.failures.append(layer_failure(source.file, error))
                self._sources.remove(source)
                continue
            shows = empty & (found != nodata)
            labels[shows], areas[shows] = found[shows], ground[shows]
        return labels, areas


def finish_mosaics(work: StageWork) -> LayerEnd:
    """Write the index of each mosaic; say what each has, and the ground of each class."""
    classes = work.labelled.contract.classes
    total, systems = TallySum(), []
    files, parts = list[Output](), list[Output]()
    for stage_name in work.shapes:
        stage = work.stage(stage_name)
        mosaic = MosaicGrid.from_json((stage.run.read_run() or {})["stage"])
        system = stage_name.removeprefix(f"{NAME}/")
        pieces, outputs = [], list[Output]()
        for unit, commit in stage.commits():
            if commit is not None and commit.outputs:
                total.add(commit.tally)
                outputs += commit.outputs
                assert unit.window is not None
                grid = mosaic.part(unit.window)
                path, size = cell_path(system, unit), (grid.height, grid.width)
                pieces.append(Piece(path, *size, grid.transform, mosaic.crs, TILE_PX))
        name = NAME if len(work.shapes) == 1 else f"{NAME}-{system}"
        index, style = _write_index(stage, name, pieces)
        files.append(index)
        parts.append(style)
        # Of more files, the index alone is a list that programs read.
        parts += outputs if len(pieces) <= MAX_VRT_FILES else []
        systems.append(
            {
                "system": system,
                "index": index.path,
                "files": len(pieces),
                "cell": mosaic.cell,
                "pixel_size": list(mosaic.step),
                "resampling": None if mosaic.is_common else "nearest",
            }
        )
    _remove_others(work, [output.path for output in (*files, *parts)])
    about = {"mosaics": systems, "classes": _class_rows(total.rounded(), classes)}
    return LayerEnd(files, about, parts=parts)


def _write_index(work: StageWork, name: str, pieces: Sequence[Piece]) -> tuple[Output, Output]:
    """Write what shows all files of a mosaic as one, and its style."""
    classes = work.labelled.contract.classes
    has_list = len(pieces) <= MAX_VRT_FILES
    index = f"{name}.vrt" if has_list else f"{name}.gti.gpkg"
    with work.written(index) as draft:
        if has_list:
            with open(draft.path, "w", encoding="utf-8") as stream:
                write_mosaic(stream, pieces, classes)
        else:
            write_tile_index(draft.path, pieces)
    style = str(PurePosixPath(index).with_suffix(".qml"))
    return Output.of(index, draft.written), work.write(style, raster_style(classes))


def _remove_others(work: StageWork, written: Container[str]) -> None:
    """Remove mosaics and indexes that the run no longer has."""
    kept = filesystem.names_below(work.path(f"{METADATA_DIR}/{NAME}"))
    stages = {f"{NAME}/{name.partition('/')[0]}" for name in kept if "/" in name}
    for gone in sorted(stages.difference(work.shapes)):
        clear_stage(replace(work, name=gone, shapes={gone: ""}))
    for begin in (f"{NAME}.", f"{NAME}-"):
        for name in filesystem.names_below(work.root, begin):
            if name not in written:
                filesystem.remove_below_root(work.root, name)


def _class_rows(sums: Tally, classes: ClassTable) -> list[dict[str, Any]]:
    return [
        {
            "class_id": entry.id,
            "class": entry.name,
            "pixels": sums.pixels.get(str(entry.id), 0),
            "area_m2": float(sums.area_m2.get(str(entry.id), 0.0)),
        }
        for entry in classes.classes
    ]


MOSAIC = Layer(NAME, _settings, mosaic_stages, finish_mosaics)
