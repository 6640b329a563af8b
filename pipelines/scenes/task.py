"""One block of a scene while it is done; a scene of one block is written at once."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.formats.interface import Ground, UnitTask, square_ground
from pipelines.formats.work import Work
from pipelines.geodesy.polygon_masks import ScenePolygons
from pipelines.rasters.cog import read_block, write_block
from pipelines.rasters.reader import ResampledRaster, SceneRaster, ground_grid
from pipelines.rasters.zone_index import ZonesOf, index_zones
from pipelines.run import areas
from pipelines.run.areas import Tally, Unlabelled
from pipelines.run.commits import Output
from pipelines.run.failures import Failure, reraise_transient
from pipelines.run.plan import InputFile, WorkUnit
from pipelines.run.polygons import AOI, SOFT_ZONES, stored
from pipelines.scenes.blocks import check_scene, model_grid, model_window, seen_by_model
from pipelines.scenes.files import block_path, label_name, scene_paths, write_scene
from pipelines.storage import filesystem
from pipelines.storage.digests import Checksum
from segmodel.engine.engine import Engine
from segmodel.engine.read_ahead import Job
from segmodel.engine.stitching import Failed, Labelled
from segmodel.errors import FailureCode, GroundError, InputError, TransientError
from segmodel.labels.label_images import quantize_confidence
from segmodel.rasters.bands import ModelBands
from segmodel.rasters.grid import Grid
from segmodel.rasters.header import Header
from segmodel.tiling.raster import Pixels
from segmodel.tiling.resampling import ModelGrid
from segmodel.tiling.seams import border_tiles, seam_pixels
from segmodel.tiling.windows import Window

# What file systems allow, less the suffix of the file with the class names.
MAX_NAME_BYTES = 255 - len(".aux.xml")
# Longest side of a piece of a block for which the area of interest is drawn at once.
MASKED_PX = 1024


class BlockTask(UnitTask[Labelled]):
    """One block of a scene while it is done; the scene is open meanwhile."""

    def __init__(self, unit: WorkUnit, work: Work) -> None:
        super().__init__(unit, work)
        self._file = unit.files[0]
        self._header: Header | None = None
        self._scene: SceneRaster | None = None
        self._scaled: ModelGrid | None = None
        self._aoi: ScenePolygons | None = None
        self._checksums: dict[Window, str] = {}

    def __exit__(self, *error: Any) -> bool | None:
        self._close()
        return None

    def _close(self) -> None:
        if self._scene is not None:
            self._scene.close()

    def jobs(self) -> Iterator[Job | Failure]:
        """The block."""
        name = Path(label_name(self._file.name)).name
        if len(os.fsencode(name)) > MAX_NAME_BYTES:
            reason = f"the name has more than {MAX_NAME_BYTES} bytes: no room for .aux.xml after it"
            error = InputError(reason, code=FailureCode.NAME_TOO_LONG)
            yield Failure.of(self._file.key, None, "name", error)
            return
        opened = partial(self._open, self._note)
        yield Job(self.unit.id, opened, self._model_area, allow_partial=True)

    def _note(self, window: Window, pixels: Pixels) -> None:
        checksum = Checksum()
        checksum.add(pixels.values, *([] if pixels.valid is None else [pixels.valid]))
        self._checksums[window] = str(checksum)

    def checksum(self, file: InputFile) -> str | None:
        """Of the place of the scene, and of the samples of all windows and which of them are valid.

        The windows count in their order.
        """
        if not self._checksums:
            return None
        crs = self._grid.crs
        place = [*self._grid.transform[:6], "" if crs is None else crs.to_string()]
        checksum = Checksum()
        checksum.add(" ".join(map(str, place)).encode())
        for window in sorted(self._checksums, key=astuple):
            entry = (*astuple(window), self._checksums[window])
            checksum.add(" ".join(map(str, entry)).encode())
        return str(checksum)

    def _model_area(self) -> Window:
        """What the model labels for the block, once the scene is open."""
        return model_window(self._area, self._scaled, self.work.layout.stride_px)

    def _open(
        self, on_read: Callable[[Window, Pixels], None] = lambda window, pixels: None
    ) -> SceneRaster | ResampledRaster:
        header = self._header = self.work.headers.read(self._file)
        contract, reading = self.work.contract, self.work.reading
        check_scene(header, contract, reading, self._file.key)
        if self.unit.window is None:
            raise TransientError(
                f"{self._file.key} could not be opened when the run was planned, and can be now: "
                f"run the same command again"
            )
        self._scaled = model_grid(header, reading, self._file.key)
        bands = ModelBands.of(header, contract, reading.bands, self._file.key)
        aoi = self._aoi = area_of_interest(header, self.work)
        self._close()
        zones, version = zones_of_pixels(header, self.work), self._file.version
        self._scene = SceneRaster(self._file.uri, header, bands, aoi, version, on_read, zones)
        if self._scaled is None:
            return self._scene
        return ResampledRaster(self._scene, self._scaled, self._area, self._model_area())

    def _own(self, core: Window) -> Window:
        """Pixels of the scene that take their labels from a core of the model."""
        return core if self._scaled is None else self._scaled.labelled_window(core)

    @property
    def _area(self) -> Window:
        assert self.unit.window is not None
        return self.unit.window

    @property
    def _grid(self) -> Grid:
        assert self._header is not None
        return self._header.grid

    def discard(self, key: str) -> None:
        """Remove the label map if the block is all of the scene; else it is written anew."""
        if self.unit.scene is None:
            for path in scene_paths(self._file):
                self.work.run.remove(path)

    def source(self, key: str) -> tuple[InputFile, str | None]:
        """The scene, and the place of the block in it."""
        return self._file, None if self.unit.scene is None else _place_of(self._area)

    def ground(self, labelled: Labelled) -> Ground | None:
        """Of the block, where the scene knows its place."""
        return self._ground()

    def _ground(self) -> Ground | None:
        assert self._header is not None
        if not self._header.is_placed:
            return square_ground(self._area.pixels, self.work.pixel_size_m)
        grid, area = ground_grid(self._grid), self._area
        return Ground(
            lambda top, n: grid.summable_areas_m2(area.row + top, area.column, n, area.width),
            grid.window_footprint_m2(area.row, area.column, area.height, area.width),
        )

    def failed_tally(self) -> Tally | None:
        """Of the whole block, also where its scene does not fit the model."""
        if self.unit.window is None:
            return None
        try:
            is_placed = self._header is not None and not self._grid.transform.is_identity
            ground = self._ground() if is_placed else None
        except GroundError:
            ground = None
        if self._header is not None and self._aoi is None:
            # What it is refused for may come before the area of interest is looked at.
            with suppress(GroundError, InputError):
                self._aoi = area_of_interest(self._header, self.work)
        if ground is None:
            return areas.failed_tally(self._area.pixels, None)
        if self._aoi is None:
            return areas.failed_tally(self._area.pixels, ground.footprint_m2)
        classes, size = self.work.contract.classes, (self._area.height, self._area.width)
        labels = np.full(size, classes.nodata, classes.label_dtype)
        unlabelled = Unlabelled([Window(0, 0, *size)], self._inside())
        areas_m2, footprint_m2 = ground.pixel_areas_m2, ground.footprint_m2
        tally = areas.measure(labels, classes, areas_m2, footprint_m2, unlabelled=unlabelled)
        return replace(tally, failed_images=0)

    def inside(self, labelled: Labelled) -> np.ndarray | None:
        """Pixels of the block in the area of interest."""
        return self._inside()

    def _inside(self) -> np.ndarray | None:
        """As `inside`, piece by piece: a pixel of a mask may take far more memory than its byte."""
        if self._aoi is None:
            return None
        area = self._area
        inside = np.empty((area.height, area.width), bool)
        for piece in area.subdivide(MASKED_PX, MASKED_PX):
            inside[piece.relative_to(area).slices] = self._aoi.mask(piece)
        return inside

    def lost(self, labelled: Labelled) -> list[tuple[Window, Failure]]:
        """Windows that could not be read."""
        parts = []
        for lost in labelled.lost:
            own = self._own(lost.core)
            failure = Failure.of(self._file.key, _place_of(own), "read", lost.error)
            parts.append((own.relative_to(self._area), failure))
        return parts

    def encode(self, labelled: Labelled) -> Labelled:
        """The same: a scene is written as a whole."""
        return labelled

    def write(self, key: str, encoded: Labelled, tally: Tally) -> None:
        """Write the block, or the scene if that is all of it."""
        maps = {"labels": encoded.labels}
        if encoded.confidence is not None:
            maps["confidence"] = quantize_confidence(encoded.confidence)
        if encoded.probabilities is not None:
            maps["probabilities"] = encoded.probabilities
        if self.unit.scene is None:
            whole = {folder: [(self._area, values)] for folder, values in maps.items()}
            assert self._header is not None
            self.outputs += write_scene(self._file, self._header, whole, self.work, tally)
            return
        for folder, values in maps.items():
            path, run = block_path(self.unit.id, folder), self.work.run
            with filesystem.write_atomic(run.path(path), run.scratch) as draft:
                write_block(draft.path, self._grid, self._area, values)
            self.outputs.append(Output.of(path, draft.written))

    def seams(self, engine: Engine) -> tuple[int, int] | None:
        """Label what lies near borders of windows again, by windows across them, and compare."""
        if not self.work.check_seams or not self.outputs:
            return None
        assert self._header is not None
        area, whole = self._model_area(), seen_by_model(self._header, self._scaled)
        near = list(border_tiles(whole, area, self.work.layout))
        if not near:
            return 0, 0
        job = Job(self.unit.id, self._open, area, allow_partial=True, tiling=lambda *_: near)
        (outcome,) = engine.run([job])
        if isinstance(outcome, Failed):
            reraise_transient(outcome.error)
            return 0, 0
        for lost in outcome.lost:
            reraise_transient(lost.error)
        cores = [self._own(tile.core).intersection(self._area) for tile in near]
        labels = read_block(self.work.run.path(self.outputs[0].path))
        cores = [core.relative_to(self._area) for core in cores]
        return seam_pixels(labels, outcome.labels, cores, self.work.contract.classes.nodata)


def area_of_interest(header: Header, work: Work) -> ScenePolygons | None:
    """The area of interest on the pixels of a scene; None for a run without one."""
    if work.reading.aoi is None:
        return None
    polygons = stored(work.run, AOI, work.reading.aoi)
    return ScenePolygons.of(polygons, ground_grid(header.grid))


def zones_of_pixels(header: Header, work: Work) -> ZonesOf | None:
    """The zones by which probabilities are summed, on the pixels of a scene; None without any."""
    if work.soft_zones is None:
        return None
    polygons = None
    if header.is_placed:
        # No way leads there from Earth to the Moon.
        with suppress(InputError):
            stored_zones = stored(work.run, SOFT_ZONES, work.soft_zones)
            polygons = ScenePolygons.of(stored_zones, ground_grid(header.grid))
    return partial(index_zones, polygons)


def _place_of(area: Window) -> str:
    """Rows and columns of a part of a scene, for a person."""
    rows, columns = area.row + area.height - 1, area.column + area.width - 1
    return f"rows {area.row} to {rows}, columns {area.column} to {columns}"
