"""Which web tiles show which label maps, from the place of the maps alone."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product

import numpy as np
from pmtiles.tile import zxy_to_tileid

from pipelines.layers.maps import LabelMap
from pipelines.layers.tiles.mercator import TILE_PX, Extent, extent_of
from pipelines.layers.tiles.pyramid import Tier, tiers
from pipelines.layers.tiles.scene_places import ScenePlaces, scene_places
from pipelines.run.plan import InputFile
from segmodel.errors import ConfigurationError

# Most pixels of the deepest zoom: 300 million tiles, in a million units.
MAX_PIXELS = 2 * 10**13
# Column and row of a tile.
TilePlace = tuple[int, int]


@dataclass(frozen=True)
class Coverage:
    """The tiles of the base zoom of the first tier that may show labels.

    Attributes:
        tiers: The tiers of the archive.
        bounds: West, south, east and north of all label maps in degrees; from -180 to 180 where one
            goes beyond the antimeridian.
        scenes: Where scenes are.
        places: `(entries, 2)` columns and rows of tiles, in order of an archive.
        maps: `(entries,)` index in `files` of a label map that a tile shows; of a tile, those that
            take precedence come first.
        files: Label maps.
        left_out: Keys of the label maps that no tile shows.
    """

    tiers: tuple[Tier, ...]
    bounds: tuple[float, float, float, float]
    scenes: ScenePlaces
    places: np.ndarray
    maps: np.ndarray
    files: tuple[InputFile, ...]
    left_out: tuple[str, ...]

    def files_by_tile(self) -> Iterator[tuple[TilePlace, tuple[InputFile, ...]]]:
        """Each tile with its label maps."""
        entries = zip(map(tuple, self.places.tolist()), self.maps.tolist(), strict=True)
        for place, group in groupby(entries, lambda entry: entry[0]):
            yield place, tuple(self.files[number] for _, number in group)

    def children(self, tier: Tier) -> Iterator[tuple[TilePlace, list[TilePlace]]]:
        """Each tile of the base zoom of a later tier, with the units of the tier before in it."""
        down, up = self.tiers[0].base - tier.deepest, tier.deepest - tier.base
        below = (place for place, _ in groupby(map(tuple, (self.places >> down).tolist())))
        for place, group in groupby(below, lambda at: (at[0] >> up, at[1] >> up)):
            yield place, list(group)


def coverage_of(label_maps: Iterable[LabelMap], max_zoom: int | None) -> Coverage:
    """Where label maps are among web tiles.

    Args:
        label_maps: Label maps; those that take precedence come first.
        max_zoom: Deepest zoom, or None for the first that is not coarser than any of them.

    Raises:
        ConfigurationError: If none has a place between 85.05° S and N.
    """
    files: list[InputFile] = []
    extents: list[Extent] = []
    left_out: list[str] = []
    for label_map in label_maps:
        extent = extent_of(label_map.grid)
        if extent is None:
            left_out.append(label_map.key)
        else:
            files.append(label_map.file)
            extents.append(extent)
    if not extents:
        raise ConfigurationError(
            "--tiles: no label map has a place on the Earth between 85.05° S and N, where web "
            "tiles are: leave --tiles out, or give the scenes their reference system (`--crs` of "
            "segment)"
        )
    zoom = max(extent.zoom for extent in extents) if max_zoom is None else max_zoom
    found = tuple(tiers(zoom))
    _check_size(extents, zoom)
    entries = np.array(sorted(_entries(extents, found[0])), np.int64)
    edges = np.array([extent.bounds for extent in extents])
    west, south, _, _ = edges.min(axis=0).tolist()
    _, _, east, north = edges.max(axis=0).tolist()
    bounds = (-180.0, south, 180.0, north) if east > 180 else (west, south, east, north)
    scenes = scene_places([file.key for file in files], edges)
    places, maps = entries[:, 2:], entries[:, 1]
    return Coverage(found, bounds, scenes, places, maps, tuple(files), tuple(left_out))


def _check_size(extents: Sequence[Extent], zoom: int) -> None:
    """Refuse a zoom of which there would be more tiles than anybody can store.

    Raises:
        ConfigurationError: Says which zoom there may be.
    """

    def pixels(zoom: int) -> int:
        return sum(window.pixels for extent in extents for window in extent.windows(zoom))

    if pixels(zoom) > MAX_PIXELS:
        possible = next(lower for lower in range(zoom, -1, -1) if pixels(lower) <= MAX_PIXELS)
        raise ConfigurationError(
            f"--tiles: label maps have {pixels(zoom):.2g} pixels at zoom {zoom}, and at most "
            f"{MAX_PIXELS:.2g} are drawn: give --max_zoom {possible}, or less"
        )


def _entries(extents: Iterable[Extent], tier: Tier) -> Iterator[tuple[int, int, int, int]]:
    """Number of a tile of the base zoom, number of a label map, column and row of the tile."""
    for number, extent in enumerate(extents):
        places: set[TilePlace] = set()
        for window in extent.windows(tier.base):
            ends = window.column + window.width, window.row + window.height
            columns, rows = (
                range(first // TILE_PX, -(-end // TILE_PX))
                for first, end in zip((window.column, window.row), ends, strict=True)
            )
            places.update(product(columns, rows))
        for column, row in places:
            yield zxy_to_tileid(tier.base, column, row), number, column, row
