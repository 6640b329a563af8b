"""The list of label maps holds what a program needs to open them, by reference system."""

import io
import json
from dataclasses import replace
from typing import Any

import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS

from pipelines.run.plan import InputFile
from pipelines.scenes.label_list import MapCatalogue, MapRow, write_label_list
from pipelines.scenes.overlaps import in_input_order
from pipelines.scenes.vrt import Piece, mosaics
from segmodel.labels.classes import ClassTable, LabelClass
from tests.examples import examples

CLASSES = ClassTable((LabelClass(0, "water", (0, 0, 255)), LabelClass(2, "land", (1, 2, 3))))
NORTH_UP = Affine(10, 0, 3e5, 0, -10, 6e6)
UTM, MOLLWEIDE = CRS("EPSG:32633").to_wkt(), CRS("ESRI:54009").to_wkt()
OWN = CRS("+proj=laea +lat_0=10 +lon_0=20 +ellps=GRS80").to_wkt()


def piece(path: str, wkt: str = UTM, transform: Affine = NORTH_UP) -> Piece:
    return Piece(path, 30, 20, transform, wkt, 512)


def rows_of(*pieces: Piece) -> list[MapRow]:
    return [
        (p.path, False, None, None, (p.path, 30, 20, [*p.transform][:6], p.crs_wkt)) for p in pieces
    ]


def text_of(*pieces: Piece, classes: ClassTable = CLASSES) -> str:
    stream = io.StringIO()
    write_label_list(stream, MapCatalogue(rows_of(*pieces)).systems(), mosaics(pieces), classes)
    return stream.getvalue()


def listed(*pieces: Piece, classes: ClassTable = CLASSES) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text_of(*pieces, classes=classes))
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
    first, second = (text_of(piece("a\nb é"), piece("c")) for _ in range(2))
    assert first == second
    assert len(first.splitlines()) == 4


def test_of_a_system_pieces_are_read_forwards_and_backwards_in_all_its_spellings():
    spelled = rasterio.crs.CRS.from_epsg(32633).to_wkt()
    assert spelled != UTM
    turned = Affine(0, 10, 3e5, 10, 0, 6e6)
    pieces = [piece("a"), piece("b", MOLLWEIDE), piece("c", spelled), piece("d", UTM, turned)]
    first, second = MapCatalogue(rows_of(*pieces)).systems()
    assert (first.wkt, second.wkt) == (UTM, MOLLWEIDE)
    assert list(first) == [pieces[0], pieces[2], pieces[3]]
    assert list(reversed(first)) == [pieces[3], pieces[2], pieces[0]]
    assert list(reversed(first.north_up())) == [pieces[2], pieces[0]]
    assert list(second) == [pieces[1]]


def paths_of(rows: list[MapRow], newest_first: bool = False) -> str:
    return "".join(one.path for maps in MapCatalogue(rows, newest_first).systems() for one in maps)


def row(key: str, taken: int | None = None, has_map: bool = True, **gone: Any) -> MapRow:
    found = (key, 30, 20, [*NORTH_UP][:6], UTM) if has_map else None
    return key, bool(gone), gone.get("behind"), taken, found


def test_the_first_row_of_a_scene_is_its_place_and_another_may_have_its_map():
    rows = [row("a"), row("b", has_map=False), row("c"), row("d", has_map=False), row("b")]
    assert paths_of(rows) == "abc"


def test_the_newest_come_first_if_all_with_a_map_say_when_they_were_taken():
    rows = [row("a", 5), row("b", 7), row("c", None, has_map=False), row("d", 5)]
    assert paths_of(rows, newest_first=True) == "bad"
    assert paths_of(rows) == "abd"
    assert paths_of([*rows, row("e")], newest_first=True) == "abde"


@settings(max_examples=examples(30))
@given(st.permutations("abcdefgh"), st.sets(st.sampled_from("abcdefgh")), st.randoms())
def test_scenes_that_are_gone_stand_where_the_plan_has_them(keys, gone, random):
    files = []
    for key in keys:
        file = InputFile(f"/x/{key}", "x", key, 1, "1")
        behind = random.choice([None, "x/nowhere", "x/elsewhere", *(f"x/{k}" for k in keys)])
        files.append(replace(file, gone=True, behind=behind) if key in gone else file)
    rows = [(f.key, f.gone, f.behind, None, row(f.name)[-1]) for f in files]
    assert paths_of(rows) == "".join(file.name for file in in_input_order(files))
