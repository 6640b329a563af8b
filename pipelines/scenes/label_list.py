"""`labels.json`: all label maps of scenes by reference system, so that programs need no names."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import IO, Any

from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.crs import CRS as RasterioCRS

from pipelines.scenes.vrt import Piece, crs_name, mosaics
from segmodel.labels.classes import ClassTable
from segmodel.rasters.grid import Grid


def write_label_list(stream: IO[str], pieces: Sequence[Piece], classes: ClassTable) -> None:
    """Write the list as JSON, a line for each label map.

    Args:
        stream: Text, UTF-8.
        pieces: Label maps in order of priority, of any CRS and grid.
        classes: Type and nodata of all label maps.

    The object has `dtype` and `nodata` of all label maps, and `systems`, in the order of their
    first label maps. Each has `crs`, such as `EPSG:32633`, or null where no authority has one;
    `wkt`, or null where the label maps have no CRS; `vrt`, the file that shows its label maps as
    one, or null; and `maps` in order of priority. A map has `path`, `height`, `width`, `transform`
    (the six numbers of an affine transform as rasterio has them), `bounds` (west, south, east and
    north in the CRS) and `in_vrt`. Paths are relative to the list.
    """
    systems: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        systems[crs_name(piece.crs_wkt) or piece.crs_wkt].append(piece)
    vrts = {id(piece): name for name, group in mosaics(pieces)[0].items() for piece in group}
    kind = json.dumps({"dtype": classes.label_dtype.name, "nodata": classes.nodata})
    stream.write(f'{kind[:-1]}, "systems": [')
    for number, group in enumerate(systems.values()):
        vrt = next((name for piece in group if (name := vrts.get(id(piece)))), None)
        wkt = group[0].crs_wkt
        system = json.dumps({"crs": _authority_code(wkt), "wkt": wkt or None, "vrt": vrt})
        stream.write(f'{"," * bool(number)}\n {system[:-1]}, "maps": [')
        stream.writelines(_lines(_document(piece, id(piece) in vrts) for piece in group))
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
