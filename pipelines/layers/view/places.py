"""What label maps say of a place."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from rasterio.crs import CRS

from pipelines.layers.maps import LabelMap
from pipelines.layers.polygons.geoparquet import BOX_SIDES
from pipelines.layers.polygons.parts import GEOMETRY
from pipelines.layers.view.placed_maps import PlacedMaps
from pipelines.rasters.cog import read_block
from pipelines.scenes.finished import named_label_map
from pipelines.scenes.results import area_text
from pipelines.scenes.sampling import pixels_of_coordinates
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import counted
from segmodel.labels.classes import ClassTable
from segmodel.tiling.windows import Window

_WGS84 = CRS.from_epsg(4326).to_wkt()
_NO_CLASS = "no class"
# Scenes at one place that an answer has.
MAX_SCENES = 20


class PlaceLine(NamedTuple):
    """A line of what is at a place.

    Attributes:
        text: What it says.
        scene: Key of the scene that it is about, if it is about one.
    """

    text: str
    scene: str | None = None


class PlaceIndex:
    """Finds what label maps show at a place.

    Args:
        placed: Label maps of a run.
        classes: What their values mean.
        polygons: Gives the table with the polygons of a label map, or None if there is none.
    """

    def __init__(
        self,
        placed: PlacedMaps,
        classes: ClassTable,
        polygons: Callable[[LabelMap], str | None],
    ) -> None:
        self._placed, self._polygons = placed, polygons
        self._names = {entry.id: entry.name for entry in classes.classes}

    def lines(self, lon: float, lat: float) -> list[PlaceLine]:
        """What is at a place, line by line: first the class that a map of all scenes has there.

        Args:
            lon: Longitude in degrees on WGS 84.
            lat: Latitude in degrees.

        Raises:
            InputError: If a label map cannot be read.
        """
        across = (lon / 360 + 0.5) % 1
        down = 0.5 - math.asinh(math.tan(math.radians(lat))) / (2 * math.pi)
        top, scenes = None, list[PlaceLine]()
        maps = self._placed.meeting(across, down, across, down)
        # Of a store, each takes several requests.
        at_place = in_order(lambda label_map: (label_map, self._at(label_map, lon, lat)), maps)
        for label_map, found in at_place:
            if found is None:
                continue
            name, text = found
            if name is not None and top is None:
                top = name
                scenes.insert(0, PlaceLine(text, label_map.key))
            else:
                scenes.append(PlaceLine(f"{text}: {name or _NO_CLASS}", label_map.key))
            if len(scenes) == MAX_SCENES:
                break
        return [PlaceLine(top or _NO_CLASS), *scenes] if scenes else [PlaceLine("no scene")]

    def _at(self, found: LabelMap, lon: float, lat: float) -> tuple[str | None, str] | None:
        """Class and scene of a label map at a place; None where it does not show it."""
        x, y = np.array([[lon]]), np.array([[lat]])
        columns, rows = pixels_of_coordinates(x, y, _WGS84, found.grid)
        column, row = columns.item(), rows.item()
        if not (0 <= column < found.grid.width and 0 <= row < found.grid.height):
            return None
        pixel = Window(int(row), int(column), 1, 1)
        with named_label_map(found.file):
            name = self._names.get(read_block(found.uri, pixel).item())
        text = f"{found.key}, row {pixel.row}, column {pixel.column}"
        if name is not None and found.confidence is not None:
            text += f", confidence {read_block(found.confidence, pixel).item() / 255:.2f}"
        if name is not None and (polygons := self._polygons(found)) is not None:
            text += "".join(_polygon_texts(polygons, found, pixel, name))
        return name, text


def _polygon_texts(uri: str, found: LabelMap, pixel: Window, name: str) -> Iterator[str]:
    """What a table of polygons says of the one that a pixel lies in, if it is in the table.

    Args:
        uri: The table.
        found: Label map of the pixel.
        pixel: The pixel.
        name: Its class; another one is that of a generalized label map.
    """
    x, y = found.grid.transform @ (pixel.column + 0.5, pixel.row + 0.5)
    west, south, east, north = (pc.field("bbox", side) for side in BOX_SIDES)
    here = (west <= x) & (x <= east) & (south <= y) & (y <= north)
    names = ["class", "pixels", "area_m2", GEOMETRY]
    with filesystem.open_stream(uri) as stream:
        rows = pq.read_table(stream, columns=names, filters=(pc.field("scene") == found.key) & here)
    for row in rows.to_pylist():
        if shapely.contains_xy(shapely.from_wkb(row[GEOMETRY]), x, y):
            area = row["area_m2"]
            size = counted(row["pixels"], "pixel") if area is None else area_text(area)
            yield f", in a polygon of {size}" + (
                "" if row["class"] == name else f" of {row['class']}"
            )
