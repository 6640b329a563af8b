"""Georeferenced scenes, read by windows; the label map is a Cloud Optimized GeoTIFF."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

from rasterio.drivers import raster_driver_extensions

from pipelines.formats.interface import Estimate, Format, Thumbnail
from pipelines.formats.work import PlanContext, Work
from pipelines.geodesy.vector_files import has_vectors
from pipelines.rasters.header import Headers, last_stored, with_others
from pipelines.run.plan import SCENE, AssemblyUnit, InputFile, Unit, WorkUnit
from pipelines.scenes.blocks import (
    block_units,
    check_scene,
    model_grid,
    model_window,
    planned_blocks,
    scene_unit,
    seen_by_model,
)
from pipelines.scenes.files import block_path, scene_paths
from pipelines.scenes.pictures import scene_thumbnail
from pipelines.scenes.task import BlockTask
from pipelines.storage import filesystem, locations
from segmodel.errors import (
    BeamsegError,
    ConfigurationError,
    ContractError,
    FailureCode,
    InputError,
    TransientError,
)
from segmodel.images.encoded import IMAGE_SUFFIXES
from segmodel.images.tiff import TIFF_MARKS, is_tiff
from segmodel.tiling.windows import Window, computed_pixels, cores

# Rasters whether or not GDAL can open them: what people keep imagery in, and no sidecars.
RASTER_SUFFIXES = frozenset(
    {".asc", ".bil", ".bip", ".bmp", ".bsq", ".dem", ".dt0", ".dt1", ".dt2", ".ecw", ".ers"}
    | {".gif", ".gpkg", ".grb", ".grb2", ".grd", ".grib", ".grib2", ".h5", ".hdf", ".he5", ".hgt"}
    | {".img", ".j2k", ".jp2", ".jpx", ".kea", ".mbtiles", ".mrf", ".nc", ".nc4", ".nitf", ".ntf"}
    | {".pgm", ".pix", ".pnm", ".ppm", ".rst", ".sdat", ".sid", ".vrt"}
)
# Of these, what may be pixels alone, of which the header is another file.
_DATA_SUFFIXES = {".bil", ".bip", ".bsq", ".img"}
# Of these, what may hold vectors.
_VECTOR_SUFFIXES = {".gpkg", ".mbtiles", ".nc", ".nc4"}
# What is copied from a store to look for vectors in it.
_MAX_VECTOR_BYTES = 256 << 20
# Archives of one raster that GDAL opens by themselves.
_PACKED_SUFFIXES = (".hgt.zip",)
# Signatures of downloads have a suffix of grids.
_SIGNATURE = (b"-----BEGIN PGP",)


class SceneFormat(Format):
    """Rasters of GDAL with a place on the ground; a work unit is a block of one."""

    name = SCENE
    examples = "georeferenced scenes (.tif .vrt .jp2 and what else GDAL reads)"
    decodes = False

    def claim(self, file: InputFile, headers: Headers) -> InputFile | None:
        """The scene with a version that changes with masks, sidecars and the sources of a VRT.

        It changes too where rules of reading changed, so that no scene is labelled by old ones in
        one block and by new ones in the next.
        """
        return _with_version(file, headers) if self._is_scene(file, headers) else None

    def _is_scene(self, file: InputFile, headers: Headers) -> bool:
        """Whether it is a raster that knows where it is, or that no decoder of images reads."""
        if not may_be_scene(file):
            return False
        if locations.is_address(file.uri):
            return True
        suffix = os.path.splitext(file.name)[1].lower()
        try:
            header = headers.read(file)
        except TransientError:
            # What it is shows once it can be read; until then it is not finished.
            return True
        except InputError:
            if is_tiff(file.name):
                # A TIFF that GDAL cannot open is reported as what it claims to be.
                return locations.is_read_by_gdal(file.uri) or _begins_with(file, TIFF_MARKS)
            return suffix in RASTER_SUFFIXES and not _is_of_another_kind(file, suffix)
        if is_tiff(file.name):
            return header.is_located
        return suffix in RASTER_SUFFIXES or bool(header.bands)

    def check(self, files: Sequence[InputFile], context: PlanContext) -> None:
        """Refuse options that are not for scenes, or not for this model."""
        contract, reading = context.contract, context.reading
        if reading.resize is not None:
            raise ConfigurationError(
                f"--resize is for image files, and {files[0].key} is a scene: give --resample_to "
                f"for scenes with coordinates"
            )
        if reading.bands is not None and len(reading.bands) != len(contract.bands):
            raise ContractError(
                f"--bands names {len(reading.bands)} bands, the model takes {len(contract.bands)} "
                f"({', '.join(contract.bands)}): name as many, in that order"
            )
        if reading.resample_to is not None:
            side = reading.resample_to
            contract.check_gsd(side, side, "--resample_to", "give another number of metres")

    def misfit(self, files: Sequence[InputFile], context: PlanContext) -> BeamsegError | None:
        """Why the first scene does not fit, if none does; what cannot be opened says so later."""
        first: BeamsegError | None = None
        for file, header in context.headers.find_all(files):
            if header is not None:
                try:
                    check_scene(header, context.contract, context.reading, file.key)
                except InputError:
                    # A damaged file says nothing about the model.
                    return None
                except BeamsegError as error:
                    first = first or error
                else:
                    return None
        return first

    def estimate(self, files: Sequence[InputFile], context: PlanContext) -> Estimate:
        """From the headers of all."""
        layout, reading = context.layout, context.reading
        pixels = windows = computed = 0
        for file in files:
            header = context.headers.find(file)
            blocks = planned_blocks(header, layout, reading)
            if header is None or not blocks:
                continue
            scaled = model_grid(header, reading)
            whole = seen_by_model(header, scaled)
            for block in blocks:
                area = model_window(block, scaled, layout.stride_px)
                pixels += block.pixels
                windows += math.prod(map(len, cores(whole, area, layout)))
                computed += computed_pixels(whole, area, layout)
        return Estimate(len(files), pixels, windows, computed, exact=True)

    def units(
        self, files: Sequence[InputFile], context: PlanContext, records: int | None
    ) -> Iterable[Unit]:
        """A unit for each block, and one for putting those of a scene together."""
        for file in files:
            header = context.headers.find(file)
            blocks = planned_blocks(header, context.layout, context.reading)
            unit = scene_unit(file, blocks)
            if isinstance(unit, AssemblyUnit):
                yield from block_units(unit, blocks)
            yield unit

    def trials(
        self, files: Sequence[InputFile], context: PlanContext, records: int | None
    ) -> Iterable[WorkUnit]:
        """Of a GeoTIFF the block where its file ends, without which it was cut; else all blocks."""
        for file in files:
            units = list(super().trials([file], context, records))
            # What is outside an area of interest is not read.
            if len(units) > 1 and context.reading.aoi is None:
                last = last_stored(file.uri, context.headers.read(file))
                units = [unit for unit in units if last is None or _holds(unit, last)]
            yield from units

    def outputs(self, unit: Unit, work: Work) -> Iterable[str]:
        """The block, or the scene if the block is all of it."""
        if unit.is_block:
            return [block_path(unit.id, folder) for folder in work.map_folders]
        return scene_paths(unit.files[0])

    def thumbnails(self, unit: Unit, work: Work, limit: int, side: int) -> Iterable[Thumbnail]:
        """The scene, or what the area of interest touches of it."""
        if limit and not unit.gone:
            yield scene_thumbnail(unit.files[0], work, side)

    def open(self, unit: WorkUnit, work: Work) -> BlockTask:
        """Begin a block."""
        return BlockTask(unit, work)


def _holds(unit: WorkUnit, part: Window) -> bool:
    """Whether the first pixel of a part of a scene is in a block."""
    first = replace(part, height=1, width=1)
    return unit.window is not None and unit.window.intersection(first).pixels > 0


def data_files(files: Iterable[InputFile], headers: Headers) -> set[InputFile]:
    """Files that GDAL cannot open, and that hold the pixels of another one that it can.

    Args:
        files: Files that lie beside one another.
        headers: Headers of scenes.
    """
    given = list(files)
    data = [file for file in given if os.path.splitext(file.name)[1].lower() in _DATA_SUFFIXES]
    unread = {file.uri: file for file in data if _cannot_open(file, headers)}
    if not unread:
        return set()
    found = (headers.find(file) for file in given if may_be_scene(file))
    others = {other for header in found if header is not None for other in header.others}
    return {file for uri, file in unread.items() if uri in others}


def _cannot_open(file: InputFile, headers: Headers) -> bool:
    try:
        headers.read(file)
    except InputError as error:
        return error.code == FailureCode.CANNOT_OPEN
    except TransientError:
        return False
    return False


def _begins_with(file: InputFile, marks: tuple[bytes, ...]) -> bool:
    """Whether a file begins with one of some byte strings; not if it may not be read."""
    try:
        return filesystem.begins_with(file.uri, marks, file.stat)
    except (FileNotFoundError, InputError, PermissionError):
        return False


def _is_of_another_kind(file: InputFile, suffix: str) -> bool:
    """Whether a file that is no raster, by its suffix one, is something else in good order."""
    if locations.is_read_by_gdal(file.uri):
        return False
    if suffix == ".asc":
        return _begins_with(file, _SIGNATURE)
    is_small = not locations.is_remote(file.uri) or file.size <= _MAX_VECTOR_BYTES
    return suffix in _VECTOR_SUFFIXES and is_small and has_vectors(file.uri)


def claim_placed(file: InputFile, headers: Headers) -> InputFile | None:
    """A JPEG, PNG or WebP file as a scene, if a file beside it gives it a transform; else None."""
    try:
        header = headers.read(file)
    except TransientError:
        # What it is shows once it can be read; until then it is not finished.
        return file
    except InputError as error:
        # An image whose place cannot be read is no image without a place.
        return file if error.code == FailureCode.BAD_GEOREFERENCE else None
    return None if header.grid.transform.is_identity else _with_version(file, headers)


def claim_plain(file: InputFile, headers: Headers) -> InputFile | None:
    """A TIFF without a place as a scene, for a model that no decoder of images feeds; else None."""
    header = headers.find(file) if is_tiff(file.name) else None
    return None if header is None else _with_version(file, headers)


def _with_version(file: InputFile, headers: Headers) -> InputFile:
    """The file with a version that changes with all that it is read from."""
    header = headers.find(file)
    if header is not None and header.revision:
        file = replace(file, version=f"{file.version}-r{header.revision}")
    return file if header is None else with_others(file, header.others)


def may_be_scene(file: InputFile) -> bool:
    """Whether the header of a file, if it has one, is asked for to tell what it is."""
    suffix = os.path.splitext(file.name)[1].lower()
    if locations.is_address(file.uri) or file.name.lower().endswith(_PACKED_SUFFIXES):
        return True
    return is_tiff(file.name) or (suffix not in IMAGE_SUFFIXES and suffix in _gdal_suffixes())


@cache
def _gdal_suffixes() -> frozenset[str]:
    """Suffixes of all that GDAL reads; to ask it for them takes longer than the rest of a file."""
    return RASTER_SUFFIXES | {f".{name}" for name in raster_driver_extensions()}
