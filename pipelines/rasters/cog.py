"""Label maps as GeoTIFF: blocks while a scene is unfinished, then one Cloud Optimized GeoTIFF."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rasterio
import rasterio.windows
from rasterio.enums import ColorInterp

from pipelines.rasters.gdal import CODEC_THREADS, OPENER
from pipelines.rasters.overviews import Spans, level_below, mean_of, mode_of, overview_sizes
from pipelines.rasters.tiff_layout import write_optimized
from pipelines.rasters.written import WrittenFiles
from pipelines.run.areas import Tally
from segmodel.escaping import xml_characters
from segmodel.labels.attribute_table import attribute_table
from segmodel.labels.classes import ClassTable
from segmodel.rasters.grid import Grid
from segmodel.rasters.opening import GDAL_OPTIONS, gdal_window
from segmodel.rasters.reader import RasterHandle
from segmodel.tiling.windows import Window

T = TypeVar("T")

TILE_PX = 512
# Of all levels before they are compressed, as GDAL has it: what takes more is a BigTIFF.
MAX_TIFF_BYTES = 2_000_000_000
# A level is written from one end to the other: what was written is not needed again.
_COG_OPTIONS = GDAL_OPTIONS | {"GDAL_CACHEMAX": 32 << 20}
# Of the levels of a COG, beside the profile of a block.
_FINAL = {"zlevel": 6, "num_threads": CODEC_THREADS, "endianness": "LITTLE"}

# Makes an overview of `(bands, height, width)` values, given what its rows and columns stand for.
Reduce = Callable[[np.ndarray, Spans, Spans], np.ndarray]
# Values of a scene by window. A file has the same bytes for all windows that are whole tiles.
Blocks = Iterable[tuple[Window, np.ndarray]]


def write_block(path: str, grid: Grid, window: Window, values: np.ndarray) -> None:
    """Write the values of a window of a scene as a tiled GeoTIFF.

    Args:
        path: File to write.
        grid: Size and place of the scene.
        window: The window.
        values: `(height, width)` or `(height, width, bands)`.
    """
    corner = rasterio.windows.transform(gdal_window(window), grid.transform)
    bands = _by_band(values)
    profile = _grid_profile(Grid(window.height, window.width, corner, grid.crs), values.dtype)
    profile["count"] = len(bands)
    files = WrittenFiles()
    with (
        files.all_written(),
        rasterio.Env(**GDAL_OPTIONS),
        rasterio.open(path, "w", opener=files, **profile) as target,
    ):
        target.write(bands)


def _by_band(values: np.ndarray) -> np.ndarray:
    """Values as rasterio takes them, `(bands, height, width)`."""
    return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)


def read_block(
    uri: str, window: Window | None = None, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Values of the first band of a block, such as labels.

    Args:
        uri: Location of the block.
        window: Part of the block to read, or None for all of it.
        shape: Rows and columns of the result, or None for those of the window; with fewer, GDAL
            leaves out rows and columns.

    Returns:
        `(height, width)` of the dtype of the file.
    """
    part = None if window is None else gdal_window(window)
    return _read(uri, lambda source: np.asarray(source.read(1, window=part, out_shape=shape)))


def read_bands(uri: str, window: Window) -> np.ndarray:
    """Values of all bands in a part of a block, `(height, width, bands)`."""
    part = gdal_window(window)
    return np.moveaxis(_read(uri, lambda source: np.asarray(source.read(window=part))), 0, -1)


def read_pixels(uri: str, places: Iterable[tuple[int, int]]) -> np.ndarray:
    """Values of all bands at pixels, of which few are in memory with those around them.

    Args:
        uri: Location of the raster, which is opened once.
        places: Row and column of each pixel; those that are near each other should follow each
            other, as GDAL keeps what it has decoded last.

    Returns:
        `(pixels, bands)` of the dtype of the file.
    """
    parts = [gdal_window(Window(row, column, 1, 1)) for row, column in places]
    return _read(uri, lambda source: np.stack([source.read(window=p)[:, 0, 0] for p in parts]))


def raster_tags(uri: str) -> dict[str, str]:
    """Tags of a block or a label map."""
    return _read(uri, lambda source: dict(source.tags()))


def _read(uri: str, function: Callable[[Any], T]) -> T:
    """What a function of an open raster returns."""
    handle = RasterHandle(uri, OPENER)
    try:
        return handle.read(function, "labels cannot be read")
    finally:
        handle.close()


def write_label_cog(
    path: str,
    grid: Grid,
    blocks: Blocks,
    classes: ClassTable,
    tags: Mapping[str, str],
    tally: Callable[[], Tally] = Tally,
) -> None:
    """Write a label map as a Cloud Optimized GeoTIFF with palette, class names and nodata.

    Args:
        path: File to write; class names, and an attribute table of the classes with their pixels
            and their ground area, stand beside it in `path + ".aux.xml"`.
        grid: Size and place of the scene.
        blocks: Labels by window, which together cover the scene.
        classes: Palette, names and nodata.
        tags: Provenance.
        tally: Gives the ground area of the classes, once all blocks are written; none by default.
    """
    dtype, nodata = classes.label_dtype, classes.nodata
    names = {f"CLASS_{entry.id}": xml_characters(entry.name) for entry in classes.classes}
    pixels = np.zeros(len(classes.ids) + 1, np.int64)
    profile = _grid_profile(grid, dtype) | _FINAL | {"nodata": nodata}
    has_palette = dtype == np.uint8

    def describe(target: Any) -> None:
        target.set_band_description(1, "label")
        target.update_tags(**tags, **names)
        if has_palette:
            palette = [(*color, 255) for color in classes.palette().tolist()]
            palette[nodata] = (0, 0, 0, 0)
            target.write_colormap(1, dict(enumerate(palette)))
            target.colorinterp = [ColorInterp.palette]

    # Overviews of classes are classes too: the most frequent one, never a mean.
    reduce = partial(mode_of, nodata=nodata)
    _write_cog(path, profile, _counted(blocks, classes, pixels), describe, reduce, has_palette)
    Path(path + ".aux.xml").write_bytes(_auxiliary(classes, pixels[:-1].tolist(), tally()))


def _counted(blocks: Blocks, classes: ClassTable, pixels: np.ndarray) -> Blocks:
    """The same blocks; pixels of each class and, last, of nodata are added up on the way."""
    for window, labels in blocks:
        pixels += classes.count(labels)
        yield window, labels


def write_shares_cog(
    path: str, grid: Grid, blocks: Blocks, bands: Sequence[str], tags: Mapping[str, str]
) -> None:
    """Write confidence or probabilities of 8 bits as a Cloud Optimized GeoTIFF; 1.0 is 255.

    Args:
        path: File to write.
        grid: Size and place of the scene.
        blocks: Values by window, `(height, width)` or `(height, width, bands)`, which together
            cover the scene.
        bands: Names of the bands.
        tags: Provenance.
    """
    profile = _grid_profile(grid, np.dtype(np.uint8)) | _FINAL | {"count": len(bands)}

    def describe(target: Any) -> None:
        target.update_tags(**tags)
        for number, name in enumerate(bands, 1):
            target.set_band_description(number, xml_characters(name))
        target.scales = (1 / 255,) * len(bands)

    _write_cog(path, profile, blocks, describe, mean_of)


def _write_cog(
    path: str,
    profile: dict[str, Any],
    blocks: Blocks,
    describe: Callable[[Any], None],
    reduce: Reduce,
    has_palette: bool = False,
) -> None:
    """Write a COG: each level as a GeoTIFF with its tiles as they stay, then all of them in order.

    Args:
        path: File to write.
        profile: Size, place and samples.
        blocks: Values by window, which together cover the raster.
        describe: Gives the open raster its tags.
        reduce: Makes the values of an overview.
        has_palette: Whether `describe` gives the raster a palette.
    """
    files, whole = WrittenFiles(), Window(0, 0, profile["height"], profile["width"])
    sizes = [(whole.height, whole.width), *overview_sizes(whole.height, whole.width, TILE_PX)]
    names = [f"{path}.level{number}.tif" for number in range(len(sizes))]
    of_pixel = profile["count"] * np.dtype(profile["dtype"]).itemsize
    bigtiff = "YES" if sum(map(math.prod, sizes)) * of_pixel > MAX_TIFF_BYTES else "NO"
    try:
        with files.all_written(), rasterio.Env(**_COG_OPTIONS):
            for number, (name, size) in enumerate(zip(names, sizes, strict=True)):
                if number:
                    below = names[level_below(number, sizes, has_palette)]
                    blocks = _reduced(below, Window(0, 0, *size), files, reduce)
                of_level = profile | {"height": size[0], "width": size[1], "bigtiff": bigtiff}
                with rasterio.open(name, "w", opener=files, **of_level) as target:
                    describe(target)
                    for window, values in blocks:
                        files.check()
                        target.write(_by_band(values), window=gdal_window(window))
                files.check()
        write_optimized(path, names)
    finally:
        for name in names:
            for beside in (name, f"{name}.aux.xml"):
                Path(beside).unlink(missing_ok=True)


def _reduced(name: str, whole: Window, files: WrittenFiles, reduce: Reduce) -> Blocks:
    """Tiles of an overview, made of those of a level below, which is a file."""
    with rasterio.open(name, opener=files) as source:
        for tile in whole.subdivide(TILE_PX, TILE_PX):
            rows = Spans.of(tile.row, tile.height, source.height, whole.height)
            columns = Spans.of(tile.column, tile.width, source.width, whole.width)
            below = Window(rows.begin, columns.begin, rows.length, columns.length)
            values = reduce(source.read(window=gdal_window(below)), rows, columns)
            yield tile, np.moveaxis(values, 0, -1)


def _grid_profile(grid: Grid, dtype: np.dtype) -> dict[str, Any]:
    profile: dict[str, Any] = {} if grid.transform.is_identity else {"transform": grid.transform}
    profile |= {"crs": grid.crs} if grid.crs else {}
    profile |= {"driver": "GTiff", "height": grid.height, "width": grid.width}
    profile |= {"count": 1, "dtype": dtype.name}
    profile |= {"tiled": True, "blockxsize": TILE_PX, "blockysize": TILE_PX}
    return profile | {"compress": "deflate", "zlevel": 1, "bigtiff": "IF_SAFER"}


def _auxiliary(classes: ClassTable, pixels: Sequence[int], tally: Tally) -> bytes:
    """GDAL's auxiliary file: a name for each label up to the greatest id, and a row a class."""
    areas_m2 = None
    if any(tally.ground_pixels.values()):
        areas_m2 = [float(tally.area_m2.get(str(number), 0)) for number in classes.ids]
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    names = ET.SubElement(band, "CategoryNames")
    known = dict(zip(classes.ids, map(xml_characters, classes.names), strict=True))
    for value in range(max(known) + 1):
        ET.SubElement(names, "Category").text = known.get(value, "")
    band.append(attribute_table(classes, pixels, areas_m2))
    ET.indent(root)
    return ET.tostring(root) + b"\n"
