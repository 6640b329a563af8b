"""Tables of labelled points: read rightly whatever program saved them, or refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import Transformer

from pipelines.accuracy.design import SampleDesign, SamplePoint, Stratum
from pipelines.accuracy.labelled import read_labelled
from segmodel.errors import ConfigurationError

PLACES = {"p1": (12.1234567, 50.0), "p2": (-60.5, -3.25), "p3": (179.9999, 65.0)}
CLASSES = ((0, "lake"), (1, "Süßwasser"), (7, "bare ground, rock"))


def design_of(classes: tuple[tuple[int, str], ...] = CLASSES) -> SampleDesign:
    first = classes[0][0]
    points = tuple(
        SamplePoint(name, lon, lat, "all", first, "a.tif", 0, 0)
        for name, (lon, lat) in PLACES.items()
    )
    return SampleDesign(
        "d", 1, "class", classes, (Stratum("all", first, None, False, 5.0, 3),), points
    )


def read(path: Path, content: str | bytes, design: SampleDesign | None = None) -> dict[str, int]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_labelled(str(path), design or design_of())


def table(*classes: str, header: str = "id,lon,lat,order,class") -> str:
    """A table as `sample` writes it, with these classes."""
    lines = [
        f"{name},{lon!r},{lat!r},{number},{label}"
        for number, ((name, (lon, lat)), label) in enumerate(
            zip(PLACES.items(), classes, strict=True), 1
        )
    ]
    return "\n".join([header, *lines]) + "\n"


def test_classes_are_read_by_name_or_by_id_and_empty_cells_are_left_out(tmp_path):
    assert read(tmp_path / "a.csv", table("lake", "7", "")) == {"p1": 0, "p2": 7}


def test_a_point_without_a_row_has_no_class(tmp_path):
    without = "\n".join(table("lake", "lake", "lake").splitlines()[:-1])

    assert read(tmp_path / "a.csv", without) == {"p1": 0, "p2": 0}


def test_rows_may_stand_in_any_order_and_columns_too(tmp_path):
    text = "class,lat,lon,ID\nlake,65,179.9999,p3\n7,50.0,12.1234567,p1\n"

    assert list(read(tmp_path / "a.csv", text).items()) == [("p1", 7), ("p3", 0)]


def test_a_name_with_a_comma_stands_in_quotes(tmp_path):
    assert read(tmp_path / "a.csv", table('"bare ground, rock"', "", "")) == {"p1": 7}
    with pytest.raises(ConfigurationError, match=r"a.csv, line 2 has 6 cells, and the header 5: "):
        read(tmp_path / "a.csv", table("bare ground, rock", "", ""))


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le"]
)
def test_letters_are_read_in_the_encodings_of_spreadsheets(tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    content = (mark + table("Süßwasser", "", "lake")).encode(encoding)

    assert read(tmp_path / "a.csv", content) == {"p1": 1, "p3": 0}


def test_letters_with_their_marks_apart_are_the_same_name(tmp_path):
    assert read(tmp_path / "a.csv", table("Su\u0308ßwasser", "", "")) == {"p1": 1}


def test_semicolons_with_commas_in_numbers_are_those_of_a_spreadsheet(tmp_path):
    text = (
        "\ufeffid;lon;lat;order;class\r\np1;12,1234567;50;1;lake\r\np2;-60,5;-3,25;2;7\r\n;;;;\r\n"
    )

    assert read(tmp_path / "a.csv", text) == {"p1": 0, "p2": 7}
    assert read(tmp_path / "a.tsv", text.replace(";", "\t")) == {"p1": 0, "p2": 7}


@pytest.mark.parametrize("delimiter", [";", "|", ",", "\t"])
@pytest.mark.parametrize(
    "line", ["sep={}\r\n", "SEP={}\n", '"sep={}"\r\n', "sep={0}{0}{0}{0}{0}\n"]
)
def test_a_line_before_the_header_that_names_the_delimiter_for_excel_is_no_row(
    tmp_path, delimiter, line
):
    text = line.format(delimiter) + table("lake", "7", "bog").replace(",", delimiter)

    with pytest.raises(ConfigurationError, match=r"a.csv, line 5: class 'bog' of point p3"):
        read(tmp_path / "a.csv", text)
    assert read(tmp_path / "a.csv", text.replace("bog", "")) == {"p1": 0, "p2": 7}
    assert read(tmp_path / "a.csv", ("\ufeff" + text.replace("bog", "")).encode("utf-16-le"))


def test_coordinates_may_be_rounded_to_a_metre_or_be_a_turn_away(tmp_path):
    text = "id,lon,lat,class\np1,12.123460,50,lake\np3,-180.0001,65.000009,lake\n"

    assert read(tmp_path / "a.csv", text) == {"p1": 0, "p3": 0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("p1,50.0,12.1234567,lake", r"line 2: point p1 .* \(longitude and latitude are swapped\)"),
        ("p1,12.1234,50.0,lake", r"it is at 12.123400, 50.000000, and 12.123457, 50.000000 was"),
        ("p1,12.123.457,50.0,lake", r"line 2: lon must be degrees .*, got '12.123.457': a spread"),
        ("p1,,50.0,lake", "line 2: lon must be degrees such as 12.5, got ''"),
        ("p1,nan,50.0,lake", "line 2: lon must be degrees such as 12.5, got 'nan'"),
        ("lake,12.1234567,50.0,p1", r"1 row of points that are not in the design \('lake'\)"),
        ("p1,12.1234567,50.0,Lake", "class 'Lake' of point p1 is not in the class .* mean 'lake'?"),
        ("p1,12.1234567,50.0,2", "class '2' of point p1 .*: give one of 'lake', 'Süßwasser', 'bar"),
        ("p1,12.1234567,50.0,255", "class '255' of point p1 is not in the class table"),
        ("p1,12.1234567,50.0,-1", "class '-1' of point p1 is not in the class table"),
        ('p1,12.1234567,50.0,"lake"x', "line 2 is no line of a CSV file"),
        ("p1,12.1234567,50.0", "line 2 has 3 cells, and the header 4"),
        ("p1,12.1234567,50.0,lake,lake", "line 2 has 5 cells, and the header 4"),
    ],
)
def test_a_row_that_is_not_as_it_should_be_is_refused_with_its_line(tmp_path, row, message):
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path / "a.csv", f"id,lon,lat,class\n{row}\n")


def test_a_point_that_stands_twice_is_refused_even_with_one_class(tmp_path):
    row = "p1,12.1234567,50,lake\n"

    with pytest.raises(
        ConfigurationError, match=r"a.csv, line 4: point p1 stands in a.csv, line 2 already: leave"
    ):
        read(tmp_path / "a.csv", f"id,lon,lat,class\n{row}p2,-60.5,-3.25,\n{row}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"a.csv has no column called id \(none\): it must be the file that `beamseg sample`"),
        ("id,lon,lat,class\n", "a.csv has no rows"),
        ("id,lon,lat,label\n", r"a.csv has no column called class \(id, lon, lat, label\)"),
        ("id,lon,lat,class,Class\n", "a.csv has 2 columns called class"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "a.csv has no column called id"),
        (b"id,lon,lat,class\n\x00,1,2,3\n", "a.csv, line 2"),
    ],
)
def test_what_is_no_table_of_a_sample_is_refused(tmp_path, content, message):
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path / "a.csv", content)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for name in ("no.csv", "no.gpkg"):
        with pytest.raises(ConfigurationError, match=rf"{name} is not there: check the path"):
            read_labelled(str(tmp_path / name), design_of())


def test_a_class_that_spreadsheets_compute_is_read_by_its_name_and_no_id_is(tmp_path):
    design = design_of(((2, "=1+1"), (3, "lake")))

    assert read(tmp_path / "a.csv", table("=1+1", "'=1+1", "lake"), design) == {
        "p1": 2,
        "p2": 2,
        "p3": 3,
    }
    # What a spreadsheet makes of the name could as well be an id.
    with pytest.raises(ConfigurationError, match="class '2' of point p1 is not in the class table"):
        read(tmp_path / "a.csv", table("2", "", ""), design)


def test_a_class_that_is_called_like_the_id_of_another_is_meant_by_its_name(tmp_path):
    design = design_of(((1, "2"), (2, "1")))

    assert read(tmp_path / "a.csv", table("1", "2", ""), design) == {"p1": 2, "p2": 1}


def write_vectors(path: Path, crs: str = "EPSG:4326", moved: float = 0.0, **fields: list) -> str:
    to_crs = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform
    places = [to_crs(lon + moved, lat) for lon, lat in PLACES.values()]
    points = np.array([shapely.to_wkb(shapely.Point(place)) for place in places], object)
    columns = {"id": list(PLACES), "class": ["lake", None, "Süßwasser"]} | fields
    pyogrio.raw.write(
        str(path),
        points,
        [np.array(values, object) for values in columns.values()],
        list(columns),
        layer=path.stem,
        geometry_type="Point",
        crs=crs,
        driver="GPKG" if path.suffix == ".gpkg" else None,
        append=path.exists(),
    )
    return str(path)


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson"])
def test_vector_files_are_read_by_their_points(tmp_path, name):
    path = write_vectors(tmp_path / name)

    assert read_labelled(path, design_of()) == {"p1": 0, "p3": 1}


def test_points_in_another_reference_system_are_read_where_they_are(tmp_path):
    path = write_vectors(tmp_path / "a.gpkg", "EPSG:3857")

    assert read_labelled(path, design_of()) == {"p1": 0, "p3": 1}


def test_ids_of_classes_with_gaps_are_read_as_whole_numbers(tmp_path):
    path = write_vectors(tmp_path / "a.gpkg", **{"class": [7.0, math.nan, 0.0]})

    assert read_labelled(path, design_of()) == {"p1": 7, "p3": 0}


def test_a_point_that_was_moved_in_a_gis_is_refused(tmp_path):
    path = write_vectors(tmp_path / "a.gpkg", moved=0.001)

    with pytest.raises(ConfigurationError, match=r"a.gpkg, feature 1: point p1 is not where the"):
        read_labelled(path, design_of())


def test_fields_of_coordinates_count_beside_the_points(tmp_path):
    path = write_vectors(tmp_path / "a.gpkg", lon=[12.1234567, 1.0, 2.0], lat=[50.0, 1.0, 2.0])

    with pytest.raises(ConfigurationError, match=r"feature 2: point p2 is not where .*at 1.000000"):
        read_labelled(path, design_of())


def test_a_layer_of_other_things_is_left_alone_and_two_samples_in_a_file_are_refused(tmp_path):
    path = tmp_path / "a.gpkg"
    write_vectors(path)
    for layer, fields in (("styles", ["id"]), ("copy", ["id", "class"])):
        pyogrio.raw.write(
            str(path),
            np.array([shapely.to_wkb(shapely.Point(0, 0))], object),
            [np.array(["p1"], object) for _ in fields],
            fields,
            layer=layer,
            geometry_type="Point",
            crs="EPSG:4326",
            append=True,
        )
        if layer == "styles":
            assert read_labelled(str(path), design_of()) == {"p1": 0, "p3": 1}
    with pytest.raises(ConfigurationError, match=r"a.gpkg has 2 layers with the fields id and cla"):
        read_labelled(str(path), design_of())


def test_geojson_without_points_is_read_by_its_fields(tmp_path):
    features = [
        {"type": "Feature", "geometry": None, "properties": dict(zip(names, row, strict=True))}
        for names in [("id", "lon", "lat", "class")]
        for row in [("p1", 12.1234567, 50.0, "lake"), ("p2", -60.5, -3.25, None)]
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))

    assert read_labelled(str(path), design_of()) == {"p1": 0}


def test_a_file_may_have_marks_of_addresses_in_its_path(tmp_path):
    path = Path(write_vectors(tmp_path / "a.gpkg"))
    expected = read_labelled(str(path), design_of())
    (tmp_path / "in!").mkdir()
    moved = path.rename(tmp_path / "in!" / "a;b!.gpkg")

    assert read_labelled(str(moved), design_of()) == expected != {}


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"a.gpkg is no file of vectors that GDAL reads"):
        read(tmp_path / "a.gpkg", b"not a database")
    with pytest.raises(ConfigurationError, match=r"a.xlsx must end in .csv, .tsv, .txt, .gpkg, "):
        read(tmp_path / "a.xlsx", table("lake", "", ""))
    with pytest.raises(ConfigurationError, match=r"a.geojson has no layer with the fields id and"):
        read(tmp_path / "a.geojson", '{"type": "FeatureCollection", "features": []}')


def test_a_vector_file_in_another_encoding_or_with_damage_is_refused_by_name(tmp_path):
    path = Path(write_vectors(tmp_path / "a.geojson"))
    path.write_bytes(path.read_bytes().decode().encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"^a.geojson has text that is not in UTF-8: save"):
        read_labelled(str(path), design_of())

    path = Path(write_vectors(tmp_path / "b.gpkg"))
    path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(
        ConfigurationError, match=r"^b.gpkg cannot be read to its end \(.*malformed"
    ):
        read_labelled(str(path), design_of())


def damaged(database: bytes) -> bytes:
    """A GeoPackage whose page with the points is none any more."""
    at = database.rindex(b"p2")
    start = at - at % 4096
    return database[:start] + b"\xff" * 4096 + database[start + 4096 :]
