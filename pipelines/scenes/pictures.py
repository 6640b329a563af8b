"""Small pictures of scenes and their label maps, for a person to look at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from pipelines.formats.interface import Thumbnail
from pipelines.formats.work import Work
from pipelines.rasters.cog import read_block
from pipelines.rasters.reader import SceneRaster, small_area
from pipelines.run.plan import InputFile
from pipelines.scenes.files import scene_paths
from pipelines.scenes.task import area_of_interest
from segmodel.rasters.bands import ModelBands
from segmodel.rasters.header import Band, Header
from segmodel.reports.drawing import color_places, to_8_bits, visible_bands
from segmodel.savedmodel.contract import Contract
from segmodel.tiling.windows import Window

# Pixels that are read along a side for each pixel of a picture, so that a mean can be shown.
READ_PER_PIXEL = 2
# A picture of a part of a scene in so many rows and columns, of which some are left out if the part
# has more: `(rows, columns, 3)` uint8, and `(rows, columns)` bool, False where nothing is shown.
Picture = Callable[[Window, tuple[int, int]], tuple[np.ndarray, np.ndarray]]
# What is shown around an area of interest, as a share of its longer side, and the least of all.
MARGIN, MIN_SHOWN_PX = 0.05, 64
# Bytes in up to as many bands are a photograph, with a near infrared band at most.
PHOTO_BANDS = 4


def scene_thumbnail(file: InputFile, work: Work, side: int) -> Thumbnail:
    """A scene and its label map, or what the area of interest touches of them.

    They are read from overviews; of what has none and is too large, the middle is shown.

    Args:
        file: Scene.
        work: What all units have in common.
        side: Side of the picture in pixels, as `Thumbnail.fitted` takes it.

    Raises:
        InputError: If the scene cannot be read any more.
        TransientError: If it may be read later.
        ContractError: If it was replaced by one that the model was not made for.
    """
    header = work.headers.read(file)
    area = small_area(header, _pictured(header, work))
    step = max(1.0, max(area.height, area.width) / (READ_PER_PIXEL * side))
    shape = max(1, int(area.height / step)), max(1, int(area.width / step))
    with pictured_scene(file, work) as picture:
        image, valid = picture(area, shape)
    labels = read_block(work.run.path(scene_paths(file).labels), area, shape)
    return Thumbnail(file.key, image, labels, valid).fitted(side)


@contextmanager
def pictured_scene(file: InputFile, work: Work) -> Iterator[Picture]:
    """A scene as a person sees it, open for pictures of its parts.

    Args:
        file: Scene.
        work: What all units have in common.

    Raises:
        InputError, TransientError, ContractError: As `scene_thumbnail`.
    """
    header = work.headers.read(file)
    bands = ModelBands.of(header, work.contract, work.reading.bands, file.key)
    visible = replace(bands, bands=_visible(header, bands, work.contract), count=3)
    scene = SceneRaster(file.uri, header, visible, version=file.version)
    is_photo = _is_photo(header, visible)
    limits = work.contract.value_range
    if is_photo and work.contract.dtype != "uint8":
        limits = (0.0, 255.0)

    def picture(area: Window, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        pixels = scene.read_small(area, shape)
        valid = np.ones(shape, bool) if pixels.finite is None else pixels.finite
        return to_8_bits(pixels.values, valid, limits, stretch=not is_photo), valid

    try:
        yield picture
    finally:
        scene.close()


def _pictured(header: Header, work: Work) -> Window:
    """The rectangle around the area of interest, or all of a scene."""
    whole = Window(0, 0, header.grid.height, header.grid.width)
    aoi = area_of_interest(header, work)
    inner = whole if aoi is None else aoi.bounds()
    if not inner.pixels:
        return whole
    longest = max(inner.height, inner.width)
    margin = max(round(MARGIN * longest), (MIN_SHOWN_PX - longest + 1) // 2)
    top, left = max(0, inner.row - margin), max(0, inner.column - margin)
    bottom = min(whole.height, inner.row + inner.height + margin)
    right = min(whole.width, inner.column + inner.width + margin)
    return Window(top, left, bottom - top, right - left)


def _visible(header: Header, bands: ModelBands, contract: Contract) -> tuple[Band, ...]:
    """Bands shown as red, green and blue: those that the model calls so, else the file does."""
    if bands.palette is not None:
        return bands.bands
    of_file = color_places([band.name for band in header.bands])
    if color_places(contract.bands) is None and of_file is not None:
        return tuple(header.bands[place] for place in of_file)
    return tuple(bands.bands[place] for place in visible_bands(contract.bands))


def _is_photo(header: Header, visible: ModelBands) -> bool:
    """Whether samples are brightness as a screen shows it."""
    plain = all(band.dtype == "uint8" and not band.is_scaled for band in visible.bands)
    return plain and len(header.bands) <= PHOTO_BANDS
