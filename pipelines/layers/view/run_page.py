"""The page of a finished run: its map, legend, outlines, overlaps, failures, sample and scores."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from pmtiles.reader import Reader
from pmtiles.tile import TileType

from pipelines.geodesy.longitudes import Bounds, from_west
from pipelines.layers.maps import LabelMap, LabelMaps
from pipelines.layers.tiles.map_page import render_page
from pipelines.layers.tiles.tile_stages import ARCHIVE, class_entries
from pipelines.layers.tracing.polygon_layer import POLYGONS
from pipelines.layers.view.overlays import Overlays, table_rows
from pipelines.layers.view.placed_maps import PlacedMaps
from pipelines.layers.view.sample import accuracy_of
from pipelines.results.verify import open_run
from pipelines.run.directory import LAYERS, LAYERS_DIR, RunDirectory
from pipelines.scenes.finished import complete_summary
from pipelines.scenes.label_list import listed_grids
from pipelines.storage import filesystem
from segmodel.errors import ConfigurationError
from segmodel.rasters.grid import Grid

SCRIPTS = ("pmtiles.js", "served.js")
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

    @property
    def name(self) -> str:
        """Name of its folder."""
        return PurePosixPath(self.maps.work.run.root).name or "run"

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


def run_page(
    run: ViewedRun, tiles: Mapping[str, Any], overlays: Overlays, previews: Sequence[Bounds]
) -> bytes:
    """The page, in which all that is many has a bound.

    Args:
        run: The run.
        tiles: What its scripts read of web tiles.
        overlays: What lies on its labels.
        previews: Where pictures of scenes are, by their number.
    """
    work = run.maps.work
    images = from_west(np.array(previews).reshape(-1, 4), overlays.scenes.bounds[0])
    styles = {name: one.style for name, one in overlays.by_name.items()}
    data = {
        **tiles,
        "scenes": overlays.scenes.data,
        "images": images.tolist(),
        "overlays": {name: asdict(style) for name, style in styles.items()},
    }
    return render_page(
        run.name,
        class_entries(work),
        data,
        SCRIPTS,
        max_zoom=tiles["zoom"],
        served=True,
        images=len(previews),
        overlays=styles,
        accuracy=accuracy_of(run.maps),
        failures=list(_failures(work.run)),
    )


def _failures(run: RunDirectory) -> Iterator[str]:
    rows = table_rows(run, "failures.csv")
    for row in rows[:MAX_FAILURES]:
        yield f"{row['uri']} {row['key']}".strip() + f": {row['reason']}"
    if len(rows) > MAX_FAILURES:
        yield f"{len(rows) - MAX_FAILURES:,} more in failures.csv"
