"""Georeferenced scenes, read by windows; the label map is a Cloud Optimized GeoTIFF."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from pipelines import storage
from pipelines.cog import (
    Grid,
    write_block,
)
from pipelines.failures import Failure
from pipelines.formats.interface import Estimate, Ground, Reading, Thumbnail, Work, windows_of
from pipelines.formats.scene_files import block_path, scene_paths, write_scene
from pipelines.plan import InputFile, Unit, unit_id
from pipelines.scene_reader import Header, SceneRaster, ground_grid, read_header, read_small
from segmodel.contract import Contract
from segmodel.engine import Job, Labelled
from segmodel.errors import BeamsegError, ConfigurationError, GroundError, InputError
from segmodel.label_images import quantize_confidence
from segmodel.windows import Layout, Window

SUFFIXES = frozenset({".tif", ".tiff"})
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BLOCK_PX = 4096
_HEADER_THREADS = 8
# What file systems allow, less the suffix of the file with the class names.
MAX_NAME_BYTES = 255 - len(".aux.xml")


class Scenes:
    """GeoTIFFs with a coordinate reference system; a work unit is a block of one."""

    name = "scene"
    examples = "georeferenced scenes (.tif)"
    grouped = False
    decodes = False

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
            # A TIFF that GDAL cannot open is reported as what it claims to be.
            return storage.begins_with(file.uri, TIFF_MARKS)

    def check(self, files: Sequence[InputFile], contract: Contract, reading: Reading) -> None:
        """Refuse the run if the model was made for none of the scenes.

        Where it was made for some, the others fail by themselves, each with its reason.
        """
        if reading.resize is not None:
            raise ConfigurationError(
                f"--resize is for images without coordinates, and {files[0].key} has some: leave "
                f"it out, or resample the scene (for example gdalwarp -tr)"
            )
        with ThreadPoolExecutor(_HEADER_THREADS) as pool:
            headers = list(pool.map(_header_or_none, files))
        readable = [(file, header) for file, header in zip(files, headers, strict=True) if header]
        misfits = [_misfit(file, header, contract) for file, header in readable]
        if misfits and all(misfits) and misfits[0]:
            raise misfits[0]

    def count(self, file: InputFile, most: int, reading: Reading) -> int:
        """One."""
        return 1

    def estimate(self, files: Sequence[InputFile], layout: Layout, reading: Reading) -> Estimate:
        """From the headers of all."""
        grids = [header.grid for file in files if (header := _header_or_none(file))]
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
            header = _header_or_none(file)
            if header is None:
                yield Unit(unit_id(self.name, file), self.name, (file,))
                continue
            grid = header.grid
            blocks = list(blocks_of(grid, work.layout.stride_px))
            if len(blocks) == 1:
                yield _block_unit(self.name, file, "", blocks[0])
                continue
            scene = unit_id(self.name, file)
            units = [
                replace(_block_unit(self.name, file, f"b{number:05d}", block), scene=scene)
                for number, block in enumerate(blocks)
            ]
            yield from units
            ids = tuple(unit.id for unit in units)
            yield Unit(scene, self.name, (file,), blocks=ids)

    def outputs(self, unit: Unit) -> Iterable[str]:
        """The block, or the scene if the block is all of it."""
        if unit.scene is None:
            return scene_paths(unit.files[0])
        return [block_path(unit.id, folder) for folder in ("labels", "confidence")]

    def thumbnails(self, unit: Unit, work: Work, most: int, side: int) -> Iterable[Thumbnail]:
        """The scene, from its overviews where it has some."""
        if most:
            file = unit.files[0]
            image = read_small(file.uri, work.contract.value_range, side)
            with rasterio.open(work.run.path(f"labels/{file.key}")) as source:
                labels = source.read(1, out_shape=image.shape[:2])
            yield Thumbnail(file.key, image, labels)

    @contextmanager
    def open(self, unit: Unit, work: Work) -> Iterator["_BlockTask"]:
        """Begin a block."""
        task = _BlockTask(unit, work)
        try:
            yield task
        finally:
            task.close()


def _header_or_none(file: InputFile) -> Header | None:
    """The header, or None where the scene cannot be opened, which its unit then reports."""
    try:
        return read_header(file.uri)
    except InputError:
        return None


def _misfit(file: InputFile, header: Header, contract: Contract) -> BeamsegError | None:
    """Why the model was not made for a scene, or None if it was."""
    try:
        check_scene(header, contract, file.key)
    except BeamsegError as error:
        return error
    return None


def check_scene(header: Header, contract: Contract, what: str) -> None:
    """Refuse a scene that the model was not made for.

    Raises:
        ContractError: If bands, dtype or ground sample distance do not fit.
        ConfigurationError: If the scene has no transform.
        GroundError: If its pixels have no ground area.
    """
    contract.check_input(len(header.bands), header.dtype, what)
    if header.grid.transform.is_identity:
        raise ConfigurationError(
            f"{what} has a coordinate reference system but no transform: give it one with gdalwarp "
            f"(from ground control points) or gdal_translate -a_ullr"
        )
    try:
        gsd_m = max(ground_grid(header.grid).pixel_size_m())
    except GroundError as error:
        raise GroundError(f"{what}: {error}") from error
    contract.check_gsd(gsd_m, what)


def _block_unit(name: str, file: InputFile, suffix: str, block: Window) -> Unit:
    window = (block.row, block.column, block.height, block.width)
    return Unit(unit_id(name, file, suffix), name, (file,), window)


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
        self._raster: SceneRaster | None = None
        self._outputs: list[str] = []

    def close(self) -> None:
        if self._raster is not None:
            self._raster.close()

    def jobs(self) -> Iterator[Job | Failure]:
        if len(os.fsencode(Path(self._file.name).name)) > MAX_NAME_BYTES:
            reason = f"the name has more than {MAX_NAME_BYTES} bytes: no room for .aux.xml after it"
            yield Failure(self._file.key, None, "name", reason)
            return
        yield Job(self._unit.id, self._open, self._unit.area)

    def _open(self) -> SceneRaster:
        header = read_header(self._file.uri)
        check_scene(header, self._work.contract, self._file.key)
        self._raster = SceneRaster(self._file.uri, header)
        return self._raster

    @property
    def _area(self) -> Window:
        assert self._unit.area is not None
        return self._unit.area

    @property
    def _grid(self) -> Grid:
        assert self._raster is not None
        return self._raster.header.grid

    def discard(self, key: str) -> None:
        """Remove the label map if the block is all of the scene; else it is written anew."""
        if self._unit.scene is None:
            for path in scene_paths(self._file):
                storage.remove(self._work.run.path(path))

    def source(self, key: str) -> tuple[InputFile, str | None]:
        if self._unit.scene is None:
            return self._file, None
        area = self._area
        rows, columns = area.row + area.height - 1, area.column + area.width - 1
        return self._file, f"rows {area.row} to {rows}, columns {area.column} to {columns}"

    def ground(self, labelled: Labelled) -> Ground | None:
        place = (self._area.row, self._area.column, self._area.height, self._area.width)
        grid = ground_grid(self._grid)
        return Ground(grid.pixel_areas_m2(*place), grid.window_footprint_m2(*place))

    def failed_pixels(self) -> tuple[int, float | None] | None:
        if self._raster is None:
            return (self._area.pixels, None) if self._unit.area else None
        place = (self._area.row, self._area.column, self._area.height, self._area.width)
        return self._area.pixels, ground_grid(self._grid).window_footprint_m2(*place)

    def encode(self, labelled: Labelled) -> Labelled:
        return labelled

    def write(self, key: str, encoded: Labelled) -> None:
        labels, confidence = encoded.labels, encoded.confidence
        levels = None if confidence is None else quantize_confidence(confidence)
        if self._unit.scene is None:
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
