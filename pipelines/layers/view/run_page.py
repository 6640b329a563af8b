"""The page of a finished run: its map, legend, outlines, overlaps, failures, sample and scores."""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import shapely
from affine import Affine
from pmtiles.reader import Reader
from pmtiles.tile import TileType

from pipelines.geodesy.longitudes import Bounds
from pipelines.layers.catalogue.item_outlines import item_outline
from pipelines.layers.maps import LabelMap, LabelMaps
from pipelines.layers.tiles.map_page import render_page
from pipelines.layers.tiles.scene_places import ScenePlaces, scene_places
from pipelines.layers.tiles.tile_stages import ARCHIVE, class_entries
from pipelines.layers.tracing.polygon_layer import POLYGONS
from pipelines.layers.view.placed_maps import PlacedMaps
from pipelines.layers.view.sample import accuracy_of, of_sample
from pipelines.rasters.reader import ground_grid
from pipelines.results.verify import open_run
from pipelines.run.directory import LAYERS, LAYERS_DIR, RunDirectory
from pipelines.scenes.finished import complete_summary
from pipelines.scenes.label_list import listed_grids
from pipelines.storage import filesystem
from segmodel.errors import ConfigurationError, counted
from segmodel.escaping import inert
from segmodel.rasters.grid import Grid
from segmodel.tiling.windows import Window

SCRIPTS = ("pmtiles.js", "served.js")
# So many outlines, overlaps, lost windows and points of a sample a browser draws at ease.
MAX_DRAWN = 2000
MAX_FAILURES = 200
_TYPES = {TileType.PNG: "image/png", TileType.WEBP: "image/webp"}


@dataclass(frozen=True)
class ViewedRun:
    """A finished run that a page shows.

    Args:
        maps: Its label maps.
        placed: Those that have a place on the map.
        folder: Folder of its layers.
        files: Paths there of its tables of polygons.
        archive: Where the web tiles of its label maps are, or None if there are none.
    """

    maps: LabelMaps
    placed: PlacedMaps
    folder: RunDirectory
    files: frozenset[str]
    archive: str | None

    def polygons_of(self, found: LabelMap) -> str | None:
        """Where the polygons of a label map are as GeoParquet; None if there are none."""
        names = (f"{POLYGONS.name}.parquet", f"{POLYGONS.name}-{found.system}.parquet")
        if known := self.files.intersection(names):
            return self.folder.path(*known)
        path = self.folder.path(f"{POLYGONS.name}/{found.key}.parquet")
        is_there = f"{POLYGONS.name}/" in self.files and filesystem.exists(path)
        return path if is_there else None


def viewed_run(root: str) -> ViewedRun:
    """A run, if it can be looked at.

    Args:
        root: The run directory.

    Raises:
        ConfigurationError: If there is none, or none of its label maps has a place on the map.
    """
    work = open_run(root)
    maps = LabelMaps(work, _listed_grids(work.run, complete_summary(work)))
    placed = PlacedMaps(maps)
    if not placed.maps:
        raise ConfigurationError(
            f"{work.run.root} has no label map with a place between 85.05° S and N, where the map "
            f"of the page is: name a run over rasters with a reference system (`--crs` of segment)"
        )
    folder = RunDirectory(work.run.path(LAYERS_DIR), LAYERS)
    try:
        summary = folder.read_json("summary.json") or {}
    except ValueError:
        summary = {}
    layers = summary.get("layers", {})
    archive = folder.path(ARCHIVE)
    is_of_map = "tiles" in layers and summary.get("map") == maps.digest
    has_tiles = is_of_map and filesystem.exists(archive)
    files = layers.get(POLYGONS.name, {}).get("files", ())
    return ViewedRun(maps, placed, folder, frozenset(files), archive if has_tiles else None)


def _listed_grids(run: RunDirectory, summary: Mapping[str, Any]) -> dict[str, Grid]:
    """Size and place of label maps as the end of the run listed them; none where that has changed.

    So no label map is opened before somebody looks at it.
    """
    try:
        content = run.read("labels.json")
    except FileNotFoundError:
        return {}
    known = summary.get("files", {}).get("labels.json")
    return listed_grids(content) if hashlib.sha256(content).hexdigest() == known else {}


@dataclass(frozen=True)
class Overlay:
    """What lies on the labels and can be hidden.

    Args:
        title: Name of it on the page, with how many there are.
        color: Its colour.
        features: GeoJSON features.
        named: Whether each says what it is where one points at it.
        visible: Whether it shows at first.
    """

    title: str
    color: str
    features: list[dict[str, Any]]
    named: bool = True
    visible: bool = True

    @property
    def drawn(self) -> dict[str, Any]:
        """What the scripts of the page read."""
        features = {"type": "FeatureCollection", "features": self.features}
        return {"color": self.color, "named": self.named, "features": features}


def archive_tiles(archive: str) -> dict[str, Any]:
    """What the scripts of a page read of an archive of web tiles.

    Args:
        archive: Where it is.
    """
    header = Reader(lambda start, size: filesystem.read_range(archive, start, size)).header()
    return {
        "archive": ARCHIVE,
        "minZoom": header["min_zoom"],
        "zoom": header["max_zoom"],
        "type": _TYPES[header["tile_type"]],
    }


def run_page(run: ViewedRun, tiles: Mapping[str, Any], previews: Sequence[Bounds]) -> bytes:
    """The page, in which all that is many has a bound.

    Args:
        run: The run.
        tiles: What its scripts read of web tiles.
        previews: Where pictures of scenes are, by their number.
    """
    work = run.maps.work
    overlays = dict(_overlays(run.maps))
    data = {
        **tiles,
        "scenes": _places(run.placed).data,
        "images": previews,
        "overlays": {name: overlay.drawn for name, overlay in overlays.items()},
    }
    return render_page(
        PurePosixPath(work.run.root).name or "run",
        class_entries(work),
        data,
        SCRIPTS,
        max_zoom=tiles["zoom"],
        served=True,
        images=len(previews),
        overlays=overlays,
        accuracy=accuracy_of(run.maps),
        failures=list(_failures(work.run)),
    )


def _places(placed: PlacedMaps) -> ScenePlaces:
    """Where scenes are that tiles show."""
    bounds = np.array([extent.bounds for extent in placed.extents])
    return scene_places([found.key for found in placed.maps], bounds)


def _overlays(maps: LabelMaps) -> Iterator[tuple[str, Overlay]]:
    """What there is to draw on the labels, by name."""
    drawn = list(islice(maps, MAX_DRAWN))
    # By their keys as in tables.
    outlines = {
        str(inert(found.key)): shape for found in drawn if (shape := _outline(found)) is not None
    }
    scenes = [_feature(shape, key) for key, shape in outlines.items()]
    yield "scenes", Overlay(_title("outlines of", len(maps), "scene"), "#8250df", scenes, False)
    if shared := list(_overlaps(maps.work.run, outlines)):
        yield "overlaps", Overlay("ground of two scenes", "#bf8700", shared, visible=False)
    lost = sum(map(len, maps.lost.values()))
    if lost:
        failed = list(islice(_failed(drawn, maps), MAX_DRAWN))
        yield "failed", Overlay(_title("", lost, "failed block"), "#d1242f", failed)
    points = of_sample(maps, "design.json").get("points", ())
    if points:
        places = ((shapely.Point(row["lon"], row["lat"]), row["id"]) for row in points)
        sample = [_feature(*place) for place in islice(places, MAX_DRAWN)]
        title = _title("", len(points), "sample point")
        yield "sample", Overlay(title, "#bf3989", sample, visible=False)


def _title(what: str, number: int, noun: str) -> str:
    bound = f" (the first {MAX_DRAWN:,})" if number > MAX_DRAWN else ""
    return f"{what} {counted(number, noun)}{bound}".strip()


def _outline(found: LabelMap, window: Window | None = None) -> shapely.Geometry | None:
    """Where a label map lies, or a window of it; None if it is not on the Earth."""
    grid = found.grid
    if grid.crs is None:
        return None
    if window is not None:
        place = grid.transform @ Affine.translation(window.column, window.row)
        grid = replace(grid, height=window.height, width=window.width, transform=place)
    outline = item_outline(ground_grid(grid))
    return None if outline is None else shapely.geometry.shape(outline.geometry)


def _feature(shape: shapely.Geometry, name: str) -> dict[str, Any]:
    geometry = shapely.geometry.mapping(shape)
    return {"type": "Feature", "properties": {"name": name}, "geometry": geometry}


def _failed(drawn: Iterable[LabelMap], maps: LabelMaps) -> Iterator[dict[str, Any]]:
    for found in drawn:
        for window in maps.lost.get(found.key, ()):
            if (shape := _outline(found, window)) is not None:
                place = f"rows from {window.row}, columns from {window.column}"
                yield _feature(shape, f"{found.key}: {place}, could not be read")


def _overlaps(run: RunDirectory, outlines: dict[str, shapely.Geometry]) -> Iterator[dict[str, Any]]:
    """Ground of two scenes, where the run counts it once."""
    rows = _rows(run, "overlaps.csv")
    pairs = dict.fromkeys(tuple(sorted((row["scene"], row["counted_in"]))) for row in rows)
    known = (pair for pair in pairs if outlines.keys() >= {*pair})
    for one, other in islice(known, MAX_DRAWN):
        yield _feature(shapely.intersection(outlines[one], outlines[other]), f"{one}, {other}")


def _rows(run: RunDirectory, path: str) -> list[dict[str, str]]:
    """Rows of a table of the run; none if it has no such table."""
    if not filesystem.exists(run.path(path)):
        return []
    text = run.read(path).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def _failures(run: RunDirectory) -> Iterator[str]:
    rows = _rows(run, "failures.csv")
    for row in rows[:MAX_FAILURES]:
        yield f"{row['uri']} {row['key']}".strip() + f": {row['reason']}"
    if len(rows) > MAX_FAILURES:
        yield f"{len(rows) - MAX_FAILURES:,} more in failures.csv"
