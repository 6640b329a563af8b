"""What is true at the pixels of a label map, by class index: of masks, rasters and polygons."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from pipelines.geodesy.ground import GroundGrid
from pipelines.geodesy.polygon_masks import ScenePolygons
from pipelines.geodesy.polygons import Polygons
from pipelines.rasters.gdal import OPENER
from pipelines.rasters.reader import ground_grid
from pipelines.scenes.sampling import places_in
from segmodel.errors import ConfigurationError, FailureCode, GroundError, InputError
from segmodel.labels.classes import ClassTable
from segmodel.labels.confusion import IGNORED
from segmodel.labels.masks import MaskReader, check_size
from segmodel.labels.raster_masks import MaskRaster
from segmodel.rasters.grid import Grid, check_alignment
from segmodel.rasters.reader import RasterHandle
from segmodel.tiling.windows import Window

# Pixels of a reference that are read at a time, where it is finer than the label map.
MAX_READ_PIXELS = 1 << 22
# How a reference lies on a label map.
SAME_GRID, NEAREST = "masks of the same grid", "the nearest pixel of a raster"
POLYGONS, POINTS = "polygons", "points"


def places_by_name(reference: ClassTable, classes: ClassTable, what: str) -> tuple[int, ...]:
    """The place in the class table of the run of each class of a reference.

    Args:
        reference: Classes of the reference.
        classes: Classes of the run.
        what: Where the classes of the reference are stated, for the message.

    Raises:
        ConfigurationError: If the run has no class of that name.
    """
    unknown = [name for name in reference.names if name not in classes.names]
    if unknown:
        raise ConfigurationError(
            f"{what}: {', '.join(map(repr, unknown[:5]))} is no class of the run, which has "
            f"{', '.join(classes.names)}: give it the name that the run has for it, or put its "
            f"value among ignore_ids or ignore_colors of [data]"
        )
    return tuple(classes.names.index(name) for name in reference.names)


def classes_of_texts(texts: tuple[str, ...], classes: ClassTable, what: str) -> tuple[int, ...]:
    """The place in the class table of each text, which is the name or the id of a class.

    Raises:
        ConfigurationError: If a text is neither.
    """
    known = {str(number): place for place, number in enumerate(classes.ids)}
    known |= {name: place for place, name in enumerate(classes.names)}
    unknown = sorted({text for text in texts if text not in known})
    if unknown:
        raise ConfigurationError(
            f"{what}: {', '.join(map(repr, unknown[:5]))} is neither the name nor the id of a "
            f"class of the run, which has {', '.join(classes.names)}: correct the class, remove "
            f"those features, or name the field of classes by --class_field"
        )
    return tuple(known[text] for text in texts)


def ground_of(grid: Grid) -> GroundGrid | None:
    """The pixels of a label map on the ground; None where it has no place there."""
    if grid.crs is None or grid.transform.is_identity:
        return None
    try:
        return ground_grid(grid)
    except GroundError:
        return None


class RasterTruth:
    """A raster as what is true on a label map: pixel by pixel, or nearest to pixel centres.

    Args:
        uri: Location of the raster.
        version: Version that one in a store must still have.
        masks: Reads its values.
        places: Place in the class table of the run of each class of `masks`.
        grid: Size and place of the label map.

    Raises:
        InputError: If it cannot be read, is no mask, or cannot lie on the label map.
    """

    def __init__(
        self, uri: str, version: str, masks: MaskReader, places: tuple[int, ...], grid: Grid
    ) -> None:
        self._handle, self._masks = RasterHandle(uri, OPENER, version), masks
        try:
            header = self._handle.header()
            header.check_complete()
            self._raster: MaskRaster = masks.of_raster(self._handle, header)
        except BaseException:
            self.close()
            raise
        self._grid, self._own = grid, header.grid
        # The last is that of `IGNORED`, which is -1.
        self._places = np.array([*places, IGNORED], np.int16)
        self.how = SAME_GRID if _lies_on(grid, header.grid) else NEAREST

    def read(self, window: Window) -> np.ndarray:
        """Class indices at a window of the label map, `(height, width)` int16."""
        if self.how == SAME_GRID:
            return self._indices(window)
        truth = np.full((window.height, window.width), IGNORED, np.int16)
        self._fill(window, window, truth)
        return truth

    def _fill(self, part: Window, window: Window, truth: np.ndarray) -> None:
        """Read a part of a window, in halves where it would take too much of the raster."""
        columns, rows = places_in(part, self._grid, self._own)
        inside = (columns >= 0) & (columns < self._own.width)
        inside &= (rows >= 0) & (rows < self._own.height)
        if not inside.any():
            return
        across, down = columns[inside].astype(np.int64), rows[inside].astype(np.int64)
        top, left = int(down.min()), int(across.min())
        source = Window(top, left, int(down.max()) - top + 1, int(across.max()) - left + 1)
        if source.pixels > MAX_READ_PIXELS and part.pixels > 1:
            half = max(1, -(-part.height // 2)), max(1, -(-part.width // 2))
            for smaller in part.subdivide(*half):
                self._fill(smaller, window, truth)
            return
        found = self._indices(source)
        truth[part.relative_to(window).slices][inside] = found[down - top, across - left]

    def _indices(self, window: Window) -> np.ndarray:
        return np.asarray(self._places[self._masks.window_indices(self._raster, window)])

    def close(self) -> None:
        """Close the raster."""
        self._handle.close()


def _lies_on(grid: Grid, mask: Grid) -> bool:
    """Whether pixels of a mask are those of a label map; else both have a place on the ground.

    Raises:
        InputError: If neither holds.
    """
    is_placed = all(g.crs is not None and not g.transform.is_identity for g in (grid, mask))
    if not is_placed:
        check_size((mask.height, mask.width), (grid.height, grid.width))
    if (mask.height, mask.width) != (grid.height, grid.width):
        return False
    try:
        check_alignment(grid, mask)
    except InputError:
        if not is_placed:
            raise
        return False
    return True


def polygon_truth(
    polygons: Polygons, places: tuple[int, ...], ground: GroundGrid | None
) -> Callable[[Window], np.ndarray]:
    """Reads what polygons say at pixel centres; in two of different classes a pixel is ignored.

    Args:
        polygons: A polygon for each class that there is.
        places: Place in the class table of the class of each polygon.
        ground: The pixels of the label map on the ground.

    Raises:
        InputError: If the label map has no place on the ground that polygons could lie on.
    """
    if ground is None:
        raise InputError(
            "polygons cover ground, and this label map has no coordinate reference system: give "
            "masks with the paths of the images",
            code=FailureCode.BAD_GEOREFERENCE,
        )
    drawn = _scene_polygons(polygons, ground)
    index = np.array([*places, IGNORED], np.int16)

    def read(window: Window) -> np.ndarray:
        truth = np.full((window.height, window.width), IGNORED, np.int16)
        several = np.zeros(truth.shape, bool)
        for layer in range(drawn.layers):
            found = index[drawn.indices(window, layer)]
            several |= (found > IGNORED) & (truth > IGNORED)
            np.copyto(truth, found, where=found > IGNORED)
        truth[several] = IGNORED
        return truth

    return read


@lru_cache(8)
def _scene_polygons(polygons: Polygons, ground: GroundGrid) -> ScenePolygons:
    return ScenePolygons.of(polygons, ground)


def zones_on(polygons: Polygons | None, ground: GroundGrid | None) -> ScenePolygons | None:
    """Zones on the pixels of a label map; None where there are none, or no place on the ground."""
    if polygons is None or ground is None:
        return None
    try:
        return _scene_polygons(polygons, ground)
    except InputError:
        # No way leads there from Earth to the Moon.
        return None
