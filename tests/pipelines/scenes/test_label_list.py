"""The list of label maps holds what a program needs to open them, by reference system."""

import io
import json
from typing import Any

from affine import Affine
from pyproj import CRS

from pipelines.scenes.label_list import write_label_list
from pipelines.scenes.vrt import Piece
from segmodel.labels.classes import ClassTable, LabelClass

CLASSES = ClassTable((LabelClass(0, "water", (0, 0, 255)), LabelClass(2, "land", (1, 2, 3))))
NORTH_UP = Affine(10, 0, 3e5, 0, -10, 6e6)
UTM, MOLLWEIDE = CRS("EPSG:32633").to_wkt(), CRS("ESRI:54009").to_wkt()
OWN = CRS("+proj=laea +lat_0=10 +lon_0=20 +ellps=GRS80").to_wkt()


def piece(path: str, wkt: str = UTM, transform: Affine = NORTH_UP) -> Piece:
    return Piece(path, 30, 20, transform, wkt, 512)


def listed(*pieces: Piece, classes: ClassTable = CLASSES) -> dict[str, Any]:
    stream = io.StringIO()
    write_label_list(stream, pieces, classes)
    document: dict[str, Any] = json.loads(stream.getvalue())
    return document


def test_a_run_without_scenes_has_an_empty_list():
    assert listed() == {"dtype": "uint8", "nodata": 255, "systems": []}


def test_maps_are_listed_by_system_in_order_of_priority_with_their_vrts():
    paths = {"b": UTM, "c": MOLLWEIDE, "a": UTM, "d": OWN, "e": ""}
    found = listed(*(piece(path, wkt) for path, wkt in paths.items()))["systems"]

    assert [system["crs"] for system in found] == ["EPSG:32633", "ESRI:54009", None, None]
    assert [system["wkt"] for system in found] == [UTM, MOLLWEIDE, OWN, None]
    paths_by_system = ["".join(entry["path"] for entry in system["maps"]) for system in found]
    assert paths_by_system == ["ba", "c", "d", "e"]
    vrts = [system["vrt"] for system in found]
    assert vrts[0] == "labels-EPSG-32633.vrt"
    assert vrts[3] is None
    assert len({vrts[1], vrts[2], "labels.vrt"}) == 3


def test_a_map_has_its_grid_and_says_whether_the_vrt_shows_it():
    turned = Affine(0, 10, 3e5, 10, 0, 6e6)
    (system,) = listed(piece("a"), piece("b", UTM, turned))["systems"]

    assert system["vrt"] == "labels.vrt"
    assert system["maps"] == [
        {
            "path": "a",
            "height": 30,
            "width": 20,
            "transform": [10.0, 0.0, 3e5, 0.0, -10.0, 6e6],
            "bounds": [3e5, 6e6 - 300, 3e5 + 200, 6e6],
            "in_vrt": True,
        },
        {
            "path": "b",
            "height": 30,
            "width": 20,
            "transform": [0.0, 10.0, 3e5, 10.0, 0.0, 6e6],
            "bounds": [3e5, 6e6, 3e5 + 300, 6e6 + 200],
            "in_vrt": False,
        },
    ]


def test_ids_above_255_are_said():
    wide = ClassTable((LabelClass(300, "a", (1, 2, 3)),))
    document = listed(piece("a"), classes=wide)
    assert (document["dtype"], document["nodata"]) == ("uint16", 65535)


def test_the_same_maps_give_the_same_bytes_a_line_for_each():
    streams = [io.StringIO(), io.StringIO()]
    for stream in streams:
        write_label_list(stream, [piece("a\nb é"), piece("c")], CLASSES)
    first, second = (stream.getvalue() for stream in streams)
    assert first == second
    assert len(first.splitlines()) == 4
