"""Rasters of kinds that are rare: VRTs, masks beside files, palettes, places by control points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from tests.pipelines.corpus import UTM, write_scene

GEOTRANSFORM = "300000, 10, 0, 6000000, 0, -10"
PALETTE = {0: (0, 0, 0, 0), 1: (200, 10, 10, 255), 2: (10, 200, 10, 255), 3: (10, 10, 200, 255)}


def source_of(path: Path, band: int | str, size=None, place=None) -> str:
    """A source of a VRT band; `size` and `place` are (height, width) and (row, column)."""
    rectangles = ""
    if size is not None:
        (height, width), (row, column) = size, place or (0, 0)
        rectangles = (
            f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
            f'<DstRect xOff="{column}" yOff="{row}" xSize="{width}" ySize="{height}"/>'
        )
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="1">{path.name}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>{rectangles}</SimpleSource>"
    )


def write_vrt(path: Path, height: int, width: int, bands: list[str], extra: str = "") -> Path:
    """A VRT of byte bands at `UTM`; `bands` are what stands inside each."""
    inside = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}">{body}</VRTRasterBand>'
        for number, body in enumerate(bands, 1)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>{GEOTRANSFORM}</GeoTransform>{extra}{inside}</VRTDataset>",
        "utf-8",
    )
    return path


def write_masked_bands(path: Path, values: np.ndarray, valid: np.ndarray) -> Path:
    """A VRT with a mask for each band; `valid` has the shape of `values`."""
    bands = values.shape[2]
    pixels = write_scene(path.with_name("pixels.tif"), values)
    masks = write_scene(path.with_name("masks.tif"), np.where(valid, 255, 0).astype(np.uint8))
    bodies = [
        f'{source_of(pixels, band)}<MaskBand><VRTRasterBand dataType="Byte">'
        f"{source_of(masks, band)}</VRTRasterBand></MaskBand>"
        for band in range(1, bands + 1)
    ]
    return write_vrt(path, *values.shape[:2], bodies)


def write_mosaic(path: Path, values: np.ndarray, column: int) -> Path:
    """A VRT over two files, which meet at a column."""
    height, width, bands = values.shape
    left = write_scene(path.with_name("left.tif"), values[:, :column])
    right = write_scene(path.with_name("right.tif"), values[:, column:])
    bodies = [
        source_of(left, band, (height, column))
        + source_of(right, band, (height, width - column), (0, column))
        for band in range(1, bands + 1)
    ]
    return write_vrt(path, height, width, bodies)


def write_mask_beside(path: Path, values: np.ndarray, valid: np.ndarray) -> Path:
    """A GeoTIFF whose mask is in a file beside it."""
    write_scene(path, values)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(path, "r+") as target,
    ):
        target.write_mask(valid)
    assert path.with_name(path.name + ".msk").exists()
    return path


def write_alpha(path: Path, values: np.ndarray, valid: np.ndarray) -> Path:
    """A GeoTIFF whose last band says where it is valid."""
    write_scene(path, np.dstack([values, np.where(valid, 255, 0).astype(np.uint8)]))
    colors = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    with rasterio.open(path, "r+") as target:
        target.colorinterp = colors
    return path


def write_palette(path: Path, numbers: np.ndarray, **profile) -> Path:
    """A GeoTIFF of numbers of colours."""
    write_scene(path, numbers[..., None], UTM, **profile)
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, PALETTE)
    return path


def name_bands(path: Path, names: list[str | None]) -> Path:
    """Give the bands of a scene descriptions."""
    with rasterio.open(path, "r+") as target:
        for band, name in enumerate(names, 1):
            if name:
                target.set_band_description(band, name)
    return path
