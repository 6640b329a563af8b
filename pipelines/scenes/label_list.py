"""`labels.json`: all label maps of scenes by reference system, so that programs need no names."""

import json
from collections.abc import Iterable, Iterator, Mapping, Reversible
from functools import lru_cache
from itertools import starmap
from typing import IO, Any

from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.crs import CRS as RasterioCRS

from pipelines.inputs.catalogue import Database, to_bytes
from pipelines.rasters.cog import TILE_PX
from pipelines.scenes.vrt import Piece, crs_name
from segmodel.labels.classes import ClassTable
from segmodel.rasters.grid import Grid

# What is known of a scene: its key, whether it is gone, key of the scene that it comes behind, when
# it was taken in microseconds; and path, height, width, transform and CRS of its map, or None.
MapRow = tuple[str, bool, str | None, int | None, tuple[Any, ...] | None]
_SCENES = """
CREATE TABLE scenes (
    key BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    gone INTEGER NOT NULL,
    behind BLOB,
    taken INTEGER,
    crs INTEGER,
    map TEXT
)"""
_MAPS = "CREATE TABLE maps (place INTEGER PRIMARY KEY, crs INTEGER NOT NULL, map TEXT NOT NULL)"
_ADD = """
INSERT INTO scenes VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    taken = coalesce(taken, excluded.taken),
    crs = coalesce(crs, excluded.crs),
    map = coalesce(map, excluded.map)"""
# Scenes that are gone stand behind others as they did; behind none of these at the end.
_SORT = """
INSERT INTO maps (crs, map) SELECT crs, map FROM (
    SELECT scenes.*, before.number AS place,
        min(scenes.number) OVER (PARTITION BY scenes.gone, scenes.behind) AS family
    FROM scenes LEFT JOIN scenes AS before ON before.key = scenes.behind AND NOT before.gone
) WHERE map IS NOT NULL ORDER BY
    CASE WHEN ? THEN -taken END,
    CASE WHEN NOT gone THEN number WHEN behind IS NULL THEN -1 ELSE coalesce(place, 1 << 62) END,
    gone, family * gone, number"""


class MapCatalogue:
    """Label maps of the scenes of a run, in order of priority.

    They are in a temporary file, so that a million take no more memory than a thousand.

    Args:
        rows: Scenes in order of the plan. Of several rows of one scene the first one is its place,
            and the first with a label map has it.
        newest_first: Whether the scenes that were taken last come first, if all with a label map
            say when.
    """

    def __init__(self, rows: Iterable[MapRow], newest_first: bool = False) -> None:
        self._tables = Database(_SCENES, _MAPS)
        self._crs: dict[str, int] = {}
        self._tables.run_each(_ADD, starmap(self._values, enumerate(rows)))
        undated = "SELECT 1 FROM scenes WHERE map IS NOT NULL AND taken IS NULL LIMIT 1"
        is_dated = newest_first and self._tables.value(undated) is None
        self._tables.run(_SORT, is_dated)
        self._tables.run("CREATE INDEX by_crs ON maps (crs, place)")

    def _values(self, number: int, row: MapRow) -> tuple[Any, ...]:
        key, gone, behind, taken, found = row
        behind_key = None if behind is None else to_bytes(behind)
        if found is None:
            return to_bytes(key), number, gone, behind_key, taken, None, None
        *rest, wkt = found
        crs = self._crs.setdefault(wkt, len(self._crs))
        return to_bytes(key), number, gone, behind_key, taken, crs, json.dumps(rest)

    def systems(self) -> list["SystemMaps"]:
        """The label maps by reference system, in the order of their first ones."""
        firsts = self._tables.rows("SELECT crs FROM maps GROUP BY crs ORDER BY min(place)")
        texts = list(self._crs)
        spellings: dict[str, list[int]] = {}
        for (crs,) in firsts:
            spellings.setdefault(crs_name(texts[crs]) or texts[crs], []).append(crs)
        return [
            SystemMaps(self._tables, {crs: texts[crs] for crs in found})
            for found in spellings.values()
        ]


class SystemMaps(Reversible[Piece]):
    """Label maps of one reference system, read as they are asked for.

    Args:
        tables: Tables of `MapCatalogue`.
        texts: WKT of the reference system, in all spellings, by the numbers in the tables; that of
            the first label map comes first.
        is_north_up: Whether only label maps are taken that are north-up.
    """

    def __init__(self, tables: Database, texts: dict[int, str], is_north_up: bool = False) -> None:
        self._tables, self._texts, self._is_north_up = tables, texts, is_north_up

    @property
    def wkt(self) -> str:
        """The reference system; empty if there is none."""
        return next(iter(self._texts.values()))

    def north_up(self) -> "SystemMaps":
        """Those that a VRT can hold."""
        return SystemMaps(self._tables, self._texts, True)

    def __iter__(self) -> Iterator[Piece]:
        return self._read("ASC")

    def __reversed__(self) -> Iterator[Piece]:
        return self._read("DESC")

    def _read(self, order: str) -> Iterator[Piece]:
        chosen = ", ".join("?" * len(self._texts))
        query = f"SELECT crs, map FROM maps WHERE crs IN ({chosen}) ORDER BY place {order}"
        for crs, found in self._tables.rows(query, *self._texts):
            path, height, width, transform = json.loads(found)
            piece = Piece(path, height, width, Affine(*transform), self._texts[crs], TILE_PX)
            if piece.is_north_up or not self._is_north_up:
                yield piece


def write_label_list(
    stream: IO[str], systems: Iterable[SystemMaps], vrts: Mapping[str, str], classes: ClassTable
) -> None:
    """Write the list as JSON, a line for each label map.

    Args:
        stream: Text, UTF-8.
        systems: Label maps by reference system.
        vrts: File names of VRTs by the name of the reference system, see `mosaics`.
        classes: Type and nodata of all label maps.

    The object has `dtype` and `nodata` of all label maps, and `systems`, in the order of their
    first label maps. Each has `crs`, such as `EPSG:32633`, or null where no authority has one;
    `wkt`, or null where the label maps have no CRS; `vrt`, the file that shows its label maps as
    one, or null; and `maps` in order of priority. A map has `path`, `height`, `width`, `transform`
    (the six numbers of an affine transform as rasterio has them), `bounds` (west, south, east and
    north in the CRS) and `in_vrt`. Paths are relative to the list.
    """
    kind = json.dumps({"dtype": classes.label_dtype.name, "nodata": classes.nodata})
    stream.write(f'{kind[:-1]}, "systems": [')
    for number, maps in enumerate(systems):
        wkt, vrt = maps.wkt, vrts.get(crs_name(maps.wkt))
        system = json.dumps({"crs": _authority_code(wkt), "wkt": wkt or None, "vrt": vrt})
        stream.write(f'{"," * bool(number)}\n {system[:-1]}, "maps": [')
        in_vrt = vrt is not None
        stream.writelines(_lines(_document(piece, in_vrt and piece.is_north_up) for piece in maps))
        stream.write("]}")
    stream.write("]}\n")


def listed_grids(content: bytes) -> dict[str, Grid]:
    """Size and place of label maps by their path, as a list has them.

    Args:
        content: The list, as the end of a run wrote it.
    """
    found: dict[str, Grid] = {}
    for system in json.loads(content)["systems"]:
        crs = None if system["wkt"] is None else RasterioCRS.from_wkt(system["wkt"])
        for one in system["maps"]:
            place = Affine(*one["transform"])
            found[one["path"]] = Grid(one["height"], one["width"], place, crs)
    return found


def _lines(documents: Iterator[dict[str, Any]]) -> Iterator[str]:
    for number, document in enumerate(documents):
        yield f"{',' * bool(number)}\n  {json.dumps(document)}"


def _document(piece: Piece, in_vrt: bool) -> dict[str, Any]:
    right, down = float(piece.width), float(piece.height)
    corners = [piece.transform @ place for place in ((0, 0), (right, 0), (right, down), (0, down))]
    x, y = zip(*corners, strict=True)
    return {
        "path": piece.path,
        "height": piece.height,
        "width": piece.width,
        "transform": list(piece.transform)[:6],
        "bounds": [min(x), min(y), max(x), max(y)],
        "in_vrt": in_vrt,
    }


@lru_cache(maxsize=1024)
def _authority_code(wkt: str) -> str | None:
    """A CRS as an authority has it; None where none does, or it cannot be read.

    >>> _authority_code(CRS("ESRI:54009").to_wkt()), _authority_code("")
    ('ESRI:54009', None)
    """
    try:
        found = CRS.from_wkt(wkt).to_authority(min_confidence=100)
    except CRSError:
        return None
    return None if found is None else ":".join(found)
