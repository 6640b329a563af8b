"""Georeferenced scenes, read by windows; the label map is a Cloud Optimized GeoTIFF."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from pipelines import storage
from pipelines.cog import (
    Grid,
    read_block,
    write_block,
    write_confidence_cog,
    write_label_cog,
)
from pipelines.failures import Failure
from pipelines.formats.interface import Estimate, Ground, Work, windows_of
from pipelines.plan import InputFile, Unit, unit_id
from pipelines.scene_reader import SceneRaster, ground_grid, read_header
from segmodel.contract import Contract
from segmodel.engine import Job, Labelled
from segmodel.errors import ConfigurationError, GroundError
from segmodel.images import quantize_confidence
from segmodel.windows import Layout, Window

SUFFIXES = frozenset({".tif", ".tiff"})
BLOCK_PX = 4096
_HEADER_THREADS = 8


class Scenes:
    """GeoTIFFs with a coordinate reference system; a work unit is a block of one."""

    name = "scene"

    def claims(self, file: InputFile) -> bool:
        """Whether it is a TIFF that knows where it is on the ground."""
        if Path(file.name).suffix.lower() not in SUFFIXES:
            return False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(file.uri) as source:
                    return source.crs is not None
        except RasterioError:
            return False

    def check(self, files: Sequence[InputFile], contract: Contract) -> None:
        """Refuse scenes that the model was not made for."""
        with ThreadPoolExecutor(_HEADER_THREADS) as pool:
            headers = pool.map(lambda file: read_header(file.uri), files)
            for file, header in zip(files, headers, strict=True):
                contract.check_input(len(header.bands), header.dtype, file.key)
                if header.grid.transform.is_identity:
                    raise ConfigurationError(
                        f"{file.key} has a coordinate reference system but no transform: give it "
                        f"one with gdalwarp (from ground control points) or gdal_translate -a_ullr"
                    )
                try:
                    gsd_m = max(ground_grid(header.grid).pixel_size_m())
                except GroundError as error:
                    raise GroundError(f"{file.key}: {error}") from error
                contract.check_gsd(gsd_m, file.key)

    def count(self, file: InputFile, most: int) -> int:
        """One."""
        return 1

    def estimate(self, files: Sequence[InputFile], layout: Layout) -> Estimate:
        """From the headers of all."""
        grids = [read_header(file.uri).grid for file in files]
        blocks = [block for grid in grids for block in blocks_of(grid, layout.stride_px)]
        return Estimate(
            images=len(files),
            pixels=sum(grid.height * grid.width for grid in grids),
            windows=sum(windows_of(block.height, block.width, layout) for block in blocks),
            exact=True,
        )

    def units(self, files: Sequence[InputFile], work: Work, records: int | None) -> Iterable[Unit]:
        """A unit for each block, and one that puts the blocks of a scene together."""
        for file in files:
            grid = read_header(file.uri).grid
            blocks = list(blocks_of(grid, work.layout.stride_px))
            if len(blocks) == 1:
                yield _block_unit(self.name, file, "", blocks[0])
                continue
            units = [
                _block_unit(self.name, file, f"b{number:05d}", block)
                for number, block in enumerate(blocks)
            ]
            yield from units
            ids = tuple(unit.id for unit in units)
            pixels = grid.height * grid.width
            yield Unit(unit_id(self.name, file), self.name, (file,), blocks=ids, pixels=pixels)

    @contextmanager
    def open(self, unit: Unit, work: Work) -> Iterator["_BlockTask"]:
        """Begin a block."""
        task = _BlockTask(unit, work)
        try:
            yield task
        finally:
            task.close()


def _block_unit(name: str, file: InputFile, suffix: str, block: Window) -> Unit:
    window = (block.row, block.column, block.height, block.width)
    return Unit(unit_id(name, file, suffix), name, (file,), window, pixels=block.pixels)


def blocks_of(grid: Grid, stride_px: int) -> Iterator[Window]:
    """Blocks of about equal size, at most `BLOCK_PX` on a side, on multiples of the stride."""
    height, width = (_block_side(side, stride_px) for side in (grid.height, grid.width))
    for row in range(0, grid.height, height):
        for column in range(0, grid.width, width):
            yield Window(
                row, column, min(height, grid.height - row), min(width, grid.width - column)
            )


def _block_side(length: int, stride_px: int) -> int:
    """Side of blocks along one axis.

    >>> _block_side(5400, 32), _block_side(4096, 32), _block_side(3, 32)
    (2720, 4096, 32)
    """
    blocks = -(-length // BLOCK_PX)
    return -(-length // (blocks * stride_px)) * stride_px


class _BlockTask:
    """One block of a scene while it is done; a scene of one block is written at once."""

    def __init__(self, unit: Unit, work: Work) -> None:
        self._unit, self._work, self._file = unit, work, unit.files[0]
        assert unit.area is not None
        self._area = unit.area
        self._raster: SceneRaster | None = None
        self._outputs: list[str] = []

    def close(self) -> None:
        if self._raster is not None:
            self._raster.close()

    def jobs(self) -> Iterator[Job | Failure]:
        yield Job(self._unit.id, self._open, self._area)

    def _open(self) -> SceneRaster:
        self._raster = SceneRaster(self._file.uri, read_header(self._file.uri))
        return self._raster

    @property
    def _grid(self) -> Grid:
        assert self._raster is not None
        return self._raster.header.grid

    @property
    def _is_whole_scene(self) -> bool:
        return self._area.pixels == self._grid.height * self._grid.width

    def discard(self, key: str) -> None:
        """Remove the label map if the block is all of the scene; else it is written anew."""
        if self._raster is None or self._is_whole_scene:
            for path in scene_paths(self._file):
                storage.remove(self._work.run.path(path))

    def source(self, key: str) -> tuple[InputFile, str | None]:
        return self._file, None

    def ground(self, labelled: Labelled) -> Ground | None:
        place = (self._area.row, self._area.column, self._area.height, self._area.width)
        grid = ground_grid(self._grid)
        return Ground(grid.pixel_areas_m2(*place), grid.window_footprint_m2(*place))

    def failed_pixels(self) -> tuple[int, float | None] | None:
        if self._raster is None:
            return self._area.pixels, None
        place = (self._area.row, self._area.column, self._area.height, self._area.width)
        return self._area.pixels, ground_grid(self._grid).window_footprint_m2(*place)

    def encode(self, labelled: Labelled) -> Labelled:
        return labelled

    def write(self, key: str, encoded: Labelled) -> None:
        labels, confidence = encoded.labels, encoded.confidence
        levels = None if confidence is None else quantize_confidence(confidence)
        if self._is_whole_scene:
            self._outputs += write_scene(
                self._file,
                self._grid,
                [(self._area, labels)],
                None if levels is None else [(self._area, levels)],
                self._work,
            )
            return
        for folder, values in (("labels", labels), ("confidence", levels)):
            if values is not None:
                path = block_path(self._unit.id, folder)
                run = self._work.run
                with storage.write_whole(run.path(path), run.scratch) as temporary:
                    write_block(temporary, self._grid, self._area, values)
                self._outputs.append(path)

    def finish(self) -> list[str]:
        return self._outputs


def block_path(unit: str, folder: str) -> str:
    """Where a block is until its scene is finished, within the run directory."""
    return f"blocks/{unit}-{folder}.tif"


def scene_paths(file: InputFile) -> tuple[str, str, str]:
    """Label map, class names and confidence of a scene, within the run directory."""
    return f"labels/{file.key}", f"labels/{file.key}.aux.xml", f"confidence/{file.key}"


def write_scene(
    file: InputFile,
    grid: Grid,
    labels: Iterable[tuple[Window, np.ndarray | None]],
    confidence: Iterable[tuple[Window, np.ndarray | None]] | None,
    work: Work,
) -> list[str]:
    """Write the label COG of a scene, its class names and its confidence; returns the paths."""
    run, tags = work.run, dict(work.provenance)
    path, names_path, confidence_path = scene_paths(file)
    with storage.write_whole(run.path(path), run.scratch) as temporary:
        write_label_cog(temporary, grid, labels, work.contract.classes, tags)
        names = Path(temporary + ".aux.xml")
        run.write(names_path, names.read_bytes())
        names.unlink()
    paths = [path, names_path]
    if confidence is not None:
        with storage.write_whole(run.path(confidence_path), run.scratch) as temporary:
            write_confidence_cog(temporary, grid, confidence, tags)
        paths.append(confidence_path)
    return paths


def assemble(unit: Unit, blocks: Sequence[tuple[Unit, bool]], work: Work) -> list[str]:
    """Put the blocks of a scene together; returns the paths written.

    Args:
        unit: The unit of the scene.
        blocks: Its blocks, and whether each was labelled; the others become nodata.
        work: Of the run.
    """
    grid = read_header(unit.files[0].uri).grid

    def values(folder: str) -> Iterator[tuple[Window, np.ndarray | None]]:
        for block, labelled in blocks:
            assert block.area is not None
            path = work.run.path(block_path(block.id, folder))
            yield block.area, read_block(path) if labelled else None

    confidence = values("confidence") if work.confidence else None
    return write_scene(unit.files[0], grid, values("labels"), confidence, work)
