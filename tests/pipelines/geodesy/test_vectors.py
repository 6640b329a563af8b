"""Polygons of vector files: names, order, repair, layers, and what is refused."""

from __future__ import annotations

import json
import shutil
import socket
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from pyogrio.raw import write
from pyproj import CRS

from pipelines.geodesy import vector_files
from pipelines.geodesy.polygons import Polygons
from pipelines.geodesy.vector_files import read_polygons, read_zones
from segmodel.errors import ConfigurationError

WEST, EAST, FAR = shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1), shapely.box(5, 5, 6, 6)
BOW_TIE = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])


def save(path: Path, shapes: list[Any], names: list[Any] | None = None, **settings: Any) -> str:
    """A vector file with a field, by default called name; the driver follows from the suffix."""
    field = settings.pop("field", "name")
    kind = settings.pop("geometry_type", "Unknown")
    values = [] if names is None else [np.array(names)]
    settings = {"crs": "EPSG:4326", **settings}
    geometry = np.array([shapely.to_wkb(shape) for shape in shapes], dtype=object)
    fields = [] if names is None else [field]
    write(
        str(path),
        geometry=geometry,
        field_data=values,
        fields=fields,
        geometry_type=kind,
        **settings,
    )
    return str(path)


def shapes_of(polygons: Polygons) -> list[Any]:
    return [shapely.from_wkb(geometry) for geometry in polygons.geometries]


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "shp", "fgb"])
def test_formats_give_the_same_polygons_in_the_order_of_names(tmp_path: Path, suffix: str) -> None:
    kind = {"geometry_type": "Polygon"}
    path = save(tmp_path / f"areas.{suffix}", [EAST, WEST], ["west b", "east a"], **kind)

    polygons = read_polygons(path, "--zones")

    assert polygons.names == ("east a", "west b")
    assert shapely.equals(shapes_of(polygons), [WEST, EAST]).all()
    assert CRS(polygons.crs_wkt).to_epsg() == 4326


@pytest.mark.parametrize("place", ["{0}a", "a{0}b", "{0}in/a", "in{0}/a{0}"])
def test_any_mark_may_stand_in_a_path(tmp_path: Path, monkeypatch, place: str) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    save(whole / "areas.shp", [WEST], ["west"], geometry_type="Polygon")
    for mark in [*string.punctuation.replace("/", "").replace(".", ""), *" \t\n\r\x01"]:
        stem = place.format(mark)
        for part in whole.iterdir():
            copy = tmp_path / "places" / f"{stem}{part.suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(part, copy)
        monkeypatch.chdir(tmp_path / "places")

        for path in (f"{stem}.shp", f"/{tmp_path}/places/{stem}.shp"):
            assert read_polygons(path, "--zones").names == ("west",), path


def test_marks_in_the_folder_for_temporary_files_are_refused_where_it_is_needed(
    tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "a!").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "a!"))
    plain = save(tmp_path / "areas.gpkg", [WEST], ["west"])
    marked = Path(plain).rename(tmp_path / "areas;.gpkg")

    with pytest.raises(ConfigurationError, match=r"^TMPDIR names a folder with one of ! ; \? "):
        read_polygons(str(marked), "--zones")
    assert read_polygons(str(marked.rename(plain)), "--zones").names == ("west",)


def test_an_error_names_a_file_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "a;b.gpkg"
    path.write_text("nothing")
    beginning = r"^--aoi a;b\.gpkg is not a vector file that GDAL reads: [^/]*$"

    with pytest.raises(ConfigurationError, match=beginning):
        read_polygons(str(path), "--aoi")


def test_the_order_of_features_changes_nothing(tmp_path: Path) -> None:
    shapes, names = [WEST, EAST, FAR], ["b", "b", "a"]
    there = read_polygons(save(tmp_path / "there.gpkg", shapes, names), "--zones")
    back = read_polygons(save(tmp_path / "back.gpkg", shapes[::-1], names[::-1]), "--zones")

    assert there.names == ("a", "b")
    assert shapely.equals(shapes_of(there), [FAR, shapely.box(0, 0, 2, 1)]).all()
    assert (there.to_bytes(), there.digest) == (back.to_bytes(), back.digest)


def test_polygons_survive_bytes_and_other_polygons_have_another_digest(tmp_path: Path) -> None:
    polygons = read_polygons(save(tmp_path / "a.geojson", [WEST], ["é"]), "--aoi")
    others = read_polygons(save(tmp_path / "b.geojson", [EAST], ["é"]), "--aoi")

    assert Polygons.from_bytes(polygons.to_bytes()) == polygons
    assert len(polygons.digest) == 16
    assert polygons.digest != others.digest


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"geometries": ["no hex"]}'])
def test_damaged_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ConfigurationError, match="damaged"):
        Polygons.from_bytes(content)


@pytest.mark.parametrize("field", ["name", "NAME", "Name"])
def test_names_come_from_a_field_called_name(tmp_path: Path, field: str) -> None:
    path = save(tmp_path / "a.gpkg", [WEST, EAST], ["p", "q"], field=field)

    assert read_polygons(path, "--zones").names == ("p", "q")


def test_names_come_from_the_field_that_is_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gpkg", [WEST, EAST], [12, 7], field="code")

    assert read_polygons(path, "--zones", "code").names == ("12", "7")
    assert read_zones(path, "code").names == ("12", "7")
    assert read_polygons(path, "--aoi").names == ("1", "2")


def test_features_of_an_area_of_interest_may_be_without_a_name(tmp_path: Path) -> None:
    names = np.array(["p", None, ""], dtype=object)
    path = save(tmp_path / "a.gpkg", [WEST, EAST, FAR], names)

    assert read_polygons(path, "--aoi").names == ("2", "3", "p")


def test_zones_without_a_field_of_names_are_refused_with_the_fields_there_are(tmp_path) -> None:
    path = save(tmp_path / "a.gpkg", [WEST, EAST], [12, 7], field="code")

    with pytest.raises(
        ConfigurationError,
        match=r"--zones a.gpkg has no field called name, NAME or Name: .* --zone_field \(code\)",
    ):
        read_zones(path)


@pytest.mark.parametrize("field", ["name", "label"])
def test_zones_without_a_name_are_refused_with_their_feature_ids(tmp_path, field: str) -> None:
    names = np.array(["p", None, "", " ", "q"], dtype=object)
    shapes = [WEST, EAST, FAR, BOW_TIE, shapely.Point(0, 0)]
    path = save(tmp_path / "a.gpkg", shapes, names, field=field)

    with pytest.raises(
        ConfigurationError,
        match=rf"no name in the field '{field}' for 3 of 4 polygons, those with the feature id "
        r"2, 3, 4: give each one$",
    ):
        read_zones(path, None if field == "name" else field)


def test_zones_without_a_polygon_are_named(tmp_path, caplog) -> None:
    shapes = [WEST, None, shapely.Point(0, 0), shapely.Polygon(), None]
    path = save(tmp_path / "a.gpkg", shapes, ["west", "lost", "point", "empty", "west"])

    assert read_zones(path).names == ("west",)
    assert caplog.messages == [
        "--zones a.gpkg: left out, as no polygon with an area: empty, lost, point"
    ]


def test_zones_of_a_file_without_fields_are_called_by_their_feature_ids(tmp_path: Path) -> None:
    geometries = [shapely.geometry.mapping(shape) for shape in (WEST, EAST)]
    features = [{"type": "Feature", "properties": {}, "geometry": at} for at in geometries]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))

    assert read_zones(str(path)).names == ("0", "1")


def test_numbered_zones_of_a_run_that_is_continued_are_taken_as_they_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gpkg", [WEST, EAST], [12, 7], field="code")
    numbered = read_polygons(path, "--zones")

    assert read_zones(path, None, numbered.digest) == numbered
    with pytest.raises(ConfigurationError, match="zone_field"):
        read_zones(path, None, "0123456789abcdef")


def test_whole_numbers_with_gaps_stay_whole(tmp_path: Path) -> None:
    features = [
        {"type": "Feature", "properties": {"name": name}, "geometry": shapely.geometry.mapping(at)}
        for name, at in ((4, WEST), (None, EAST))
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))

    assert read_polygons(str(path), "--aoi").names == ("1", "4")


def test_invalid_polygons_are_repaired_and_lines_and_heights_dropped(tmp_path: Path) -> None:
    spike = shapely.Polygon([(0, 0, 9), (1, 0, 9), (1, 1, 9), (3, 3, 9), (1, 1, 9), (0, 1, 9)])
    mixed = shapely.GeometryCollection([FAR, shapely.LineString([(0, 0), (9, 9)])])
    shapes = [BOW_TIE, spike, mixed, shapely.Point(3, 3)]
    path = save(tmp_path / "a.gpkg", shapes, ["bow", "spike", "mixed", "point"])

    polygons = read_polygons(path, "--aoi")

    assert polygons.names == ("bow", "mixed", "spike")
    bow, mixed, spike = shapes_of(polygons)
    assert (bow.area, mixed.area, spike.area) == (2, 1, 1)
    assert shapely.is_valid([bow, mixed, spike]).all()
    assert not shapely.has_z([bow, mixed, spike]).any()
    assert {bow.geom_type, mixed.geom_type, spike.geom_type} == {"Polygon", "MultiPolygon"}


def test_curves_become_lines(tmp_path: Path) -> None:
    circle = "CURVEPOLYGON (CIRCULARSTRING (0 0, 1 1, 2 0, 1 -1, 0 0))"
    (tmp_path / "c.csv").write_text(f'id,WKT\n1,"{circle}"\n')
    (tmp_path / "c.vrt").write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="c"><SrcDataSource>{tmp_path / "c.csv"}'
        "</SrcDataSource><LayerSRS>EPSG:32633</LayerSRS><GeometryType>wkbCurvePolygon"
        '</GeometryType><GeometryField encoding="WKT" field="WKT"/></OGRVRTLayer>'
        "</OGRVRTDataSource>"
    )

    # The field is asked for because GDAL makes the geometry of it.
    (shape,) = shapes_of(read_polygons(str(tmp_path / "c.vrt"), "--aoi", "WKT"))

    assert shape.area == pytest.approx(np.pi, rel=2e-3)


def test_no_server_is_asked_for_the_schema_of_a_gml_file(tmp_path: Path) -> None:
    ring = "0,0 0,1 1,1 0,0"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        schema = f"http://127.0.0.1:{server.getsockname()[1]}/?REQUEST=DescribeFeatureType"
        (tmp_path / "a.gml").write_text(
            '<wfs:FeatureCollection xmlns:wfs="http://www.opengis.net/wfs" xmlns:t="http://t" '
            'xmlns:gml="http://www.opengis.net/gml" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://t '
            f'{schema}&amp;SERVICE=WFS&amp;VERSION=1.1.0&amp;TYPENAME=t:f"><gml:featureMember>'
            '<t:f fid="1"><t:name>a</t:name><t:g><gml:Polygon srsName="EPSG:4326">'
            "<gml:outerBoundaryIs><gml:LinearRing><gml:coordinates>"
            f"{ring}</gml:coordinates></gml:LinearRing></gml:outerBoundaryIs></gml:Polygon></t:g>"
            "</t:f></gml:featureMember></wfs:FeatureCollection>"
        )

        assert read_polygons(str(tmp_path / "a.gml"), "--zones").names == ("a",)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_only_layer_with_polygons_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    save(path, [shapely.Point(0, 0)], ["p"], layer="points", geometry_type="Point")
    save(path, [shapely.Point(0, 0)], ["p"], layer="mixed", append=True)
    save(path, [WEST], ["w"], layer="fields", append=True)

    assert read_polygons(str(path), "--zones").names == ("w",)


def test_of_several_layers_with_polygons_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    save(path, [WEST], ["w"], layer="fields", geometry_type="Polygon")
    save(path, [EAST], ["e"], layer="woods", append=True)

    with pytest.raises(ConfigurationError, match=r"--zones a.gpkg .* fields, woods: .*layername="):
        read_polygons(str(path), "--zones")
    assert read_polygons(f"{path}|layername=woods", "--zones").names == ("e",)
    with pytest.raises(ConfigurationError, match="no layer 'roads': take one of fields, woods"):
        read_polygons(f"{path}|layername=roads", "--zones")


REFUSED = {
    "points": ([shapely.Point(0, 0)], {"geometry_type": "Point"}, "no layer of polygons"),
    "mixed": ([shapely.Point(0, 0)], {}, "no polygon with an area"),
    "flat": ([shapely.Polygon([(0, 0), (1, 1), (2, 2)])], {}, "no polygon with an area"),
    "hollow": ([shapely.Polygon()], {}, "no polygon with an area"),
    "empty": ([], {"geometry_type": "Polygon"}, "no features"),
    "unplaced": ([WEST], {"crs": None, "geometry_type": "Polygon"}, "no CRS: assign one"),
    "endless": ([shapely.Polygon([(0, 0), (1, 0), (1, np.inf)])], {}, "not finite at 'x'"),
    "metres": ([shapely.box(0, 5e6, 9, 6e6)], {}, r"point \(.*longitude and latitude: assign"),
    "local": ([WEST], {"crs": 'LOCAL_CS["site",UNIT["metre",1]]'}, "CRS"),
}


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("case", REFUSED)
def test_what_gives_no_polygons_on_the_ground_is_refused(tmp_path: Path, case: str) -> None:
    shapes, settings, text = REFUSED[case]
    path = save(tmp_path / f"{case}.gpkg", shapes, np.array(["x"] * len(shapes), str), **settings)

    with pytest.raises(ConfigurationError, match=f"--aoi {case}.gpkg .*{text}"):
        read_polygons(path, "--aoi")


def test_missing_files_and_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.gpkg").write_text("notes")

    with pytest.raises(ConfigurationError, match=r"--aoi none.gpkg is not there: check the path"):
        read_polygons(str(tmp_path / "none.gpkg"), "--aoi")
    with pytest.raises(ConfigurationError, match=r"--aoi .*is not there: check the path"):
        read_polygons("", "--aoi")
    with pytest.raises(ConfigurationError, match=r"--aoi notes.gpkg is not a vector file"):
        read_polygons(str(tmp_path / "notes.gpkg"), "--aoi")


def test_an_unknown_field_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gpkg", [WEST], ["w"], field="code")

    with pytest.raises(ConfigurationError, match=r"--zones a.gpkg has no field 'naam': .* code"):
        read_polygons(path, "--zones", "naam")


def test_polygons_that_overlap_by_more_than_a_hundredth_are_in_different_layers() -> None:
    shapes = [
        shapely.box(0, 0, 10, 10),
        shapely.box(9.95, 0, 20, 10),  # 0.5 percent of the first
        shapely.box(9, 0, 12, 10),  # on both
        shapely.box(1, 1, 2, 2),  # inside the first
        shapely.box(20, 0, 30, 10),  # an edge in common
    ]
    wkt = CRS.from_epsg(4326).to_wkt()
    polygons = Polygons(wkt, tuple("abcde"), tuple(bytes(shapely.to_wkb(at)) for at in shapes))

    assert polygons.layers() == (0, 0, 1, 1, 0)
    assert Polygons("", (), ()).layers() == ()


def test_a_polygon_of_300_000_vertices_is_read_and_one_that_is_all_spikes_is_refused(
    tmp_path: Path,
) -> None:
    angle = np.linspace(0, 2 * np.pi, 300_000, endpoint=False)
    away = np.random.default_rng(0).uniform(0.2, 0.4, 300_000)

    def written(name: str, radius: np.ndarray) -> str:
        points = np.column_stack([8 + radius * np.cos(angle), 50 + radius * np.sin(angle)])
        return save(tmp_path / name, [shapely.Polygon(points)], ["a"])

    found = read_zones(written("round.fgb", np.full(300_000, 0.3)))
    expected = shapely.area(shapely.from_wkb(found.geometries[0]))

    assert expected == pytest.approx(np.pi * 0.09, rel=1e-9)
    with pytest.raises(ConfigurationError, match=r"300,000 edges in 'a'.*simplify it"):
        read_zones(written("spikes.fgb", away))


def test_a_large_polygon_that_crosses_itself_is_repaired_as_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    walk = np.cumsum(np.random.default_rng(0).normal(0, 1, (1500, 2)), axis=0)
    shape = shapely.MultiPolygon([shapely.Polygon(walk), shapely.Polygon(walk[:300] + 3)])
    small = vector_files._polygonal(shape)
    monkeypatch.setattr(vector_files, "MADE_VALID", 0)

    large = vector_files._polygonal(shape)

    assert shapely.normalize(large).equals_exact(shapely.normalize(small), 0)


def test_names_that_are_not_in_utf_8_are_refused_by_the_name_of_the_file(tmp_path: Path) -> None:
    path = Path(save(tmp_path / "areas.geojson", [WEST], ["Süd"]))
    path.write_bytes(path.read_text("utf-8").encode("latin-1"))

    with pytest.raises(
        ConfigurationError, match=r"^--zones areas.geojson has text that is not in UTF-8: save it"
    ):
        read_zones(str(path))


def test_a_layer_whose_features_are_damaged_is_refused_by_the_name_of_the_file(
    tmp_path: Path,
) -> None:
    path = Path(save(tmp_path / "areas.gpkg", [WEST], ["a name to find"], geometry_type="Polygon"))
    content = path.read_bytes()
    start = content.rindex(b"a name to find") // 4096 * 4096
    path.write_bytes(content[:start] + b"\xff" * 4096 + content[start + 4096 :])

    with pytest.raises(ConfigurationError, match=r"^--aoi areas.gpkg cannot be read to its end \("):
        read_polygons(str(path), "--aoi")
