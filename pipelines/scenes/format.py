"""Georeferenced scenes, read by windows; the label map is a Cloud Optimized GeoTIFF."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

from rasterio.drivers import raster_driver_extensions

from pipelines.rasters.cog import read_block
from pipelines.rasters.gdal import without_warnings
from pipelines.rasters.header import Header, header_or_none, read_header
from pipelines.rasters.reader import read_small, small_area
from pipelines.run.interface import Estimate, Reading, Thumbnail, Work, windows_of
from pipelines.run.plan import AssemblyUnit, InputFile, Unit, WorkUnit
from pipelines.scenes.blocks import (
    SCENE,
    area_of,
    block_units,
    misfit,
    model_grid,
    planned_blocks,
    scene_unit,
    seen_by_model,
)
from pipelines.scenes.files import TIFF_SUFFIXES, block_path, scene_paths
from pipelines.scenes.overlaps import count_units
from pipelines.scenes.task import BlockTask
from pipelines.storage import filesystem, locations
from segmodel.errors import BeamsegError, ConfigurationError, ContractError
from segmodel.images.encoded import IMAGE_SUFFIXES
from segmodel.savedmodel.contract import Contract
from segmodel.tiling.windows import Layout, computed_pixels

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Rasters whether or not GDAL can open them.
RASTER_SUFFIXES = frozenset({".vrt", ".jp2", ".j2k", ".img", ".ntf", ".bil", ".ers", ".mrf"})
_HEADER_THREADS, _HEADERS_AT_ONCE = 8, 256


class Scenes:
    """Rasters of GDAL with a place on the ground; a work unit is a block of one."""

    name = SCENE
    examples = "georeferenced scenes (.tif .vrt .jp2 and what else GDAL reads)"
    grouped = False
    decodes = False

    def claims(self, file: InputFile) -> bool:
        """Whether it is a raster that knows where it is, or that no decoder of images reads."""
        suffix = Path(file.name).suffix.lower()
        if suffix in RASTER_SUFFIXES:
            return True
        if suffix in TIFF_SUFFIXES:
            header = header_or_none(file.uri, file.version)
            if header is not None:
                return header.is_located
            # A TIFF that GDAL cannot open is reported as what it claims to be.
            return locations.is_read_by_gdal(file.uri) or filesystem.begins_with(
                file.uri, TIFF_MARKS
            )
        if suffix in IMAGE_SUFFIXES or suffix not in _gdal_suffixes():
            return False
        header = header_or_none(file.uri, file.version)
        return header is not None and bool(header.bands)

    def identify(self, file: InputFile) -> InputFile:
        """The scene with a version that changes with masks, sidecars and the sources of a VRT."""
        header = header_or_none(file.uri, file.version)
        if header is None or not header.others:
            return file
        states = [(os.path.basename(name), *_state(name)) for name in header.others]
        digest = hashlib.sha256(repr(states).encode()).hexdigest()[:16]
        return replace(file, version=f"{file.version}-{digest}")

    def check(self, files: Sequence[InputFile], contract: Contract, reading: Reading) -> None:
        """Refuse the run if the model was made for none of the scenes.

        Where it was made for some, the others fail by themselves, each with its reason.
        """
        if reading.resize is not None:
            raise ConfigurationError(
                f"--resize is for images without coordinates, and {files[0].key} has some: give "
                f"--resample_to for scenes"
            )
        if reading.bands is not None and len(reading.bands) != len(contract.bands):
            raise ContractError(
                f"--bands names {len(reading.bands)} bands, the model takes {len(contract.bands)} "
                f"({', '.join(contract.bands)})"
            )
        if reading.resample_to is not None:
            contract.check_gsd(reading.resample_to, "--resample_to")
        first: BeamsegError | None = None
        for file, header in headers_of(files):
            if header is not None:
                error = misfit(header, contract, reading, file.key)
                if error is None:
                    return
                first = first or error
        if first is not None:
            raise first

    def count(self, file: InputFile, most: int, reading: Reading) -> int:
        """One."""
        return 1

    def estimate(self, files: Sequence[InputFile], layout: Layout, reading: Reading) -> Estimate:
        """From the headers of all."""
        pixels = windows = computed = 0
        for file in files:
            header = header_or_none(file.uri, file.version)
            blocks = planned_blocks(header, layout, reading)
            if header is None or not blocks:
                continue
            scaled = model_grid(header, reading)
            whole = seen_by_model(header, scaled)
            for block in blocks:
                area = area_of(block, scaled, layout.stride_px)
                pixels += block.pixels
                windows += windows_of(area.height, area.width, layout)
                computed += computed_pixels(whole, area, layout)
        return Estimate(len(files), pixels, windows, computed, exact=True)

    def units(self, files: Sequence[InputFile], work: Work, records: int | None) -> Iterable[Unit]:
        """A unit for each block, for putting those of a scene together, for counting it."""
        for file in files:
            header = header_or_none(file.uri, file.version)
            blocks = planned_blocks(header, work.layout, work.reading)
            unit = scene_unit(file, blocks)
            if isinstance(unit, AssemblyUnit):
                yield from block_units(unit, blocks)
            yield unit
        if work.counting is not None:
            yield from count_units(files, work.counting)

    def outputs(self, unit: Unit) -> Iterable[str]:
        """The block, or the scene if the block is all of it."""
        if isinstance(unit, WorkUnit) and unit.scene is not None:
            return [block_path(unit.id, folder) for folder in ("labels", "confidence")]
        return scene_paths(unit.files[0])

    def thumbnails(self, unit: Unit, work: Work, most: int, side: int) -> Iterable[Thumbnail]:
        """The scene, from its overviews, or the middle of it where it has none."""
        if most:
            file = unit.files[0]
            header = read_header(file.uri, file.version)
            area = small_area(header)
            image = read_small(file.uri, header, area, work.contract.value_range, side)
            labels = read_block(work.run.path(scene_paths(file).labels), area, image.shape[:2])
            yield Thumbnail(file.key, image, labels)

    @contextmanager
    def open(self, unit: WorkUnit, work: Work) -> Iterator[BlockTask]:
        """Begin a block."""
        task = BlockTask(unit, work)
        try:
            yield task
        finally:
            task.close()


def may_be_scene(file: InputFile) -> bool:
    """Whether the header of a file, if it has one, is asked for to tell what it is."""
    suffix = os.path.splitext(file.name)[1].lower()
    return suffix in TIFF_SUFFIXES or (suffix not in IMAGE_SUFFIXES and suffix in _gdal_suffixes())


@cache
def _gdal_suffixes() -> frozenset[str]:
    """Suffixes of all that GDAL reads; to ask it for them takes longer than the rest of a file."""
    return RASTER_SUFFIXES | {f".{name}" for name in raster_driver_extensions()}


def headers_of(files: Iterable[InputFile]) -> Iterator[tuple[InputFile, Header | None]]:
    """Files with their headers or None, read by several threads, some at a time."""
    rest = iter(files)
    with ThreadPoolExecutor(_HEADER_THREADS) as pool, without_warnings():
        while page := list(islice(rest, _HEADERS_AT_ONCE)):
            headers = pool.map(lambda file: header_or_none(file.uri, file.version), page)
            yield from zip(page, headers, strict=True)


def _state(uri: str) -> tuple[int, str]:
    """Size and version; nothing if it cannot be asked for."""
    try:
        found = filesystem.state_of(uri)
    except OSError:
        found = None
    return (0, "") if found is None else (found.size, found.version)
